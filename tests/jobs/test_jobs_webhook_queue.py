"""The notice of an ended job is in the queue exactly when the job has ended, whatever kills whom."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from job_support import LONG_S, held, lease_all, lease_one, names, order

from safelight.errors import StorageError
from safelight.jobs.queue import Filter
from safelight.jobs.record import Job, Notice, State, decode_order, encode_order, notice_of, view_of
from safelight.jobs.sqlite import SqliteQueue

HOOK = "https://user:secret@hooks.example/in?token=x"


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[SqliteQueue]:
    opened = await SqliteQueue.open(tmp_path / "jobs.db")
    yield opened
    await opened.close()


async def notices(queue: SqliteQueue) -> list[Job]:
    """The latest first."""
    return [job for job in (await queue.find(Filter(), 1000)).jobs if job.order.notice]


def told(notice: Job) -> Notice:
    assert notice.order.notice
    return notice.order.notice


async def test_a_job_without_a_webhook_ends_quietly(queue: SqliteQueue) -> None:
    ids = await queue.submit([order(name) for name in "abc"])
    first, second, _ = await lease_all(queue)
    await queue.finish(held(first))
    await queue.bury(held(second), "x")
    await queue.cancel(ids[2])
    assert await notices(queue) == []


async def test_every_end_gives_notice(queue: SqliteQueue) -> None:
    ids = await queue.submit([order(name, webhook=HOOK) for name in "abcd"])
    first, second, *_ = await lease_all(queue, 3)
    await queue.finish(held(first))
    await queue.bury(held(second), "no image")
    await queue.cancel(ids[2])  # which runs
    await queue.cancel(ids[3])  # which waits
    found = (await notices(queue))[::-1]
    assert [told(notice).job for notice in found] == [view_of(await queue.get(job_id)) for job_id in ids]
    assert [told(notice).job.state for notice in found] == ["done", "dead", "cancelled", "cancelled"]
    for notice in found:
        assert (notice.state, notice.order.source, notice.order.host) == (
            State.WAITING,
            HOOK,
            "hooks.example",
        )
        assert (notice.order.outputs, notice.order.webhook, notice.order.key) == ((), None, None)


async def test_only_an_end_gives_notice_and_only_once(queue: SqliteQueue) -> None:
    (job_id,) = await queue.submit([order(webhook=HOOK)])
    await queue.retry(held(await lease_one(queue)), 0, "again")
    await queue.release(held(await lease_one(queue)))
    job = await lease_one(queue)
    assert await notices(queue) == []
    await queue.finish(held(job))
    await queue.cancel(job_id)
    with pytest.raises(Exception, match="no longer ours"):
        await queue.finish(held(job))
    assert len(await notices(queue)) == 1


async def test_a_notice_gives_no_notice(queue: SqliteQueue) -> None:
    (job_id,) = await queue.submit([order(webhook=HOOK)])
    await queue.cancel(job_id)
    await queue.bury(held(await lease_one(queue)), "nobody there")
    (notice,) = await notices(queue)
    assert notice.state is State.DEAD
    await queue.revive(notice.id)
    await queue.cancel(notice.id)
    assert len(await notices(queue)) == 1


async def test_a_job_that_ends_again_gives_notice_again(queue: SqliteQueue) -> None:
    """What the first one says stays as it was."""
    (job_id,) = await queue.submit([order(webhook=HOOK)])
    await queue.bury(held(await lease_one(queue)), "no answer")
    (first,) = await notices(queue)
    await queue.finish(held(await lease_one(queue)))
    await queue.revive(job_id)
    await queue.finish(held(await lease_one(queue)))
    second, again = await notices(queue)
    assert again.id == first.id
    assert (told(again), told(second).job.state) == (told(first), State.DONE)


async def test_a_batch_does_not_count_its_notices(queue: SqliteQueue) -> None:
    (job_id, _) = await queue.submit([order(name, webhook=HOOK, batch="b") for name in "ab"])
    await queue.cancel(job_id)
    assert {state: n for state, n in (await queue.counts("b")).items() if n} == {
        State.WAITING: 1, State.CANCELLED: 1
    }  # fmt: skip
    assert len((await queue.find(Filter(batch="b"), 10)).jobs) == 2
    assert (await queue.counts())[State.WAITING] == 2


async def test_a_notice_goes_before_the_rest_of_its_batch(queue: SqliteQueue) -> None:
    await queue.submit([order(name, webhook=HOOK, priority=7) for name in "abc"])
    await queue.submit([order("urgent", priority=9)])
    urgent, first = await lease_all(queue, 2)
    await queue.finish(held(first))
    assert [job.order.notice is not None for job in await lease_all(queue)] == [True, False, False]
    assert names([urgent, first]) == ["urgent", "a"]


@pytest.mark.parametrize("priority", [-100, 0, 100])
async def test_any_priority_has_notices(queue: SqliteQueue, priority: int) -> None:
    (job_id,) = await queue.submit([order(webhook=HOOK, priority=priority)])
    await queue.cancel(job_id)
    assert len(await lease_all(queue)) == 1


async def test_a_worker_is_woken_for_a_notice(queue: SqliteQueue) -> None:
    woken: list[None] = []
    (job_id, _) = await queue.submit([order("a", webhook=HOOK), order("b", webhook=HOOK)])
    job = (await lease_all(queue))[1]
    leave = queue.subscribe(lambda: woken.append(None))
    await queue.cancel(job_id)
    await queue.finish(held(job))
    assert len(woken) == 2
    leave()


async def test_a_job_cannot_end_without_its_notice(queue: SqliteQueue) -> None:
    """With no space for the notice the job goes on, as if nothing had happened."""
    await queue.submit([order("a", webhook=HOOK), *(order(str(n)) for n in range(20))])
    job = await lease_one(queue)
    queue._writing.execute(
        "CREATE TEMP TRIGGER full BEFORE INSERT ON main.jobs BEGIN SELECT RAISE(FAIL, 'full'); END"
    )
    with pytest.raises(StorageError):
        await queue.finish(held(job))
    with pytest.raises(StorageError):
        await queue.cancel(job.id)
    assert (await queue.get(job.id)).state is State.RUNNING
    assert await queue.extend([held(job)], LONG_S) == set(), "the lease is still good"
    queue._writing.execute("DROP TRIGGER temp.full")
    await queue.finish(held(job))
    assert len(await notices(queue)) == 1


DIES = """
import asyncio, os, signal, sys
from pathlib import Path
from job_support import order, held, lease_one
from safelight.jobs.sqlite import SqliteQueue

