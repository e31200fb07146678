"""Files below a root directory: contained, atomic, durable.

Whatever a key and the links below the root lead to is opened first and then asked where it is, so no race
between check and use can lead outside. Linux only: the answer comes from /proc.
"""

import asyncio
import errno
import os
import stat
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from safelight.blob import Blob, FileBlob, MemoryBlob
from safelight.errors import (
    BadRequest,
    MemoryLimitExceeded,
    NoSuchFile,
    OutsideOfRoot,
    SafelightError,
    StorageError,
)
from safelight.storage.atomic import DIRECTORY, make_durably, replace_file
from safelight.storage.base import MakeUrl, Stored
from safelight.url import file_url

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_PATH_MAX = 4096
_COPY_BYTES = 1 << 20
_QUIET_NS = 100_000_000
"""Two changes within a tick of the clock of a file system have equal times; ticks last up to 10 ms."""

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO}
_UNUSABLE_NAME = {
    errno.ENAMETOOLONG,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EBUSY,
    errno.EINVAL,
    errno.EILSEQ,
}


class FileStorage:
    """Stores each key as a file below `root`. The root may be created after the server has started."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._real_root = ""

    def place(self, key: str) -> str:
        """See `Storage.place`. Links are not followed."""
        return f"file:{self.root}/{_checked(key)}"

    async def get(self, key: str, max_bytes: int) -> Stored:
        """See `Storage.get`. The file is opened, not read; opening a local file does not block for long."""
        with _translated(key, _ABSENT):
            descriptor = os.open(f"{self.root}/{_checked(key)}", _READ)
            try:
                self._check_beneath(descriptor, key)
                status = os.fstat(descriptor)
                data = _blob(descriptor, status, key, max_bytes)
                return Stored(data, partial(file_url, key), version=_read_version(status))
            except BaseException:
                os.close(descriptor)
                raise

    async def version(self, key: str) -> str | None:
        """See `Storage.version`: size and time of the last change, which copies elsewhere may share."""
        try:
            with _translated(key, _ABSENT):
                descriptor = os.open(f"{self.root}/{_checked(key)}", os.O_PATH | os.O_CLOEXEC)
                try:
                    self._check_beneath(descriptor, key)
                    return _version(os.fstat(descriptor))
                finally:
                    os.close(descriptor)
        except NoSuchFile:
            return None

    async def put(self, key: str, data: Blob, content_type: str | None = None) -> MakeUrl:
        """See `Storage.put`: write, fsync, name or rename, fsync the directory. Missing parents are made.

        Files have no type.
        """
        await asyncio.to_thread(self._write, key, data)
        return partial(file_url, key)

    async def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        await asyncio.to_thread(self._remove, key)

    def _write(self, key: str, data: Blob) -> None:
        directory, name = os.path.split(_checked(key))
        if len(os.fsencode(f"{self.root}/{directory}/{name}")) >= _PATH_MAX:  # `get` could not open it
            raise BadRequest(f"file cannot be stored under '{key}': {os.strerror(errno.ENAMETOOLONG)}")
        with _translated(key, _UNUSABLE_NAME), self._opened(directory, key, create=True) as parent:
            replace_file(parent, name, [data])
            os.fsync(parent)

    def _remove(self, key: str) -> None:
        directory, name = os.path.split(_checked(key))
        with _translated(key, _ABSENT), self._opened(directory, key) as parent:
            os.unlink(name, dir_fd=parent)
            os.fsync(parent)

    @contextmanager
    def _opened(self, directory: str, key: str, *, create: bool = False) -> Generator[int]:
        """A descriptor of a directory below the root, made if asked."""
        if create:
            make_durably(self.root)
        descriptor = os.open(self.root, DIRECTORY)
        try:
            for part in directory.split("/") if directory else ():
                descriptor = self._descend(descriptor, part, key, create=create)
            yield descriptor
        finally:
            os.close(descriptor)

    def _descend(self, parent: int, part: str, key: str, *, create: bool) -> int:
        """Turn the descriptor `parent` into one of its directory `part`; the step may not leave the root."""
        if create:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=parent)
                os.fsync(parent)
        child = os.open(part, DIRECTORY, dir_fd=parent)
        try:
            self._check_beneath(child, key)
            os.dup2(child, parent, inheritable=False)
        finally:
            os.close(child)
        return parent

    def _check_beneath(self, descriptor: int, key: str) -> None:
        """Raises: OutsideOfRoot. What was opened is asked where it is, so no race can lead outside."""
        reached = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 (twice as fast, on every request)
        if not self._is_beneath(reached):
            self._real_root = os.path.realpath(self.root)
            if not self._is_beneath(reached):
                raise _outside(key)

    def _is_beneath(self, reached: str) -> bool:
        root = self._real_root
        return bool(root) and (reached == root or reached.startswith(root.rstrip("/") + "/"))


def _checked(key: str) -> str:
    """`key` without empty and `.` parts. Raises: OutsideOfRoot for one that could name anything else."""
    parts = [part for part in key.split("/") if part not in ("", ".")]
    if key.startswith("/") or ".." in parts or "\0" in key:
        raise _outside(key)
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise _outside(key) from error
    return "/".join(parts) or "."


def _version(status: os.stat_result) -> str | None:
    """None for what `get` does not find."""
    if stat.S_ISREG(status.st_mode):
        return f"{status.st_size} {status.st_mtime_ns}"
    return "" if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode) else None


def _read_version(status: os.stat_result) -> str:
    """The version of what is read from now on; empty where a change to come might have the same."""
    is_quiet = status.st_mtime_ns < time.time_ns() - _QUIET_NS
    return (is_quiet and _version(status)) or ""


def _blob(descriptor: int, status: os.stat_result, key: str, max_bytes: int) -> Blob:
    """Take over `descriptor`. Regular files stay open; a device is read, at most `max_bytes` of it."""
    if stat.S_ISREG(status.st_mode):
        if status.st_size > max_bytes:
            raise MemoryLimitExceeded
        return FileBlob(descriptor, status.st_size)
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        return _read_device(descriptor, max_bytes)
    raise NoSuchFile(f"file '{key}' not found", detail="neither a regular file nor a device")


def _read_device(descriptor: int, max_bytes: int) -> Blob:
    content = bytearray()
    while piece := os.read(descriptor, min(_COPY_BYTES, max_bytes + 1 - len(content))):
        content += piece
        if len(content) > max_bytes:
            raise MemoryLimitExceeded
    os.close(descriptor)
    return MemoryBlob(bytes(content))


def _outside(key: str) -> OutsideOfRoot:
    shown = key.replace("\0", "\\0").encode(errors="backslashreplace").decode()
    return OutsideOfRoot(f"file storage path '{shown}' outside of root direcotry")


@contextmanager
def _translated(key: str, absent: set[int]) -> Generator[None]:
    """The one border between the operating system's errors and ours."""
    try:
        yield
    except SafelightError:
        raise
    except OSError as error:
        if error.errno in absent and absent is _ABSENT:
            raise NoSuchFile(f"file '{key}' not found", detail=str(error)) from error
        if error.errno in absent:
            raise BadRequest(f"file cannot be stored under '{key}': {error.strerror}") from error
        raise StorageError(f"{error.strerror}: '{key}'", detail=str(error)) from error
