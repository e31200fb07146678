"""A run that can be interrupted: signals, and an engine that ends when one comes."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from safelight.engine.base import Engine

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_SIGNAL_S = 0.5
"""`timeout` and some shells send a signal to the process and to its group: that is one, not two."""

Result = TypeVar("Result")


class Stopped(Exception):
    """A signal has come."""


class Stop:
    """Whether a signal has asked for the end. A second one, a moment later, ends the process at once.

    `signal`: its number, None so far; may be read from any thread.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._noted_s = 0.0
        self._over = asyncio.Event()

    def listen(self) -> None:
        """Take over the signals, on the running loop."""
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, background jobs of a shell
                asyncio.get_running_loop().add_signal_handler(number, self.note, number)

    def note(self, number: int) -> None:
        """A signal has come."""
        now = time.monotonic()
        if self.signal is None:
            self.signal = number
            self._noted_s = now
            self._over.set()
        elif now - self._noted_s > SAME_SIGNAL_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def is_set(self) -> bool:
        """May be asked from any thread."""
        return self.signal is not None

    def finish(self) -> None:
        """The run is over without a signal."""
        self._over.set()

    async def wait(self) -> None:
        """Until the run is over, one way or the other."""
        await self._over.wait()

    async def race(self, work: Awaitable[Result]) -> Result:
        """The result of `work`. Raises: Stopped, and cancels it, if a signal comes first."""
        task = asyncio.ensure_future(work)
        signalled = asyncio.ensure_future(self.wait())
        try:
            await asyncio.wait({task, signalled}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                raise Stopped
            return task.result()
        finally:
            signalled.cancel()


@asynccontextmanager
async def running(engine: Engine, stop: Stop) -> AsyncGenerator[None]:
    """The engine, started; closed at the end or as soon as a signal comes, which fails what is in work.

    Raises: Stopped, ImageError.
    """
    await stop.race(engine.start())
    closing = asyncio.create_task(_close_when_over(engine, stop))
    try:
        yield
    finally:
        stop.finish()
        await closing


async def _close_when_over(engine: Engine, stop: Stop) -> None:
    await stop.wait()
    await engine.close()


def run_interruptible(work: Callable[[Stop], Coroutine[Any, Any, None]]) -> int | None:
    """Run it on an event loop; the number of the signal that ended it, if one did."""

    async def main() -> int | None:
        stop = Stop()
        stop.listen()
        with suppress(Stopped):
            await work(stop)
        return stop.signal

    return asyncio.run(main())
