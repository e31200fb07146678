"""Single flight: work that several callers want at the same time is done once."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class _Abandoned(Exception):
    """Who did the work has given it up."""


class SharedCall(Generic[K, T]):
    """Joins callers of equal keys, within the first of them. For work that is cheap to begin anew.

    A task of its own, as `SingleFlight` has it, takes a tenth of the time of a small download.
    """

    def __init__(self) -> None:
        self._calls: dict[K, asyncio.Future[T]] = {}

    async def join(self, key: K, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `start` returns or raises, for the first caller of `key` and for those who join meanwhile.

        When the first caller is cancelled, one of those who joined begins anew.
        """
        while (call := self._calls.get(key)) is not None:
            try:
                return await asyncio.shield(call)
            except _Abandoned:
                continue
        call = self._calls[key] = asyncio.get_running_loop().create_future()
        try:
            result = await start()
        except BaseException as error:
            call.set_exception(error if isinstance(error, Exception) else _Abandoned())
            call.exception()  # perhaps nobody has joined
            raise
        else:
            call.set_result(result)
            return result
        finally:
            if self._calls.get(key) is call:
                del self._calls[key]

    def leave(self, key: K) -> None:
        """Let nobody else join what is under way: what it will return may be no longer true."""
        self._calls.pop(key, None)


class _Flight(Generic[T]):
    """Work under way and how many wait for it."""

    def __init__(self, task: "asyncio.Task[T]") -> None:
        self.task = task
        self.waiting = 0


class SingleFlight(Generic[K, T]):
    """Joins callers of equal keys. Work that nobody waits for any more is cancelled."""

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[T]] = {}

    async def join(self, key: K, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `start` returns or raises, begun by the first caller of `key` and shared by those who join."""
        flight = self._flights.get(key)
        if flight is None or flight.task.done():
            flight = self._flights[key] = _Flight(asyncio.create_task(start()))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                flight.task.cancel()
                self._forget(key, flight)

    def leave(self, key: K) -> None:
        """Let nobody else join what is under way: what it will return may be no longer true."""
        self._flights.pop(key, None)

    def _forget(self, key: K, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
