"""Calls to something elsewhere that may be down: never for long, and not again and again while it is."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

import structlog

from safelight.errors import Busy, SafelightError, StorageError, Timeout

PAUSE_S = 5.0
"""How long nothing is tried after a failure."""

T = TypeVar("T")

_log = structlog.get_logger("safelight.results")


class Unavailable(Exception):
    """It did not answer, or was not asked because it has just failed."""


class Circuit:
    """Calls of one thing, in the log `what`. After a failure there is a pause, and then one call that tries.

    Failures are logged when they begin.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._is_failing = False
        self._pause_until_s = 0.0

    async def call(self, work: Callable[[], Awaitable[T]], limit_s: float) -> T:
        """What `work` returns within `limit_s` seconds.

        Raises: Unavailable; what `work` raises that is no fault of whom it asks.
        """
        now = monotonic()
        if now < self._pause_until_s:
            raise Unavailable
        if self._is_failing:
            self._pause_until_s = now + PAUSE_S
        try:
            async with asyncio.timeout(limit_s):
                result = await work()
        except (StorageError, Busy, Timeout, TimeoutError) as error:
            self._fail(error)
            raise Unavailable from error
        except SafelightError:
            self._recover()
            raise
        self._recover()
        return result

    def _fail(self, error: Exception) -> None:
        self._pause_until_s = monotonic() + PAUSE_S
        if not self._is_failing:
            self._is_failing = True
            said = (error.message, error.detail) if isinstance(error, SafelightError) else ("too slow", None)
            _log.warning("result cache: going on alone", without=self._what, reason=said[0], detail=said[1])

    def _recover(self) -> None:
        self._is_failing = False
        self._pause_until_s = 0.0
