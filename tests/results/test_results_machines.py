"""Answers that machines share: what one has made serves the others, and nobody serves what has changed."""

import asyncio
import os
import time
from pathlib import Path

import msgspec
import pytest
from fault_proxy import Answer as Said
from fault_proxy import CutResponse, Delay, Fault, Pass, SeenRequest
from machines import RECHECK_S, Machines, eventually, seen, set_patience
from results_site import Site
from structlog.testing import capture_logs

from safelight.blob import MemoryBlob
from safelight.model import Answer, Request, RequestState
from safelight.results.entry import Entry, Read, unpacked, written
from safelight.run import begin
from safelight.uri import parse_query

OLD, NEW = b"old content", b"new content!"
FOREVER = "1h"
SHARED = "safelight; hit; detail=SHARED"
MEBIBYTE = 1 << 20
HURRIED_S = 2


def sourced(site: Site) -> int:
    return site.value("total_s3_source") + site.value("total_file_source")


async def status(site: Site, target: str) -> str:
    answer = await site.get(target)
    assert answer.status_code == 200, answer.text
    return answer.headers["cache-status"]


async def shared(machines: Machines, site: Site, target: str = "/objects/a") -> str:
    """Have `site` make and share the first answer; the name of its object."""
    assert await status(site, target) == "safelight; fwd=miss; stored"
    (name,) = await machines.settled(1)
    return name


# Hits


@pytest.mark.parametrize("size", [0, 11, 70_000, 3 * MEBIBYTE])
async def test_what_one_machine_has_made_serves_the_others(machines: Machines, size: int) -> None:
    machines.store("a", data := os.urandom(size))
    one, two = machines.start(2, FOREVER)
    made = await one.get("/objects/a")
    await machines.settled(1)
    found = await two.get("/objects/a")
    assert found.headers["cache-status"] == SHARED
    assert int(found.headers["age"]) >= 0
    assert found.content == made.content == data
    for name in ("content-type", "cache-control", "etag", "last-modified"):
        assert found.headers[name] == made.headers[name]
    assert (await two.get("/objects/a")).headers["cache-status"] == "safelight; hit"
    assert sourced(two) == 0
    assert machines.fetched("a") == 1


async def test_shared_answers_count_apart(machines: Machines) -> None:
    machines.store("a", OLD)
    one, two = machines.start(2, FOREVER)
    await shared(machines, one)
    await two.get("/objects/a")
    names = [f"total_result_cache_{name}" for name in ("shared", "hits", "misses", "stale")]
    assert [two.value(name) for name in names] == [1, 0, 0, 0]
    assert [one.value(name) for name in names] == [0, 0, 1, 0]
    metrics = (await two.get("/metrics")).text
    assert 'safelight_result_cache_requests_total{result="shared"} 1.0' in metrics


async def test_answers_made_of_files_are_shared(machines: Machines) -> None:
    machines.write_file("a", OLD)
    one, two = machines.start(2, FOREVER)
    await shared(machines, one, "/files/a")
    assert await status(two, "/files/a") == SHARED
    assert sourced(two) == 0


async def test_the_content_of_an_object_is_that_of_the_file(machines: Machines) -> None:
    machines.store("a", OLD)
    (one,) = machines.start(1)
    name = await shared(machines, one)
    assert Path("cache-1", name).read_bytes() == machines.read_object(name)


async def test_conditions_ranges_and_head_work_on_shared_answers(machines: Machines) -> None:
    machines.store("a", OLD)
    (one,) = machines.start(1, FOREVER)
    await shared(machines, one)
    tag = (await one.get("/objects/a")).headers["etag"]
    known = await machines.another(FOREVER).get("/objects/a", if_none_match=tag)
    part = await machines.another(FOREVER).get("/objects/a", range="bytes=4-6")
    head = await machines.another(FOREVER).client.head("/objects/a")
    assert (known.status_code, known.content) == (304, b"")
    assert (part.status_code, part.content) == (206, OLD[4:7])
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(OLD)))
    assert {answer.headers["cache-status"] for answer in (known, part, head)} == {SHARED}
    assert machines.fetched("a") == 1


