"""Memory shared by the server and one image worker: the input on the way there, the outputs on the way back.

A sealed memfd, as long as the largest input, mapped once and used again and again: a fresh one per request
costs a page fault for every 4 KiB on both sides (5 ms at 12 MP). It is sparse: only what was touched takes
memory, and what lies beyond `KEPT_BYTES` is given back after the request. Sealed, it cannot be cut short by a
worker, so the server is never hit by SIGBUS.
"""

import ctypes
import fcntl
import mmap
import os
from enum import IntEnum

KEPT_BYTES = 8 << 20
HEADER_BYTES = mmap.PAGESIZE
_PHASE_AT = 0


class Phase(IntEnum):
    """What the worker is doing, as the first byte of the arena says after its death."""

    WAITING = 0
    DECODING = 1
    ANSWERING = 2


_PHASES = frozenset(Phase)


class Arena:
    """One mapping of the shared memory; `body` is the part for images, writable."""

    def __init__(self, descriptor: int, capacity_bytes: int) -> None:
        """Map the memfd `descriptor`, which stays the caller's."""
        self.capacity_bytes = capacity_bytes
        self._memory = mmap.mmap(descriptor, HEADER_BYTES + capacity_bytes)
        self._all = memoryview(self._memory)
        self.body = self._all[HEADER_BYTES:]
        self._used_bytes = 0

    @property
    def phase(self) -> Phase | None:
        """What the worker has said last; None if it has overwritten it with nonsense."""
        byte = self._all[_PHASE_AT]
        return Phase(byte) if byte in _PHASES else None

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._all[_PHASE_AT] = phase

    def forget_beyond(self, size: int) -> None:
        """Zero what earlier requests left behind the first `size` bytes.

        A decoder that reads past the end of its input must not find the picture of somebody else there.
        """
        if self._used_bytes > size:
            start = ctypes.addressof(ctypes.c_char.from_buffer(self._all, HEADER_BYTES + size))
            ctypes.memset(start, 0, self._used_bytes - size)
        self._used_bytes = size

    def touched(self, size: int) -> None:
        """Note that the first `size` bytes are in use."""
        self._used_bytes = max(self._used_bytes, size)

    def shrink(self, kept_bytes: int = KEPT_BYTES) -> None:
        """Give memory beyond the first `kept_bytes` back to the system."""
        if self._used_bytes > kept_bytes:
            start = HEADER_BYTES + kept_bytes
            self._memory.madvise(mmap.MADV_REMOVE, start, HEADER_BYTES + self.capacity_bytes - start)
            self._used_bytes = kept_bytes

    def close(self) -> None:
        """Unmap. Views handed out must be gone."""
        self.body.release()
        self._all.release()
        self._memory.close()


def create_memfd(capacity_bytes: int) -> int:
    """A sealed memfd with room for the header and `capacity_bytes`; the caller closes it."""
    descriptor = os.memfd_create("safelight-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, HEADER_BYTES + capacity_bytes)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor
