"""Connections to the PostgreSQL of a queue: made again when they break, with errors in plain words."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import structlog

from safelight.errors import ConfigError, StorageError, StorageUnreachable
from safelight.jobs.postgres_schema import SCHEMA, Connection

T = TypeVar("T")

MAX_CONNECTIONS = 4
"""Of one process, and one more that listens. PostgreSQL has 100 for everybody, unless told otherwise."""
CONNECT_TIMEOUT_S = 10.0
TIMEOUT_S = 30.0
"""How long a statement may take, waiting for others included."""
MAX_ATTEMPTS = 5
CHANNEL = "safelight_jobs"
NEWS_PAUSE_S = 0.05
"""One notification tells of everything that was submitted in so long a time."""
RECONNECT_PAUSE_S = 1.0
CHECK_S = 60.0
"""How often a connection on which nothing happens is tried: it may have broken without a sign."""

SESSION = {
    "application_name": "safelight",
    "search_path": SCHEMA,
    "default_transaction_isolation": "read committed",
    "synchronous_commit": "on",  # what was acknowledged is on the disk, whatever the database's default
    "statement_timeout": str(int(TIMEOUT_S * 1000)),
    "idle_in_transaction_session_timeout": str(int(TIMEOUT_S * 1000)),
    "jit": "off",
}

_log = structlog.get_logger("safelight.jobs")

_UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
_MESSAGES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "the database of the job queue refuses the user or the password",
    ),
    (asyncpg.InvalidCatalogNameError, "the database of the job queue does not exist"),
    (asyncpg.TooManyConnectionsError, "the database of the job queue has no connection left"),
    (asyncpg.InsufficientPrivilegeError, "the user may not use the job queue in the database"),
    (asyncpg.ReadOnlySQLTransactionError, "the database of the job queue is read-only"),
    (asyncpg.DiskFullError, "no space left for the job queue"),
    ((TimeoutError, asyncpg.QueryCanceledError), "the database of the job queue does not answer in time"),
    (_UNREACHABLE, "the database of the job queue cannot be reached"),
    (asyncpg.SyntaxOrAccessError, "the tables of the job queue are damaged"),
)


def check_url(url: str) -> None:
    """Raises: ConfigError when a password with bare special characters would be taken for something else.

    The message never repeats the URL: its parts are not known, so neither is where the password would be.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if parts is None or parts.fragment or "@" in parts.path + parts.query or parts.netloc.count("@") > 1:
        raise ConfigError(
            "the URL of the job queue cannot be understood; write special characters of a password as %40"
        )


def shown(url: str) -> str:
    """Hosts and database of `url`, without user, password and options."""
    parts = urlsplit(url)
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


