"""What clients see of a result cache, and what it does behind them: the server's application, real files."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import time

import pytest
from results_site import Site, Sites

from safelight.blob import MemoryBlob
from safelight.errors import (
    NoSuchBucket,
    NotFound,
    S3AccessDenied,
    SafelightError,
    StorageError,
    Timeout,
)
from safelight.model import Answer, AnswerCache, Request, RequestState
from safelight.results.epochs import place_slot
from safelight.results.reading import Origin
from safelight.run import begin
from safelight.storage.base import Stored
from safelight.storage.file import FileStorage
from safelight.uri import parse_query

IMAGES = """
path "name" "#{path}"
get "images" {
    cache root="cache" OPTIONS
    source_file "image" root="images" path="name"
    output_image "image" cache-control="public, max-age=60"
}
put "images" { store_file "input" root="images" path="name"; }
delete "images" { delete_file root="images" path="name"; }
"""
OLD, NEW = b"old content", b"new content!"
TIMEOUT_S = 30
ORIGIN = Origin("source", FileStorage(Path("/anywhere")))


def images(options: str = "", more: str = "") -> str:
    return IMAGES.replace("OPTIONS", options) + more


def site_with_old(sites: Sites, options: str = "", more: str = "") -> Site:
    site = sites(images(options, more))
    site.write("images/a", OLD)
    return site


# Hits


async def test_a_second_request_is_answered_without_reading_the_source(sites: Sites) -> None:
    site = site_with_old(sites, more='header "X-Who" "#{path}"\n')
    first, second, third = [await site.get("/images/a") for _ in range(3)]
    assert first.headers["cache-status"] == "safelight; fwd=miss; stored"
    assert second.headers["cache-status"] == third.headers["cache-status"] == "safelight; hit"
    assert int(second.headers["age"]) >= 0
    assert "age" not in first.headers
    for answer in (first, second, third):
        assert (answer.status_code, answer.content) == (200, OLD)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["cache-control"] == "public, max-age=60"
        assert answer.headers["x-who"] == "a"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["etag"] == first.headers["etag"]
        assert answer.headers["last-modified"] == first.headers["last-modified"]
    assert site.sourced == 1


async def test_hits_count_in_statistics_and_metrics(sites: Sites) -> None:
    site = site_with_old(sites)
    for _ in range(4):
        await site.get("/images/a")
    assert site.value("total_result_cache_hits") == 3
    assert site.value("total_result_cache_misses") == 1
    assert site.value("total_requests") == 4
    assert site.value("total_write") == 4
    metrics = (await site.get("/metrics")).text
    assert 'safelight_result_cache_requests_total{result="hit"} 3.0' in metrics
    assert 'status="200"} 4.0' in metrics


async def test_an_answer_is_never_sent_with_the_headers_of_the_one_before(sites: Sites) -> None:
    """Nobody reads `n`, so both URLs have one kept answer; after a change the second one is asked first."""
    site = site_with_old(sites)
    for change in range(1, 20):
        for number in (1, 1, 1, 2, 2):
            await site.get(f"/images/a?n={number}")
        content = b"x" * change
        await site.client.put("/images/a", content=content)
        other, answer = await site.get("/images/a?n=2"), await site.get("/images/a?n=1")
        assert answer.content == other.content == content
        assert answer.headers["content-length"] == str(len(content))
        assert answer.headers["etag"] == other.headers["etag"]


async def test_an_answer_with_an_equal_body_is_not_sent_with_the_headers_of_the_one_before(
    sites: Sites,
) -> None:
    site = sites("""
        path "name" "#{path}"
        get "digest" ":image_name" {
            cache root="cache"
            source_file "image" root="images" path="name"
            output_text "equal"
            header "X-Digest" "#{image_digest}"
        }
        put "images" { store_file "input" root="images" path="name"; }
    """)
    for change in range(1, 20):
        content = b"x" * change
        await site.put("/images/a", content)
        answers = [await site.get(f"/digest/image/a?n={number}") for number in (2, 1, 1, 1)]
        assert {answer.headers["x-digest"] for answer in answers} == {MemoryBlob(content).sha256[:16]}


async def test_another_process_and_a_restart_find_what_was_kept(sites: Sites) -> None:
    site = site_with_old(sites)
    await site.get("/images/a")
    other = sites(images())
    assert await other.state("/images/a") == "hit"
    assert other.sourced == 0


async def test_what_others_write_is_seen_only_after_a_purge(sites: Sites) -> None:
    """So a hit cannot have looked at the source."""
    site = site_with_old(sites)
    await site.get("/images/a")
    site.write("images/a", NEW)
    assert (await site.get("/images/a")).content == OLD


async def test_a_small_answer_does_not_depend_on_the_file_that_it_was_made_of(sites: Sites) -> None:
    site = site_with_old(sites)
    await site.get("/images/a")
    inode = Path("images/a").stat().st_ino
    Path("images/a").write_bytes(b"OVERWRITTEN")
    assert Path("images/a").stat().st_ino == inode
    assert (await site.get("/images/a")).content == OLD


async def test_large_answers_are_kept_too(sites: Sites) -> None:
    site = sites(images())
    large = bytes(range(256)) * 4096
    site.write("images/a", large)
    assert (await site.get("/images/a")).content == large
    Path("images/a").unlink()
    answer = await site.get("/images/a")
    assert answer.content == large
    assert answer.headers["cache-status"] == "safelight; hit"
    part = await site.get("/images/a", range="bytes=300-309")
    assert (part.status_code, part.content) == (206, large[300:310])


async def test_an_empty_answer_is_kept(sites: Sites) -> None:
    site = sites(images())
    site.write("images/a", b"")
    assert (await site.get("/images/a")).content == b""
    assert (await site.get("/images/a")).headers["cache-status"] == "safelight; hit"


@pytest.mark.parametrize("hits", [1, 2, 3])
async def test_ranges_conditions_and_head_work_on_hits(sites: Sites, hits: int) -> None:
    site = site_with_old(sites)
    for _ in range(hits):
        tag = (await site.get("/images/a")).headers["etag"]
    known = await site.get("/images/a", if_none_match=tag)
    assert (known.status_code, known.content) == (304, b"")
    assert known.headers["etag"] == tag
    assert known.headers["cache-control"] == "public, max-age=60"
    assert known.headers["cache-status"] == "safelight; hit"
    assert "age" in known.headers
    assert "content-length" not in known.headers
    assert (await site.get("/images/a", if_none_match='"other"')).content == OLD
    assert (await site.get("/images/a", if_none_match=f'"x", W/{tag}')).status_code == 304
    assert (await site.get("/images/a", if_match='"other"')).status_code == 412
    part = await site.get("/images/a", range="bytes=4-6")
    assert (part.status_code, part.content) == (206, OLD[4:7])
    assert part.headers["content-range"] == f"bytes 4-6/{len(OLD)}"
    assert (await site.get("/images/a", range="bytes=99-")).status_code == 416
    head = await site.client.head("/images/a")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(OLD))
    since = await site.get("/images/a", if_modified_since=head.headers["last-modified"])
    assert since.status_code == 304
    assert site.sourced == 1


async def test_head_fills_the_cache(sites: Sites) -> None:
    site = site_with_old(sites)
    assert (await site.client.head("/images/a")).headers["content-length"] == str(len(OLD))
    assert await site.state("/images/a") == "hit"


async def test_a_body_of_a_get_is_read_and_the_answer_still_kept(sites: Sites) -> None:
    site = site_with_old(sites)
    for _ in range(3):
        answer = await site.client.request("GET", "/images/a", content=b"what for")
        assert answer.content == OLD
    assert site.sourced == 1


# What an answer depends on


QUERY = """
path "name" "#{path}"
get "images" "&:size?1" "&:unread?x" {
    cache root="cache"
    source_file "image" root="images" path="name"
    output_text "#{size} of #{path}"
    header "X-Base" "#{basename}" if-variable-matches="mode"
}
get "both" "&:mode?" {
    cache root="cache"
    output_text "both"
    header "X-Mode" "yes" if-variable-matches="mode:a"
}
get "options" "&:any?" {
    cache root="cache"
    output_text "#{query_string_options}"
}
get "keyed" "&:version?1" {
    cache root="cache" key="#{version}"
    output_text "keyed"
}
"""


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [
        ("/images/a", "/images/a?noise=1&more", "hit"),
        ("/images/a", "/images/a?unread=y", "hit"),
        ("/images/a?size=1", "/images/a", "hit"),
        ("/images/a?size=1", "/images/a?size=2", "fwd=miss"),
        ("/images/a", "/images/b", "fwd=miss"),
        ("/images/%61", "/images/a", "hit"),
        ("/both?mode=a", "/both?mode=b", "fwd=miss"),
        ("/options?a=1&b=2", "/options?b=2&a=1", "hit"),
        ("/options?a=1", "/options?a=2", "fwd=miss"),
        ("/keyed?version=1", "/keyed?version=2", "fwd=miss"),
        ("/keyed?version=2", "/keyed?version=2&x=1", "hit"),
    ],
)
async def test_only_what_statements_read_tells_answers_apart(
    sites: Sites, first: str, second: str, state: str
) -> None:
    site = sites(QUERY)
    site.write("images/a", b"a")
    site.write("images/b", b"a")
    await site.state(first)
    assert await site.state(second) == state


@pytest.mark.parametrize(
    "changed",
    [
        images(more='header "X-New" "1"\n'),
        images().replace('root="images"', 'root="others"'),
        images().replace('"name" "#{path}"', '"name" "sub/#{path}"'),
        images().replace("max-age=60", "max-age=61"),
    ],
)
async def test_another_configuration_does_not_find_the_answers_of_this_one(
    sites: Sites, changed: str
) -> None:
    site = site_with_old(sites)
    await site.get("/images/a")
    for path in ("others/a", "images/sub/a"):
        site.write(path, NEW)
    assert await sites(changed).state("/images/a") == "fwd=miss"


@pytest.mark.parametrize(
    ("first", "second"), [("/one/x", "/two/x"), ("/two/x", "/one/x"), ("/keyed/x", "/both/x/y")]
)
async def test_equal_values_of_different_captures_tell_answers_apart(
    sites: Sites, first: str, second: str
) -> None:
    """The endpoints say the same, and capture different ones of the variables that it reads."""
    shown = 'header "X-A" "#{a}" if-variable-matches="a"; header "X-B" "#{b}" if-variable-matches="b"'
    site = sites(f"""
        get "one" ":a" {{ cache root="cache"; output_ok; {shown}; }}
        get "two" ":b" {{ cache root="cache"; output_ok; {shown}; }}
        get "keyed" ":a" {{ cache root="cache" key="y"; output_ok; {shown}; }}
        get "both" ":a" ":b" {{ cache root="cache"; output_ok; {shown}; }}
    """)
    assert await site.state(first) == "fwd=miss"
    assert await site.state(second) == "fwd=miss"


async def test_limits_of_the_cache_and_validators_are_no_part_of_an_answer(sites: Sites) -> None:
    site = site_with_old(sites, 'max-size="1MB"')
    await site.get("/images/a")
    assert await sites(images('max-size="2MB" max-age="9d"')).state("/images/a") == "hit"


async def test_the_directory_counts_not_how_it_is_written(
    sites: Sites, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two servers may share a cache and have different working directories."""
    cache = f'root="{tmp_path}/shared"'
    site = sites(images().replace('root="cache"', cache))
    site.write("images/a", OLD)
    await site.get("/images/a")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    other = sites(images().replace('root="cache"', cache))
    other.write("images/a", NEW)
    assert (await other.get("/images/a")).content == NEW


