"""The queue in a PostgreSQL database, for any number of machines.

No decision depends on a wall clock, neither of a machine nor of the server:
- A lease has expired when a process has seen it unchanged for as long as it lasts, by its own monotonic clock
  (as in the leader election of Kubernetes, client-go tools/leaderelection). A server that was started anew
  begins this time anew: nobody could extend a lease meanwhile.
- Delays end by a clock in the database that all processes move on by their monotonic clocks. It stands still
  only while nobody uses the queue.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from safelight.errors import BadRequest, StorageError
from safelight.jobs.postgres_link import Link
from safelight.jobs.postgres_schema import Connection, prepare
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

PRUNED_AT_ONCE = 500
LOOK_EVERY_S = 0.25
"""How often a busy process looks for leases that have expired."""
FOLD_EVERY = 256
"""After so many changes of its own a process folds what all have appended."""

_COLUMNS = """seq, id, created_at, ended_at, content, footprint, state, attempts, reason, due, fence, owner,
    expires_at"""
_BY_ID = f"SELECT {_COLUMNS} FROM jobs WHERE id = $1"  # noqa: S608 (names of ours, here and below)
_ACCEPT = "SELECT accept($1, $2, $3, $4, $5, $6, $7, $8)"
_LOOK = "SELECT seconds, started, running FROM look($1)"
_LEASE = f"SELECT {_COLUMNS} FROM lease($1, $2, $3, $4, $5, $6, $7, $8)"  # noqa: S608
_HELD = "id = $1 AND fence = $2 AND state = 'running'"
_NO_LEASE = "owner = NULL, lease_s = NULL, expires_at = NULL"
_EXTEND = """
    UPDATE jobs SET beat = beat + 1, lease_s = $3, expires_at = clock_timestamp() + $3 * interval '1 second'
    FROM unnest($1::uuid[], $2::bigint[]) AS held (id, fence)
    WHERE jobs.id = held.id AND jobs.fence = held.fence AND state = 'running' RETURNING jobs.id, jobs.fence
"""
_NOTE = f"UPDATE jobs SET footprint = $3 WHERE {_HELD} RETURNING seq"  # noqa: S608
_RETRY = f"""
    UPDATE jobs SET state = 'waiting', due = $3, reason = $4, {_NO_LEASE} WHERE {_HELD} RETURNING seq
"""  # noqa: S608
_RELEASE = f"""
    UPDATE jobs SET state = 'waiting', attempts = attempts - 1, {_NO_LEASE} WHERE {_HELD} RETURNING seq
"""  # noqa: S608
_END = f"""
    UPDATE jobs SET state = $3, reason = $4, ended_at = clock_timestamp(), {_NO_LEASE} WHERE {_HELD}
"""  # noqa: S608
_CANCEL = f"""
    UPDATE jobs SET state = 'cancelled', ended_at = clock_timestamp(), due = NULL, {_NO_LEASE}
    WHERE id = $1 AND state IN ('waiting', 'running') RETURNING {_COLUMNS}
"""  # noqa: S608
_REVIVE = f"""
    UPDATE jobs SET state = 'waiting', ended_at = NULL, reason = NULL, attempts = 0
    WHERE id = $1 AND state = 'dead' RETURNING {_COLUMNS}
"""  # noqa: S608
_COUNTS = """
    SELECT state, sum(jobs)::bigint AS jobs FROM (
        SELECT state, jobs FROM tallies WHERE batch = coalesce($1, '')
        UNION ALL SELECT became, jobs FROM tally_changes WHERE $1 IS NULL OR batch = $1
        UNION ALL SELECT was, -jobs FROM tally_changes WHERE $1 IS NULL OR batch = $1
    ) AS steps WHERE state IS NOT NULL GROUP BY state
"""
_PRUNE = """
    DELETE FROM jobs WHERE seq = ANY (ARRAY(
        SELECT seq FROM jobs WHERE state = $1 AND ended_at < $2
        ORDER BY ended_at LIMIT $3 FOR UPDATE SKIP LOCKED)) RETURNING seq
