"""Calls to something elsewhere that may be down: never for long, and not again and again while it is."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

import structlog

from safelight.errors import Busy, SafelightError, StorageError, Timeout

PAUSE_S = 5.0
"""How long nothing is tried after a failure."""

FAILURES = (StorageError, Busy, Timeout, TimeoutError)
"""What is the fault of whom we ask."""

T = TypeVar("T")

_log = structlog.get_logger("safelight.results")


class Unavailable(Exception):
    """It did not answer, or was not asked because it has just failed."""


class Circuit:
    """Calls of one thing, in the log `what`. After a failure there is a pause, and then a call that tries.

    `outages`: those of `FAILURES` that lead to a pause. Where calls are about many things, one of which may
    be bad, as many as `needed` must fail for that, and none succeed meanwhile; as many try after a pause.
    """

    def __init__(
        self, what: str, outages: tuple[type[Exception], ...] = FAILURES, *, needed: int = 1
    ) -> None:
        self._what = what
        self._outages = outages
        self._needed = needed
        self._failed: set[str] = set()
        self._trying: set[str] = set()
        self._is_failing = False
        self._pause_until_s = 0.0

    @property
    def is_paused(self) -> bool:
        return monotonic() < self._pause_until_s

    async def call(self, work: Callable[[], Awaitable[T]], limit_s: float, about: str = "") -> T:
        """What `work` returns within `limit_s` seconds.

        Raises: Unavailable; what `work` raises that is no fault of whom it asks.
        """
        if self.is_paused:
            raise Unavailable
        if not self._is_failing:
            return await self._called(work, limit_s, about)
        if about in self._trying or len(self._trying) >= self._needed:
            raise Unavailable
        self._trying.add(about)
        try:
            return await self._called(work, limit_s, about)
        finally:
            self._trying.discard(about)

    async def _called(self, work: Callable[[], Awaitable[T]], limit_s: float, about: str) -> T:
        try:
            async with asyncio.timeout(limit_s):
                result = await work()
        except FAILURES as error:
            self._fail(error, about)
            raise Unavailable from error
        except SafelightError:
            self._recover()
            raise
        self._recover()
        return result

    def _fail(self, error: Exception, about: str) -> None:
        if isinstance(error, self._outages):
            self._failed.add(about)
        if len(self._failed) < self._needed:
            self._complain("cannot ask", error, about=about)
            return
        self._failed.clear()
        self._pause_until_s = monotonic() + PAUSE_S
        if not self._is_failing:
            self._is_failing = True
            self._complain("going on alone", error)

    def _complain(self, what: str, error: Exception, **more: str) -> None:
        said = (error.message, error.detail) if isinstance(error, SafelightError) else ("too slow", None)
        _log.warning(f"result cache: {what}", without=self._what, reason=said[0], detail=said[1], **more)

    def _recover(self) -> None:
        self._failed.clear()
        self._is_failing = False
        self._pause_until_s = 0.0
