"""The queue in a SQLite file on this machine, for any number of its processes.

Leases and delays are measured on the monotonic clock, which all processes of a machine share and nobody
sets; a reboot, which no lease outlives, is told by the kernel's boot id (see `schema`). Nor do leases outlive
their worker's process once somebody opens the queue anew (see `presence`). The wall clock is only shown, and
says what is old enough to forget.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from safelight.errors import StorageError
from safelight.jobs.commit import Committer
from safelight.jobs.presence import Presence, dead_workers
from safelight.jobs.queue import MAX_PAGE, Filter, LeaseLost, NoSuchJob, Page, position_of
from safelight.jobs.record import (
    Footprint,
    Job,
    Lease,
    Order,
    State,
    decode_order,
    encode_order,
    new_job_id,
    notice_of,
)
from safelight.jobs.schema import connect, monotonic, prepare, storage_errors

T = TypeVar("T")
Row = tuple[Any, ...]

PRUNED_AT_ONCE = 500
"""Jobs forgotten in one transaction; more would hold up submissions."""
MADE_READY_AT_ONCE = 1000

_COLUMNS = (
    "seq, id, created_at, ended_at, content, footprint, state, attempts, reason, due, fence, owner, expires"
)
_BY_ID = f"SELECT {_COLUMNS} FROM jobs WHERE id = ?"  # noqa: S608 (no value in it)
_BY_SEQ = f"SELECT {_COLUMNS} FROM jobs WHERE seq = ?"  # noqa: S608
_INSERT = """
    INSERT INTO jobs (id, created_at, host, priority, key, batch, content, footprint, state)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'waiting')
"""
# Without statistics SQLite prefers `jobs_by_state`, and reads all waiting jobs to find none delayed.
_HAS_WORK = """
    SELECT EXISTS (SELECT 1 FROM lanes)
        OR EXISTS (SELECT 1 FROM jobs INDEXED BY delayed_jobs WHERE state = 'waiting' AND due <= :now)
        OR EXISTS (SELECT 1 FROM jobs INDEXED BY running_jobs WHERE state = 'running' AND expires <= :now)
"""
_MAKE_READY = """
    UPDATE jobs SET due = NULL, delay_s = NULL WHERE seq IN
        (SELECT seq FROM jobs INDEXED BY delayed_jobs WHERE state = 'waiting' AND due <= ?
         ORDER BY due LIMIT ?)
"""
_TAKE_OVER = """
    UPDATE jobs SET state = 'waiting', owner = NULL, expires = NULL WHERE seq IN
        (SELECT seq FROM jobs INDEXED BY running_jobs WHERE state = 'running' AND expires <= ?
         ORDER BY expires LIMIT ?)
"""
_END_LEASES = """
    UPDATE jobs SET state = 'waiting', owner = NULL, expires = NULL WHERE state = 'running' AND owner = ?
"""
_RUNNING = "SELECT host, count(*) FROM jobs INDEXED BY running_jobs WHERE state = 'running' GROUP BY host"
_LANES = "SELECT host, seq FROM lanes ORDER BY priority DESC, seq"
_LEASE = """
    UPDATE jobs SET state = 'running', attempts = attempts + 1, fence = fence + 1, owner = ?, expires = ?
    WHERE seq = ?
"""
_HELD = "id = :id AND state = 'running' AND fence = :fence"
_CANCEL = """
    UPDATE jobs SET state = 'cancelled', ended_at = ?, due = NULL, owner = NULL, expires = NULL
    WHERE id = ? AND state IN ('waiting', 'running')
"""
_REVIVE = """
    UPDATE jobs SET state = 'waiting', ended_at = NULL, reason = NULL, attempts = 0
    WHERE id = ? AND state = 'dead'
"""
_PRUNE = """
    DELETE FROM jobs WHERE seq IN
        (SELECT seq FROM jobs WHERE state = ? AND ended_at IS NOT NULL AND ended_at < ? LIMIT ?)
