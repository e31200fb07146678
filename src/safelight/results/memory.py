"""Answers that a process has just read or made: what is asked for often costs no system call."""

import time
from collections import OrderedDict

from safelight.results.entry import IN_MEMORY_BYTES, Entry

MAX_BYTES = 32 << 20
MAX_AGE_S = 60
"""After that an answer is read again, which tells its directory that it is in use."""

_COST_BYTES = 1 << 10
"""What an answer takes besides its body, about."""

Key = tuple[str | None, ...]


class Memory:
    """The most recently used answers, together at most `MAX_BYTES`; large ones stay in their files."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._max_bytes = max_bytes
        self._bytes = 0

    def get(self, key: Key) -> Entry | None:
        """None also for one that is to be read again."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.read_at + MAX_AGE_S < time.monotonic():
            self.drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: Key, entry: Entry) -> None:
        """Hold `entry`, read right now, if it is small; in place of a former one in any case."""
        self.drop(key)
        if entry.head.size > IN_MEMORY_BYTES:
            return
        entry.read_at = time.monotonic()
        self._entries[key] = entry
        self._bytes += entry.head.size + _COST_BYTES
        while self._bytes > self._max_bytes:
            self.drop(next(iter(self._entries)))

    def drop(self, key: Key) -> None:
        """Let go of an answer."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.head.size + _COST_BYTES
