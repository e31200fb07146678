"""A directory of files that may vanish: its total size is bounded, the least recently used go first.

Any number of processes share one such directory, and a kill at any moment leaves it usable. Two hidden files
in its root serve all of them: one holds the total size, the other is locked by whoever sweeps. The total is
only an estimate (a kill may come between a write and its accounting); every sweep corrects it.
"""

import fcntl
import heapq
import os
import re
import stat
import struct
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import structlog

from safelight.blob import Blob
from safelight.errors import StorageError
from safelight.storage.atomic import DIRECTORY, PART_SUFFIX, replace_file

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW
_SHARED = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_TOTAL_NAME = ".safelight-total"
_SWEEP_NAME = ".safelight-sweep"
_TOTAL_FORMAT = struct.Struct("<q?")
_NO_TOTAL = 1 << 60
"""Nobody has that many bytes: the file with the total is damaged."""

_SWEEP_TO = 0.9
_WRITERS_WAIT_ABOVE = 1.05
"""Fractions of the bound: what a sweep leaves, and where writers wait for the sweep instead of going on."""

_LEFTOVER_AGE_S = 3600
_FUTILE_SWEEP_PAUSE_S = 60
_SORTED_AT_ONCE = 4096
"""A sort holds the interpreter: 200,000 entries at once would stop the event loop for a third of a second."""

_log = structlog.get_logger("safelight.storage")


class _Total(NamedTuple):
    """Bytes in the directory; a lower bound until a first sweep has counted them."""

    size: int
    counted: bool


_File = tuple[int, str, int]
"""What a sweep finds: last use in ns, path, size. Plain, or the garbage collector would track each."""


