"""Where clients of the older server wait until a worker of this process has begun their job.

What was fetched to check the job waits with them, so that it is not fetched again for the work.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from safelight.blob import Blob
from safelight.jobs.failure import DestinationError


@dataclass(slots=True)
class _Visit:
    source: Blob | None
    begun: asyncio.Future[None]


class Reception:
    """Visits by the key of their order. Everything happens in one event loop."""

    def __init__(self) -> None:
        self._visits: dict[str, _Visit] = {}

    @contextmanager
    def visit(self, key: str, source: Blob) -> Generator[asyncio.Future[None]]:
        """Wait inside for the future: done when the placeholder lies, DestinationError when it does not.

        Whoever comes takes over `source`; if nobody did, it is closed in the end.
        """
        visit = self._visits[key] = _Visit(source, asyncio.get_running_loop().create_future())
        try:
            yield visit.begun
        finally:
            del self._visits[key]
            visit.begun.cancel()
            if visit.source is not None:
                visit.source.close()

    def take(self, key: str | None) -> Blob | None:
        """The source that was fetched, once; the caller closes it."""
        visit = self._visits.get(key or "")
        if visit is None:
            return None
        source, visit.source = visit.source, None
        return source

    def admit(self, key: str | None) -> None:
        """The placeholder lies at its destination."""
        visit = self._visits.get(key or "")
        if visit is not None and not visit.begun.done():
            visit.begun.set_result(None)

    def refuse(self, key: str | None, error: DestinationError) -> None:
        """The destination has not taken the placeholder."""
        visit = self._visits.get(key or "")
        if visit is not None and not visit.begun.done():
            visit.begun.set_exception(error)
