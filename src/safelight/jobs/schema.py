"""The SQLite file of a queue: its tables, how it is made, opened and checked."""

import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from safelight.errors import StorageError
from safelight.storage.atomic import make_durably

APPLICATION_ID = 0x534C4A51  # "SLJQ"
VERSION = 1
BUSY_TIMEOUT_S = 30.0
"""How long one process waits for the transactions of the others."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

TABLES = """
CREATE TABLE boot (id TEXT NOT NULL);

CREATE TABLE jobs (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of acceptance, whatever the clock says
    id          TEXT NOT NULL UNIQUE,
    created_at  REAL NOT NULL,  -- wall clock, for people
    ended_at    REAL,           -- wall clock, for people and for pruning
    host        TEXT NOT NULL,
    priority    INTEGER NOT NULL,
    key         TEXT,
    batch       TEXT,
    content     BLOB NOT NULL,  -- the order as JSON
    footprint   BLOB,           -- what has been done outside, as JSON
    state       TEXT NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0,
    reason      TEXT,
    due         REAL,           -- monotonic clock; NULL is now
    delay_s     REAL,           -- how long `due` was away when it was set
    fence       INTEGER NOT NULL DEFAULT 0,
    owner       TEXT,
    expires     REAL            -- monotonic clock
);
CREATE UNIQUE INDEX jobs_by_key ON jobs (key) WHERE key IS NOT NULL;
CREATE INDEX jobs_by_batch ON jobs (batch, seq) WHERE batch IS NOT NULL;
CREATE INDEX jobs_by_state ON jobs (state, seq);
CREATE INDEX ready_jobs ON jobs (host, priority DESC, seq) WHERE state = 'waiting' AND due IS NULL;
CREATE INDEX delayed_jobs ON jobs (due) WHERE state = 'waiting' AND due IS NOT NULL;
CREATE INDEX running_jobs ON jobs (expires, host) WHERE state = 'running';
CREATE INDEX ended_jobs ON jobs (state, ended_at) WHERE ended_at IS NOT NULL;