async def test_validators_come_first(machines: Machines) -> None:
    machines.store("a", OLD)
    guarded = machines.configuration("cache-g", FOREVER).replace(
        "source_s3", 'validate_uri_hmac "hmac" secret="x" digest="sha256"\n    source_s3', 1
    )
    one, two = machines.start(1, FOREVER)[0], machines.site(guarded)
    await shared(machines, one)
    assert (await two.get("/objects/a")).status_code == 403


async def test_an_answer_above_the_limit_stays_on_its_machine(machines: Machines) -> None:
    machines.store("large", bytes(33 * MEBIBYTE))
    machines.store("a", OLD)
    one, two = machines.start(2, FOREVER)
    assert await status(one, "/objects/large") == "safelight; fwd=miss; stored"
    await shared(machines, one)
    assert await status(one, "/objects/large") == "safelight; hit"
    assert await status(two, "/objects/large") == "safelight; fwd=miss; stored"


async def test_an_answer_older_than_max_age_is_not_used(machines: Machines) -> None:
    machines.store("a", OLD)
    one, two = machines.start(2, FOREVER, more='max-age="1s"')
    await shared(machines, one)
    await asyncio.sleep(1.05)
    assert await status(two, "/objects/a") == "safelight; fwd=miss; stored"


async def test_a_younger_one_of_another_machine_replaces_an_old_one(machines: Machines) -> None:
    machines.store("a", OLD)
    one, two = machines.start(2, FOREVER, more='max-age="5s"')
    name = await shared(machines, one)
    former = machines.read_object(name)
    assert (await two.get("/objects/a")).headers["cache-status"].endswith("; detail=SHARED")
    await asyncio.sleep(5.05)
    assert (await status(one, "/objects/a")) == "safelight; fwd=stale; stored"
    await machines.replaced(name, former)
    assert (await two.get("/objects/a")).headers["cache-status"].endswith("; detail=SHARED")
    assert machines.fetched("a") == 2


async def test_a_clock_that_is_ahead_does_no_harm(machines: Machines) -> None:
    machines.store("a", OLD)
    one, two = machines.start(2, FOREVER)
    name = await shared(machines, one)
    content = machines.read_object(name)
    made_at = unpacked(MemoryBlob(content), name).head.kept_at
    machines.write_object(name, altered(content, name, kept_at=made_at + 86_400))
    for expected in (SHARED, "safelight; hit"):
        answer = await two.get("/objects/a")
        assert (answer.content, answer.headers["cache-status"]) == (OLD, expected)
        assert 0 <= int(answer.headers["age"]) < 60


# Changes


async def test_a_store_is_seen_at_once_on_its_machine_and_within_recheck_on_others(
    machines: Machines,
) -> None:
    machines.store("a", OLD)
    one, two = machines.start(2)
    name = await shared(machines, one)
    former = machines.read_object(name)
    assert await status(two, "/objects/a") == SHARED
    for site in (one, two, one, two):
        assert (await site.get("/objects/a")).content == OLD
    await two.put("/objects/a", NEW)
    assert (await two.get("/objects/a")).content == NEW
    await seen(one, "/objects/a", NEW)
    await machines.replaced(name, former)
    assert await status(machines.another(), "/objects/a") == SHARED


async def test_what_other_programs_store_is_seen_within_recheck(machines: Machines) -> None:
    """In answers at hand, too, which are asked for again and again."""
    machines.store("a", OLD)
    one, two = machines.start(2)
    await shared(machines, one)
    for site in (two, one, two, one):
        assert (await site.get("/objects/a")).content == OLD
    machines.store("a", NEW)
    await asyncio.gather(*(seen(site, "/objects/a", NEW) for site in (one, two)))