class BoundedDirectory:
    """Files below `root`, together at most `max_bytes` (None: no bound), with up to 5 % more in passing.

    `layout` has one regular expression for each part of a name: `("[0-9a-f]{2}", "[0-9a-f]{30}")` for names
    such as `ab/cdef...`. Files under any other name are not ours: never counted, never removed. `root` must
    exist; directories below it are made as needed and stay.

    Methods block; all but `open` belong in a thread. They raise StorageError for whatever the file system
    refuses.
    """

    def __init__(self, root: Path, layout: Sequence[str], max_bytes: int | None = None) -> None:
        self.root = root.absolute()
        self._layout = [re.compile(part) for part in layout]
        self._max_bytes = max_bytes
        self._sweeper: threading.Thread | None = None
        self._no_sweep_before_s = 0.0

    def open(self, name: str) -> int | None:
        """A descriptor of a regular file under `name`, now the most recently used; None if there is none.

        It holds a shared lock. A file under an exclusive lock counts as absent: httpimagestore, which may
        share the directory, writes in place.
        """
        with self._translated(name):
            try:
                descriptor = os.open(self._path(name), _READ)
            except (FileNotFoundError, NotADirectoryError):
                return None
            try:
                usable = _lock_and_touch(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            if not usable:
                os.close(descriptor)
            return descriptor if usable else None

    def write(self, name: str, parts: Sequence[Blob]) -> bool:
        """Make `parts`, one after another, the content of `name`: a reader sees the old or the new.

        What alone is larger than the bound is not kept, nor is what it would have replaced: False.
        """
        size = sum(part.size for part in parts)
        if self._max_bytes is not None and size > self._max_bytes:
            self.remove(name)
            return False
        with self._translated(name):
            self._wait_for_room(size)
            total = self._add_to_total(size)
            try:
                replaced = self._replace(name, parts)
            except BaseException:
                self._add_to_total(-size)
                raise
            if replaced:
                total = self._add_to_total(-replaced)
            if self._wants_sweep(total):
                self._start_sweep()
        return True

    def remove(self, name: str) -> None:
        """Remove what is under `name`, if anything is."""
        with self._translated(name):
            path = self._path(name)
            size = _size(path)
            with suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(path)  # noqa: PTH108 (names are text here: a sweep handles 200,000 of them)
                self._add_to_total(-size)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _replace(self, name: str, parts: Sequence[Blob]) -> int:
        """Write; return the size of what was replaced."""
        directory = str(self.root)
        *above, last = name.split("/")
        for part in above:
            directory = f"{directory}/{part}"
            with suppress(FileExistsError):
                os.mkdir(directory)  # noqa: PTH102
        parent = os.open(directory, DIRECTORY)
        try:
            replaced = _size(f"{directory}/{last}")
            replace_file(parent, last, parts)
        finally:
            os.close(parent)
        return replaced

    def _wait_for_room(self, size: int) -> None:
        """Sweep at once where `size` more bytes would be far above the bound. Raises: StorageError."""
        if self._max_bytes is None:
            return
        limit = int(self._max_bytes * _WRITERS_WAIT_ABOVE)
        if self._add_to_total(0).size + size > limit:
            self._sweep(self._max_bytes, room=size, wait=True)
            total = self._add_to_total(0)
            if total.size + size > limit:
                raise StorageError(f"'{self.root}' is full: {total.size} of {self._max_bytes} bytes")

    def _wants_sweep(self, total: _Total) -> bool:
        return self._max_bytes is not None and (not total.counted or total.size > self._max_bytes)

    def _add_to_total(self, size: int, *, counted: bool = False) -> _Total:
        """Change the total that all processes share and return it."""
        with self._locked(_TOTAL_NAME, fcntl.LOCK_EX) as descriptor:
            content = os.pread(descriptor, _TOTAL_FORMAT.size, 0)
            before = _Total(0, counted=False)
            if len(content) == _TOTAL_FORMAT.size:
                before = _Total(*_TOTAL_FORMAT.unpack(content))
            if not 0 <= before.size < _NO_TOTAL:
                before = _Total(0, counted=False)
            total = _Total(max(0, before.size + size), before.counted or counted)
            if total != before:
                os.pwrite(descriptor, _TOTAL_FORMAT.pack(*total), 0)
            return total

    @contextmanager
    def _locked(self, name: str, how: int) -> Generator[int]:
        """Raises: BlockingIOError when `how` says not to wait."""
        descriptor = os.open(self._path(name), _SHARED, 0o666)
        try:
            fcntl.flock(descriptor, how)
            yield descriptor
        finally:
            os.close(descriptor)

    def _start_sweep(self) -> None:
        if self._sweeper is None or not self._sweeper.is_alive():
            self._sweeper = threading.Thread(
                target=self._sweep_and_report, name="safelight-sweep", daemon=True
            )
            with suppress(RuntimeError):  # no thread to be had: the next write tries again
                self._sweeper.start()

    def _sweep_and_report(self) -> None:
        try:
            if self._max_bytes is not None:
                self._sweep(self._max_bytes, room=0, wait=False)
        except OSError as error:
            self._pause_sweeps(str(error))

    def _sweep(self, max_bytes: int, *, room: int, wait: bool) -> None:
        """Remove the least recently used until there is `room`, unless another process just does or did so.

        With `wait` the other's sweep is over on return.
        """
        if time.monotonic() < self._no_sweep_before_s:
            return
        how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        with suppress(BlockingIOError), self._locked(_SWEEP_NAME, how):
            before = self._add_to_total(0)
            if not before.counted or before.size + room > max_bytes:
                self._sweep_to(min(int(max_bytes * _SWEEP_TO), max_bytes - room), before.size)

    def _sweep_to(self, goal: int, estimate: int) -> None:
        """`estimate`: the total before; what is written while the sweep counts is added to it."""
        found, chunks = self._sorted_files()
        left, refusal = found, ""
        for used_ns, path, size in heapq.merge(*chunks) if found > goal else ():
            try:
                left -= size if _remove_unless_used(path, used_ns) else 0
            except OSError as error:  # others can be removed
                refusal = str(error)
            if left <= goal:
                break
        self._add_to_total(left - estimate, counted=True)
        if refusal and left > goal:
            self._pause_sweeps(refusal)

    def _pause_sweeps(self, reason: str) -> None:
        self._no_sweep_before_s = time.monotonic() + _FUTILE_SWEEP_PAUSE_S
        _log.warning("cannot remove enough files of a cache", directory=str(self.root), reason=reason)

    def _sorted_files(self) -> tuple[int, list[list[_File]]]:
        """The size of all files together, and all files in chunks, each sorted."""
        files = self._files()
        size = 0
        chunks: list[list[_File]] = []
        while chunk := list(islice(files, _SORTED_AT_ONCE)):
            size += sum(file[2] for file in chunk)
            chunk.sort()
            chunks.append(chunk)
        return size, chunks

    def _files(self) -> Iterator[_File]:
        """All files of ours. Removes what killed writers have left behind."""
        leftovers_before_ns = time.time_ns() - _LEFTOVER_AGE_S * 1_000_000_000
        for found in self._walk(str(self.root), 0):
            with suppress(OSError):
                status = found.stat(follow_symlinks=False)
                if self._layout[-1].fullmatch(found.name):
                    yield status.st_mtime_ns, found.path, status.st_size
                elif status.st_mtime_ns < leftovers_before_ns:
                    os.unlink(found.path)  # noqa: PTH108

    def _walk(self, directory: str, depth: int) -> Iterator[os.DirEntry[str]]:
        """Files of ours and hidden files of writers, below directories with names of ours."""
        is_lowest = depth == len(self._layout) - 1
        with suppress(FileNotFoundError), os.scandir(directory) as entries:
            for entry in entries:
                is_ours = self._layout[depth].fullmatch(entry.name) is not None
                if is_lowest:
                    if (is_ours or _is_part(entry.name)) and entry.is_file(follow_symlinks=False):
                        yield entry
                elif is_ours and entry.is_dir(follow_symlinks=False):
                    yield from self._walk(entry.path, depth + 1)

    @contextmanager
    def _translated(self, name: str) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"{error.strerror}: '{self._path(name)}'", detail=str(error)) from error


def _lock_and_touch(descriptor: int) -> bool:
    """Whether the file is a regular one that nobody is writing in place."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    with suppress(OSError):  # somebody else's file, or a file system that is read-only: it only seems older
        os.utime(descriptor)
    return True


def _size(path: str) -> int:
    """Bytes; 0 when there is no such file."""
    try:
        return os.stat(path, follow_symlinks=False).st_size  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _remove_unless_used(path: str, used_ns: int) -> bool:
    """Whether the file is gone; one that was read or replaced since the sweep stays. Raises: OSError."""
    with suppress(FileNotFoundError):
        if os.stat(path, follow_symlinks=False).st_mtime_ns != used_ns:  # noqa: PTH116
            return False
        os.unlink(path)  # noqa: PTH108
    return True


def _is_part(name: str) -> bool:
    return name.startswith(".") and name.endswith(PART_SUFFIX)