# Signatures


SIGNED = """
path "name" "#{path}"
get "signed" {
    validate_uri_hmac "hmac" secret="pass" digest="sha256"
    cache root="cache"
    source_file "image" root="images" path="name"
    output_image "image"
}
get "open" {
    cache root="cache"
    source_file "image" root="images" path="name"
    output_image "image"
}
"""


async def test_a_hit_never_passes_a_signature(sites: Sites) -> None:
    from safelight.signing import signature

    site = sites(SIGNED)
    site.write("images/a", OLD)
    await site.get("/open/a")
    good = f"/signed/a?hmac={signature('/signed/a', 'pass', 'sha256')}"
    for _ in range(4):
        assert (await site.get(good)).content == OLD
        assert (await site.get("/signed/a")).status_code == 403
        assert (await site.get(good[:-1] + "x")).status_code == 403
        assert (await site.client.head("/signed/a")).status_code == 403
    tag = (await site.get(good)).headers["etag"]
    assert (await site.get("/signed/a", if_none_match=tag)).status_code == 403
    assert site.sourced == 1, "what statements make is the same with and without a signature"


async def test_pages_of_other_origins_are_told_what_is_theirs(sites: Sites) -> None:
    site = site_with_old(sites, more='cors origins="https://one.example,https://two.example"\n')
    for origin in ("https://one.example", "https://two.example", "https://one.example"):
        answer = await site.get("/images/a", origin=origin)
        assert answer.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-origin" not in (await site.get("/images/a")).headers
    assert site.sourced == 1