"""


class SqliteQueue:
    """A `JobQueue`. Open it in each process: a connection does not live through a fork."""

    def __init__(self, path: Path, writing: sqlite3.Connection, reading: sqlite3.Connection) -> None:
        self._path = path
        self._writing = writing
        self._reading = reading
        self._committer = Committer(writing, path)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="job-queue-reader")
        self._presence = Presence(_presences(path))
        self._wakers: list[Callable[[], None]] = []
        self._closed = False

    @classmethod
    async def open(cls, path: Path) -> "SqliteQueue":
        """Open the queue in the file `path`, made with mode 0600 if there is none.

        Raises: StorageError, also for a damaged file and one of another format.
        """
        return await asyncio.to_thread(cls._open, path)

    @classmethod
    def _open(cls, path: Path) -> "SqliteQueue":
        prepare(path)
        with storage_errors(path):
            writing = connect(path)
            try:
                reading = connect(path)
            except sqlite3.Error:
                writing.close()
                raise
            with dead_workers(_presences(path)) as dead:
                writing.executemany(_END_LEASES, [(worker,) for worker in dead])
            return cls(path, writing, reading)

    async def submit(self, orders: Sequence[Order]) -> list[str]:
        rows = [_new_row(order) for order in orders]
        ids = await self._committer.change(lambda connection: [_accept(connection, row) for row in rows])
        self._wake()
        return ids

    async def lease(self, worker: str, count: int, lease_s: float, per_host: int) -> list[Job]:
        if not await self._read(_has_work):
            return []

        def change(connection: sqlite3.Connection) -> list[Job]:
            self._presence.show(worker)
            return _lease(connection, worker, count, lease_s, per_host)

        return await self._committer.change(change)

    async def extend(self, leases: Collection[Lease], lease_s: float) -> set[Lease]:
        def change(connection: sqlite3.Connection) -> set[Lease]:
            expires = monotonic() + lease_s
            return {lease for lease in leases if not _update_held(connection, lease, {"expires": expires})}

        return await self._committer.change(change) if leases else set()

    async def note(self, lease: Lease, footprint: Footprint) -> None:
        await self._change_held(lease, {"footprint": msgspec.json.encode(footprint)})

    async def finish(self, lease: Lease) -> None:
        await self._end(lease, State.DONE, None)

    async def retry(self, lease: Lease, delay_s: float, reason: str) -> None:
        due = monotonic() + delay_s if delay_s > 0 else None
        later = {"due": due, "delay_s": delay_s, "reason": reason}
        await self._change_held(lease, {**_without_lease(State.WAITING), **later})
        self._wake()

    async def bury(self, lease: Lease, reason: str) -> None:
        await self._end(lease, State.DEAD, reason)

    async def release(self, lease: Lease) -> None:
        def change(connection: sqlite3.Connection) -> None:
            _require_held(connection, lease, _without_lease(State.WAITING))
            connection.execute("UPDATE jobs SET attempts = attempts - 1 WHERE id = ?", (lease.job_id,))

        await self._committer.change(change)
        self._wake()

    async def cancel(self, job_id: str) -> Job:
        def change(connection: sqlite3.Connection) -> tuple[Job, bool]:
            is_cancelled = connection.execute(_CANCEL, (time.time(), job_id)).rowcount == 1
            job = _get(connection, job_id)
            return job, is_cancelled and _give_notice(connection, job)

        job, is_noticed = await self._committer.change(change)
        if is_noticed:
            self._wake()
        return job

    async def revive(self, job_id: str) -> Job:
        def change(connection: sqlite3.Connection) -> Job:
            connection.execute(_REVIVE, (job_id,))
            return _get(connection, job_id)

        job = await self._committer.change(change)
        self._wake()
        return job

    async def get(self, job_id: str) -> Job:
        return await self._read(lambda connection: _get(connection, job_id))

    async def find(self, wanted: Filter, limit: int, cursor: str | None = None) -> Page:
        before = position_of(cursor)
        size = max(1, min(limit, MAX_PAGE))
        return await self._read(lambda connection: _find(connection, wanted, size, before))

    async def counts(self, batch: str | None = None) -> Mapping[State, int]:
        def read(connection: sqlite3.Connection) -> Mapping[State, int]:
            found = connection.execute("SELECT state, jobs FROM tallies WHERE batch = ?", (batch or "",))
            return dict.fromkeys(State, 0) | {State(state): jobs for state, jobs in found}

        return await self._read(read)

    async def prune(self, state: State, ended_before: datetime) -> int:
        def change(connection: sqlite3.Connection) -> int:
            return connection.execute(_PRUNE, (state, ended_before.timestamp(), PRUNED_AT_ONCE)).rowcount

        pruned = 0
        while count := await self._committer.change(change):
            pruned += count
        return pruned

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        self._wakers.append(wake)
        return lambda: self._wakers.remove(wake)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._committer.close()
            await asyncio.to_thread(self._reader.shutdown)
            with storage_errors(self._path):
                self._presence.end()
                self._reading.close()
                await asyncio.to_thread(self._writing.close)

    async def _end(self, lease: Lease, state: State, reason: str | None) -> None:
        ended = {**_without_lease(state), "ended_at": time.time(), "reason": reason}

        def change(connection: sqlite3.Connection) -> bool:
            _require_held(connection, lease, ended)
            return _give_notice(connection, _get(connection, lease.job_id))

        if await self._committer.change(change):
            self._wake()

    async def _change_held(self, lease: Lease, values: Mapping[str, object]) -> None:
        await self._committer.change(lambda connection: _require_held(connection, lease, values))

    async def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        def guarded() -> T:
            with storage_errors(self._path):
                return read(self._reading)

        if self._closed:
            raise StorageError("the job queue is closed", detail=str(self._path))
        return await asyncio.get_running_loop().run_in_executor(self._reader, guarded)

    def _wake(self) -> None:
        for wake in self._wakers:
            wake()


def _presences(path: Path) -> Path:
    """Directory in which workers of the queue in the file `path` show themselves."""
    return path.with_name(f"{path.name}-workers")


def _new_row(order: Order) -> Row:
    """Values for `_INSERT`."""
    footprint = msgspec.json.encode(Footprint(placeholder=order.placeholder))
    place = (order.host, order.priority, order.key, order.batch)
    accepted = datetime.now(UTC).timestamp()  # in microseconds, as it will be shown and asked for
    return (new_job_id(), accepted, *place, encode_order(order), footprint)


def _accept(connection: sqlite3.Connection, row: Row) -> str:
    """Insert one order unless its key is known; the id that the order then has."""
    key = row[4]
    if key is not None:
        known = connection.execute("SELECT id FROM jobs WHERE key = ?", (key,)).fetchone()
        if known is not None:
            return known[0]
    connection.execute(_INSERT, row)
    return row[0]


def _give_notice(connection: sqlite3.Connection, ended: Job) -> bool:
    """Accept the notice that `ended` has ended, if somebody wants one; whether that is so."""
    notice = notice_of(ended)
    if notice is not None:
        _accept(connection, _new_row(notice))
    return notice is not None


def _has_work(connection: sqlite3.Connection) -> bool:
    """Asked before each lease, because a worker that waits should not keep others from writing."""
    return bool(connection.execute(_HAS_WORK, {"now": monotonic()}).fetchone()[0])


def _lease(
    connection: sqlite3.Connection, worker: str, count: int, lease_s: float, per_host: int
) -> list[Job]:
    now = monotonic()
    connection.execute(_MAKE_READY, (now, MADE_READY_AT_ONCE))
    connection.execute(_TAKE_OVER, (now, MADE_READY_AT_ONCE))
    running: dict[str, int] = dict(connection.execute(_RUNNING).fetchall())
    jobs: list[Job] = []
    while len(jobs) < count and (found := _next_lane(connection, running, per_host)):
        host, seq = found
        connection.execute(_LEASE, (worker, now + lease_s, seq))
        running[host] = running.get(host, 0) + 1
        jobs.append(_job(connection.execute(_BY_SEQ, (seq,)).fetchone()))
    return jobs


def _next_lane(
    connection: sqlite3.Connection, running: Mapping[str, int], per_host: int
) -> tuple[str, int] | None:
    """Host and `seq` of the best job whose host is not at its limit. Only hosts at it are stepped over."""
    lanes = connection.execute(_LANES)
    try:
        for host, seq in lanes:
            if not host or running.get(host, 0) < per_host:
                return host, seq
        return None
    finally:
        lanes.close()  # the next statement changes this table


def _without_lease(state: State) -> dict[str, object]:
    return {"state": state, "owner": None, "expires": None}


def _update_held(connection: sqlite3.Connection, lease: Lease, values: Mapping[str, object]) -> bool:
    """Set columns of the leased job; False if the lease is lost.

    A lease that has expired is good until somebody takes the job over: nobody else is working on it.
    """
    assignments = ", ".join(f"{column} = :{column}" for column in values)
    sql = f"UPDATE jobs SET {assignments} WHERE {_HELD}"  # noqa: S608 (names of ours)
    named = {**values, "id": lease.job_id, "fence": lease.fence}
    return connection.execute(sql, named).rowcount == 1


def _require_held(connection: sqlite3.Connection, lease: Lease, values: Mapping[str, object]) -> None:
    if not _update_held(connection, lease, values):
        raise LeaseLost(lease)


def _get(connection: sqlite3.Connection, job_id: str) -> Job:
    row = connection.execute(_BY_ID, (job_id,)).fetchone()
    if row is None:
        raise NoSuchJob(job_id)
    return _job(row)


def _find(connection: sqlite3.Connection, wanted: Filter, limit: int, before: int | None) -> Page:
    conditions: list[str] = []
    values: list[object] = []
    for condition, value in (
        ("state = ?", wanted.state),
        ("batch = ?", wanted.batch),
        ("host = ?", wanted.host),
        ("created_at >= ?", wanted.created_from and wanted.created_from.timestamp()),
        ("created_at < ?", wanted.created_before and wanted.created_before.timestamp()),
        ("seq < ?", before),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    sql = f"SELECT {_COLUMNS} FROM jobs {where} ORDER BY seq DESC LIMIT ?"  # noqa: S608 (conditions above)
    rows = connection.execute(sql, (*values, limit + 1)).fetchall()
    jobs = [_job(row) for row in rows[:limit]]
    return Page(jobs, str(rows[limit - 1][0]) if len(rows) > limit else None)


def _job(row: Row) -> Job:
    _, job_id, created, ended, content, footprint, state, attempts, reason, due, fence, owner, expires = row
    return Job(
        id=job_id,
        created_at=datetime.fromtimestamp(created, UTC),
        order=decode_order(content),
        state=State(state),
        attempts=attempts,
        reason=reason,
        footprint=msgspec.json.decode(footprint, type=Footprint),
        not_before=_shown(due),
        ended_at=None if ended is None else datetime.fromtimestamp(ended, UTC),
        lease=None if owner is None else Lease(job_id, owner, fence),
        lease_expires_at=_shown(expires),
    )


def _shown(moment: float | None) -> datetime | None:
    """A reading of the monotonic clock as the wall clock sees it now."""
    return None if moment is None else datetime.fromtimestamp(time.time() + moment - monotonic(), UTC)