"""


class _Seen(Struct, frozen=True):
    """A lease as it was when it was looked at; `beat` grows with each extension."""

    seq: int
    fence: int
    beat: int
    lease_s: float


class _Clock:
    """The clock of the queue, in seconds, as this process knows it: never ahead of the other processes."""

    def __init__(self, seconds: float) -> None:
        self._offset = seconds - time.monotonic()

    def now(self) -> float:
        return self._offset + time.monotonic()

    def move_to(self, seconds: float) -> None:
        """Move on to what others say that it is, if they are ahead."""
        self._offset = max(self._offset, seconds - time.monotonic())


class _Watch:
    """Tells which leases have not been extended for as long as they last."""

    def __init__(self) -> None:
        self._since: dict[_Seen, float] = {}
        self._started: datetime | None = None
        self._looked = -LOOK_EVERY_S

    def is_time(self) -> bool:
        """Whether to look again."""
        return time.monotonic() - self._looked >= LOOK_EVERY_S

    def stalled(self, running: Collection[_Seen], started: datetime) -> list[_Seen]:
        """Those of all leases there are that have expired. `started`: since when the server runs."""
        now = self._looked = time.monotonic()
        known = self._since if started == self._started else {}
        self._started = started
        self._since = {lease: known.get(lease, now) for lease in running}
        return [lease for lease, since in self._since.items() if now - since >= lease.lease_s]


class PostgresQueue:
    """A `JobQueue`. Open it in each process: connections do not live through a fork."""

    def __init__(self, seconds: float) -> None:
        """`open` makes queues; `seconds` is what the clock of the queue shows."""
        self._link: Link
        self._clock = _Clock(seconds)
        self._watch = _Watch()
        self._wakers: list[Callable[[], None]] = []
        self._changes = 0
        self._folding: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str) -> "PostgresQueue":
        """Open the queue in the database at `url`, where its tables are made if there are none.

        Raises: StorageError, also for tables of another format; ConfigError for what is no such URL.
        """
        queue = cls(0.0)

        async def make_ready(connection: Connection) -> None:
            await prepare(connection)
            queue._clock.move_to(await connection.fetchval("SELECT seconds FROM clock"))

        queue._link = await Link.open(url, make_ready, queue._wake_here)
        return queue

    async def submit(self, orders: Sequence[Order]) -> list[str]:
        if not orders:
            return []
        columns = _columns(orders)
        ids = await self._link.run(lambda connection: _accept(connection, columns))
        self._changed(len(orders), is_news=True)
        return ids

    async def lease(self, worker: str, count: int, lease_s: float, per_host: int) -> list[Job]:
        async def work(connection: Connection) -> list[Job]:
            stalled = await self._look(connection) if self._watch.is_time() else []
            leases = zip(*((seen.seq, seen.fence, seen.beat) for seen in stalled), strict=True)
            gone = [list(column) for column in leases] or [[], [], []]
            asked = (worker, count, lease_s, per_host, self._clock.now())
            return [self._job(row) for row in await connection.fetch(_LEASE, *asked, *gone)]

        jobs = await self._link.run(work)
        self._changed(len(jobs))
        return jobs

    async def extend(self, leases: Collection[Lease], lease_s: float) -> set[Lease]:
        async def work(connection: Connection) -> set[tuple[str, int]]:
            ids, fences = [UUID(lease.job_id) for lease in leases], [lease.fence for lease in leases]
            rows = await connection.fetch(_EXTEND, ids, fences, lease_s)
            return {(str(row["id"]), row["fence"]) for row in rows}

        kept = await self._link.run(work) if leases else set[tuple[str, int]]()
        return {lease for lease in leases if (lease.job_id, lease.fence) not in kept}

    async def note(self, lease: Lease, footprint: Footprint) -> None:
        await self._change_held(lease, _NOTE, msgspec.json.encode(footprint))

    async def finish(self, lease: Lease) -> None:
        await self._end(lease, State.DONE, None)

    async def retry(self, lease: Lease, delay_s: float, reason: str) -> None:
        due = self._clock.now() + delay_s if delay_s > 0 else None
        await self._change_held(lease, _RETRY, due, _storable(reason))
        self._changed(is_news=due is None)

    async def bury(self, lease: Lease, reason: str) -> None:
        await self._end(lease, State.DEAD, _storable(reason))

    async def release(self, lease: Lease) -> None:
        await self._change_held(lease, _RELEASE)
        self._changed(is_news=True)

    async def cancel(self, job_id: str) -> Job:
        async def work(connection: Connection) -> tuple[Job, bool]:
            async with connection.transaction():
                row = await connection.fetchrow(_CANCEL, _known(job_id))
                if row is None:
                    return await self._get(connection, job_id), False
                job = self._job(row)
                return job, await _give_notice(connection, job)

        job, is_noticed = await self._link.run(work)
        self._changed(is_news=is_noticed)
        return job

    async def revive(self, job_id: str) -> Job:
        async def work(connection: Connection) -> Job:
            row = await connection.fetchrow(_REVIVE, _known(job_id))
            return await self._get(connection, job_id) if row is None else self._job(row)

        job = await self._link.run(work)
        self._changed(is_news=True)
        return job

    async def get(self, job_id: str) -> Job:
        return await self._link.run(lambda connection: self._get(connection, job_id))

    async def find(self, wanted: Filter, limit: int, cursor: str | None = None) -> Page:
        before = position_of(cursor)
        size = max(1, min(limit, MAX_PAGE))
        where, values = _conditions(wanted, before)
        sql = f"SELECT {_COLUMNS} FROM jobs {where} ORDER BY seq DESC LIMIT {size + 1}"  # noqa: S608
        rows = await self._link.run(lambda connection: connection.fetch(sql, *values))
        jobs = [self._job(row) for row in rows[:size]]
        return Page(jobs, str(rows[size - 1]["seq"]) if len(rows) > size else None)

    async def counts(self, batch: str | None = None) -> Mapping[State, int]:
        known = None if batch is None else _storable(batch)
        rows = await self._link.run(lambda connection: connection.fetch(_COUNTS, known))
        return dict.fromkeys(State, 0) | {State(row["state"]): row["jobs"] for row in rows}

    async def prune(self, state: State, ended_before: datetime) -> int:
        pruned = 0
        while rows := await self._link.run(
            lambda connection: connection.fetch(_PRUNE, state, ended_before, PRUNED_AT_ONCE)
        ):
            pruned += len(rows)
            self._changed()
        return pruned

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        self._wakers.append(wake)
        return lambda: self._wakers.remove(wake)

    async def close(self) -> None:
        if self._folding is not None:
            await self._folding
        await self._link.close()

    async def _look(self, connection: Connection) -> list[_Seen]:
        """The leases that have expired; also sets the clock."""
        (row,) = await connection.fetch(_LOOK, self._clock.now())
        self._clock.move_to(row["seconds"])
        running = msgspec.json.decode(row["running"], type=list[tuple[int, int, int, float]])
        return self._watch.stalled([_Seen(*lease) for lease in running], row["started"])

    async def _change_held(self, lease: Lease, sql: str, *values: object) -> None:
        async def work(connection: Connection) -> None:
            if await connection.fetchval(sql, UUID(lease.job_id), lease.fence, *values) is None:
                raise LeaseLost(lease)

        await self._link.run(work)

    async def _end(self, lease: Lease, state: State, reason: str | None) -> None:
        """End a job. One that has a webhook takes a transaction of several statements."""
        given = (UUID(lease.job_id), lease.fence, state, reason)

        async def work(connection: Connection) -> bool:
            if await connection.fetchval(f"{_END} AND NOT webhook RETURNING seq", *given) is not None:
                return False
            async with connection.transaction():
                row = await connection.fetchrow(f"{_END} RETURNING {_COLUMNS}", *given)
                if row is None:
                    raise LeaseLost(lease)
                return await _give_notice(connection, self._job(row))

        self._changed(is_news=await self._link.run(work))

    async def _get(self, connection: Connection, job_id: str) -> Job:
        row = await connection.fetchrow(_BY_ID, _known(job_id))
        if row is None:
            raise NoSuchJob(job_id)
        return self._job(row)

    def _job(self, row: asyncpg.Record) -> Job:
        job_id, owner = str(row["id"]), row["owner"]
        return Job(
            id=job_id,
            created_at=row["created_at"],
            order=decode_order(row["content"]),
            state=State(row["state"]),
            attempts=row["attempts"],
            reason=row["reason"],
            footprint=msgspec.json.decode(row["footprint"], type=Footprint),
            not_before=self._shown(row["due"]),
            ended_at=row["ended_at"],
            lease=None if owner is None else Lease(job_id, owner, row["fence"]),
            lease_expires_at=row["expires_at"],
        )

    def _shown(self, due: float | None) -> datetime | None:
        """A reading of the queue's clock as the wall clock sees it now."""
        return None if due is None else datetime.now(UTC) + timedelta(seconds=due - self._clock.now())

    def _changed(self, changes: int = 1, *, is_news: bool = False) -> None:
        """Tell everybody when there may be a job to do, and fold now and then."""
        if is_news:
            self._wake_here()
            self._link.tell()
        self._changes += changes
        if self._changes >= FOLD_EVERY and (self._folding is None or self._folding.done()):
            self._changes = 0
            self._folding = asyncio.create_task(self._fold())

    async def _fold(self) -> None:
        with suppress(StorageError):  # others fold too, or this process with a later change
            await self._link.run(lambda connection: connection.execute("SELECT fold()"))

    def _wake_here(self) -> None:
        for wake in self._wakers:
            wake()