# What is not kept


async def test_errors_are_not_kept(sites: Sites) -> None:
    site = sites(images())
    assert (await site.get("/images/a")).status_code == 404
    assert site.kept() == []
    site.write("images/a", NEW)
    assert (await site.get("/images/a")).content == NEW


@pytest.mark.parametrize("output", ['output_text "x" status=404', 'output_text "x" cache-control="no-store"'])
async def test_only_successful_answers_that_may_be_kept_are(sites: Sites, output: str) -> None:
    site = sites(f'get "x" {{ cache root="cache"; {output}; }}')
    for _ in range(2):
        assert (await site.get("/x")).headers["cache-status"] == "safelight; fwd=miss"
    assert site.kept() == []


# Changes


async def test_a_store_drops_answers_in_all_processes(sites: Sites) -> None:
    one, two = site_with_old(sites), sites(images())
    for _ in range(3):
        assert (await one.get("/images/a")).content == (await two.get("/images/a")).content == OLD
    assert (await two.put("/images/a", NEW)).status_code == 200
    assert (await one.get("/images/a")).content == NEW
    assert (await two.get("/images/a")).content == NEW


async def test_a_delete_drops_answers(sites: Sites) -> None:
    one, two = site_with_old(sites), sites(images())
    for _ in range(3):
        assert (await one.get("/images/a")).content == (await two.get("/images/a")).content == OLD
    assert (await one.delete("/images/a")).status_code == 200
    assert (await one.get("/images/a")).status_code == 404
    assert (await two.get("/images/a")).status_code == 404


