"""One cache directory: kept answers by their keys, in memory and on disk."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import structlog

from safelight.blob import Blob, FileBlob
from safelight.errors import StorageError
from safelight.results.entry import Damaged, Entry, read, written
from safelight.results.epochs import ALL, Epochs
from safelight.results.flight import Flights
from safelight.results.memory import Key, Memory
from safelight.storage.atomic import make_durably
from safelight.storage.bounded import BoundedDirectory

LAYOUT = ("[0-9a-f]{2}", "[0-9a-f]{30}")
"""Names of the files, for their `BoundedDirectory`."""

_log = structlog.get_logger("safelight.results")


class Usage(NamedTuple):
    """How many answers a directory holds, and their bytes with heads."""

    answers: int
    size: int


class Shelf:
    """Answers below `root`, together at most `max_bytes`; the least recently used go first.

    A file that is damaged, foreign or cannot be read counts as absent. What cannot be written is not kept,
    which is said once in the log until it works again.
    """

    def __init__(self, root: Path, max_bytes: int | None) -> None:
        """Makes the directory. Raises: StorageError."""
        self.root = root.absolute()
        try:
            make_durably(self.root)
        except OSError as error:
            raise StorageError(f"result cache: {error.strerror}: '{self.root}'", detail=str(error)) from error
        self.epochs = Epochs(self.root)
        self.flights = Flights(self.root)
        self._directory = BoundedDirectory(self.root, LAYOUT, max_bytes)
        self._memory = Memory()
        self._is_failing = False

    def get(self, key: Key, url: int, not_before: float) -> Entry | None:
        """The valid answer under `key`; `url`: the slot of the URL that was asked for.

        Where the answer in memory was kept before `not_before` (Unix time), the file may have a newer one.
        """
        try:
            entry = self._memory.get(key)
            if entry is not None and entry.head.kept_at >= not_before and self.is_valid(entry, url):
                return entry
            entry = self._read(name_of(key))
            if entry is not None and self.is_valid(entry, url):
                self._memory.put(key, entry)
                return entry
        except StorageError as error:
            self._complain("cannot read", error)
        self._memory.drop(key)
        return None

    def at_hand(self, key: Key, url: int) -> Entry | None:
        """The valid answer under `key` if it is in memory."""
        entry = self._memory.get(key)
        return entry if entry is not None and self.is_valid(entry, url) else None

    def is_valid(self, entry: Entry, url: int) -> bool:
        """Whether nothing has changed that `entry` depends on. `url`: the slot of the URL asked for."""
        head, epochs = entry.head, self.epochs
        try:
            is_of_this_file = head.epochs == epochs.identity
        except StorageError as error:
            self._complain("cannot tell what has changed", error)
            return False
        return is_of_this_file and epochs.unchanged((ALL, url, *head.slots), head.made)

    async def keep(self, key: Key, entry: Entry) -> bool:
        """Write `entry`; False if that was not possible, or it is larger than all may be."""
        try:
            is_kept = await asyncio.to_thread(self._directory.write, entry.head.name, written(entry))
        except (StorageError, UnicodeEncodeError) as error:
            self._complain("cannot keep answers", error)
            return False
        self._is_failing = False
        if is_kept:
            self._memory.put(key, entry)
        return is_kept

    def content(self, name: str) -> Blob | None:
        """The file called `name`; None when there is none, or none that can be read."""
        try:
            descriptor = self._directory.open(name)
            return None if descriptor is None else FileBlob(descriptor, os.fstat(descriptor).st_size)
        except (StorageError, OSError) as error:
            self._complain("cannot read", error)
            return None

    def usage(self) -> Usage:
        """Counts the files; others may come and go meanwhile."""
        sizes: list[int] = []
        for file in self._files():
            with suppress(FileNotFoundError):
                sizes.append(file.stat().st_size)
        return Usage(len(sizes), sum(sizes))

    def clear(self) -> int:
        """Make every answer invalid and remove the files; how many. Raises: StorageError."""
        self.epochs.mark(ALL)
        names = [f"{file.parent.name}/{file.name}" for file in self._files()]
        for name in names:
            self._directory.remove(name)
        return len(names)

    def _files(self) -> Iterator[Path]:
        return self.root.glob(f"{'[0-9a-f]' * 2}/{'[0-9a-f]' * 30}")

    def _read(self, name: str) -> Entry | None:
        """Raises: StorageError."""
        descriptor = self._directory.open(name)
        if descriptor is None:
            return None
        try:
            return read(descriptor, name)
        except (Damaged, OSError) as error:
            _log.warning("result cache: cannot use a file", file=f"{self.root}/{name}", reason=str(error))
            return None

    def _complain(self, what: str, error: Exception) -> None:
        if not self._is_failing:
            self._is_failing = True
            _log.warning(f"result cache: {what}", directory=str(self.root), reason=str(error))


def name_of(key: Key) -> str:
    """The name of the file of `key`: a digest, so that nothing about a request can be read from it."""
    digits = blake2b(repr(key).encode(), digest_size=16).hexdigest()
    return f"{digits[:2]}/{digits[2:]}"
