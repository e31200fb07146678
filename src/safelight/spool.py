"""Bytes that arrive in pieces: in memory while they are few, then in a file without a name."""

import asyncio
import os
import tempfile
from collections import deque
from contextlib import suppress
from itertools import islice
from pathlib import Path

from safelight.blob import Blob, MemoryBlob, SpooledBlob
from safelight.errors import StorageError

MEMORY_BYTES = 1 << 20
_MOST_PIECES = os.sysconf("SC_IOV_MAX")


class Spool:
    """Bytes that move to a file, 1 MiB at a time and in a thread, once they are too many for memory."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._written = 0
        self._descriptor = -1

    async def add(self, piece: bytes) -> None:
        """Take over the next piece. Raises: StorageError when the file cannot be written."""
        self._pieces.append(piece)
        self._waiting += len(piece)
        if self._waiting > MEMORY_BYTES:
            await self._flush()

    async def finish(self) -> Blob:
        """What was added, as a blob that owns the file, if there is one."""
        if self._descriptor < 0:
            return MemoryBlob(b"".join(self._pieces))
        await self._flush()
        blob = SpooledBlob(self._descriptor, self._written)
        self._descriptor = -1
        return blob

    def close(self) -> None:
        """Let go of what was added and never finished."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    async def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        self._written += self._waiting
        self._waiting = 0
        writing = asyncio.ensure_future(asyncio.to_thread(self._write, pieces))
        try:
            await asyncio.shield(writing)
        finally:
            while not writing.done():  # nobody may close the file under the thread, however often cancelled
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([writing])

    def _write(self, pieces: list[bytes]) -> None:
        """As they came: joined first, those of many uploads would be in memory twice."""
        try:
            if self._descriptor < 0:
                self._descriptor = _unnamed_file(self._directory)
            left = deque(memoryview(piece) for piece in pieces if piece)
            while left:
                _drop(left, os.writev(self._descriptor, list(islice(left, _MOST_PIECES))))
        except OSError as error:
            raise StorageError("temporary file cannot be written", detail=str(error)) from error


def _drop(left: deque[memoryview], count: int) -> None:
    """Remove the first `count` bytes."""
    while count:
        piece = left.popleft()
        if len(piece) > count:
            left.appendleft(piece[count:])
            return
        count -= len(piece)


def _unnamed_file(directory: Path | None) -> int:
    """A descriptor for reading and writing; the file has no name and ends with it."""
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        return os.dup(file.fileno())
