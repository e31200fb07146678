"""The job queue on PostgreSQL: what a submission costs, jobs per second, and what a waiting worker uses.

It starts a PostgreSQL of its own, every commit on the disk. Rounds take turns at a bare insert (one row of
the same bytes), submissions to an empty queue and to one with a backlog, and procrastinate's `defer` of the
same bytes, if that is installed (`pip install safelight[bench]`): the disk's moods hit all. Read the ratios.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import asyncpg
from jobs_queue import (
    BACKLOG,
    DONE,
    GOAL_BACKLOG,
    GOAL_BARE,
    IDLE_S,
    SUBMITTERS,
    Numbers,
    do_jobs,
    fill,
    submit_together,
    turn,
    verdict,
)
from machine import Moment, tree_cpu_s

from safelight.jobs.postgres import PostgresQueue
from safelight.jobs.record import Job, Order, encode_order
from safelight.jobs.worker import Pace, Worker

for name in ("server", "s3", "jobs"):  # `postgres_server`, and what it needs, are there
    sys.path.append(str(Path(__file__).parent.parent / "tests" / name))

if TYPE_CHECKING:
    from postgres_server import PostgresServer

CONCURRENCIES = (4, 32)
FIRST_S = 2.0
GOAL_PEER = 1.0
"""How long what we do may take of the time that procrastinate takes for it."""


class Procrastinate:
    """The peer: jobs with the same bytes, which do nothing."""

    def __init__(self, url: str) -> None:
        import procrastinate

        self.app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
        self.done = 0
        self.enough = asyncio.Event()

        @self.app.task(name="work", queue="work")
        async def work(content: str) -> None:  # noqa: ARG001 (its name is a key of the job)
            self.done += 1
            if self.done >= DONE:
                self.enough.set()

        self._task = work

    async def submit(self, orders: list[Order]) -> None:
        await self._task.defer_async(content=encode_order(orders[0]).decode())

    async def fill(self, numbers: Numbers) -> None:
        for _ in range(0, BACKLOG, 1000):
            texts = [encode_order(order).decode() for order in numbers.take(1000)]
            await self._task.batch_defer_async(*({"content": text} for text in texts))

    async def run(self, concurrency: int) -> float:
        """Jobs a second."""
        self.done = 0
        self.enough.clear()
        begun = time.perf_counter()
        running = asyncio.create_task(
            self.app.run_worker_async(concurrency=concurrency, install_signal_handlers=False)
        )
        await self.enough.wait()
        rate = self.done / (time.perf_counter() - begun)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return rate


@asynccontextmanager
async def peer(server: "PostgresServer") -> AsyncIterator[Procrastinate | None]:
    """Procrastinate in a database of its own; None where it is not installed."""
    try:
        made = Procrastinate(server.url(await server.make_database()))
    except ModuleNotFoundError:
        yield None
        return
    async with made.app.open_async():
        await made.app.schema_manager.apply_schema_async()
        yield made


async def submission_cost(
    server: "PostgresServer", full: PostgresQueue, other: Procrastinate | None, numbers: Numbers, rounds: int
) -> None:
    bare = await asyncpg.connect(server.url(await server.make_database()))
    await bare.execute("CREATE TABLE bare (id bigserial PRIMARY KEY, content bytea)")

    async def insert(orders: list[Order]) -> None:
        await bare.execute("INSERT INTO bare (content) VALUES ($1)", encode_order(orders[0]))

    empty = await PostgresQueue.open(server.url(await server.make_database()))
    sides: list[Callable[[list[Order]], Awaitable[Any]]] = [insert, empty.submit, full.submit]
    if other:
        sides.append(other.submit)
    found = [[await turn(side, numbers) for side in sides] for _ in range(rounds + 1)][1:]
    await empty.close()
    await bare.close()
    names = ("bare insert", "submission, empty queue", f"submission, {BACKLOG:,} waiting")
    for name, column in zip((*names, "procrastinate, the same"), zip(*found, strict=True), strict=False):
        print(f"| {name} | {median(column):.2f} ms | |")
    compare("backlog : empty", [row[2] / row[1] for row in found], GOAL_BACKLOG)
    compare("backlog : bare insert", [row[2] / row[0] for row in found], GOAL_BARE)
    if other:
        compare("backlog : procrastinate", [row[2] / row[3] for row in found], GOAL_PEER)


def compare(name: str, ratios: list[float], goal: float) -> None:
    print(f"| {name} | {median(ratios):.2f} | {verdict(median(ratios), goal)} |", flush=True)


async def together(queue: PostgresQueue, other: Procrastinate | None, numbers: Numbers) -> None:
    ours = await submit_together(queue, numbers)
    if other:

        async def submitter() -> None:
            for _ in range(DONE // SUBMITTERS):
                await other.submit(numbers.take(1))

        begun = time.perf_counter()
        await asyncio.gather(*(submitter() for _ in range(SUBMITTERS)))
        theirs = DONE / (time.perf_counter() - begun)
        compare("time for a submission : procrastinate's", [theirs / ours], GOAL_PEER)


async def run_jobs(server: "PostgresServer", queue: PostgresQueue, other: Procrastinate | None) -> None:
    assert server.process
    for concurrency in CONCURRENCIES:
        used = time.process_time(), tree_cpu_s(server.process.pid)
        ours = await do_jobs(queue, concurrency)
        client, database = time.process_time() - used[0], tree_cpu_s(server.process.pid) - used[1]
        print(f"| processor for a job, client and server | {1000 * client / DONE:.2f}, "
              f"{1000 * database / DONE:.2f} ms | |")  # fmt: skip
        if other:
            theirs = await other.run(concurrency)
            compare(f"time for a job : procrastinate's, {concurrency} at once", [theirs / ours], GOAL_PEER)


async def idle(server: "PostgresServer") -> None:
    async def perform(_: Job) -> None: ...

    assert server.process
    queue = await PostgresQueue.open(server.url(await server.make_database()))
    worker = Worker(queue, perform, Pace())
    running = asyncio.create_task(worker.run())
    await asyncio.sleep(FIRST_S)
    used = time.process_time(), tree_cpu_s(server.process.pid)
    await asyncio.sleep(IDLE_S)
    client = (time.process_time() - used[0]) / IDLE_S
    database = (tree_cpu_s(server.process.pid) - used[1]) / IDLE_S
    worker.stop()
    await running
    await queue.close()
    print(f"| a worker that waits: client, server | {client:.2%}, {database:.2%} of a core | |", flush=True)


async def measure(server: "PostgresServer", rounds: int) -> None:
    numbers = Numbers()
    await idle(server)
    queue = await PostgresQueue.open(server.url(await server.make_database()))
    await fill(queue, numbers)
    async with peer(server) as other:
        if other:
            await other.fill(numbers)
        await submission_cost(server, queue, other, numbers, rounds)
        await together(queue, other, numbers)
        await run_jobs(server, queue, other)
    await queue.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each side; default 7")
    arguments = parser.parse_args()
    from postgres_server import postgres_server

    print("| what | figure | goal |\n|---|---|---|", flush=True)
    started = Moment.now()
    with postgres_server() as server:
        asyncio.run(measure(server, arguments.rounds))
    print(f"\nBusy cores on average, all programs: {Moment.now().cores_since(started):.1f}.")


if __name__ == "__main__":
    main()
