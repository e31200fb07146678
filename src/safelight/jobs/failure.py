"""How fetching and delivering fail: whose fault it is, and whether trying again may help."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

from safelight.errors import Busy, SafelightError, StorageError, Timeout


class TransferError(SafelightError):
    """Something could not be fetched or delivered. The message names no password and no query.

    `temporary`: it may go better later, `after_s` is how long the other side wants to be left alone.
    """

    def __init__(
        self, message: str, *, temporary: bool = False, after_s: float = 0.0, detail: str | None = None
    ) -> None:
        super().__init__(message, detail=detail)
        self.temporary = temporary
        self.after_s = after_s


class SourceError(TransferError):
    """The source could not be had: code 201 of the older server (reference/imgserve 4.2)."""


class DestinationError(TransferError):
    """The destination did not take it, or may not have it: code 205 of the older server."""


@contextmanager
def told_as(kind: type[TransferError]) -> Generator[None]:
    """Raise whatever fails inside as `kind`.

    A storage that refuses what it is asked for will refuse it again; one that fails may not.
    """
    try:
        yield
    except kind:
        raise
    except TransferError as error:
        raise kind(
            error.message, temporary=error.temporary, after_s=error.after_s, detail=error.detail
        ) from error
    except Busy as error:
        raise kind(error.message, temporary=True, after_s=error.retry_after_s, detail=error.detail) from error
    except SafelightError as error:
        temporary = isinstance(error, StorageError | Timeout)
        raise kind(error.message, temporary=temporary, detail=error.detail) from error


@asynccontextmanager
async def within(seconds: float) -> AsyncGenerator[None]:
    """Raises: TransferError, temporary, when what is inside takes longer than `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise TransferError(f"it took longer than {seconds:g} s", temporary=True) from error