async def test_another_type_of_the_same_data_is_seen(machines: Machines) -> None:
    machines.store("a", OLD, "image/png")
    (one,) = machines.start(1)
    await shared(machines, one)
    await asyncio.sleep(RECHECK_S + 0.1)  # object stores tell the time of a change in seconds
    machines.store("a", OLD, "image/gif")
    await asyncio.sleep(RECHECK_S + 0.1)
    assert (await one.get("/objects/a")).headers["content-type"] == "image/gif"


async def test_a_replaced_file_is_seen_within_recheck(machines: Machines) -> None:
    machines.write_file("a", OLD)
    one, two = machines.start(2)
    await shared(machines, one, "/files/a")
    assert await status(two, "/files/a") == SHARED
    machines.write_file("a", NEW)
    await asyncio.gather(*(seen(site, "/files/a", NEW) for site in (one, two)))


async def test_a_file_that_was_just_written_is_not_shared(machines: Machines) -> None:
    """Another one of the same size could follow within a tick of the clock."""
    (machines.directory / "files").mkdir()
    (one,) = machines.start(1, FOREVER)
    later_s = time.time() + 3600
    (machines.directory / "files" / "new").write_bytes(NEW)
    os.utime(machines.directory / "files" / "new", (later_s, later_s))
    machines.write_file("a", OLD)
    assert await status(one, "/files/new") == "safelight; fwd=miss; stored"
    name = await shared(machines, one, "/files/a")
    assert machines.read_object(name).endswith(OLD)


async def test_a_deletion_is_seen_within_recheck(machines: Machines) -> None:
    machines.store("a", OLD)
    one, two = machines.start(2)
    await shared(machines, one)
    assert await status(two, "/objects/a") == SHARED
    assert (await one.delete("/objects/a")).status_code == 200
    assert (await one.get("/objects/a")).status_code == 404
    await seen(two, "/objects/a", None)
    assert (await machines.another().get("/objects/a")).status_code == 404


async def test_a_first_source_that_comes_to_be_is_seen(machines: Machines) -> None:
    machines.write_file("a", OLD)
    one, two = machines.start(2)
    await shared(machines, one, "/either/a")
    assert await status(two, "/either/a") == SHARED
    machines.store("first-a", NEW)
    await asyncio.gather(*(seen(site, "/either/a", NEW) for site in (one, two)))


async def test_a_failed_source_before_the_one_that_worked_is_not_taken_to_be_absent(
    machines: Machines,
) -> None:
    machines.write_file("a", OLD)
    machines.store("b", b"another image")
    machines.store("first-a", NEW)
    (one,) = machines.start(1)
    machines.images.fault = Said(403)
    assert (await one.get("/either/a")).content == OLD
    machines.images.fault = Pass()
    name = await shared(machines, one, "/objects/b")
    assert machines.read_object(name).endswith(b"another image")
    await seen(one, "/either/a", NEW)


@pytest.mark.parametrize("reader", [0, 1])
async def test_copies_of_objects_are_put_right_by_checks(machines: Machines, reader: int) -> None:
    machines.store("a", OLD)
    for number in (1, 2):
        Path(f"objects-{number}").mkdir()
    both = machines.start(2, OBJECTS='cache-root="objects-NUMBER"')
    await both[reader].get("/objects/a")
    assert (await both[0].get("/objects/a")).content == OLD
    machines.store("a", NEW)
    await asyncio.gather(*(seen(site, "/objects/a", NEW) for site in both))


async def test_copies_that_a_store_has_left_are_put_right_too(machines: Machines) -> None:
    Path("objects-1").mkdir()
    (one,) = machines.start(1, OBJECTS='cache-root="objects-1"')
    await one.put("/objects/a", OLD)
    assert (await one.get("/objects/a")).content == OLD
    assert machines.fetched("a") == 0
    machines.store("a", NEW)
    await seen(one, "/objects/a", NEW)


