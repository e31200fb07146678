"""What every queue of jobs promises, and what is so of SQLite alone (below)."""

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from job_support import LONG_S, SHORT_S, Opener, held, lease_all, lease_one, names, order, until

from safelight.errors import BadRequest, StorageError
from safelight.jobs import schema
from safelight.jobs.queue import BadCursor, Filter, JobQueue, LeaseLost, NoSuchJob
from safelight.jobs.record import (
    Delivery,
    Footprint,
    Form,
    Job,
    Lease,
    LegacyOperation,
    Notice,
    Order,
    Output,
    Placeholder,
    State,
    decode_order,
    encode_order,
    new_job_id,
    view_of,
)
from safelight.jobs.sqlite import SqliteQueue


@pytest.fixture
async def queue(opener: Opener) -> AsyncIterator[JobQueue]:
    opened = await opener()
    yield opened
    await opened.close()


@pytest.fixture
async def other(opener: Opener, queue: JobQueue) -> AsyncIterator[JobQueue]:
    """The same queue, opened a second time."""
    opened = await opener()
    yield opened
    await opened.close()


# Accepting


async def test_a_job_keeps_what_was_ordered(queue: JobQueue) -> None:
    legacy = LegacyOperation("resize", 200, 120, "jpeg")
    wanted = Order(
        source="https://Origin.Example:8443/ä b.jpg?x=1",
        outputs=(
            Output("crop,10,20,webp,quality:80", Delivery("s3://bucket/key")),
            Output(legacy, Delivery("http://target.example/page", Form("file", "a.jpg"))),
        ),
        priority=-3,
        key="k",
        batch="b",
        webhook="https://hook.example/",
        legacy=True,
        placeholder=Placeholder.LYING,
    )
    before = datetime.now(UTC)
    (job_id,) = await queue.submit([wanted])
    job = await queue.get(job_id)
    assert job.order == wanted
    assert (job.id, job.state, job.attempts, job.reason) == (job_id, State.WAITING, 0, None)
    assert job.footprint == Footprint(placeholder=Placeholder.LYING)
    assert job.undelivered == [0, 1]
    assert before - timedelta(seconds=1) < job.created_at < datetime.now(UTC) + timedelta(seconds=1)


async def test_submitted_jobs_are_there_after_closing(opener: Opener) -> None:
    first = await opener()
    ids = await first.submit([order(str(n)) for n in range(3)])
    await first.close()
    second = await opener()
    try:
        assert [(await second.get(job_id)).id for job_id in ids] == ids
    finally:
        await second.close()


async def test_nothing_to_submit_is_fine(queue: JobQueue) -> None:
    assert await queue.submit([]) == []


async def test_a_known_key_gives_the_first_job(queue: JobQueue, other: JobQueue) -> None:
    (first,) = await queue.submit([order("a", key="same")])
    again, new, twice = await other.submit(
        [order("b", key="same"), order("c", key="new"), order("d", key="new")]
    )
    assert again == first
    assert new == twice != first
    assert names([await queue.get(first), await queue.get(new)]) == ["a", "c"]
    assert (await queue.counts())[State.WAITING] == 2


async def test_a_key_is_known_when_its_job_has_ended(queue: JobQueue) -> None:
    (job_id,) = await queue.submit([order(key="same")])
    await queue.finish(held(await lease_one(queue)))
    assert await queue.submit([order(key="same")]) == [job_id]


async def test_concurrent_submissions_of_a_key_are_one_job(queue: JobQueue, other: JobQueue) -> None:
    submissions = [side.submit([order(key="same"), order(key=f"own-{n % 10}")]) for n in range(40)
                   for side in (queue, other)]  # fmt: skip
    ids = await asyncio.gather(*submissions)
    assert len({shared for shared, _ in ids}) == 1
    assert (await queue.counts())[State.WAITING] == 11


@pytest.mark.parametrize(
    "change", [{"priority": 1000}, {"key": ""}, {"batch": "x" * 999}, {"key": "\ud800"}, {"outputs": ()}]
)
async def test_what_could_not_be_read_again_is_not_accepted(queue: JobQueue, change: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="the job cannot be accepted"):
        await queue.submit([order("good"), msgspec.structs.replace(order("bad"), **change)])
    assert (await queue.counts())[State.WAITING] == 0