def _columns(orders: Sequence[Order]) -> tuple[Sequence[object], ...]:
    """Values for `_ACCEPT`. Raises: BadRequest."""
    rows = [_row(order) for order in orders]
    return tuple(zip(*rows, strict=True))


def _row(order: Order) -> tuple[object, ...]:
    content = encode_order(order)
    for name, text in (("key", order.key), ("batch", order.batch)):
        if text is not None and "\0" in text:
            raise BadRequest(f"the job cannot be accepted: NUL in a text - at `$.{name}`")
    footprint = msgspec.json.encode(Footprint(placeholder=order.placeholder))
    place = (_storable(order.host), order.priority, order.key, order.batch, order.webhook is not None)
    return (UUID(new_job_id()), *place, content, footprint)


def _storable(text: str) -> str:
    """PostgreSQL keeps neither NUL nor half a surrogate pair in a text."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


async def _accept(connection: Connection, columns: Sequence[Sequence[object]]) -> list[str]:
    return [str(job_id) for job_id in await connection.fetchval(_ACCEPT, *columns)]


async def _give_notice(connection: Connection, ended: Job) -> bool:
    """Accept the notice that `ended` has ended, if somebody wants one; whether that is so."""
    notice = notice_of(ended)
    if notice is not None:
        await _accept(connection, _columns([notice]))
    return notice is not None


def _conditions(wanted: Filter, before: int | None) -> tuple[str, list[object]]:
    """The WHERE clause of a page, empty for all jobs, and its values."""
    conditions: list[str] = []
    values: list[object] = []
    for condition, value in (
        ("state =", wanted.state),
        ("batch =", wanted.batch and _storable(wanted.batch)),
        ("host =", wanted.host and _storable(wanted.host)),
        ("created_at >=", wanted.created_from),
        ("created_at <", wanted.created_before),
        ("seq <", before),
    ):
        if value is not None:
            values.append(value)
            conditions.append(f"{condition} ${len(values)}")
    return f"WHERE {' AND '.join(conditions)}" if conditions else "", values


def _known(job_id: str) -> UUID:
    """Raises: NoSuchJob when no id of ours looks like that."""
    try:
        return UUID(job_id)
    except ValueError:
        raise NoSuchJob(job_id) from None
