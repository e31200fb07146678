"""The queue of jobs as everybody uses it, whichever database is behind it.

What all queues promise:
- What a method has returned is durable: it survives `kill -9` and a power cut.
- A job whose order was accepted is given to workers until one finishes it, buries it, or somebody cancels it.
  A worker that dies holds its jobs only until their leases expire. So a job is done at least once.
- At any time at most one worker has a valid lease of a job. Whatever comes with another is refused.
- Time steps of the wall clock neither lose nor delay a job, nor take it from a living worker.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from safelight.errors import BadRequest, NotFound, SafelightError
from safelight.jobs.record import Footprint, Job, Lease, Order, State

MAX_PAGE = 1000
_NUMBER_DIGITS = 19  # of 64 bits


class LeaseLost(SafelightError):
    """The lease has expired and another worker has the job, or the job was cancelled."""

    def __init__(self, lease: Lease) -> None:
        message = f"job {lease.job_id} is no longer ours"
        super().__init__(message, detail=f"{lease.owner}, fence {lease.fence}")


class NoSuchJob(NotFound):
    """No job has that id: it never had, or it ended long ago and was pruned."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job has the id '{job_id}'")


class BadCursor(BadRequest):
    """A cursor that no page of ours ended with."""


def position_of(cursor: str | None) -> int | None:
    """The number of the job that a page ended with. Raises: BadCursor."""
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < _NUMBER_DIGITS):
        raise BadCursor(f"no page ends with the cursor '{cursor}'")
    return int(cursor)


class Filter(Struct, frozen=True):
    """Which jobs to list; what is None does not matter. `created_before` is exclusive."""

    state: State | None = None
    batch: str | None = None
    host: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


class Page(Struct, frozen=True):
    """Some jobs, the latest accepted first, and the cursor of the next page, None on the last."""

    jobs: list[Job]
    cursor: str | None = None


class JobQueue(Protocol):
    """All methods raise StorageError when the database cannot do it; then nothing has been promised."""

    async def submit(self, orders: Sequence[Order]) -> list[str]:
        """Accept all orders or none; ids in their sequence.

        An order with a key that the queue knows is not accepted again: the id is the first one's.
        Raises: BadRequest when a value of an order is out of its bounds.
        """
        ...

    async def lease(self, worker: str, count: int, lease_s: float, per_host: int) -> list[Job]:
        """Up to `count` jobs that are due, for `lease_s` seconds; higher priority first, then older.

        No host gets more than `per_host` jobs that run at one time, those of all workers counted; sources
        without a host have no limit. Jobs are due again when their delay is over or their lease has expired.
        """
        ...

    async def extend(self, leases: Collection[Lease], lease_s: float) -> set[Lease]:
        """Let `leases` last for `lease_s` seconds from now; returns those that are lost."""
        ...

    async def note(self, lease: Lease, footprint: Footprint) -> None:
        """Remember what has been done outside. Raises: LeaseLost."""
        ...

    async def finish(self, lease: Lease) -> None:
        """The job is done. Raises: LeaseLost."""
        ...

    async def retry(self, lease: Lease, delay_s: float, reason: str) -> None:
        """Try the job again, not before `delay_s` seconds from now. Raises: LeaseLost."""
        ...

    async def bury(self, lease: Lease, reason: str) -> None:
        """Give the job up; it stays as a dead letter. Raises: LeaseLost."""
        ...

    async def release(self, lease: Lease) -> None:
        """Give back a job as if it had not been leased: the attempt does not count. Raises: LeaseLost."""
        ...

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job that waits or runs and return it; one that has ended is returned as it is.

        Its worker learns of it when it extends or ends its lease. Raises: NoSuchJob.
        """
        ...

    async def revive(self, job_id: str) -> Job:
        """Let a dead job wait again, all attempts before it; any other is returned as it is.

        Raises: NoSuchJob.
        """
        ...

    async def get(self, job_id: str) -> Job:
        """Raises: NoSuchJob."""
        ...

    async def find(self, wanted: Filter, limit: int, cursor: str | None = None) -> Page:
        """One page of at most `limit` jobs, itself at most MAX_PAGE. Raises: BadCursor."""
        ...

    async def counts(self, batch: str | None = None) -> Mapping[State, int]:
        """How many jobs are in each state, in all or of one batch; costs the same for a million."""
        ...

    async def prune(self, state: State, ended_before: datetime) -> int:
        """Forget jobs that ended as `state` before that time, and their keys; returns how many."""
        ...

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` in this event loop when a job may have become due; returns what ends that.

        It may be missed when another process submits: poll as well.
        """
        ...

    async def close(self) -> None:
        """Finish what was asked for and close the database."""
        ...
