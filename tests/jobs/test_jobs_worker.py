"""The worker: what it makes of what happens to a job."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_support import LONG_S, SHORT_S, Opener, held, lease_one, names, order, until

from safelight.errors import StorageError
from safelight.jobs.queue import JobQueue
from safelight.jobs.record import Job, State
from safelight.jobs.sqlite import SqliteQueue
from safelight.jobs.worker import Change, Dead, Pace, Perform, Retry, Worker

QUICK = Pace(poll_s=0.05, first_delay_s=0.02, max_delay_s=0.05, max_attempts=3, concurrency=4, per_host=4)


@pytest.fixture
async def queue(opener: Opener) -> AsyncIterator[JobQueue]:
    opened = await opener()
    yield opened
    await opened.close()


@asynccontextmanager
async def working(
    queue: JobQueue, perform: Perform, pace: Pace = QUICK, **options: Any
) -> AsyncIterator[Worker]:
    """A worker that is stopped at the end and must stop then."""
    worker = Worker(queue, perform, pace, **options)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await asyncio.wait_for(running, 60)


async def nothing(job: Job) -> None:
    """Perform a job that is easy."""


def in_state(queue: JobQueue, state: State, count: int = 1) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return (await queue.counts())[state] == count

    return look


def failing(error: Exception, calls: list[Job]) -> Perform:
    async def perform(job: Job) -> None:
        calls.append(job)
        raise error

    return perform


async def test_jobs_are_done_and_told_of(queue: JobQueue) -> None:
    changes: list[Change] = []
    (first,) = await queue.submit([order("a", batch="b")])
    async with working(queue, nothing, listener=changes.append):
        await until(in_state(queue, State.DONE))
    assert changes == [Change(first, "b", State.RUNNING, 1), Change(first, "b", State.DONE, 1)]


async def test_a_job_is_tried_again_until_it_is_done(queue: JobQueue) -> None:
    changes: list[Change] = []
    (job_id,) = await queue.submit([order()])

    async def perform(job: Job) -> None:
        if job.attempts < 3:
            raise Retry(f"origin is down, {job.attempts}")

    async with working(queue, perform, listener=changes.append):
        await until(in_state(queue, State.DONE))
    assert [(change.state, change.attempts, change.reason) for change in changes] == [
        (State.RUNNING, 1, None),
        (State.WAITING, 1, "origin is down, 1"),
        (State.RUNNING, 2, None),
        (State.WAITING, 2, "origin is down, 2"),
        (State.RUNNING, 3, None),
        (State.DONE, 3, None),
    ]
    assert (await queue.get(job_id)).reason is None


async def test_what_fails_for_ever_is_abandoned_once_and_dead(queue: JobQueue) -> None:
    calls: list[Job] = []
    abandoned: list[tuple[str, int, str]] = []
    changes: list[Change] = []

    async def abandon(job: Job, reason: str) -> None:
        abandoned.append((job.id, job.attempts, reason))

    (job_id,) = await queue.submit([order()])
    perform = failing(Retry("no answer"), calls)
    async with working(queue, perform, abandon=abandon, listener=changes.append):
        await until(in_state(queue, State.DEAD))
    assert len(calls) == 3
    assert abandoned == [(job_id, 3, "no answer")]
    assert (await queue.get(job_id)).reason == "no answer"
    assert changes[-1] == Change(job_id, None, State.DEAD, 3, "no answer")


async def test_what_cannot_get_better_is_dead_at_once(queue: JobQueue) -> None:
    calls: list[Job] = []
    (job_id,) = await queue.submit([order()])
    async with working(queue, failing(Dead("no image"), calls)):
        await until(in_state(queue, State.DEAD))
    assert len(calls) == 1
    assert (await queue.get(job_id)).reason == "no image"


async def test_a_failing_farewell_keeps_no_job_alive(queue: JobQueue) -> None:
    async def abandon(job: Job, reason: str) -> None:
        raise ValueError

    await queue.submit([order()])
    async with working(queue, failing(Dead("no image"), []), abandon=abandon):
        await until(in_state(queue, State.DEAD))


async def test_an_unexpected_error_is_tried_again_and_does_not_show(queue: JobQueue) -> None:
    calls: list[Job] = []
    (job_id,) = await queue.submit([order()])
    async with working(queue, failing(ZeroDivisionError("secret"), calls)):
        await until(in_state(queue, State.DEAD))
        await queue.submit([order("b")])
        await until(in_state(queue, State.DEAD, 2))
    assert len(calls) == 6
    assert (await queue.get(job_id)).reason == "internal error"


async def test_a_failing_listener_costs_nothing(queue: JobQueue) -> None:
    def listener(change: Change) -> None:
        raise ValueError

    await queue.submit([order()])
    async with working(queue, nothing, listener=listener):
        await until(in_state(queue, State.DONE))


async def test_a_job_that_kills_its_workers_is_dead_in_the_end(queue: JobQueue) -> None:
    calls: list[Job] = []
    abandoned: list[str] = []

    async def abandon(job: Job, reason: str) -> None:
        abandoned.append(reason)

    (job_id,) = await queue.submit([order()])
    for _ in range(QUICK.max_attempts):
        await lease_one(queue, lease_s=SHORT_S)
    async with working(queue, failing(Dead("not to be tried"), calls), abandon=abandon):
        await until(in_state(queue, State.DEAD))
    assert calls == []
    assert abandoned == ["the worker died or was killed in the last attempt"]
    assert (await queue.get(job_id)).reason == abandoned[0]


async def test_a_job_submitted_here_is_begun_at_once(queue: JobQueue) -> None:
    async with working(queue, nothing, Pace(poll_s=LONG_S)):
        for count in range(1, 4):
            await queue.submit([order()])
            await until(in_state(queue, State.DONE, count))


async def test_a_job_submitted_elsewhere_is_found(queue: JobQueue, opener: Opener) -> None:
    elsewhere = await opener()
    async with working(queue, nothing):
        await until(in_state(queue, State.DONE, 0))
        await elsewhere.submit([order()])
        await until(in_state(elsewhere, State.DONE))
    await elsewhere.close()


async def test_two_workers_share_the_jobs(queue: JobQueue, opener: Opener) -> None:
    elsewhere = await opener()
    done: list[str] = []

    async def perform(job: Job) -> None:
        done.append(job.id)
        await asyncio.sleep(0.001)

    ids = await queue.submit([order(str(n), f"h{n % 5}.example") for n in range(200)])
    async with working(queue, perform), working(elsewhere, perform):
        await until(in_state(queue, State.DONE, 200))
    assert sorted(done) == sorted(ids)
    await elsewhere.close()


async def test_no_more_at_once_than_allowed(queue: JobQueue) -> None:
    busy: list[str] = []
    most: dict[str, int] = {}

    async def perform(job: Job) -> None:
        busy.append(job.order.host)
        for host in set(busy):
            most[host] = max(most.get(host, 0), busy.count(host))
        most["all"] = max(most.get("all", 0), len(busy))
        await asyncio.sleep(0.02)
        busy.remove(job.order.host)

    await queue.submit([order(str(n), "slow.example", priority=5) for n in range(20)])
    await queue.submit([order(str(n), f"h{n}.example") for n in range(20)])
    pace = Pace(concurrency=5, per_host=2, poll_s=0.05)
    async with working(queue, perform, pace):
        await until(in_state(queue, State.DONE, 40))
    assert most["slow.example"] == 2
    assert most["all"] == 5


async def test_a_long_job_keeps_its_lease(queue: JobQueue, opener: Opener) -> None:
    elsewhere = await opener()
    begun: list[str] = []

    async def perform(job: Job) -> None:
        begun.append(job.id)
        await asyncio.sleep(4)

    await queue.submit([order()])
    pace = Pace(lease_s=2, poll_s=0.05)
    async with working(queue, perform, pace), working(elsewhere, perform, pace):
        await until(in_state(queue, State.DONE))
    assert len(begun) == 1
    await elsewhere.close()


async def test_cancelling_ends_a_running_job(queue: JobQueue) -> None:
    ended: list[str] = []
    changes: list[Change] = []

    async def perform(job: Job) -> None:
        if names([job]) == ["endless"]:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(job.id)

    (job_id,) = await queue.submit([order("endless")])
    async with working(queue, perform, Pace(lease_s=0.3, poll_s=0.05), listener=changes.append):
        await until(in_state(queue, State.RUNNING))
        await queue.cancel(job_id)
        await until(lambda: _holds(lambda: ended == [job_id]))
        await queue.submit([order("next")])
        await until(in_state(queue, State.DONE))
    assert (await queue.get(job_id)).state is State.CANCELLED
    assert Change(job_id, None, State.CANCELLED, 1) in changes


async def _holds(condition: Callable[[], bool]) -> bool:
    return condition()


async def test_a_worker_that_has_lost_its_lease_ends_the_job_and_leaves_it_alone(
    queue: JobQueue, opener: Opener
) -> None:
    ended: list[str] = []

    async def perform(job: Job) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(job.id)

    (job_id,) = await queue.submit([order()])
    async with working(queue, perform, Pace(lease_s=3, poll_s=LONG_S)):
        await until(in_state(queue, State.RUNNING))
        await queue.extend([held(await queue.get(job_id))], 0)  # as if the machine had slept
        other = await lease_one(queue, worker="other")
        assert other.id == job_id
        await until(lambda: _holds(lambda: ended == [job_id]))
    assert (await queue.get(job_id)).lease == other.lease
    await queue.finish(held(other))


async def test_a_graceful_stop_finishes_what_runs_and_begins_nothing(queue: JobQueue) -> None:
    go_on = asyncio.Event()

    async def perform(job: Job) -> None:
        await go_on.wait()

    await queue.submit([order(str(n)) for n in range(10)])
    worker = Worker(queue, perform, QUICK)
    running = asyncio.create_task(worker.run())
    await until(in_state(queue, State.RUNNING, 4))
    worker.stop()
    await asyncio.sleep(0.2)
    assert not running.done()
    go_on.set()
    await asyncio.wait_for(running, 60)
    counts = await queue.counts()
    assert (counts[State.DONE], counts[State.RUNNING], counts[State.WAITING]) == (4, 0, 6)


async def test_what_was_leased_but_not_begun_goes_back(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Job] = []
    ids = await queue.submit([order(str(n)) for n in range(3)])

    late = Worker(queue, failing(Dead("begun"), begun), QUICK)
    lease = queue.lease

    async def stopped_meanwhile(worker: str, count: int, lease_s: float, per_host: int) -> list[Job]:
        jobs = await lease(worker, count, lease_s, per_host)
        late.stop()
        return jobs

    monkeypatch.setattr(queue, "lease", stopped_meanwhile)
    await asyncio.wait_for(late.run(), 60)
    assert begun == []
    assert [((await queue.get(one)).state, (await queue.get(one)).attempts) for one in ids] == [
        (State.WAITING, 0)
    ] * 3


async def test_a_cancelled_worker_gives_its_jobs_back_at_once(queue: JobQueue) -> None:
    async def perform(job: Job) -> None:
        await asyncio.Event().wait()

    ids = await queue.submit([order(str(n)) for n in range(3)])
    running = asyncio.create_task(Worker(queue, perform, QUICK).run())
    await until(in_state(queue, State.RUNNING, 3))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [((await queue.get(one)).state, (await queue.get(one)).attempts) for one in ids] == [
        (State.WAITING, 0)
    ] * 3


async def test_a_full_disk_delays_jobs_and_loses_none(tmp_path: Path) -> None:
    """The database refuses every change for a while, in the middle of the work."""
    refuse = asyncio.Event()
    begun: list[str] = []

    async def perform(job: Job) -> None:
        begun.append(job.id)
        refuse.set()
        queue._writing.execute("PRAGMA query_only=1")

    queue = await SqliteQueue.open(tmp_path / "jobs.db")
    await queue.submit([order("a"), order("b"), order("c")])
    async with working(queue, perform, Pace(poll_s=0.05, concurrency=1, per_host=1)):
        for _ in range(3):
            await asyncio.wait_for(refuse.wait(), 60)
            refuse.clear()
            with pytest.raises(StorageError):
                await queue.submit([order("not accepted")])
            queue._writing.execute("PRAGMA query_only=0")
        await until(in_state(queue, State.DONE, 3))
    assert len(begun) == len(set(begun)) == 3
    assert (await queue.counts())[State.WAITING] == 0
    await queue.close()


@given(
    attempts=st.integers(1, 10_000),
    first=st.floats(0.001, 100),
    longest=st.floats(0.001, 10_000),
    after=st.floats(0, 1e9),
)
def test_delays_double_up_to_the_maximum(attempts: int, first: float, longest: float, after: float) -> None:
    pace = Pace(first_delay_s=first, max_delay_s=longest)
    expected = longest if attempts > 40 else min(longest, first * 2 ** (attempts - 1))
    assert expected / 2 <= pace.delay_s(attempts) <= expected
    assert min(after, longest) <= pace.delay_s(attempts, after) <= longest


def test_delays_differ() -> None:
    assert len({Pace().delay_s(3) for _ in range(20)}) > 10


async def test_a_waiting_worker_hardly_uses_the_processor(queue: JobQueue) -> None:
    async with working(queue, nothing, Pace()):
        await asyncio.sleep(0.5)
        before, used = time.monotonic(), time.process_time()
        await asyncio.sleep(3)
        share = (time.process_time() - used) / (time.monotonic() - before)
    assert share < 0.05