async def test_a_change_of_one_image_leaves_the_others(sites: Sites) -> None:
    site = site_with_old(sites)
    await site.get("/images/a")
    await site.put("/images/b", NEW)
    assert await site.state("/images/a") == "hit"


async def test_a_store_under_another_spelling_of_the_path_counts(sites: Sites) -> None:
    site = sites(images())
    site.write("images/of/a", OLD)
    assert (await site.get("/images/of/a")).content == OLD
    assert (await site.put("/images/of%2F.%2F%2Fa", NEW)).status_code == 200
    assert (await site.get("/images/of/a")).content == NEW


async def test_what_a_failover_looked_for_in_vain_counts(sites: Sites) -> None:
    site = sites("""
        path "name" "#{path}"
        get "images" {
            cache root="cache"
            source_failover {
                source_file "image" root="first" path="name"
                source_file "image" root="second" path="name"
            }
            output_image "image"
        }
        put "first" { store_file "input" root="first" path="name"; }
    """)
    site.write("second/a", OLD)
    for _ in range(3):
        assert (await site.get("/images/a")).content == OLD
    await site.put("/first/a", NEW)
    assert (await site.get("/images/a")).content == NEW


async def test_what_was_computed_while_its_source_changed_is_not_kept(sites: Sites) -> None:
    """It began after the change was announced, and may have read the old content all the same."""
    site = site_with_old(sites)
    place = f"file:{Path('images').absolute()}/a"
    epochs = next(iter(site.api.resources.shelves.values())).epochs
    with epochs.changing(place):
        assert (await site.get("/images/a")).headers["cache-status"] == "safelight; fwd=miss"
    assert site.kept() == []
    assert (await site.get("/images/a")).headers["cache-status"] == "safelight; fwd=miss; stored"


Compute = Callable[[RequestState], Awaitable[Answer]]


async def asked(site: Site, compute: Compute, raw_path: str = "/images/a") -> Answer:
    """An answer of the cache of the first endpoint, which would be made by `compute`."""
    endpoint = site.api.endpoints[0]
    request = Request("GET", raw_path, "", parse_query(""), {})
    captures = endpoint.matcher.match(request)
    assert captures is not None
    cache = endpoint.cache
    assert cache is not None
    shown: AnswerCache = cache
    return await shown.answer(await begin(endpoint, captures, request, MemoryBlob(b""), 1 << 20), compute)


class Slow:
    """A computation that lasts until it is told what comes of it."""

    def __init__(self) -> None:
        self.begun = 0
        self._has_begun = asyncio.Event()
        self.outcome: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def __call__(self, state: RequestState) -> Answer:
        self.begun += 1
        self._has_begun.set()
        await state.reading.begins(ORIGIN, "a")
        return Answer(MemoryBlob(await asyncio.shield(self.outcome)), "image/png")

    async def until_begun(self) -> None:
        await asyncio.wait_for(self._has_begun.wait(), TIMEOUT_S)