async def main():
    queue = await SqliteQueue.open(Path(sys.argv[1]))
    how, statements = sys.argv[2], int(sys.argv[3])
    (job_id,) = await queue.submit([order(webhook="https://hooks.example/")])
    job = await lease_one(queue)
    left = [statements]
    def count(statement):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
    queue._writing.set_trace_callback(count)
    await {
        "finish": lambda: queue.finish(held(job)),
        "bury": lambda: queue.bury(held(job), "x"),
        "cancel": lambda: queue.cancel(job_id),
    }[how]()
    queue._writing.set_trace_callback(None)
    await queue.close()

asyncio.run(main())
"""


def dies(path: Path, how: str, statements: int) -> bool:
    """Whether a process that ends a job is killed after so many statements, or has ended it before."""
    child = subprocess.run(
        [sys.executable, "-c", DIES, str(path), how, str(statements)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode in (0, -signal.SIGKILL), child.stderr
    return child.returncode != 0


@pytest.mark.parametrize("how", ["finish", "bury", "cancel"])
async def test_a_kill_at_any_statement_leaves_both_or_neither(tmp_path: Path, how: str) -> None:
    """Of the statements that end a job and give notice, the next one kills, until it gets through."""
    ended: list[bool] = []
    died = True
    while died:
        path = tmp_path / str(len(ended)) / "jobs.db"
        died = dies(path, how, len(ended))
        queue = await SqliteQueue.open(path)
        jobs = (await queue.find(Filter(), 10)).jobs
        await queue.close()
        (job,) = [job for job in jobs if not job.order.notice]
        assert (len(jobs) == 2) == (job.ended_at is not None)
        ended.append(job.ended_at is not None)
    assert len(ended) > 4, "it died again and again"
    assert (ended[0], ended[-1]) == (False, True)


# The record


def test_an_order_of_before_is_read() -> None:
    text = (
        b'{"version":1,"source":"http://origin.example/a.jpg","outputs":['
        b'{"make":"fit,10,10,png","to":{"url":"s3://bucket/a.png"}}],"webhook":"http://h.example/"}'
    )
    read = decode_order(text)
    assert (read.notice, read.webhook) == (None, "http://h.example/")
    assert encode_order(read) == text


async def test_the_json_form_of_a_notice_is_stable(queue: SqliteQueue) -> None:
    text = (
        b'{"version":1,"source":"http://h.example/","outputs":[],"priority":1,"notice":{"job":{"id":"i",'
        b'"state":"dead","created_at":"2024-05-06T07:08:09.123456Z","ended_at":"2024-05-06T07:09:00Z",'
        b'"attempts":2,"reason":"gone","source":"http://o.example/a.png","outputs":[{"make":"fit,1,1,png",'
        b'"to":"s3://b/k","delivered":false},{"make":{"kind":"resize","width":3,"height":4,"format":"png"},'
        b'"to":"http://t.example/","delivered":true}],"priority":0,"batch":"b","key":"k","not_before":null}}}'
    )
    assert encode_order(decode_order(text)) == text
    (job_id,) = await queue.submit([decode_order(text)])
    assert (await queue.get(job_id)).order == decode_order(text)


def test_only_a_notice_has_no_outputs() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"length >= 1 - at `\$\.outputs`"):
        decode_order(b'{"version":1,"source":"http://origin.example/a.jpg","outputs":[]}')


async def test_a_view_shows_no_password_and_what_is_delivered(queue: SqliteQueue) -> None:
    (job_id,) = await queue.submit([order(webhook=HOOK)])
    notice = notice_of(await queue.get(job_id))
    assert notice
    shown = msgspec.json.encode(notice.notice)
    assert b"secret" not in shown
    assert b"token" not in shown
    view = view_of(await queue.get(job_id))
    assert [output.delivered for output in view.outputs] == [False]
    await queue.finish(held(await lease_one(queue)))
    assert [output.delivered for output in view_of(await queue.get(job_id)).outputs] == [True]
