"""Which queue a place means: the URL of a PostgreSQL database, or a file of this machine."""

from pathlib import Path

from safelight.errors import ConfigError
from safelight.jobs.queue import JobQueue
from safelight.jobs.sqlite import SqliteQueue
from safelight.statements.jobs import QUEUE_SCHEMES


async def open_queue(where: str | Path) -> JobQueue:
    """Open the queue at `where`, a URL with a scheme of QUEUE_SCHEMES or a path; it is made if there is none.

    Raises: ConfigError, also when what PostgreSQL needs is not installed; StorageError.
    """
    if not _is_url(where):
        return await SqliteQueue.open(Path(where))
    try:
        from safelight.jobs.postgres import PostgresQueue
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise ConfigError("a job queue in PostgreSQL needs asyncpg: install safelight[postgres]") from error
    return await PostgresQueue.open(str(where))


def _is_url(where: str | Path) -> bool:
    return str(where).startswith(QUEUE_SCHEMES)