async def test_an_answer_that_was_overtaken_by_a_store_is_not_kept(sites: Sites) -> None:
    site, slow = sites(images()), Slow()
    waiting = asyncio.create_task(asked(site, slow))
    await slow.until_begun()
    with site.api.resources.shelves["cache"].epochs.changing("file:/anywhere/a"):
        pass
    slow.outcome.set_result(OLD)
    assert (await waiting).body.read() == OLD
    assert site.kept() == []


async def test_who_asks_after_a_store_does_not_join_who_asked_before(sites: Sites) -> None:
    site, before, after = sites(images()), Slow(), Slow()
    first = asyncio.create_task(asked(site, before))
    await before.until_begun()
    with site.api.resources.shelves["cache"].epochs.changing("file:/anywhere/a"):
        pass
    second = asyncio.create_task(asked(site, after))
    before.outcome.set_result(OLD)
    after.outcome.set_result(NEW)
    assert (await asyncio.wait_for(second, TIMEOUT_S)).body.read() == NEW
    assert (await first).body.read() == OLD


async def test_equal_requests_of_one_process_are_computed_once(sites: Sites) -> None:
    site, slow = sites(images()), Slow()
    waiting = [asyncio.create_task(asked(site, slow)) for _ in range(20)]
    await slow.until_begun()
    slow.outcome.set_result(OLD)
    answers = await asyncio.gather(*waiting)
    assert slow.begun == 1
    statuses = sorted(dict(answer.facts)["Cache-Status"] for answer in answers)
    assert statuses == ["safelight; fwd=miss; collapsed"] * 19 + ["safelight; fwd=miss; stored"]


async def test_a_failure_is_shared_by_those_who_waited_and_by_nobody_else(sites: Sites) -> None:
    site, slow = sites(images()), Slow()
    waiting = [asyncio.create_task(asked(site, slow)) for _ in range(5)]
    await slow.until_begun()
    slow.outcome.set_exception(NotFound("gone"))
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["gone"] * 5
    assert slow.begun == 1
    again = Slow()
    again.outcome.set_result(NEW)
    assert (await asked(site, again)).body.read() == NEW


async def test_the_computation_goes_on_for_the_others_when_the_first_leaves(sites: Sites) -> None:
    site, slow = sites(images()), Slow()
    first, second = [asyncio.create_task(asked(site, slow)) for _ in range(2)]
    await slow.until_begun()
    first.cancel()
    await asyncio.wait([first])
    slow.outcome.set_result(OLD)
    assert (await asyncio.wait_for(second, TIMEOUT_S)).body.read() == OLD
    assert slow.begun == 1


async def test_the_computation_ends_when_all_have_left(sites: Sites) -> None:
    site, slow = sites(images()), Slow()
    first = asyncio.create_task(asked(site, slow))
    await slow.until_begun()
    first.cancel()
    await asyncio.wait([first])
    again = Slow()
    again.outcome.set_result(NEW)
    assert (await asyncio.wait_for(asked(site, again), TIMEOUT_S)).body.read() == NEW


# Age


async def aged(site: Site) -> None:
    """Wait until what was kept with `max-age="1s"` is too old: time is the condition."""
    await asyncio.sleep(1.05)


async def test_an_answer_is_made_again_after_max_age(sites: Sites) -> None:
    site = site_with_old(sites, 'max-age="1s"')
    await site.get("/images/a")
    site.write("images/a", NEW)
    await aged(site)
    answer = await site.get("/images/a")
    assert answer.content == NEW
    assert answer.headers["cache-status"] == "safelight; fwd=stale; stored"
    again = await site.get("/images/a")
    assert again.headers["cache-status"].startswith("safelight; hit; ttl=")


def failing(error: SafelightError) -> Compute:
    async def compute(state: RequestState) -> Answer:
        await state.reading.begins(ORIGIN, "a")
        raise error

    return compute


def succeeding(content: bytes) -> Compute:
    async def compute(state: RequestState) -> Answer:
        await state.reading.begins(ORIGIN, "a")
        return Answer(MemoryBlob(content), "image/png")

    return compute