async def test_unknown_jobs(queue: JobQueue) -> None:
    for method in (queue.get, queue.cancel, queue.revive):
        with pytest.raises(NoSuchJob, match="no job has the id 'nobody'"):
            await method("nobody")


# Leasing


async def test_a_lease_says_who_has_the_job(queue: JobQueue) -> None:
    (job_id,) = await queue.submit([order()])
    (job,) = await queue.lease("me", 5, LONG_S, 5)
    assert (job.id, job.state, job.attempts, held(job).owner) == (job_id, State.RUNNING, 1, "me")
    assert job == msgspec.structs.replace(await queue.get(job_id), lease_expires_at=job.lease_expires_at)
    assert job.lease_expires_at
    assert abs(job.lease_expires_at - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=5)


async def test_higher_priority_goes_first_then_age(queue: JobQueue) -> None:
    await queue.submit([order("a"), order("b", priority=5), order("c", "x.example", priority=5)])
    await queue.submit([order("d", priority=-1), order("e", "x.example"), order("f", priority=9)])
    assert names(await lease_all(queue)) == ["f", "b", "c", "a", "e", "d"]


async def test_two_workers_never_get_one_job(queue: JobQueue, other: JobQueue) -> None:
    await queue.submit([order(str(n), f"host-{n % 7}.example") for n in range(200)])
    leased = await asyncio.gather(
        *(side.lease("w", 3, LONG_S, 100) for _ in range(40) for side in (queue, other))
    )
    ids = [job.id for jobs in leased for job in jobs]
    assert len(ids) == len(set(ids)) == 200


async def test_a_slow_host_does_not_hold_the_others(queue: JobQueue, other: JobQueue) -> None:
    await queue.submit([order(f"s{n}", "Slow.Example", priority=9) for n in range(50)] + [order("fast")])
    first = await lease_all(queue, 10, per_host=2)
    assert names(first) == ["s0", "s1", "fast"]
    assert await lease_all(other, 10, per_host=2) == [], "the limit holds for all workers together"
    await queue.finish(held(first[0]))
    assert names(await lease_all(other, 10, per_host=2)) == ["s2"]


async def test_local_files_have_no_host_limit(queue: JobQueue) -> None:
    output = (Output("fit,1,1,png", Delivery("file:///b")),)
    await queue.submit([Order(f"file:///{n}", output) for n in range(5)])
    assert len(await lease_all(queue, per_host=1)) == 5


async def test_an_expired_lease_is_given_to_another(queue: JobQueue, other: JobQueue) -> None:
    await queue.submit([order()])
    first = await lease_one(queue, lease_s=SHORT_S)
    second = await lease_one(other, worker="second")
    assert (second.id, second.attempts, held(second).owner) == (first.id, 2, "second")
    for settle in (
        queue.finish,
        queue.release,
        lambda lease: queue.retry(lease, 0, "x"),
        lambda lease: queue.bury(lease, "x"),
        lambda lease: queue.note(lease, Footprint(delivered=(0,))),
    ):
        with pytest.raises(LeaseLost):
            await settle(held(first))
    assert await queue.extend([held(first), held(second)], LONG_S) == {held(first)}
    assert (await queue.get(first.id)).footprint == Footprint()
    await other.finish(held(second))
    assert (await queue.get(first.id)).state is State.DONE


async def test_an_expired_lease_is_good_while_nobody_wants_the_job(queue: JobQueue) -> None:
    await queue.submit([order()])
    job = await lease_one(queue, lease_s=0)
    await queue.finish(held(job))
    assert (await queue.get(job.id)).state is State.DONE


async def test_an_extended_lease_stays(queue: JobQueue) -> None:
    await queue.submit([order("a"), order("b")])
    kept, dropped = await lease_all(queue, lease_s=SHORT_S)
    assert await queue.extend([held(kept)], LONG_S) == set()
    assert (await lease_one(queue)).id == dropped.id
    assert await lease_all(queue) == []


# Settling


