"""The engine without processes: threads of this one. For tests and the command line, on trusted input.

A crash of a decoder ends the process, and a thread that hangs cannot be stopped.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from safelight.blob import Blob
from safelight.engine import notes
from safelight.engine.handling import DEFAULT_HANDLER, Handler, as_image_error, load_handler, start_failure
from safelight.errors import ImageError, Timeout
from safelight.image.result import ImageInfo, Thumbnails
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec

Result = TypeVar("Result")


class InlineEngine:
    """An `Engine` on `workers` threads.

    `transform_timeout_s`: answer with Timeout so many seconds after the call; the thread goes on.
    """

    def __init__(
        self,
        settings: ImageSettings,
        *,
        workers: int = 2,
        transform_timeout_s: float = 20,
        handler: str = DEFAULT_HANDLER,
    ) -> None:
        self._settings = settings
        self._timeout_s = transform_timeout_s
        self._handler_path = handler
        self._handler: Handler | None = None
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="safelight-image")
        self._urgent_thread = ThreadPoolExecutor(1, thread_name_prefix="safelight-image-urgent")

    async def start(self) -> None:
        """Import the image code and warm it up. Raises: ImageError."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._load)

    def _load(self) -> None:
        with notes.collected(notes.LOADING) as said:
            try:
                self._handler = load_handler(self._handler_path, self._settings)
                self._handler.warm_up()
            except Exception as error:
                raise ImageError("image code cannot be loaded", detail=start_failure(error)) from error
            finally:
                notes.report(said)

    async def thumbnail(
        self, image: Blob, specs: Sequence[ThumbnailSpec], *, urgent: bool = False
    ) -> Thumbnails:
        """As `Engine.thumbnail`; never Busy. An urgent call has a thread of its own."""
        return await self._run(urgent, lambda handler: handler.thumbnail(image.read(), specs))

    async def identify(self, image: Blob) -> ImageInfo:
        """As `Engine.identify`; never Busy."""
        return await self._run(False, lambda handler: handler.identify(image.read()))

    async def _run(self, urgent: bool, call: Callable[[Handler], Result]) -> Result:
        if self._handler is None:
            raise ImageError("engine is not running")
        threads = self._urgent_thread if urgent else self._threads
        running = asyncio.get_running_loop().run_in_executor(threads, self._call, call)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await running
        except TimeoutError as error:
            raise Timeout("image processing took too long") from error

    def _call(self, call: Callable[[Handler], Result]) -> Result:
        if self._handler is None:
            raise ImageError("engine is not running")
        try:
            return call(self._handler)
        except Exception as error:
            raise as_image_error(error) from error

    async def close(self) -> None:
        """Let running calls end, in the background; refuse those that wait."""
        self._handler = None
        for threads in (self._threads, self._urgent_thread):
            threads.shutdown(wait=False)
