"""Processes that submit and do jobs and die by SIGKILL again and again: `python job_crash.py DIRECTORY PLAN`.

The plan is JSON (see `Plan`). Results are files named after their job, each with what belongs into it;
`ledger` has a line for every delivery, `acknowledged` one for every accepted submission.
The deaths are printed.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from job_support import order, until
from msgspec import Struct

from safelight.jobs.opening import open_queue
from safelight.jobs.postgres import PostgresQueue
from safelight.jobs.queue import JobQueue
from safelight.jobs.record import Job, Lease, Order, State
from safelight.jobs.sqlite import SqliteQueue
from safelight.jobs.worker import Pace, Worker


class Plan(Struct, frozen=True):
    """`chance` of death whenever one of `stages` is reached; no more deaths than `max_deaths` by that.

    With `kill_every_s` the supervisor kills as well, at any moment, `max_kills` times. `queue` is a place for
    `open_queue`.
    """

    queue: str
    jobs: int
    stages: list[str]
    chance: float = 1.0
    max_deaths: int = 1
    kill_every_s: float = 0.0
    max_kills: int = 0
    per_call: int = 20
    keyed: bool = True
    workers: int = 2
    lease_s: float = 2.0


def content(name: str) -> str:
    """What the result of a job must be."""
    return f"result of {name}, " * 20


def make_mortal(queue: Any, reach: Callable[[str], None]) -> JobQueue:
    """Let the process of `queue` die at chosen stages, as `reach` decides.

    These are what is named below, and the statements of SQLite; with PostgreSQL `sent`, the time while a
    statement is on its way.
    """
    submit, lease, finish = queue.submit, queue.lease, queue.finish

    async def mortal_submit(orders: list[Order]) -> list[str]:
        ids = await submit(orders)
        reach("submitted")
        return ids

    async def mortal_lease(*arguments: Any) -> list[Job]:
        jobs = await lease(*arguments)
        if jobs:
            reach("leased")
        return jobs

    async def mortal_finish(held: Lease) -> None:
        reach("finishing")
        await finish(held)
        reach("finished")

    queue.submit, queue.lease, queue.finish = mortal_submit, mortal_lease, mortal_finish
    if isinstance(queue, SqliteQueue):
        queue._writing.set_trace_callback(lambda statement: reach(statement.split(maxsplit=1)[0]))
    elif isinstance(queue, PostgresQueue):
        run = queue._link.run

        async def mortal_run(work: Any) -> Any:
            running = asyncio.create_task(run(work))
            await asyncio.wait([running], timeout=random.uniform(0, 0.005))
            if not running.done():
                reach("sent")
            return await running

        queue._link.run = mortal_run  # type: ignore[method-assign]
    return queue


class Crash:
    """One run of a plan in a directory."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        self.directory = directory
        self.plan = plan
        self.mortal = plan.max_deaths > 0
        self.children: dict[int, Callable[[], None]] = {}

    def run(self) -> dict[str, int]:
        """Start everybody again until all have done their part. Says who died how often."""
        deaths = kills = 0
        self._start(self.submitter)
        for _ in range(self.plan.workers):
            self._start(self.worker)
        next_kill = time.monotonic() + self.plan.kill_every_s
        while self.children:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child:
                part = self.children.pop(child)
                if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
                    deaths += 1
                    self.mortal = deaths - kills < self.plan.max_deaths
                    self._start(part)
                elif status:
                    raise SystemExit(f"a child ended with {status}")
            elif kills < self.plan.max_kills and time.monotonic() > next_kill:
                os.kill(random.choice(list(self.children)), signal.SIGKILL)
                kills += 1
                next_kill = time.monotonic() + random.uniform(0.5, 1.5) * self.plan.kill_every_s
            else:
                time.sleep(0.005)
        return {"deaths": deaths, "kills": kills}

    def _start(self, part: Callable[[], None]) -> None:
        child = os.fork()
        if not child:
            random.seed()
            part()
            os._exit(0)
        self.children[child] = part

    def reach(self, stage: str) -> None:
        if self.mortal and stage in self.plan.stages and random.random() < self.plan.chance:
            os.kill(os.getpid(), signal.SIGKILL)

    async def open(self) -> JobQueue:
        return make_mortal(await open_queue(self.plan.queue), self.reach)

    def append(self, name: str, line: str) -> None:
        file = os.open(self.directory / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{line}\n".encode())
        os.close(file)

    def submitter(self) -> None:
        asyncio.run(self._submit())

    async def _submit(self) -> None:
        log = self.directory / "acknowledged"
        begun = len(log.read_text().splitlines()) if log.exists() else 0
        queue = await self.open()
        life = f"{os.getpid()}-{time.monotonic_ns()}"
        for call in range(begun, self.plan.jobs // self.plan.per_call):
            numbers = range(call * self.plan.per_call, (call + 1) * self.plan.per_call)
            batch = f"{call}/{life}"
            ids = await queue.submit([self._order(n, batch) for n in numbers])
            self.append("acknowledged", f"{batch} " + " ".join(ids))
        await queue.close()

    def _order(self, number: int, batch: str) -> Order:
        key = str(number) if self.plan.keyed else None
        return order(str(number), f"h{number % 3}.example", key=key, batch=batch)

    def worker(self) -> None:
        asyncio.run(self._work())

    async def _work(self) -> None:
        queue = await self.open()
        pace = Pace(lease_s=self.plan.lease_s, poll_s=0.1, concurrency=4, per_host=50, max_attempts=1000)
        worker = Worker(queue, self.perform, pace)
        running = asyncio.create_task(worker.run())
        await until(lambda: self._all_done(queue), patience_s=600)
        worker.stop()
        await running
        await queue.close()

    async def _all_done(self, queue: JobQueue) -> bool:
        return (await queue.counts())[State.DONE] == self.plan.jobs

    async def perform(self, job: Job) -> None:
        name = job.order.source.rpartition("/")[2].removesuffix(".jpg")
        self.reach("performing")
        aside = self.directory / "results" / f".{name}.{os.getpid()}"
        aside.write_text(content(name))
        aside.rename(self.directory / "results" / name)
        self.append("ledger", f"{name} {job.id}")
        self.reach("delivered")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    (place / "results").mkdir(exist_ok=True)
    print(msgspec.json.encode(Crash(place, msgspec.json.decode(sys.argv[2], type=Plan)).run()).decode())
