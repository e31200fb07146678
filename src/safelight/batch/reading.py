"""Open inputs: files as descriptors for the image workers, pipes and standard input as bytes."""

import asyncio
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from safelight.batch.inputs import Input
from safelight.blob import Blob, FileBlob, MemoryBlob
from safelight.errors import MemoryLimitExceeded, SafelightError, UnsupportedMedia

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY
_PIECE_BYTES = 1 << 18
_STDIN = 0

Result = TypeVar("Result")


class ReadingError(SafelightError):
    """An input that cannot be opened or read."""


def opened(item: Input, max_bytes: int) -> Blob | None:
    """A regular file, its content asked for ahead; None for what may keep us waiting (`read_slowly`).

    Raises: ReadingError, MemoryLimitExceeded.
    """
    if item.is_stdin:
        return None
    try:
        if not _is_plain(os.stat(item.path)):  # opening a pipe and closing it would lose what is in it
            return None
        descriptor = os.open(item.path, _READ | os.O_NONBLOCK)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not 0 < status.st_size <= max_bytes:
            os.close(descriptor)
            return _not_plain(status, max_bytes)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        return FileBlob(descriptor, status.st_size)
    except (OSError, ValueError) as error:
        raise _unreadable(error) from error


def _is_plain(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)


def _not_plain(status: os.stat_result, max_bytes: int) -> Blob | None:
    if stat.S_ISDIR(status.st_mode):
        raise ReadingError("is a directory")
    if not stat.S_ISREG(status.st_mode):
        return None
    if status.st_size > max_bytes:
        raise MemoryLimitExceeded
    raise UnsupportedMedia("empty file")


async def read_slowly(item: Input, max_bytes: int) -> Blob:
    """All of a pipe, a device or standard input. Raises: ReadingError, MemoryLimitExceeded.

    On a thread that ends with the process: nobody can wake it when the writer never writes.
    """
    return MemoryBlob(await _on_daemon_thread(lambda: _read_all(item, max_bytes)))


def _read_all(item: Input, max_bytes: int) -> bytes:
    try:
        descriptor = os.dup(_STDIN) if item.is_stdin else os.open(item.path, _READ)
    except OSError as error:
        raise _unreadable(error) from error
    content = bytearray()
    try:
        while piece := os.read(descriptor, _PIECE_BYTES):
            content += piece
            if len(content) > max_bytes:
                raise MemoryLimitExceeded
    except OSError as error:
        raise _unreadable(error) from error
    finally:
        os.close(descriptor)
    if not content:
        raise UnsupportedMedia("empty file")
    return bytes(content)


def _unreadable(error: OSError | ValueError) -> ReadingError:
    reason = error.strerror if isinstance(error, OSError) else None
    return ReadingError(reason or "cannot be read", detail=str(error))


async def _on_daemon_thread(call: Callable[[], Result]) -> Result:
    answer: Future[Result] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True, name="safelight-read").start()
    return await asyncio.wrap_future(answer)
