"""Does jobs: leases them, keeps the leases alive, and settles each with the queue, whatever happens to it.

A worker never decides that a job is lost. If it cannot tell the queue how a job went, the lease expires and
the job is done again.
"""

import asyncio
import os
import random
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog
from msgspec import Struct

from safelight.errors import SafelightError, StorageError
from safelight.jobs.queue import JobQueue, LeaseLost
from safelight.jobs.record import Job, Lease, State

_log = structlog.get_logger("safelight.jobs")

HEARTBEATS_PER_LEASE = 3
_SETTLE_PAUSE_S = 0.5

Perform = Callable[[Job], Awaitable[None]]
Abandon = Callable[[Job, str], Awaitable[None]]
Settle = Callable[[], Awaitable[None]]


class Retry(SafelightError):
    """It may go better later; `after_s` is how long the other side wants to be left alone, in seconds."""

    def __init__(self, message: str, *, after_s: float = 0.0, detail: str | None = None) -> None:
        super().__init__(message, detail=detail)
        self.after_s = after_s


class Dead(SafelightError):
    """It will never go better."""


class Pace(Struct, frozen=True):
    """How hard a worker works and how patient it is. Times in seconds.

    Before attempt n + 1 it waits between half and all of `first_delay_s` * 2^(n-1), at most `max_delay_s`.
    A job is dead after `max_attempts`, those included that ended with the death of a worker.
    """

    concurrency: int = 4
    per_host: int = 2
    lease_s: float = 30.0
    poll_s: float = 1.0
    max_attempts: int = 6
    first_delay_s: float = 5.0
    max_delay_s: float = 900.0

    def delay_s(self, attempts: int, after_s: float = 0.0) -> float:
        """How long to wait after so many attempts, and at least `after_s` unless that is over the maximum.

        Jittered, because what failed together must not come back together ("equal jitter": M. Brooker,
        Exponential Backoff And Jitter, AWS Architecture Blog, 2015).
        """
        longest = min(self.max_delay_s, self.first_delay_s * 2 ** min(attempts - 1, 60))
        return max(random.uniform(longest / 2, longest), min(after_s, self.max_delay_s))  # noqa: S311


class Change(Struct, frozen=True):
    """A job has come to another state. `attempts` and `reason` as in `Job`."""

    job_id: str
    batch: str | None
    state: State
    attempts: int
    reason: str | None = None


@dataclass(slots=True, eq=False)
class _Running:
    """A job that is being done. While it is `settling` the queue itself says whether the lease is lost."""

    job: Job
    lease: Lease
    task: "asyncio.Task[None] | None" = None
    settling: bool = False
    lost: bool = False

    def change(self, state: State, reason: str | None = None) -> Change:
        return Change(self.job.id, self.job.order.batch, state, self.job.attempts, reason)