class Link:
    """The connections of one process, in one event loop."""

    def __init__(self, url: str, pool: "asyncpg.Pool[asyncpg.Record]", wake: Callable[[], None]) -> None:
        """`wake` is called when another process has told of news, or may have while nobody listened."""
        self._url = url
        self._pool = pool
        self._wake = wake
        self._news = asyncio.Event()
        self._in_use = 0
        self._unused = asyncio.Event()
        self._unused.set()
        self._closed = False
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def open(
        cls, url: str, prepare: Callable[[Connection], Awaitable[None]], wake: Callable[[], None]
    ) -> "Link":
        """Connect and let `prepare` make ready what is there. Raises: StorageError, ConfigError."""
        check_url(url)
        # A pool that keeps a least number of connections logs a traceback for each that it cannot make.
        pool = asyncpg.create_pool(
            url, min_size=0, max_size=MAX_CONNECTIONS, reset=_leave_as_it_is, **_OPTIONS
        )
        with storage_errors(url):
            try:
                await _connect(pool)
                async with pool.acquire() as connection:
                    await prepare(connection)
            except BaseException:
                pool.terminate()
                raise
        return cls(url, pool, wake)

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What `work` returns. It is one statement or transaction, repeated after a deadlock.

        Raises: what `work` raises; StorageError. When the connection broke, it may have been done.
        """
        async with self._use():
            with storage_errors(self._url):
                for _ in range(MAX_ATTEMPTS - 1):
                    with suppress(asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                        return await self._attempt(work)
                return await self._attempt(work)

    async def _attempt(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            async with self._pool.acquire(timeout=TIMEOUT_S) as connection:
                return await work(connection)
        except asyncpg.ReadOnlySQLTransactionError:
            await self._pool.expire_connections()  # it was the first server, and has become a standby
            raise

    def tell(self) -> None:
        """Let the other processes know that there are news.

        Not in the transaction that brings them: commits that notify wait for each other, each for its own
        turn at the disk (PostgreSQL, `PreCommit_Notify` in src/backend/commands/async.c).
        """
        self._news.set()

    async def close(self) -> None:
        """Wait for what was asked for, and close all connections."""
        if self._closed:
            return
        self._closed = True
        self._listening.cancel()
        with suppress(asyncio.CancelledError):
            await self._listening
        with suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            async with asyncio.timeout(TIMEOUT_S):
                await self._unused.wait()
                await self._pool.close()
        self._pool.terminate()

    @asynccontextmanager
    async def _use(self) -> AsyncGenerator[None]:
        if self._closed:
            raise StorageError("the job queue is closed", detail=shown(self._url))
        self._in_use += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._in_use -= 1
            if not self._in_use:
                self._unused.set()

    async def _listen(self) -> None:
        """Hear of news and tell of our own, for ever. Jobs come without it too, when workers look."""
        while True:
            try:
                with storage_errors(self._url):
                    connection = await asyncpg.connect(self._url, **_OPTIONS)
                    try:
                        await self._converse(connection)
                    finally:
                        connection.terminate()
            except StorageError as error:
                _log.debug("nobody tells of new jobs", reason=error.message, detail=error.detail)
            await asyncio.sleep(RECONNECT_PAUSE_S)

    async def _converse(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Until the connection breaks."""
        own = connection.get_server_pid()

        def hear(_connection: object, sender: int, _channel: str, _payload: object) -> None:
            if sender != own:
                self._wake()

        connection.add_termination_listener(lambda _: self._news.set())
        await connection.add_listener(CHANNEL, hear)
        self._wake()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    await self._news.wait()
            if self._news.is_set():
                self._news.clear()
                await connection.execute(f"NOTIFY {CHANNEL}")
                await asyncio.sleep(NEWS_PAUSE_S)
            else:
                await connection.execute("SELECT 1")


_OPTIONS: dict[str, Any] = {
    "timeout": CONNECT_TIMEOUT_S,
    "command_timeout": TIMEOUT_S,
    "server_settings": SESSION,
}


async def _connect(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """Make the first connection. Raises: ConfigError for what is no URL of a database; errors of asyncpg."""
    try:
        await pool
        async with pool.acquire():
            pass
    except ValueError:
        # What it says may have parts of a password that was taken for something else.
        raise ConfigError("the URL of the job queue cannot be understood") from None


async def _leave_as_it_is(_connection: object) -> None:
    """Nothing that is done with a connection outlives its transaction; asking for a reset would take as long
    as the work."""


@contextmanager
def storage_errors(url: str) -> Generator[None]:
    """Raises: StorageError instead of errors of PostgreSQL and of the connection to it."""
    try:
        yield
    except (
        OSError,
        TimeoutError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    ) as error:
        raise _storage_error(url, error) from error


def _storage_error(url: str, error: Exception) -> StorageError:
    """What `error` means to somebody who knows no PostgreSQL; cause and place are the detail."""
    message = next((text for kind, text in _MESSAGES if isinstance(error, kind)), "the job queue failed")
    detail = f"{shown(url)}: {error} ({getattr(error, 'sqlstate', None) or type(error).__name__})"
    kind = StorageUnreachable if isinstance(error, _UNREACHABLE) else StorageError
    return kind(message, detail=detail)