-- The next job of each host that has jobs ready. A host at its limit costs one row to step over, however many
-- jobs it has.
CREATE TABLE lanes (
    host      TEXT PRIMARY KEY,
    priority  INTEGER NOT NULL,
    seq       INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX lanes_in_order ON lanes (priority DESC, seq);

CREATE TRIGGER ready_at_once AFTER INSERT ON jobs WHEN new.state = 'waiting' AND new.due IS NULL
BEGIN
    INSERT INTO lanes VALUES (new.host, new.priority, new.seq)
    ON CONFLICT (host) DO UPDATE SET priority = excluded.priority, seq = excluded.seq
    WHERE excluded.priority > priority OR (excluded.priority = priority AND excluded.seq < seq);
END;

CREATE TRIGGER ready_again AFTER UPDATE OF state, due ON jobs
WHEN new.state = 'waiting' AND new.due IS NULL AND NOT (old.state = 'waiting' AND old.due IS NULL)
BEGIN
    INSERT INTO lanes VALUES (new.host, new.priority, new.seq)
    ON CONFLICT (host) DO UPDATE SET priority = excluded.priority, seq = excluded.seq
    WHERE excluded.priority > priority OR (excluded.priority = priority AND excluded.seq < seq);
END;

CREATE TRIGGER ready_no_more AFTER UPDATE OF state, due ON jobs
WHEN old.state = 'waiting' AND old.due IS NULL AND NOT (new.state = 'waiting' AND new.due IS NULL)
BEGIN
    DELETE FROM lanes WHERE host = old.host AND seq = old.seq;
    INSERT OR IGNORE INTO lanes
        SELECT host, priority, seq FROM jobs
        WHERE host = old.host AND state = 'waiting' AND due IS NULL ORDER BY priority DESC, seq LIMIT 1;
END;

-- How many jobs are in each state, of each batch and under '' of all.
CREATE TABLE tallies (
    batch  TEXT NOT NULL,
    state  TEXT NOT NULL,
    jobs   INTEGER NOT NULL,
    PRIMARY KEY (batch, state)
) WITHOUT ROWID;

CREATE TRIGGER tally_new AFTER INSERT ON jobs
BEGIN
    INSERT INTO tallies VALUES ('', new.state, 1)
        ON CONFLICT DO UPDATE SET jobs = jobs + 1;
    INSERT INTO tallies SELECT new.batch, new.state, 1 WHERE new.batch IS NOT NULL
        ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;

CREATE TRIGGER tally_changed AFTER UPDATE OF state ON jobs WHEN new.state != old.state
BEGIN
    UPDATE tallies SET jobs = jobs - 1 WHERE batch IN ('', old.batch) AND state = old.state;
    INSERT INTO tallies VALUES ('', new.state, 1)
        ON CONFLICT DO UPDATE SET jobs = jobs + 1;
    INSERT INTO tallies SELECT new.batch, new.state, 1 WHERE new.batch IS NOT NULL
        ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;

CREATE TRIGGER tally_pruned AFTER DELETE ON jobs
BEGIN
    UPDATE tallies SET jobs = jobs - 1 WHERE batch IN ('', old.batch) AND state = old.state;
    DELETE FROM tallies WHERE batch IN ('', old.batch) AND state = old.state AND jobs = 0;
END;
"""

_DELAY_ANEW = "UPDATE jobs SET due = ? + delay_s WHERE state = 'waiting' AND due IS NOT NULL"
_END_LEASES = "UPDATE jobs SET state = 'waiting', owner = NULL, expires = NULL WHERE state = 'running'"

_MESSAGES = {
    "SQLITE_FULL": "no space left for the job queue",
    "SQLITE_READONLY": "the job queue cannot be written",
    "SQLITE_PERM": "the job queue may not be opened",
    "SQLITE_CANTOPEN": "the job queue cannot be opened",
    "SQLITE_BUSY": "the job queue is locked by another process",
    "SQLITE_CORRUPT": "the file of the job queue is damaged",
    "SQLITE_NOTADB": "the file of the job queue is no SQLite database",
}


def storage_error(path: Path, error: sqlite3.Error | OSError) -> StorageError:
    """What `error` means to somebody who knows no SQLite; path and cause are the detail."""
    name = getattr(error, "sqlite_errorname", "")
    matching = [message for prefix, message in _MESSAGES.items() if name.startswith(prefix)]
    message = matching[0] if matching else "the job queue failed"
    return StorageError(message, detail=f"{path}: {error} ({name or type(error).__name__})")


@contextmanager
def storage_errors(path: Path) -> Generator[None]:
    """Raises: StorageError instead of errors of SQLite and the file system."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise storage_error(path, error) from error


def connect(path: Path) -> sqlite3.Connection:
    """A connection for use by one thread at a time, every commit of which is on the disk when it returns.

    Raises: sqlite3.Error.
    """
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    try:
        _use_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA journal_size_limit=67108864")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Of several that make a file at once, SQLite refuses some without waiting: against a deadlock."""
    give_up = monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or monotonic() > give_up:
                raise
            time.sleep(0.01)


def prepare(path: Path) -> None:
    """Make the file if there is none, or check the one there, and mend what a reboot has left.

    Raises: StorageError.
    """
    with storage_errors(path):
        _make_file(path)
        connection = connect(path)
        try:
            _check(connection, path)
            _make_tables(connection)
            _mend_after_reboot(connection, boot_id())
        finally:
            connection.close()


def boot_id() -> str:
    """Tells one run of the kernel from another: readings of the monotonic clock compare only within one."""
    return _BOOT_ID.read_text().strip()


def monotonic() -> float:
    """Seconds on the clock that all processes of this machine share and nobody sets (CLOCK_MONOTONIC)."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def _make_file(path: Path) -> None:
    """Make an empty file that only we may read: destinations hold passwords.

    A file that is there is not opened: closing it would drop the locks of SQLite in this process
    (https://www.sqlite.org/howtocorrupt.html section 2.2).
    """
    make_durably(path.parent)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    with _transaction(connection, "DEFERRED"):  # as it was at one moment: another process may be making it
        application, version = _stamp(connection)
        is_empty = connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None
    if is_empty and not application and not version:
        return
    if application != APPLICATION_ID:
        raise StorageError("the file of the job queue is another program's database", detail=str(path))
    if version != VERSION:
        message = f"the job queue has format {version}, and this Safelight knows {VERSION}"
        raise StorageError(message, detail=str(path))
    complaint = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if complaint != "ok":
        raise StorageError("the file of the job queue is damaged", detail=f"{path}: {complaint}")


def _stamp(connection: sqlite3.Connection) -> tuple[int, int]:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    return application, version


def _make_tables(connection: sqlite3.Connection) -> None:
    """Make everything in one transaction; of several processes the first does it."""
    with _transaction(connection, "IMMEDIATE"):
        if _stamp(connection) == (0, 0):
            for statement in _statements(TABLES):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={VERSION}")


@contextmanager
def _transaction(connection: sqlite3.Connection, kind: str) -> Generator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _statements(script: str) -> Generator[str]:
    """One by one: `executescript` would commit before it begins."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _mend_after_reboot(connection: sqlite3.Connection, now_running: str) -> None:
    """After a reboot no worker is left to hold a lease, and the monotonic clock has begun anew.

    What was to be tried later waits its whole delay again: bounded, never too early, and without asking the
    wall clock, which may be wrong just then.
    """
    with _transaction(connection, "IMMEDIATE"):
        known = connection.execute("SELECT id FROM boot").fetchone()
        if known != (now_running,):
            connection.execute("DELETE FROM boot")
            connection.execute("INSERT INTO boot VALUES (?)", (now_running,))
            connection.execute(_DELAY_ANEW, (monotonic(),))
            connection.execute(_END_LEASES)
