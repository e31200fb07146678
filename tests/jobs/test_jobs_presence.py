"""Jobs of a worker that was killed are done again at once, and no living worker loses one by that."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from job_support import LONG_S, held, lease_all, lease_one, names, order

from safelight.jobs.presence import Presence, dead_workers
from safelight.jobs.record import State
from safelight.jobs.sqlite import SqliteQueue

LEASES = """
import asyncio, sys
from pathlib import Path
from job_support import LONG_S, held
from safelight.jobs.sqlite import SqliteQueue

async def main():
    path, name, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    lost = 0
    for number in range(rounds):
        queue = await SqliteQueue.open(path)
        jobs = await queue.lease(f"{name} {number}", 1, LONG_S, 100)
        lost += len(await queue.extend([held(job) for job in jobs], LONG_S))
        print(*(job.id for job in jobs), flush=True)
        if number < rounds - 1:
            await queue.close()
    await asyncio.to_thread(sys.stdin.read)
    print("lost", lost, flush=True)

asyncio.run(main())
"""


@contextmanager
def process(path: Path, name: str, rounds: int = 1) -> Iterator["subprocess.Popen[str]"]:
    """Leases a job by a new worker in each round, keeps the last one until its input ends."""
    child = subprocess.Popen(
        [sys.executable, "-c", LEASES, str(path), name, str(rounds)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def line(child: "subprocess.Popen[str]") -> str:
    assert child.stdout
    return child.stdout.readline().strip()


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A queue with two jobs."""
    queue = await SqliteQueue.open(tmp_path / "jobs.db")
    await queue.submit([order("a"), order("b")])
    await queue.close()
    return tmp_path / "jobs.db"


def present(path: Path) -> list[str]:
    return [file.name for file in path.with_name("jobs.db-workers").iterdir()]


async def test_a_killed_worker_gives_its_jobs_back_when_the_queue_is_opened(path: Path) -> None:
    with process(path, "killed") as child:
        job_id = line(child)
        child.send_signal(signal.SIGKILL)
        child.wait()
    queue = await SqliteQueue.open(path)
    job = await queue.get(job_id)
    assert (job.state, job.attempts, job.lease) == (State.WAITING, 1, None)
    assert names(await lease_all(queue)) == ["a", "b"]
    await queue.close()
    assert present(path) == []


async def test_a_living_worker_keeps_its_jobs(path: Path) -> None:
    with process(path, "living") as child:
        job_id = line(child)
        for _ in range(3):
            queue = await SqliteQueue.open(path)
            assert (await queue.get(job_id)).state is State.RUNNING
            await queue.close()
        assert present(path) == ["living%200"]
        assert child.communicate()[0] == "lost 0\n"


async def test_a_worker_that_has_left_is_not_dead(path: Path) -> None:
    """Its lease lasts: it may have been handed on, as at a restart that loses no time."""
    queue = await SqliteQueue.open(path)
    job = await lease_one(queue)
    await queue.close()
    queue = await SqliteQueue.open(path)
    await queue.finish(held(job))
    await queue.close()
    assert present(path) == []


async def test_workers_that_come_while_others_look_lose_nothing(path: Path) -> None:
    queue = await SqliteQueue.open(path)
    await queue.submit([order(str(number)) for number in range(100)])
    with process(path, "x", 20) as first, process(path, "y", 20) as second, process(path, "z", 20) as third:
        children = (first, second, third)
        ids = [line(child) for child in children for _ in range(20)]  # and nobody dies before that
        assert [child.communicate(timeout=120)[0] for child in children] == ["lost 0\n"] * 3
    assert len(set(ids)) == len(ids) == 60
    await queue.close()


async def test_where_no_worker_can_show_itself_leases_expire(path: Path) -> None:
    path.with_name("jobs.db-workers").write_text("no directory")
    queue = await SqliteQueue.open(path)
    job = await lease_one(queue)
    other = await SqliteQueue.open(path)
    assert await other.extend([held(job)], LONG_S) == set()
    await other.close()
    await queue.close()


def test_nobody_takes_a_worker_for_dead_that_is_about_to_show_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks just before the file is locked must not find it under the worker's name."""
    real, seen = fcntl.flock, list[str]()

    def look_first(file: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        with dead_workers(tmp_path) as dead:
            seen.extend(dead)
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", look_first)
    presence = Presence(tmp_path)
    presence.show("worker")
    assert "worker" not in seen
    presence.end()


def test_nobody_takes_a_worker_for_dead_that_is_just_leaving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves between the moments when its file is opened and when that is locked."""
    presence = Presence(tmp_path)
    presence.show("worker")
    real = fcntl.flock

    def leave_first(file: int, how: int) -> None:
        presence.end()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", leave_first)
    with dead_workers(tmp_path) as dead:
        assert dead == []


def test_names_may_be_anything(tmp_path: Path) -> None:
    worker = "host/../:1:ä"
    presence = Presence(tmp_path / "workers")
    presence.show(worker)
    presence.show("x" * 1000)
    with dead_workers(tmp_path / "workers") as dead:
        assert dead == []
    (file,) = (tmp_path / "workers").iterdir()
    presence.end()
    file.touch()
    with dead_workers(tmp_path / "workers") as dead:
        assert dead == [worker]
    assert not file.exists()
