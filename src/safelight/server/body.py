"""The body of a request: kept in memory while it is small, then in a file without a name."""

import asyncio
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safelight.blob import EMPTY, Blob, FileBlob, MemoryBlob
from safelight.errors import MemoryLimitExceeded, StorageError
from safelight.server.asgi import Receive
from safelight.server.errors import ClientLeft

MEMORY_BYTES = 1 << 20


def has_body(headers: Mapping[str, str]) -> bool:
    """Whether a request announces a body (RFC 9112, 6.3)."""
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


async def read_body(
    headers: Mapping[str, str], receive: Receive, max_bytes: int, directory: Path | None
) -> Blob:
    """Receive the whole body: up to 1 MiB in memory, more in an unnamed file in `directory`.

    A length announced beyond `max_bytes` is refused before anything is read.
    Raises: MemoryLimitExceeded; StorageError when the file cannot be written; ClientLeft.
    """
    if not has_body(headers):
        return EMPTY
    if int(headers.get("content-length", "0")) > max_bytes:
        raise MemoryLimitExceeded
    spool = _Spool(directory)
    try:
        await _fill(spool, receive, max_bytes)
        return await spool.finish()
    finally:
        spool.close()


async def _fill(spool: "_Spool", receive: Receive, max_bytes: int) -> None:
    more, size = True, 0
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        piece: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(piece)
        if size > max_bytes:
            raise MemoryLimitExceeded
        await spool.add(piece)


class _Spool:
    """Bytes that move to a file, 1 MiB at a time and in a thread, once they are too many for memory."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._written = 0
        self._descriptor = -1

    async def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._waiting += len(piece)
        if self._waiting > MEMORY_BYTES:
            await self._flush()

    async def finish(self) -> Blob:
        """What was added, as a blob that owns the file, if there is one."""
        if self._descriptor < 0:
            return MemoryBlob(b"".join(self._pieces))
        await self._flush()
        blob = FileBlob(self._descriptor, self._written)
        self._descriptor = -1
        return blob

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    async def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        self._written += self._waiting
        self._waiting = 0
        writing = asyncio.ensure_future(asyncio.to_thread(self._write, b"".join(pieces)))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            raise

    def _write(self, data: bytes) -> None:
        try:
            if self._descriptor < 0:
                self._descriptor = _unnamed_file(self._directory)
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise StorageError("the request body cannot be kept", detail=str(error)) from error


def _unnamed_file(directory: Path | None) -> int:
    """A descriptor for reading and writing; the file has no name and ends with it."""
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        return os.dup(file.fileno())
