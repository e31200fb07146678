"""Ends the work for a request that takes too long or whose client has left."""

import asyncio

from safelight.errors import Timeout
from safelight.server.asgi import Receive
from safelight.server.errors import ClientLeft

ROUND_S = 0.1


class Lookout:
    """Looks around every 100 ms and has a task listen to the client of each request that it sees again.

    Most requests are over before that: for them, no timer is set and no task is made, which would be a tenth
    of what a thumbnail costs this process.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._watches: set[Watch] = set()
        self._is_looking = False

    def watch(self, receive: Receive) -> "Watch":
        """Begin to watch over the current task, which must `stop` the watch at its end."""
        loop = asyncio.get_running_loop()
        watch = Watch(receive, loop, self._timeout_s, self._watches)
        if not self._is_looking:
            self._is_looking = True
            loop.call_later(ROUND_S, self._look)
        return watch

    def _look(self) -> None:
        self._is_looking = bool(self._watches)
        for watch in self._watches:
            watch.see()
        if self._is_looking:
            asyncio.get_running_loop().call_later(ROUND_S, self._look)


class Watch:
    """Cancels the task that made it, past `deadline` (on the loop's clock) or when the client disconnects."""

    __slots__ = ("_deadline", "_others", "_outcome", "_receive", "_task", "_was_seen", "_watcher")

    def __init__(
        self, receive: Receive, loop: asyncio.AbstractEventLoop, timeout_s: float, others: "set[Watch]"
    ) -> None:
        self._receive = receive
        self._deadline = loop.time() + timeout_s
        self._task = asyncio.current_task(loop)
        self._was_seen = False
        self._watcher: asyncio.Task[None] | None = None
        self._outcome: Exception | None = None
        self._others = others
        others.add(self)

    def stop(self) -> None:
        self._others.discard(self)
        if self._watcher is not None:
            self._watcher.cancel()

    def translate(self) -> None:
        """To be called where CancelledError was caught. Raises: Timeout or ClientLeft if it was our doing."""
        if self._outcome is not None and self._task is not None:
            self._task.uncancel()
            raise self._outcome

    def see(self) -> None:
        """The second time, make the task that waits for the client and the deadline."""
        if self._was_seen and self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self._listen())
        self._was_seen = True

    async def _listen(self) -> None:
        try:
            async with asyncio.timeout_at(self._deadline):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
            self._outcome = ClientLeft()
        except TimeoutError:
            self._outcome = Timeout("request took too long")
        if self._task is not None:
            self._task.cancel()