async def test_an_old_answer_serves_where_a_new_one_fails(sites: Sites) -> None:
    site = sites(images('max-age="1s" stale-if-error="1h"'))
    await asked(site, succeeding(OLD))
    await aged(site)
    for _ in range(2):
        answer = await asked(site, failing(StorageError("down")))
        assert answer.body.read() == OLD
        assert dict(answer.facts)["Cache-Status"].endswith("; detail=ERROR")
        assert int(dict(answer.facts)["Age"]) >= 1
    assert site.value("total_result_cache_stale") == 2
    assert site.value("total_result_cache_misses") == 1  # the first one


async def test_an_old_answer_serves_where_a_new_one_fails_although_the_clock_was_set_back(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, slow = sites(images('max-age="1s" stale-if-error="1h"')), Slow()
    slow.outcome.set_result(OLD)
    await asked(site, slow)
    await aged(site)
    failing = Slow()
    waiting = asyncio.create_task(asked(site, failing))
    await failing.until_begun()
    earlier = time() - 3600
    monkeypatch.setattr("safelight.statements.answering.time", lambda: earlier)
    failing.outcome.set_exception(StorageError("down"))
    answer = await waiting
    assert answer.body.read() == OLD
    assert dict(answer.facts)["Cache-Status"] == "safelight; hit; detail=ERROR"


async def test_an_old_answer_serves_where_a_new_one_would_take_longer_than_a_request_may(
    sites: Sites,
) -> None:
    text = images('max-age="1s" stale-if-error="1h"')
    await asked(sites(text), succeeding(OLD))
    site, slow = Site(text, request_timeout_s=0.2), Slow()
    await aged(site)
    for _ in range(2):  # the second one need not wait
        answer = await asyncio.wait_for(asked(site, slow), TIMEOUT_S)
        assert answer.body.read() == OLD
        assert dict(answer.facts)["Cache-Status"].endswith("; detail=ERROR")
    assert slow.begun == 1
    await site.close()


async def test_what_is_said_of_the_image_is_not_hidden_by_an_old_answer(sites: Sites) -> None:
    site = sites(images('max-age="1s" stale-if-error="1h"'))
    await asked(site, succeeding(OLD))
    await aged(site)
    with pytest.raises(NotFound):
        await asked(site, failing(NotFound("gone")))


@pytest.mark.parametrize("error", [S3AccessDenied("denied"), NoSuchBucket("no bucket")])
async def test_what_must_not_be_read_any_more_is_not_served(sites: Sites, error: StorageError) -> None:
    """As Amazon says of a deleted object to whom it does not tell what is there."""
    site = sites(images('max-age="1s" stale-if-error="1h"'))
    await asked(site, succeeding(OLD))
    await aged(site)
    for _ in range(2):
        with pytest.raises(type(error)):
            await asked(site, failing(error))


EITHER = """
path "name" "#{path}"
get "either" {
    cache root="cache" OPTIONS
    source_failover {
        source_file "image" root="first" path="name"
        source_file "image" root="second" path="name"
    }
    output_image "image"
}
"""


@pytest.mark.parametrize("first", [StorageError("down"), NotFound("absent")])
async def test_an_old_answer_serves_where_all_sources_fail_one_of_them_by_itself(
    sites: Sites, monkeypatch: pytest.MonkeyPatch, first: SafelightError
) -> None:
    site = sites(EITHER.replace("OPTIONS", 'max-age="1s" stale-if-error="1h"'))
    site.write("first/a", OLD)
    assert await site.state("/either/a") == "fwd=miss"
    await aged(site)
    fail(monkeypatch, {"first": first, "second": Timeout("too slow")})
    answer = await site.get("/either/a")
    assert (answer.status_code, answer.content) == (200, OLD)
    assert answer.headers["cache-status"].endswith("; detail=ERROR")


def fail(monkeypatch: pytest.MonkeyPatch, failures: dict[str, SafelightError]) -> None:
    """Let the roots with these names fail until they are taken out of `failures`."""
    get = FileStorage.get

    async def failing_get(storage: FileStorage, key: str, max_bytes: int) -> Stored:
        if storage.root.name in failures:
            raise failures[storage.root.name]
        return await get(storage, key, max_bytes)

    monkeypatch.setattr(FileStorage, "get", failing_get)


async def test_what_stands_in_for_a_source_that_is_down_is_not_kept_for_long(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safelight.statements.answering.PAUSE_AFTER_FAILURE_S", 1)
    site = sites(EITHER.replace("OPTIONS", ""))
    site.write("first/a", NEW)
    site.write("second/a", OLD)
    failures: dict[str, SafelightError] = {"first": StorageError("down")}
    fail(monkeypatch, failures)
    assert [await site.state("/either/a") for _ in range(3)] == ["fwd=miss", "hit", "hit"]
    await aged(site)
    answer = await site.get("/either/a")
    assert answer.content == OLD
    assert answer.headers["cache-status"] == "safelight; fwd=miss; stored"
    await aged(site)
    failures["first"] = S3AccessDenied("nothing is told of what is not there")
    assert await site.state("/either/a") == "fwd=miss"
    await aged(site)
    assert await site.state("/either/a") == "hit"


async def test_what_stands_in_replaces_what_is_too_old_to_be_served(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = sites(EITHER.replace("OPTIONS", 'max-age="1s"'))
    site.write("first/a", NEW)
    site.write("second/a", OLD)
    await site.state("/either/a")
    await aged(site)
    fail(monkeypatch, {"first": StorageError("down")})
    assert [await site.state("/either/a") for _ in range(3)] == ["fwd=stale", "hit", "hit"]


async def test_what_stands_in_is_not_made_behind_every_request(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = sites(EITHER.replace("OPTIONS", 'max-age="1s" stale-while-revalidate="1h"'))
    site.write("first/a", NEW)
    site.write("second/a", OLD)
    await site.state("/either/a")
    await aged(site)
    fail(monkeypatch, {"first": StorageError("down")})
    before = site.sourced
    for _ in range(20):
        answer = await site.get("/either/a")
        assert answer.content == NEW
        assert answer.headers["cache-status"].endswith("; detail=REVALIDATING")
        await asyncio.sleep(0.002)
    assert site.sourced <= before + 1


async def test_what_a_renewal_is_told_of_the_image_is_not_hidden_either(sites: Sites) -> None:
    site = sites(images('max-age="1s" stale-while-revalidate="1s" stale-if-error="1h"'))
    await asked(site, succeeding(OLD))
    await aged(site)
    with pytest.raises(NotFound):
        await asyncio.wait_for(asked_while_renewing(site, failing(NotFound("gone"))), TIMEOUT_S)


async def asked_while_renewing(site: Site, compute: Compute) -> None:
    """Ask until `compute` fails for who asks: until old answers are served for another reason no more."""
    while True:
        answer = await asked(site, compute)
        assert dict(answer.facts)["Cache-Status"].endswith("; detail=REVALIDATING")
        await asyncio.sleep(0.05)


async def test_without_stale_if_error_failures_are_told(sites: Sites) -> None:
    site = sites(images('max-age="1s"'))
    await asked(site, succeeding(OLD))
    await aged(site)
    with pytest.raises(StorageError):
        await asked(site, failing(StorageError("down")))


async def test_what_was_dropped_is_not_served_where_a_new_one_fails(sites: Sites) -> None:
    site = sites(images('max-age="1s" stale-if-error="1h" stale-while-revalidate="1h"'))
    await asked(site, succeeding(OLD))
    await aged(site)
    site.api.resources.shelves["cache"].epochs.mark(place_slot("file:/anywhere/a"))
    with pytest.raises(StorageError):
        await asked(site, failing(StorageError("down")))


async def test_an_old_answer_serves_while_a_new_one_is_made(sites: Sites) -> None:
    site = sites(images('max-age="1s" stale-while-revalidate="1h"'))
    await asked(site, succeeding(OLD))
    await aged(site)
    slow = Slow()
    for _ in range(3):
        answer = await asyncio.wait_for(asked(site, slow), TIMEOUT_S)
        assert answer.body.read() == OLD
        assert dict(answer.facts)["Cache-Status"].endswith("; detail=REVALIDATING")
    await slow.until_begun()
    assert slow.begun == 1
    slow.outcome.set_result(NEW)
    await asyncio.wait_for(renewed(site), TIMEOUT_S)


async def renewed(site: Site) -> None:
    """Wait until the new answer is served."""
    while (await asked(site, failing(StorageError("not asked")))).body.read() != NEW:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_a_failed_renewal_is_not_tried_again_at_once(sites: Sites) -> None:
    site = sites(images('max-age="1s" stale-while-revalidate="1h"'))
    await asked(site, succeeding(OLD))
    await aged(site)
    slow = Slow()
    await asked(site, slow)
    await slow.until_begun()
    slow.outcome.set_exception(StorageError("down"))
    for _ in range(20):
        assert (await asked(site, slow)).body.read() == OLD
        await asyncio.sleep(0.002)
    assert slow.begun == 1


# Purging


PURGES = """
delete "by-url" { purge_cache url="/images/#{path}"; }
delete "by-whole-url" "&:url" { purge_cache url="#{url}"; }
delete "by-tag" ":tag" { purge_cache tag="#{tag}"; }
delete "by-source" { purge_cache root="images" path="name"; }
delete "sometimes" "&:really?" { purge_cache url="/images/#{path}" if-variable-matches="really"; }
"""


@pytest.mark.parametrize(
    ("request_line", "state"),
    [
        ("/by-url/a", "fwd=miss"),
        ("/by-url/b", "hit"),
        ("/by-whole-url?url=https://img.example/images/%2561?x=1", "fwd=miss"),
        ("/by-whole-url?url=/images/a", "fwd=miss"),
        ("/by-tag/red", "fwd=miss"),
        ("/by-tag/a", "fwd=miss"),
        ("/by-tag/blue", "hit"),
        ("/by-tag/blue,%20red", "fwd=miss"),
        ("/by-tag/%20red%20", "fwd=miss"),
        ("/by-tag/,", "hit"),
        ("/by-source/a", "fwd=miss"),
        ("/by-source/b", "hit"),
        ("/sometimes/a", "hit"),
        ("/sometimes/a?really=1", "fwd=miss"),
    ],
)
async def test_purges_drop_what_they_name_in_all_processes(
    sites: Sites, request_line: str, state: str
) -> None:
    one = site_with_old(sites, 'tag="red, #{basename}"', PURGES)
    two = sites(images('tag="red, #{basename}"', PURGES))
    for _ in range(3):
        await one.get("/images/a")
    assert await two.state("/images/a") == "hit"
    assert (await two.delete(request_line)).status_code == 200
    assert await one.state("/images/a") == state


async def test_a_purge_by_a_new_tag_drops_what_was_kept_before_there_was_one(sites: Sites) -> None:
    former = site_with_old(sites, 'tag="red"', PURGES)
    assert [await former.state("/images/a") for _ in range(2)] == ["fwd=miss", "hit"]
    site = sites(images('tag="blue"', PURGES))
    await site.state("/images/a")
    await site.delete("/by-tag/blue")
    assert await site.state("/images/a") == "fwd=miss"


async def test_a_purge_by_url_drops_what_other_parameters_have_made(sites: Sites) -> None:
    site = sites(QUERY + 'delete "by-url" { purge_cache url="/images/#{path}"; }')
    site.write("images/a", OLD)
    for size in (1, 2):
        await site.state(f"/images/a?size={size}")
    await site.delete("/by-url/a")
    for size in (1, 2):
        assert await site.state(f"/images/a?size={size}") == "fwd=miss"


async def test_a_purge_by_url_drops_an_answer_that_another_url_has_made(sites: Sites) -> None:
    site = sites("""
        get ":who" "x" { cache root="cache"; output_text "same"; }
        delete "by-url" { purge_cache url="/#{path}"; }
    """)
    await site.state("/one/x")
    assert await site.state("/two/x") == "hit"
    await site.delete("/by-url/two/x")
    assert await site.state("/two/x") == "fwd=miss"


@pytest.mark.parametrize("purge", ["by-url/one/x", "by-url/two/x", "by-tag/red", "by-source/a"])
async def test_who_asks_after_a_purge_does_not_join_who_asked_before(sites: Sites, purge: str) -> None:
    site = sites("""
        path "name" "#{path}"
        get ":who" "x" { cache root="cache" tag="red, blue"; output_text "same"; }
        delete "by-url" { purge_cache url="/#{path}"; }
        delete "by-tag" { purge_cache tag="#{path}"; }
        delete "by-source" { purge_cache root="/anywhere" path="name"; }
    """)
    before, after = Slow(), Slow()
    first = asyncio.create_task(asked(site, before, "/one/x"))
    await before.until_begun()
    assert (await site.delete(f"/{purge}")).status_code == 200
    second = asyncio.create_task(asked(site, after, "/two/x"))
    await asyncio.sleep(0)
    before.outcome.set_result(OLD)
    after.outcome.set_result(NEW)
    assert (await asyncio.wait_for(second, TIMEOUT_S)).body.read() == NEW
    assert (await first).body.read() == OLD
