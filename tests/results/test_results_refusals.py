"""Answers that machines share, where a storage refuses one thing, or an object says what nobody writes."""

import asyncio
import re
import struct
import time
from collections.abc import Callable
from zlib import crc32

import httpx
import msgspec
import pytest
from fault_proxy import Answer, Delay, Fault, Pass, SeenRequest
from machines import RECHECK_S, Machines, seen, set_patience
from results_site import Site

from safelight.blob import MemoryBlob
from safelight.results.entry import Entry, unpacked, written

OLD, NEW = b"old content", b"new content!"
HURRIED_S = 2
WITHIN_S = RECHECK_S + 4 * HURRIED_S
"""Far more than a check that nothing holds up, far less than what goes on for as long as somebody asks."""

DENIED = Answer(403, b"<Error><Code>AccessDenied</Code></Error>")
FAILED = Answer(500)

_START = struct.Struct("<4sII")


def about(key: str, fault: Fault) -> Callable[[SeenRequest], Fault]:
    """What befalls requests about one image; all others pass."""
    return lambda request: fault if request.target.partition("?")[0].endswith(f"/{key}") else Pass()


async def served(
    site: Site, target: str, is_right: Callable[[httpx.Response], bool], before: str | None = None
) -> None:
    """Wait until `target` is answered as it must be from then on, asking for `before` each time as well."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        if before is not None:
            await site.get(before)
        answer = await site.get(target)
        if is_right(answer):
            return
        assert time.monotonic() < deadline, f"{target}: {answer.status_code} {answer.content!r}"
        await asyncio.sleep(0.02)


async def test_what_must_not_be_read_any_more_is_not_served(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Amazon says of a deleted object to whom it does not tell what is there."""
    set_patience(monkeypatch, HURRIED_S)
    machines.store("a", OLD)
    (one,) = machines.start(1)
    await seen(one, "/objects/a", OLD)
    machines.delete("a")
    machines.images.fault = about("a", DENIED)
    await served(one, "/objects/a", lambda answer: answer.status_code != 200)


@pytest.mark.parametrize("fault", [DENIED, FAILED], ids=["refused", "failing"])
async def test_one_image_that_cannot_be_checked_hides_no_change_of_others(
    machines: Machines, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_patience(monkeypatch, HURRIED_S)
    for name in ("bad", "good"):
        machines.store(name, OLD)
    (one,) = machines.start(1)
    for name in ("bad", "good"):
        await seen(one, f"/objects/{name}", OLD)
    machines.images.fault = about("bad", fault)
    machines.store("good", NEW)

    await served(one, "/objects/good", lambda answer: answer.content == NEW, before="/objects/bad")


def slow_answers(request: SeenRequest) -> Fault:
    """As large ones over a slow line are; marks come at once."""
    return Delay(None) if request.method == "GET" and "/answers/" in request.target else Pass()


def refused_answers(request: SeenRequest) -> Fault:
    return DENIED if request.method == "GET" and "/answers/" in request.target else Pass()


@pytest.mark.parametrize("fault", [slow_answers, refused_answers])
async def test_answers_that_cannot_be_fetched_are_made_and_shared_and_purged(
    machines: Machines, fault: Callable[[SeenRequest], Fault], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marks are asked for all the same."""
    set_patience(monkeypatch, HURRIED_S)
    machines.store("a", OLD)
    one, two = machines.start(2)
    await seen(one, "/objects/a", OLD)
    (name,) = await machines.settled(1)
    former = machines.read_object(name)
    machines.answers.fault = fault
    answer = await two.get("/objects/a")
    assert (answer.content, answer.headers["cache-status"]) == (OLD, "safelight; fwd=miss; stored")
    await machines.replaced(name, former)
    assert (await one.delete("/urls/a")).status_code == 200
    await asyncio.sleep(RECHECK_S + 0.1)
    assert await two.state("/objects/a") == "fwd=miss"


async def test_slow_answers_do_not_keep_others_from_being_fetched(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_patience(monkeypatch, HURRIED_S)
    (one,) = machines.start(1, "1h")
    names: dict[str, str] = {}
    for key in ("slow", "quick"):
        machines.store(key, OLD)
        await seen(one, f"/objects/{key}", OLD)
        (names[key],) = {*await machines.settled(len(names) + 1)} - {*names.values()}
    two = machines.another("1h")
    machines.answers.fault = about(names["slow"], Delay(None))
    assert await two.state("/objects/slow") == "fwd=miss"
    answer = await two.get("/objects/quick")
    assert answer.headers["cache-status"] == "safelight; hit; detail=SHARED"


def with_head(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Another head with the right checksum before the same body."""
    magic, length, _ = _START.unpack_from(content)
    head = change(content[_START.size : _START.size + length])
    return _START.pack(magic, len(head), crc32(head)) + head + content[_START.size + length :]


def with_fields(content: bytes, name: str, **changes: object) -> bytes:
    entry = unpacked(MemoryBlob(content), name)
    parts = written(Entry(msgspec.structs.replace(entry.head, **changes), entry.body))
    return b"".join(part.read() for part in parts)


UNHEARD_OF: dict[str, Callable[[bytes, str], bytes]] = {
    "a head beyond all depth": lambda content, _: with_head(
        content, lambda head: head[:-1] + b',"more":' + b"[" * 50_000
    ),
    "a head that is no UTF-8": lambda content, _: with_head(
        content, lambda head: head.replace(b"image/png", b"image/\xff\xfe")
    ),
    "a slot that there is not": lambda content, name: with_fields(content, name, slots=(1 << 40,)),
    "a slot beyond all numbers": lambda content, name: with_fields(content, name, slots=(1 << 62, 1 << 63)),
    "a slot before the first": lambda content, name: with_fields(content, name, slots=(-1,)),
    "a mark that there is not": lambda content, name: with_fields(content, name, marks=((1 << 40, ""),)),
    "a time of change beyond all years": lambda content, name: with_fields(content, name, modified=1e18),
    "a time of change before all years": lambda content, name: with_fields(content, name, modified=-1e18),
    "kept at no time": lambda content, name: with_fields(content, name, kept_at=-1e300),
    "kept at an endless time": lambda content, _: with_head(
        content, lambda head: re.sub(rb'"kept_at":[^,]+', b'"kept_at":1e999', head)
    ),
}


@pytest.mark.parametrize("damage", UNHEARD_OF)
async def test_an_object_that_no_machine_has_written_fails_no_request(
    machines: Machines, damage: str
) -> None:
    machines.store("a", OLD)
    one, two = machines.start(2, "1h")
    await seen(one, "/objects/a", OLD)
    (name,) = await machines.settled(1)
    machines.write_object(name, UNHEARD_OF[damage](machines.read_object(name), name))
    answer = await two.get("/objects/a")
    assert (answer.status_code, answer.content) == (200, OLD)
    assert answer.headers["cache-status"] == "safelight; fwd=miss; stored"