class Worker:
    """Does jobs of `queue` by `perform`, several at a time, until it is told to stop.

    `perform` returns when the job is done and raises Retry or Dead when it is not, or LeaseLost when it is
    no longer ours to settle; anything else that it raises is logged and tried again. It may be called again
    for a job that it has done, after a crash. `abandon` is called with job and reason before a job becomes a
    dead letter. `listener` hears of every change that this worker makes, in the event loop.
    """

    def __init__(
        self,
        queue: JobQueue,
        perform: Perform,
        pace: Pace,
        *,
        abandon: Abandon | None = None,
        listener: Callable[[Change], None] | None = None,
    ) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._queue = queue
        self._perform = perform
        self._pace = pace
        self._abandon = abandon
        self._listener = listener
        self._running: dict[Lease, _Running] = {}
        self._something_happened = asyncio.Event()
        self._stopping = False

    def stop(self) -> None:
        """Begin nothing more; `run` returns when what runs is done."""
        self._stopping = True
        self._something_happened.set()

    async def run(self) -> None:
        """Work until `stop`. When cancelled, it ends jobs where they are and gives them back at once."""
        unsubscribe = self._queue.subscribe(self._something_happened.set)
        heart = asyncio.create_task(self._keep_leases())
        try:
            while not self._stopping:
                self._something_happened.clear()
                await self._begin_jobs()
                await self._rest()
            await self._all_ended()
        finally:
            unsubscribe()
            await self._give_back()
            heart.cancel()

    async def _begin_jobs(self) -> None:
        free = self._pace.concurrency - len(self._running)
        if free and not self._stopping:
            for job, lease in await self._lease(free):
                running = self._running[lease] = _Running(job, lease)
                running.task = asyncio.create_task(self._do(running))

    async def _lease(self, count: int) -> list[tuple[Job, Lease]]:
        """Jobs to begin now. What comes too late, when we are to stop, goes back."""
        pace = self._pace
        leasing = asyncio.create_task(self._queue.lease(self.name, count, pace.lease_s, pace.per_host))
        try:
            leased = _with_leases(await asyncio.shield(leasing))
        except asyncio.CancelledError:
            with suppress(StorageError):
                await self._release([lease for _, lease in _with_leases(await leasing)])
            raise
        except StorageError as error:
            _log.error("jobs cannot be leased", reason=error.message, detail=error.detail)
            return []
        if self._stopping:
            await self._release([lease for _, lease in leased])
            return []
        return leased

    async def _rest(self) -> None:
        """Wait until a job ends or comes; with hands free look now and then, other processes submit too."""
        has_free = len(self._running) < self._pace.concurrency
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pace.poll_s if has_free else None):
                await self._something_happened.wait()

    async def _all_ended(self) -> None:
        while self._running:
            self._something_happened.clear()
            await self._something_happened.wait()

    async def _give_back(self) -> None:
        """End what still runs, which is nothing after a graceful stop."""
        left = list(self._running.values())
        for running in left:
            if running.task:
                running.task.cancel()
        await asyncio.gather(*(running.task for running in left if running.task), return_exceptions=True)
        await self._release([running.lease for running in left])

    async def _release(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            with suppress(LeaseLost):  # it was settled meanwhile
                try:
                    await self._queue.release(lease)
                except StorageError as error:
                    _log.error("a job waits for its lease to expire", job=lease.job_id, detail=error.detail)

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self._pace.lease_s / HEARTBEATS_PER_LEASE)
            try:
                lost = await self._queue.extend(list(self._running), self._pace.lease_s)
            except StorageError as error:
                _log.error("leases cannot be extended", reason=error.message, detail=error.detail)
                continue
            for lease in lost:
                running = self._running.get(lease)
                if running and running.task and not running.settling:
                    running.lost = True
                    running.task.cancel()

    async def _do(self, running: _Running) -> None:
        try:
            self._tell(running.change(State.RUNNING))
            await self._attempt(running)
        except asyncio.CancelledError:
            if not running.lost:
                raise
            await self._tell_of_loss(running)
        finally:
            del self._running[running.lease]
            self._something_happened.set()

    async def _attempt(self, running: _Running) -> None:
        job = running.job
        if job.attempts > self._pace.max_attempts:
            before = f"; before: {job.reason}" if job.reason else ""
            await self._bury(running, f"the worker died or was killed in the last attempt{before}")
            return
        try:
            await self._perform(job)
        except Dead as error:
            await self._bury(running, error.message)
        except Retry as error:
            await self._retry(running, error)
        except LeaseLost:
            running.settling = True
            await self._tell_of_loss(running)
        except Exception:
            _log.exception("a job failed unexpectedly", job=job.id)
            await self._retry(running, Retry("internal error"))
        else:
            await self._settle(running, lambda: self._queue.finish(running.lease), State.DONE)

    async def _retry(self, running: _Running, error: Retry) -> None:
        if running.job.attempts >= self._pace.max_attempts:
            await self._bury(running, error.message)
            return
        delay_s = self._pace.delay_s(running.job.attempts, error.after_s)
        await self._settle(
            running,
            lambda: self._queue.retry(running.lease, delay_s, error.message),
            State.WAITING,
            error.message,
        )

    async def _bury(self, running: _Running, reason: str) -> None:
        if self._abandon:
            try:
                await self._abandon(running.job, reason)
            except Exception:
                _log.exception("a job could not be abandoned properly", job=running.job.id)
        await self._settle(running, lambda: self._queue.bury(running.lease, reason), State.DEAD, reason)

    async def _settle(
        self, running: _Running, settle: Settle, state: State, reason: str | None = None
    ) -> None:
        """Tell the queue how it went, again and again while the lease is ours to keep."""
        running.settling = True
        give_up = time.monotonic() + self._pace.lease_s
        while True:
            try:
                await settle()
            except LeaseLost as error:
                _log.warning("a job was done and its lease lost", job=running.job.id, detail=error.detail)
                return
            except StorageError as error:
                _log.error("a job cannot be settled", job=running.job.id, detail=error.detail)
                if time.monotonic() > give_up:
                    return
                await asyncio.sleep(_SETTLE_PAUSE_S)
            else:
                self._tell(running.change(state, reason))
                return

    async def _tell_of_loss(self, running: _Running) -> None:
        _log.warning("a job was cancelled, or its lease lost", job=running.job.id)
        with suppress(SafelightError):
            if (await self._queue.get(running.job.id)).state is State.CANCELLED:
                self._tell(running.change(State.CANCELLED))

    def _tell(self, change: Change) -> None:
        if self._listener:
            try:
                self._listener(change)
            except Exception:
                _log.exception("a listener of jobs failed", job=change.job_id)


def _with_leases(jobs: Sequence[Job]) -> list[tuple[Job, Lease]]:
    return [(job, job.lease) for job in jobs if job.lease]
