"""Immutable bytes that live in memory or in an open file: request bodies, stored objects, thumbnails."""

import hashlib
import os
from functools import cached_property
from mmap import PROT_READ, mmap

CHUNK_BYTES = 1 << 18


class Blob:
    """A sequence of `size` bytes that can be read any number of times, from any thread."""

    size: int

    def read(self) -> bytes:
        """Return the whole content."""
        raise NotImplementedError

    def read_at(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`."""
        raise NotImplementedError

    def readinto(self, buffer: memoryview) -> int:
        """Copy the content into `buffer` (at least `size` bytes) and return the number of bytes copied.

        Fewer than `size` means that the file was cut short after it was opened.
        """
        raise NotImplementedError

    def buffer(self) -> bytes | mmap:
        """The whole content as one buffer, mapped instead of copied where that is safe."""
        return self.read()

    def fileno(self) -> int | None:
        """The descriptor of the open file, None for bytes in memory."""
        return None

    def close(self) -> None:
        """Release the file, if there is one. Reading afterwards is an error."""

    @cached_property
    def sha256(self) -> str:
        """64 lower-case hex digits of the content's SHA-256, computed once, in pieces of 256 KiB."""
        digest = hashlib.sha256()
        offset = 0
        while piece := self.read_at(offset, CHUNK_BYTES):
            digest.update(piece)
            offset += len(piece)
        return digest.hexdigest()


class MemoryBlob(Blob):
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self) -> bytes:
        return self._data

    def read_at(self, offset: int, count: int) -> bytes:
        return self._data[offset : offset + count]

    def readinto(self, buffer: memoryview) -> int:
        buffer[: self.size] = self._data
        return self.size


EMPTY = MemoryBlob(b"")


class FileBlob(Blob):
    """`size` bytes of an open regular file, from `start` on.

    Owns the descriptor; reads by position, so it can be shared.
    """

    def __init__(self, descriptor: int, size: int, start: int = 0) -> None:
        self._descriptor = descriptor
        self._start = start
        self.size = size

    def read(self) -> bytes:
        buffer = bytearray(self.size)
        return bytes(memoryview(buffer)[: self.readinto(memoryview(buffer))])

    def read_at(self, offset: int, count: int) -> bytes:
        left = max(0, self.size - offset)
        return os.pread(self._descriptor, min(count, left), self._start + offset)

    def readinto(self, buffer: memoryview) -> int:
        done = 0
        while done < self.size:
            count = os.preadv(self._descriptor, [buffer[done : self.size]], self._start + done)
            if not count:
                break
            done += count
        return done

    def fileno(self) -> int | None:
        """None also where the content does not begin with the file: who asks reads from there."""
        return None if self._start else self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()


class SpooledBlob(FileBlob):
    """A file of our own without a name: nobody can cut it short, so it can be mapped."""

    def buffer(self) -> bytes | mmap:
        return mmap(self._descriptor, self.size, prot=PROT_READ) if self.size else b""
