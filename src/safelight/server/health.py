"""`/health_check`: one tiny picture through the engine, on its urgent lane."""

import asyncio
import struct
import zlib

from safelight.blob import MemoryBlob
from safelight.engine.base import Engine
from safelight.errors import EngineUnreachable, SafelightError, Timeout
from safelight.image.result import Thumbnail
from safelight.image.spec import ThumbnailSpec
from safelight.model import Answer
from safelight.server.errors import text_answer

BAD_GATEWAY = 502
MIN_REPLY_BYTES = 300
TIMEOUT_S = 30
SPECIFICATION = ThumbnailSpec.parse("fit,4,4,jpeg")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _tiny_png() -> bytes:
    """A red PNG of 4x4 pixels, 8 bits, RGB (PNG specification, section 5)."""
    rows = (b"\0" + b"\xff\0\0" * 4) * 4
    header = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


PICTURE = _tiny_png()


class HealthCheck:
    """Asks the engine for a thumbnail. Requests that arrive while one is being made share its outcome."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._running: asyncio.Task[Answer] | None = None

    async def answer(self) -> Answer:
        """`<name> OK`, or 502 for a picture that is none or a remote engine that gives no answer.

        Raises: what else the engine raised; Timeout.
        """
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._check())
        return await asyncio.shield(self._running)

    async def _check(self) -> Answer:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                result = await self._engine.thumbnail(MemoryBlob(PICTURE), [SPECIFICATION], urgent=True)
        except EngineUnreachable as error:
            return text_answer(error.message, BAD_GATEWAY)
        except TimeoutError as error:
            raise Timeout("image processing took too long") from error
        (output,) = result.outputs
        if isinstance(output, SafelightError):
            raise output
        if _plausible(output):
            return text_answer(f"{self._name} OK")
        return text_answer("bad image data returned from thumbnailer", BAD_GATEWAY)


def _plausible(output: Thumbnail) -> bool:
    return len(output.data) > MIN_REPLY_BYTES and b"JFIF" in output.data
