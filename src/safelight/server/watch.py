"""Ends the work for a request that takes too long or whose client has left."""

import asyncio

from safelight.errors import Timeout
from safelight.server.asgi import Receive
from safelight.server.errors import ClientLeft

GRACE_S = 0.05


class Watch:
    """Cancels the task that started it, past a deadline or when the client disconnects.

    Most answers are ready within `GRACE_S`; only later ones cost a second task that listens for the client.
    """

    __slots__ = ("_outcome", "_receive", "_task", "_timeout_s", "_timer", "_watcher")

    def __init__(self, receive: Receive, timeout_s: float) -> None:
        self._receive = receive
        self._timeout_s = timeout_s
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._outcome: Exception | None = None

    def start(self) -> None:
        """Begin to watch over the current task."""
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(min(GRACE_S, self._timeout_s), self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def translate(self) -> None:
        """To be called where CancelledError was caught. Raises: Timeout or ClientLeft if it was our doing."""
        if self._outcome is not None and self._task is not None:
            self._task.uncancel()
            raise self._outcome

    def _look(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._listen())

    async def _listen(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s - min(GRACE_S, self._timeout_s)):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
            self._outcome = ClientLeft()
        except TimeoutError:
            self._outcome = Timeout("request took too long")
        if self._task is not None:
            self._task.cancel()
