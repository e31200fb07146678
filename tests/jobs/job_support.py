"""Orders to submit, and waiting for a condition."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from safelight.jobs.queue import JobQueue
from safelight.jobs.record import Delivery, Job, Lease, Order, Output

T = TypeVar("T")
Opener = Callable[[], Awaitable[JobQueue]]
"""Opens one and the same queue again and again, as several processes would."""

PATIENCE_S = 60.0
LONG_S = 3600.0
SHORT_S = 0.05
"""A lease that has expired by the time anybody looks."""


def order(name: str = "a", host: str = "origin.example", **rest: Any) -> Order:
    output = Output("fit,10,10,png", Delivery(f"s3://bucket/{name}.png"))
    return Order(source=f"http://{host}/{name}.jpg", outputs=(output,), **rest)


async def until(look: Callable[[], Awaitable[T]], *, patience_s: float = PATIENCE_S) -> T:
    """What `look` returns as soon as that is true."""
    deadline = time.monotonic() + patience_s
    while not (seen := await look()):
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)
    return seen


async def lease_all(
    queue: JobQueue, count: int = 100, *, lease_s: float = LONG_S, per_host: int = 100
) -> list[Job]:
    return await queue.lease("test", count, lease_s, per_host)


async def lease_one(queue: JobQueue, *, lease_s: float = LONG_S, worker: str = "test") -> Job:
    """The next job, as soon as there is one."""
    (job,) = await until(lambda: queue.lease(worker, 1, lease_s, 100))
    return job


def held(job: Job) -> Lease:
    assert job.lease
    return job.lease


def names(jobs: list[Job]) -> list[str]:
    """The names that `order` was given."""
    return [job.order.source.rpartition("/")[2].removesuffix(".jpg") for job in jobs]