async def test_done(queue: JobQueue) -> None:
    await queue.submit([order()])
    job = await lease_one(queue)
    await queue.finish(held(job))
    done = await queue.get(job.id)
    assert (done.state, done.lease, done.reason) == (State.DONE, None, None)
    assert done.ended_at
    with pytest.raises(LeaseLost):
        await queue.finish(held(job))
    assert await lease_all(queue) == []


async def test_retry_waits_its_delay(queue: JobQueue) -> None:
    await queue.submit([order("later"), order("now")])
    later, now = await lease_all(queue)
    await queue.retry(held(later), LONG_S, "origin is down")
    await queue.retry(held(now), 0, "at once")
    assert [job.id for job in await lease_all(queue)] == [now.id]
    waiting = await queue.get(later.id)
    assert (waiting.state, waiting.reason, waiting.lease) == (State.WAITING, "origin is down", None)
    assert waiting.not_before
    assert abs(waiting.not_before - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=5)


async def test_retry_comes_back_after_its_delay(queue: JobQueue) -> None:
    await queue.submit([order()])
    await queue.retry(held(await lease_one(queue)), 0.2, "soon")
    again = await lease_one(queue)
    assert (again.attempts, again.reason, again.not_before) == (2, "soon", None)


async def test_dead_letters_keep_their_reason_and_can_be_revived(queue: JobQueue) -> None:
    await queue.submit([order()])
    job = await lease_one(queue)
    await queue.note(held(job), Footprint(Placeholder.FAILED, (0,)))
    await queue.bury(held(job), "no image")
    dead = await queue.get(job.id)
    assert (dead.state, dead.reason, dead.attempts) == (State.DEAD, "no image", 1)
    assert await lease_all(queue) == []
    revived = await queue.revive(job.id)
    assert (revived.state, revived.reason, revived.attempts, revived.ended_at) == (
        State.WAITING,
        None,
        0,
        None,
    )
    again = await lease_one(queue)
    assert (again.attempts, again.footprint) == (1, Footprint(Placeholder.FAILED, (0,)))
    assert again.undelivered == []


async def test_only_the_dead_are_revived(queue: JobQueue) -> None:
    (job_id,) = await queue.submit([order()])
    assert (await queue.revive(job_id)).state is State.WAITING
    await queue.finish(held(await lease_one(queue)))
    assert (await queue.revive(job_id)).state is State.DONE


async def test_a_released_job_was_not_attempted(queue: JobQueue) -> None:
    await queue.submit([order()])
    job = await lease_one(queue)
    await queue.release(held(job))
    again = await lease_one(queue)
    assert (again.id, again.attempts) == (job.id, 1)
    with pytest.raises(LeaseLost):
        await queue.finish(held(job))


async def test_a_cancelled_job_is_not_begun(queue: JobQueue) -> None:
    first, second = await queue.submit([order("a"), order("b")])
    cancelled = await queue.cancel(first)
    assert cancelled.state is State.CANCELLED
    assert cancelled.ended_at
    assert [job.id for job in await lease_all(queue)] == [second]
    assert await queue.cancel(first) == cancelled


async def test_cancelling_takes_the_lease(queue: JobQueue) -> None:
    await queue.submit([order()])
    job = await lease_one(queue)
    await queue.cancel(job.id)
    assert await queue.extend([held(job)], LONG_S) == {held(job)}
    with pytest.raises(LeaseLost):
        await queue.finish(held(job))
    assert (await queue.get(job.id)).state is State.CANCELLED


async def test_a_delayed_job_can_be_cancelled(queue: JobQueue) -> None:
    await queue.submit([order()])
    job = await lease_one(queue)
    await queue.retry(held(job), 0.1, "later")
    await queue.cancel(job.id)
    await asyncio.sleep(0.2)
    assert await lease_all(queue) == []


async def test_a_job_that_is_done_cannot_be_cancelled(queue: JobQueue) -> None:
    await queue.submit([order()])
    job = await lease_one(queue)
    await queue.finish(held(job))
    assert (await queue.cancel(job.id)).state is State.DONE


