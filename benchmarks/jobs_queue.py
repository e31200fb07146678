"""The job queue on SQLite : what a submission costs, jobs per second, memory, and a worker that waits.

Rounds take turns at a bare insert (one row of the same bytes, one fsync), a submission to an empty queue and
one to a queue with a backlog: the disk's moods hit all three. Read the ratios, and use a real disk.
`jobs_postgres.py` does the same for PostgreSQL.
"""

import argparse
import asyncio
import os
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

from machine import Moment

from safelight.jobs.queue import JobQueue
from safelight.jobs.record import Delivery, Job, Order, Output, State, encode_order
from safelight.jobs.sqlite import SqliteQueue
from safelight.jobs.worker import Pace, Worker

BACKLOG = 100_000
HOSTS = 50
SUBMISSIONS = 20
"""In one turn."""
SUBMITTERS = 64
DONE = 5_000
IDLE_S = 10.0
GOAL_BACKLOG = 1.5
GOAL_BARE = 3.0
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


def order(number: int) -> Order:
    output = Output("fit,300,300,jpeg,quality:85", Delivery(f"s3://pictures/thumbnails/{number}.jpg"))
    source = f"https://origin-{number % HOSTS}.example/pictures/{number}.jpg"
    return Order(source, (output,), key=f"back-fill-{number}")


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_MB


class Numbers:
    """Orders that no queue has seen."""

    def __init__(self) -> None:
        self._next = 0

    def take(self, count: int) -> list[Order]:
        self._next += count
        return [order(number) for number in range(self._next - count, self._next)]


class BareInserts:
    """One row with the bytes of an order in one durable transaction, and nothing else."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, content BLOB)")

    async def insert(self, orders: list[Order]) -> None:
        """In a thread, as anything that waits for a disk beside an event loop."""
        await asyncio.to_thread(
            self._connection.execute, "INSERT INTO rows (content) VALUES (?)", (encode_order(orders[0]),)
        )


def grow_log(path: Path) -> None:
    """Make the write-ahead log as long as that of the full queue: appending costs more than overwriting."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE filler AS SELECT zeroblob(16000000)")
    connection.execute("DROP TABLE filler")
    connection.commit()
    connection.close()


async def turn(do: Callable[[list[Order]], Awaitable[object]], numbers: Numbers) -> float:
    """Milliseconds of one submission, the median of some."""
    times: list[float] = []
    for _ in range(SUBMISSIONS):
        orders = numbers.take(1)
        begun = time.perf_counter()
        await do(orders)
        times.append(1000 * (time.perf_counter() - begun))
    return median(times)


async def submission_cost(directory: Path, full: SqliteQueue, numbers: Numbers, rounds: int) -> None:
    bare = BareInserts(directory / "bare.db")
    empty = await SqliteQueue.open(directory / "empty.db")
    for name in ("bare.db", "empty.db"):
        grow_log(directory / name)
    sides = (bare.insert, empty.submit, full.submit)
    found = [[await turn(side, numbers) for side in sides] for _ in range(rounds + 1)][1:]
    await empty.close()
    inserted, on_empty, on_full = (median(column) for column in zip(*found, strict=True))
    to_empty = median(after / before for _, before, after in found)
    to_bare = median(after / before for before, _, after in found)
    print(f"| bare insert | {inserted:.2f} ms | |")
    print(f"| submission, empty queue | {on_empty:.2f} ms | |")
    print(f"| submission, {BACKLOG:,} waiting | {on_full:.2f} ms | |")
    print(f"| backlog : empty | {to_empty:.2f} | {verdict(to_empty, GOAL_BACKLOG)} |")
    print(f"| backlog : bare insert | {to_bare:.2f} | {verdict(to_bare, GOAL_BARE)} |", flush=True)


def verdict(reached: float, goal: float) -> str:
    return f"{'met' if reached <= goal else 'MISSED'}: at most {goal}"


async def fill(queue: JobQueue, numbers: Numbers) -> None:
    begun = time.perf_counter()
    for _ in range(0, BACKLOG, 1000):
        await queue.submit(numbers.take(1000))
    print(f"| submissions of 1,000 jobs each | {BACKLOG / (time.perf_counter() - begun):,.0f} jobs/s | |")


async def submit_together(queue: JobQueue, numbers: Numbers) -> float:
    """Each client waits for its job before it submits the next one. Jobs a second."""

    async def submitter() -> None:
        for _ in range(DONE // SUBMITTERS):
            await queue.submit(numbers.take(1))

    begun = time.perf_counter()
    await asyncio.gather(*(submitter() for _ in range(SUBMITTERS)))
    rate = DONE // SUBMITTERS * SUBMITTERS / (time.perf_counter() - begun)
    print(f"| submissions of one job, {SUBMITTERS} clients | {rate:,.0f} jobs/s | |", flush=True)
    return rate


async def do_jobs(queue: JobQueue, concurrency: int) -> float:
    """Lease and finish; the jobs themselves cost nothing. Jobs a second."""
    done = 0
    enough = asyncio.Event()

    async def perform(_: Job) -> None:
        nonlocal done
        done += 1
        if done == DONE:
            enough.set()

    worker = Worker(queue, perform, Pace(concurrency=concurrency, per_host=concurrency))
    begun = time.perf_counter()
    running = asyncio.create_task(worker.run())
    await enough.wait()
    rate = done / (time.perf_counter() - begun)
    worker.stop()
    await running
    print(f"| lease and finish, {concurrency} at once | {rate:,.0f} jobs/s | |", flush=True)
    return rate


async def idle(directory: Path) -> None:
    async def perform(_: Job) -> None: ...

    queue = await SqliteQueue.open(directory / "idle.db")
    worker = Worker(queue, perform, Pace())
    running = asyncio.create_task(worker.run())
    await asyncio.sleep(1)
    used = time.process_time()
    await asyncio.sleep(IDLE_S)
    share = (time.process_time() - used) / IDLE_S
    worker.stop()
    await running
    await queue.close()
    print(f"| a worker that waits | {share:.2%} of a core | |", flush=True)


async def measure(directory: Path, rounds: int) -> None:
    numbers = Numbers()
    await idle(directory)
    queue = await SqliteQueue.open(directory / "full.db")
    for _ in range(10):
        await queue.submit(numbers.take(1000))
    begun_mb = resident_mb()
    await fill(queue, numbers)
    filled_mb = resident_mb()
    await submission_cost(directory, queue, numbers, rounds)
    await submit_together(queue, numbers)
    for concurrency in (4, 32):
        await do_jobs(queue, concurrency)
    waiting = (await queue.counts())[State.WAITING]
    print(f"| memory with 10,000 jobs, {BACKLOG + 10_000:,}, and at the end | "
          f"{begun_mb:.0f}, {filled_mb:.0f}, {resident_mb():.0f} MB | {waiting:,} still wait |")  # fmt: skip
    await queue.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each side; default 7")
    parser.add_argument(
        "--directory", type=Path, help="where to put the databases; default the temporary one"
    )
    arguments = parser.parse_args()
    print("| what | figure | goal |\n|---|---|---|", flush=True)
    started = Moment.now()
    with tempfile.TemporaryDirectory(prefix="safelight-bench-", dir=arguments.directory) as directory:
        asyncio.run(measure(Path(directory), arguments.rounds))
    print(f"\nBusy cores on average, all programs: {Moment.now().cores_since(started):.1f}.")


if __name__ == "__main__":
    main()
