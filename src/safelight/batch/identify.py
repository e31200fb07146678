"""Types and sizes of many files, in the order of the list, a few at a time."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator

from safelight.batch.inputs import Found, Input, Skipped, Unreadable
from safelight.batch.reading import opened, read_slowly
from safelight.batch.run import Failed, Feed
from safelight.batch.session import Stop, Stopped
from safelight.blob import Blob
from safelight.engine.base import Engine
from safelight.errors import SafelightError
from safelight.image.result import ImageInfo

Answer = tuple[Input, ImageInfo] | Failed
_Opened = tuple[Input, Blob | None] | Failed


async def identify(
    engine: Engine, listing: Iterable[Found], *, max_bytes: int, slots: int, stop: Stop
) -> AsyncGenerator[Answer]:
    """One answer for each input; nothing for what is skipped. Ends early when a signal comes."""
    feed = Feed(_opened(listing, max_bytes))
    running: deque[asyncio.Task[Answer]] = deque()
    try:
        while not stop.is_set():
            while len(running) < slots and (found := await feed.next()) is not None:
                running.append(asyncio.create_task(_ask(engine, found, max_bytes, stop)))
            if not running:
                return
            answer = await running.popleft()
            if not stop.is_set():
                yield answer
    finally:
        await asyncio.gather(*running, return_exceptions=True)
        await feed.close()


def _opened(listing: Iterable[Found], max_bytes: int) -> Iterator[_Opened]:
    for found in listing:
        match found:
            case Skipped():
                continue
            case Unreadable(path, reason):
                yield Failed(path, [reason])
            case Input():
                try:
                    yield found, opened(found, max_bytes)
                except SafelightError as error:
                    yield Failed(found.shown, [error.message])


async def _ask(engine: Engine, found: _Opened, max_bytes: int, stop: Stop) -> Answer:
    if isinstance(found, Failed):
        return found
    item, data = found
    try:
        data = data or await stop.race(read_slowly(item, max_bytes))
        return item, await engine.identify(data)
    except Stopped:
        return Failed(item.shown, [])
    except SafelightError as error:
        return Failed(item.shown, [error.message])
    finally:
        if data:
            data.close()