class Slow:
    """A computation that has read `OLD` of an object and waits before it answers."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.has_read = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def __call__(self, state: RequestState) -> Answer:
        endpoint = self._site.api.endpoints[0]
        for source in endpoint.sources:
            await source.run(state)
        self.has_read.set()
        await self.may_answer.wait()
        return Answer(MemoryBlob(state.images["object"].data.read()), "image/png")

    async def asked(self) -> Answer:
        endpoint = self._site.api.endpoints[0]
        request = Request("GET", "/objects/a", "", parse_query(""), {})
        captures = endpoint.matcher.match(request)
        assert captures is not None
        assert endpoint.cache is not None
        state = await begin(endpoint, captures, request, MemoryBlob(b""), 1 << 20)
        return await endpoint.cache.answer(state, self)


@pytest.mark.parametrize("change", ["store", "purge"])
async def test_a_computation_that_a_change_elsewhere_has_overtaken_serves_nobody(
    machines: Machines, change: str
) -> None:
    """It is kept with what it has read, and so is known to be old."""
    machines.store("a", OLD)
    one, two = machines.start(2)
    slow = Slow(one)
    waiting = asyncio.create_task(slow.asked())
    await asyncio.wait_for(slow.has_read.wait(), 30)
    if change == "store":
        await two.put("/objects/a", NEW)
    else:
        assert (await two.delete("/sources/a")).status_code == 200
    slow.may_answer.set()
    assert (await waiting).body.read() == OLD
    await machines.settled(1)
    assert await status(two, "/objects/a") == "safelight; fwd=miss; stored"
    assert await status(machines.another(), "/objects/a") != "safelight; hit"
    await asyncio.sleep(RECHECK_S + 0.1)
    answer = await one.get("/objects/a")
    assert answer.headers["cache-status"] != "safelight; hit"
    assert answer.content == (NEW if change == "store" else OLD)


async def test_who_asks_after_recheck_does_not_join_what_began_before(machines: Machines) -> None:
    """It waits for that, and then sees that it is old."""
    machines.store("a", OLD)
    (one,) = machines.start(1)
    slow = Slow(one)
    waiting = asyncio.create_task(slow.asked())
    await asyncio.wait_for(slow.has_read.wait(), 30)
    machines.store("a", NEW)
    await asyncio.sleep(RECHECK_S + 0.1)
    later = [asyncio.create_task(one.get("/objects/a")) for _ in range(5)]
    await asyncio.sleep(0.2)  # until they wait; should they be later, they see what is new all the same
    slow.may_answer.set()
    assert (await waiting).body.read() == OLD
    assert {answer.content for answer in await asyncio.gather(*later)} == {NEW}
    assert machines.fetched("a") == 2


async def test_what_a_check_has_found_is_known_to_all_processes_of_a_machine(machines: Machines) -> None:
    """The second process would trust its answer for an hour."""
    machines.store("a", OLD)
    first = machines.site(machines.configuration("cache", "1s"))
    second = machines.site(machines.configuration("cache", FOREVER))
    for site in (first, second):
        assert (await site.get("/objects/a")).content == OLD
    machines.store("a", NEW)
    await asyncio.sleep(RECHECK_S + 0.1)
    assert (await second.get("/objects/a")).content == OLD
    assert (await first.get("/objects/a")).content == NEW
    assert (await second.get("/objects/a")).content == NEW


# Purges


PURGES = {
    "by URL": "/urls/a",
    "by tag": "/tags/of-a",
    "by another tag": "/tags/all",
    "by source": "/sources/a",
}


@pytest.mark.parametrize("purge", PURGES.values(), ids=PURGES)
async def test_a_purge_is_seen_at_once_on_its_machine_and_within_recheck_on_others(
    machines: Machines, purge: str
) -> None:
    machines.store("a", OLD)
    one, two = machines.start(2)
    name = await shared(machines, one)
    former = machines.read_object(name)
    assert await status(two, "/objects/a") == SHARED
    assert (await two.delete(purge)).status_code == 200
    assert await status(two, "/objects/a") == "safelight; fwd=miss; stored"
    await machines.replaced(name, former)
    await asyncio.sleep(RECHECK_S + 0.1)
    assert await status(one, "/objects/a") == SHARED
    assert await status(machines.another(), "/objects/a") == SHARED


@pytest.mark.parametrize("purge", PURGES.values(), ids=PURGES)
async def test_what_is_made_after_a_purge_is_shared(machines: Machines, purge: str) -> None:
    machines.store("a", OLD)
    one, two = machines.start(2, FOREVER)
    assert (await one.delete(purge)).status_code == 200
    await shared(machines, one)
    assert await status(two, "/objects/a") == SHARED


async def test_a_purge_of_something_else_drops_nothing(machines: Machines) -> None:
    machines.store("a", OLD)
    one, two = machines.start(2)
    await shared(machines, one)
    for purge in ("/urls/b", "/tags/of-b", "/sources/b"):
        assert (await one.delete(purge)).status_code == 200
    assert await status(two, "/objects/a") == SHARED
    await asyncio.sleep(RECHECK_S + 0.1)
    assert await status(one, "/objects/a") == "safelight; hit"


async def test_a_purge_that_cannot_reach_the_others_fails(machines: Machines) -> None:
    """Nobody is told that everything was dropped; what can be is, on this machine."""
    machines.store("a", OLD)
    (one,) = machines.start(1, FOREVER)
    await shared(machines, one)
    machines.answers.fault = Said(403)
    answer = await one.delete("/urls/a")
    assert answer.status_code == 502
    assert answer.text.startswith("dropped on this machine, but other machines may not know: access to ")
    assert await status(one, "/objects/a") == "safelight; fwd=miss; stored"


async def test_urls_that_were_purged_once_do_not_take_an_answer_from_each_other(machines: Machines) -> None:
    """Nobody reads what one of the matchers captures, so both URLs have one answer."""
    machines.store("a", OLD)
    matchers = 'get "objects" ":any/[0-9]/"'
    text = [machines.configuration(f"c{n}", FOREVER).replace('get "objects"', matchers) for n in range(2)]
    one, two = map(machines.site, text)
    for number in (1, 2):
        await one.get(f"/objects/{number}/a")
        assert (await one.delete(f"/urls/{number}/a")).status_code == 200
    (name,) = await machines.settled(1)
    for number in (1, 2, 1, 2):
        await one.get(f"/objects/{number}/a")
        await eventually(lambda: machines.read_object(name) == Path("c0", name).read_bytes())
    held = dict(unpacked(MemoryBlob(machines.read_object(name)), name).head.marks or ())
    assert sum(mark != "" for mark in held.values()) == 2
    before = machines.fetched("a")
    for number in (1, 2, 1, 2):
        assert (await two.get(f"/objects/{number}/a")).content == OLD
    assert machines.fetched("a") == before


async def test_a_url_is_purged_although_an_equal_answer_is_asked_for_by_another_one(
    machines: Machines,
) -> None:
    machines.store("a", OLD)
    matchers = 'get "objects" ":any/[0-9]/"'
    text = [machines.configuration(f"c{n}").replace('get "objects"', matchers) for n in range(2)]
    one, two = map(machines.site, text)
    await shared(machines, one, "/objects/1/a")
    for number in (1, 2):
        assert (await two.get(f"/objects/{number}/a")).content == OLD
    assert (await one.delete("/urls/2/a")).status_code == 200
    await asyncio.sleep(RECHECK_S + 0.1)
    assert await status(two, "/objects/1/a") == "safelight; hit"
    assert await status(two, "/objects/2/a") == "safelight; fwd=miss; stored"


# Faults


async def test_without_the_tier_every_machine_goes_on_alone(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_patience(monkeypatch, HURRIED_S)
    machines.store("a", OLD)
    machines.store("b", OLD)
    one, two = machines.start(2)
    await shared(machines, one)
    with machines.answers.refusing(), capture_logs() as logs:
        assert await status(two, "/objects/a") == "safelight; fwd=miss; stored"
        assert await status(two, "/objects/b") == "safelight; fwd=miss; stored"
        await asyncio.sleep(RECHECK_S + 0.1)
        for _ in range(5):
            assert await status(one, "/objects/a") == "safelight; hit"
    alone = [line["without"] for line in logs if line["event"] == "result cache: going on alone"]
    assert len(alone) == 2, "once by each machine"
    assert all(machines.bucket in without for without in alone)
    machines.store("a", NEW)
    await asyncio.gather(*(seen(site, "/objects/a", NEW, 30) for site in (one, two)))


async def test_changes_are_seen_although_purges_cannot_be_asked_for(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_patience(monkeypatch, HURRIED_S)
    machines.store("a", OLD)
    (one,) = machines.start(1)
    await shared(machines, one)
    with machines.answers.refusing():
        machines.store("a", NEW)
        await seen(one, "/objects/a", NEW)


async def test_what_was_made_while_the_tier_was_away_is_made_again_when_it_is_back(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_patience(monkeypatch, HURRIED_S)
    machines.store("a", OLD)
    (one,) = machines.start(1)
    with machines.answers.refusing():
        assert await status(one, "/objects/a") == "safelight; fwd=miss; stored"
    deadline = time.monotonic() + 60
    while not machines.objects():
        assert time.monotonic() < deadline
        assert (await one.get("/objects/a")).content == OLD
        await asyncio.sleep(0.05)
    assert await status(machines.another(), "/objects/a") == SHARED


FAULTS: dict[str, Fault] = {
    "hangs": Delay(None),
    "fails": Said(500),
    "refuses": Said(403, b"<Error><Code>AccessDenied</Code></Error>"),
    "breaks off": CutResponse(20),
    "has no bucket": Said(404, b"<Error><Code>NoSuchBucket</Code></Error>"),
    "says nothing useful": Said(200, b"hello"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_no_fault_of_the_tier_fails_or_holds_up_requests(
    machines: Machines, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_patience(monkeypatch, HURRIED_S)
    for number in range(5):
        machines.store(str(number), OLD)
    machines.store("a", OLD)
    one, two = machines.start(2, FOREVER)
    await shared(machines, one)
    machines.answers.fault = fault
    began = time.monotonic()
    assert (await two.get("/objects/a")).content == OLD
    for number in range(5):
        assert (await two.get(f"/objects/{number}")).content == OLD
    assert time.monotonic() - began < 12
    machines.answers.fault = Pass()


async def test_a_server_stops_at_once_although_it_shares_answers(machines: Machines) -> None:
    machines.store("a", OLD)
    (one,) = machines.start(1)

    def hanging(request: SeenRequest) -> Fault:
        return Delay(None) if request.method == "PUT" else Pass()

    machines.answers.fault = hanging
    assert await status(one, "/objects/a") == "safelight; fwd=miss; stored"
    await eventually(lambda: any(request.method == "PUT" for request in machines.answers.requests))
    cache = one.api.endpoints[0].cache
    assert cache is not None
    began = time.monotonic()
    await cache.close()
    assert time.monotonic() - began < 5


def altered(content: bytes, name: str, /, **changes: object) -> bytes:
    """A well-formed object that says something else."""
    entry = unpacked(MemoryBlob(content), name)
    parts = written(Entry(msgspec.structs.replace(entry.head, **changes), entry.body))
    return b"".join(part.read() for part in parts)


def with_body(content: bytes, body: bytes) -> bytes:
    return content[: -len(OLD)] + body


DAMAGES = {
    "empty": lambda content, name: b"",
    "foreign": lambda content, name: b"\x89PNG" * 1000,
    "cut": lambda content, name: content[:-1],
    "longer": lambda content, name: content + b"!",
    "another body": lambda content, name: with_body(content, b"0ld content"),
    "another name": lambda content, name: altered(content, name, name="00/" + "0" * 30),
    "another storage": lambda content, name: altered(content, name, reads=(Read("x", "a", None),)),
    "a key that leads elsewhere": lambda content, name: altered(
        content, name, reads=(replace_key(content, name, "../../a"),)
    ),
    "a version that nobody knows": lambda content, name: altered(
        content, name, reads=(replace_version(content, name, ""),)
    ),
    "no marks": lambda content, name: altered(content, name, marks=None),
    "a large body that is not there": lambda content, name: altered(content, name, size=1 << 30),
}


def replace_key(content: bytes, name: str, key: str) -> Read:
    (read,) = unpacked(MemoryBlob(content), name).head.reads
    return Read(read.origin, key, read.version)


def replace_version(content: bytes, name: str, version: str) -> Read:
    (read,) = unpacked(MemoryBlob(content), name).head.reads
    return Read(read.origin, read.key, version)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_or_foreign_object_is_a_miss_and_replaced(machines: Machines, damage: str) -> None:
    machines.store("a", OLD)
    one, two = machines.start(2, FOREVER)
    name = await shared(machines, one)
    damaged = DAMAGES[damage](machines.read_object(name), name)
    machines.write_object(name, damaged)
    answer = await two.get("/objects/a")
    assert (answer.status_code, answer.content) == (200, OLD)
    assert answer.headers["cache-status"] == "safelight; fwd=miss; stored"
    await machines.replaced(name, damaged)
    assert await status(machines.another(FOREVER), "/objects/a") == SHARED


async def test_an_object_beyond_all_bounds_is_a_miss(machines: Machines) -> None:
    machines.store("a", OLD)
    one, two = machines.start(2, FOREVER)
    name = await shared(machines, one)
    machines.write_object(name, bytes(40 * MEBIBYTE))
    assert await status(two, "/objects/a") == "safelight; fwd=miss; stored"


# All at the same time


async def test_no_machine_serves_what_is_not_stored_for_longer_than_recheck(machines: Machines) -> None:
    """Three machines, all kinds of changes, then silence: everybody agrees with what is stored."""
    running = machines.start(3)
    keys = ["a", "b", "c"]
    contents = dict.fromkeys(keys, OLD)
    for key in keys:
        machines.store(key, OLD)
    stop = asyncio.Event()

    async def ask(site: Site, number: int) -> None:
        while not stop.is_set():
            answer = await site.get(f"/objects/{keys[number % 3]}")
            assert answer.status_code in (200, 404), answer.text
            number += 1
            await asyncio.sleep(0.01)

    async def change() -> None:
        for number in range(40):
            key, body = keys[number % 3], b"%d" % number * (number + 1)
            site = running[number % len(running)]
            if number % 7 == 3:
                machines.store(key, body)
                contents[key] = body
            elif number % 7 == 5:
                await site.delete(f"/sources/{key}")
            else:
                await site.put(f"/objects/{key}", body)
                contents[key] = body
                assert (await site.get(f"/objects/{key}")).content == body
            await asyncio.sleep(0.05)

    asking = [asyncio.create_task(ask(site, number)) for number, site in enumerate(running)]
    await change()
    changed = time.monotonic()
    stop.set()
    await asyncio.gather(*asking)
    await asyncio.sleep(max(0.0, changed + RECHECK_S + 0.1 - time.monotonic()))
    for site in (*running, machines.another()):
        for key in keys:
            assert (await site.get(f"/objects/{key}")).content == contents[key]