@pytest.mark.parametrize("end", ["finish", "bury", "cancel"])
async def test_a_notice_comes_with_the_end_of_its_job(queue: JobQueue, end: str) -> None:
    webhook = "https://hook.example/ended"
    (job_id,) = await queue.submit([order(batch="b", key="k", priority=2, webhook=webhook)])
    job = await lease_one(queue)
    await queue.retry(held(job), 0, "once more")
    job = await lease_one(queue)
    assert len((await queue.find(Filter(), 10)).jobs) == 1
    await {
        "finish": lambda: queue.finish(held(job)),
        "bury": lambda: queue.bury(held(job), "no image"),
        "cancel": lambda: queue.cancel(job_id),
    }[end]()
    ended = await queue.get(job_id)
    (notice,) = await lease_all(queue)
    assert (notice.order.source, notice.order.host, notice.order.batch) == (webhook, "hook.example", None)
    assert notice.order.notice == Notice(view_of(ended))
    with pytest.raises(LeaseLost):
        await queue.finish(held(job))
    await queue.cancel(job_id)
    await queue.finish(held(notice))
    assert len((await queue.find(Filter(), 10)).jobs) == 2, "told once, and of no notice"


# Looking


async def test_find_filters_and_pages(queue: JobQueue) -> None:
    await queue.submit([order(f"a{n}", batch="one") for n in range(5)])
    await queue.submit([order(f"b{n}", "other.example", batch="two") for n in range(3)])
    await queue.finish(held((await lease_all(queue, 1))[0]))

    async def found(wanted: Filter) -> list[str]:
        return names((await queue.find(wanted, 100)).jobs)

    assert await found(Filter()) == ["b2", "b1", "b0", "a4", "a3", "a2", "a1", "a0"]
    assert await found(Filter(batch="two")) == ["b2", "b1", "b0"]
    assert await found(Filter(host="origin.example", state=State.WAITING)) == ["a4", "a3", "a2", "a1"]
    assert await found(Filter(state=State.DONE)) == ["a0"]
    now = datetime.now(UTC)
    assert await found(Filter(created_from=now + timedelta(minutes=1))) == []
    assert await found(Filter(created_before=now - timedelta(minutes=10))) == []
    assert len(await found(Filter(created_from=now - timedelta(minutes=10), created_before=now))) == 8

    pages, cursor = [], None
    while True:
        page = await queue.find(Filter(batch="one"), 2, cursor)
        pages.append(names(page.jobs))
        cursor = page.cursor
        if cursor is None:
            break
    assert pages == [["a4", "a3"], ["a2", "a1"], ["a0"]]


async def test_a_page_stays_in_place_when_jobs_are_added(queue: JobQueue) -> None:
    await queue.submit([order(str(n)) for n in range(4)])
    first = await queue.find(Filter(), 2)
    await queue.submit([order("new")])
    assert names((await queue.find(Filter(), 2, first.cursor)).jobs) == ["1", "0"]


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1e3", "9" * 40, "²"])
async def test_a_cursor_of_nobody(queue: JobQueue, cursor: str) -> None:
    with pytest.raises(BadCursor):
        await queue.find(Filter(), 2, cursor)


async def test_counts_of_all_and_of_a_batch(queue: JobQueue) -> None:
    await queue.submit([order(str(n), batch="b") for n in range(5)] + [order("other")])
    done, dead, later, running, *_ = await lease_all(queue, 4)
    await queue.finish(held(done))
    await queue.bury(held(dead), "x")
    await queue.retry(held(later), LONG_S, "x")
    assert await queue.counts("b") == {
        State.WAITING: 2, State.RUNNING: 1, State.DONE: 1, State.DEAD: 1, State.CANCELLED: 0
    }  # fmt: skip
    await queue.cancel(running.id)
    await queue.revive(dead.id)
    assert await queue.counts() == {
        State.WAITING: 4, State.RUNNING: 0, State.DONE: 1, State.DEAD: 0, State.CANCELLED: 1
    }  # fmt: skip
    assert set((await queue.counts("unknown")).values()) == {0}


async def test_prune_forgets_what_ended_and_its_key(queue: JobQueue) -> None:
    done, dead, waiting = await queue.submit([order(n, key=n) for n in "abc"])
    first, second = await lease_all(queue, 2)
    await queue.finish(held(first))
    await queue.bury(held(second), "x")
    now = datetime.now(UTC)
    assert await queue.prune(State.DONE, now - timedelta(hours=1)) == 0
    assert await queue.prune(State.DONE, now + timedelta(hours=1)) == 1
    with pytest.raises(NoSuchJob):
        await queue.get(done)
    assert (await queue.get(dead)).state is State.DEAD
    assert (await queue.counts())[State.DONE] == 0
    assert await queue.prune(State.WAITING, now + timedelta(hours=1)) == 0
    again, kept = await queue.submit([order("a", key="a"), order("c", key="c")])
    assert again != done
    assert kept == waiting


async def test_a_subscriber_is_woken_until_it_leaves(queue: JobQueue) -> None:
    woken = asyncio.Event()
    leave = queue.subscribe(woken.set)
    await queue.submit([order()])
    await asyncio.wait_for(woken.wait(), 30)
    leave()
    woken.clear()
    await queue.submit([order()])
    assert not woken.is_set()


async def test_a_closed_queue_says_so(opener: Opener) -> None:
    queue = await opener()
    await queue.close()
    await queue.close()
    for use in (queue.submit([order()]), queue.counts()):
        with pytest.raises(StorageError, match="closed"):
            await use


async def test_the_wall_clock_going_back_changes_nothing(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs stay in sequence, a living worker keeps its lease, a dead one's job and a delayed one come."""
    await queue.submit([order("held"), order("expiring"), order("delayed"), order("x")])
    kept, expiring, delayed = await lease_all(queue, 3)
    await queue.extend([held(expiring)], 1)
    await queue.retry(held(delayed), 1, "soon")
    monkeypatch.setattr("time.time", lambda: 1_000_000_000.0)
    monkeypatch.setattr("time.time_ns", lambda: 1_000_000_000 * 10**9)
    await queue.submit([order("y")])
    came: list[Job] = []

    async def all_came() -> bool:
        came.extend(await lease_all(queue))
        return len(came) >= 4

    await until(all_came)
    assert sorted(names(came)) == ["delayed", "expiring", "x", "y"]
    assert names((await queue.find(Filter(), 1)).jobs) == ["y"]
    await queue.finish(held(kept))


async def test_the_wall_clock_going_forward_takes_no_lease(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.submit([order("held"), order("delayed")])
    kept, delayed = await lease_all(queue)
    await queue.retry(held(delayed), LONG_S, "later")
    monkeypatch.setattr("time.time", lambda: 4_000_000_000.0)
    assert await lease_all(queue) == []
    await queue.finish(held(kept))


# The record


def test_the_json_form_of_an_order_is_stable() -> None:
    text = (
        b'{"version":1,"source":"http://origin.example/a.jpg","outputs":['
        b'{"make":"fit,10,10,png","to":{"url":"s3://bucket/a.png"}},'
        b'{"make":{"kind":"rasterize","width":3,"height":4,"format":"png"},'
        b'"to":{"url":"http://t.example/","form":{"field":"f","file_name":"n.png"}}}],'
        b'"priority":2,"key":"k","batch":"b","webhook":"http://h.example/","legacy":true,'
        b'"placeholder":"lying"}'
    )
    decoded = decode_order(text)
    assert encode_order(decoded) == text
    assert decoded.outputs[1].make == LegacyOperation("rasterize", 3, 4, "png")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": 2}, "version"),
        ({"outputs": []}, "outputs"),
        ({"source": ""}, "source"),
        ({"source": "http://" + "x" * 9000}, "source"),
        ({"priority": 101}, "priority"),
        ({"key": ""}, "key"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_an_order_that_is_none_is_refused_with_the_place(change: dict[str, object], complaint: str) -> None:
    fields = msgspec.json.decode(encode_order(order())) | change
    with pytest.raises(msgspec.ValidationError, match=complaint):
        decode_order(msgspec.json.encode(fields))


def test_ids_are_unique_and_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = [1_700_000_000_000_000_000 + step * 1_000 for step in range(2000)]
    times = iter(moments)
    monkeypatch.setattr("time.time_ns", lambda: next(times))
    ids = [new_job_id() for _ in moments]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize("source", ["http://[bad/x", "file:///x", "no url"])
def test_a_source_without_a_host_has_none(source: str) -> None:
    assert Order(source, order().outputs).host == ""


# SQLite alone


def file_of(tmp_path: Path) -> Path:
    return tmp_path / "data" / "jobs.db"


async def test_all_files_are_for_the_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        queue = await SqliteQueue.open(file_of(tmp_path))
        await queue.submit([order()])
        modes = {path.name: path.stat().st_mode & 0o777 for path in file_of(tmp_path).parent.iterdir()}
        await queue.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["jobs.db", "jobs.db-wal", "jobs.db-shm"], 0o600)


async def test_every_commit_waits_for_the_disk(tmp_path: Path) -> None:
    connection = schema.connect(tmp_path / "any.db")
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(StorageError, match="no SQLite database") as caught:
        await SqliteQueue.open(path)
    assert str(path) in str(caught.value.detail)


async def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    queue = await SqliteQueue.open(path)
    await queue.submit([order(str(n)) for n in range(500)])
    await queue.close()
    with path.open("r+b") as file:
        for page in range(20, path.stat().st_size // 4096, 3):
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)
    with pytest.raises(StorageError, match="the file of the job queue is damaged"):
        await SqliteQueue.open(path)


async def test_a_cut_file(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    queue = await SqliteQueue.open(path)
    await queue.submit([order(str(n)) for n in range(500)])
    await queue.close()
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)
    with pytest.raises(StorageError, match="the file of the job queue is damaged"):
        await SqliteQueue.open(path)


async def test_a_queue_that_somebody_else_makes_meanwhile_is_not_taken_for_another_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers that start at once look at a file while the other one fills it."""
    path, look = tmp_path / "jobs.db", schema._stamp

    def look_too_early(connection: sqlite3.Connection) -> tuple[int, int]:
        found = look(connection)
        monkeypatch.setattr(schema, "_stamp", look)
        schema.prepare(path)
        return found

    monkeypatch.setattr(schema, "_stamp", look_too_early)
    queue = await SqliteQueue.open(path)
    assert len(await queue.submit([order("1")])) == 1
    await queue.close()


@pytest.mark.parametrize(
    ("statements", "complaint"),
    [
        (("CREATE TABLE t (x)",), "another program's database"),
        (("PRAGMA application_id=7",), "another program's database"),
        (
            (f"PRAGMA application_id={schema.APPLICATION_ID}", "PRAGMA user_version=99"),
            f"has format 99, and this Safelight knows {schema.VERSION}",
        ),
    ],
)
async def test_a_database_that_is_not_ours(
    tmp_path: Path, statements: tuple[str, ...], complaint: str
) -> None:
    path = tmp_path / "jobs.db"
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(StorageError, match=complaint):
        await SqliteQueue.open(path)


async def test_a_directory_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be opened"):
        await SqliteQueue.open(tmp_path)


async def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        await SqliteQueue.open(tmp_path / "file" / "jobs.db")


async def test_a_reboot_ends_leases_and_begins_delays_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monotonic clock begins at zero then; before, it may have been far on."""
    real = schema.monotonic
    monkeypatch.setattr("safelight.jobs.sqlite.monotonic", lambda: real() + 1e9)
    queue = await SqliteQueue.open(file_of(tmp_path))
    await queue.submit([order("leased"), order("soon"), order("late")])
    _, soon, late = await lease_all(queue)
    await queue.retry(held(soon), 0.3, "x")
    await queue.retry(held(late), LONG_S, "x")
    await queue.close()
    monkeypatch.undo()
    monkeypatch.setattr(schema, "boot_id", lambda: "another boot")
    queue = await SqliteQueue.open(file_of(tmp_path))
    first = await lease_one(queue)
    second = await lease_one(queue)
    assert names([first, second]) == ["leased", "soon"]
    assert await lease_all(queue) == []
    assert (await queue.get(late.id)).state is State.WAITING
    await queue.close()
    queue = await SqliteQueue.open(file_of(tmp_path))
    assert await queue.extend([held(first), held(second)], LONG_S) == set(), "the boot is known now"
    await queue.close()


async def test_one_bad_change_does_not_spoil_those_committed_with_it(tmp_path: Path) -> None:
    queue = await SqliteQueue.open(file_of(tmp_path))

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM jobs")
        raise LeaseLost(Lease("id", "owner", 1))

    def misspell(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM jobs")
        connection.execute("SELECT nothing")

    changes = [queue.submit([order(str(n))]) for n in range(20)]
    bad = [queue._committer.change(work) for work in (fail, misspell)]
    results = await asyncio.gather(*changes[:10], *bad, *changes[10:], return_exceptions=True)
    assert [type(result) for result in results[10:12]] == [LeaseLost, StorageError]
    assert all(isinstance(result, list) for result in results[:10] + results[12:])
    assert (await queue.counts())[State.WAITING] == 20
    await queue.close()


async def test_a_full_disk_is_told_and_nothing_is_half_accepted(tmp_path: Path) -> None:
    queue = await SqliteQueue.open(file_of(tmp_path))
    await queue.submit([order(str(n)) for n in range(10)])
    writing = queue._writing  # the limit holds for a connection
    (pages,) = writing.execute("PRAGMA page_count").fetchone()
    writing.execute(f"PRAGMA max_page_count={pages + 5}")
    with pytest.raises(StorageError, match="no space left for the job queue"):
        await queue.submit([order(str(n)) for n in range(1000)])
    assert (await queue.counts())[State.WAITING] == 10
    writing.execute("PRAGMA max_page_count=1000000")
    await queue.submit([order(str(n)) for n in range(1000)])
    assert len(await lease_all(queue, 2000, per_host=2000)) == 1010
    await queue.close()


PRELUDE = """
import asyncio, sys
from pathlib import Path
from job_support import order
from safelight.errors import BadRequest, StorageError
from safelight.jobs.record import State
from safelight.jobs.sqlite import SqliteQueue
path = Path(sys.argv[1])
"""


def run_child(script: str, *arguments: object, **options: object) -> str:
    """Output of a process of its own that ends well."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(script), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
        **options,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_disk_that_refuses_more_bytes(tmp_path: Path) -> None:
    """A write that fails half-way; what was acknowledged before is there, and it goes on afterwards."""

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))

    script = """
        import resource
        async def main():
            queue = await SqliteQueue.open(path)
            accepted = 0
            try:
                while True:
                    accepted += len(await queue.submit([order(str(n)) for n in range(200)]))
            except StorageError as error:
                print(error.message)
            assert (await queue.counts())[State.WAITING] == accepted > 0, accepted
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            await queue.submit([order("after")])
            await queue.close()
            queue = await SqliteQueue.open(path)
            assert (await queue.counts())[State.WAITING] == accepted + 1
            await queue.close()
        asyncio.run(main())
    """
    assert "job queue" in run_child(script, tmp_path / "jobs.db", preexec_fn=small_files)


def test_a_file_that_may_not_be_written() -> None:
    script = """
        import os
        async def main():
            if os.geteuid() == 0:  # root may write whatever it wants
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            try:
                await SqliteQueue.open(path)
            except StorageError as error:
                print(error.message)
        asyncio.run(main())
    """
    with tempfile.TemporaryDirectory() as directory:  # others cannot look into those of pytest
        Path(directory).chmod(0o755)
        path = Path(directory) / "jobs.db"
        asyncio.run(_make_empty(path))
        path.chmod(0o444)
        assert run_child(script, path) == "the job queue cannot be written\n"


async def _make_empty(path: Path) -> None:
    await (await SqliteQueue.open(path)).close()


def test_many_processes_may_make_the_file_at_once(tmp_path: Path) -> None:
    script = """
        async def main():
            queue = await SqliteQueue.open(path)
            await queue.submit([order("x", key=f"{n}") for n in range(20)])
            print((await queue.counts())[State.WAITING])
            await queue.close()
        asyncio.run(main())
    """
    arguments = [sys.executable, "-c", PRELUDE + textwrap.dedent(script), str(tmp_path / "jobs.db")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    children = [
        subprocess.Popen(
            arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for child in children:
        output, complaints = child.communicate(timeout=120)
        assert (output, complaints) == ("20\n", "")
