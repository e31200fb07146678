"""Who computes an answer: one at a time for a key, among all processes of a machine.

A lock on one byte of a shared file stands for a key. It goes with the process that holds it, however that
ends; no file is made for a key and none is left behind.
"""

import asyncio
import errno
import fcntl
import os
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path

import structlog

FILE_NAME = ".safelight-flights"

_LOCK = struct.Struct("hhqqi4x")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.05
_TAKEN = {errno.EAGAIN, errno.EACCES}
_log = structlog.get_logger("safelight.results")


class Flights:
    """The locks of one cache directory."""

    def __init__(self, root: Path) -> None:
        self._path = root / FILE_NAME

    @asynccontextmanager
    async def alone(self, name: str, *, wait: bool) -> AsyncGenerator[bool]:
        """Be the only one who works on `name`, in any process; False when somebody else is.

        With `wait` that is waited for, and always True. Where locks do not work, everybody is alone.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            _log.warning("result cache: cannot lock", file=str(self._path), reason=str(error))
            yield True
            return
        try:
            taken, pause_s = self._take(descriptor, name), _FIRST_PAUSE_S
            while not taken and wait:
                await asyncio.sleep(pause_s)
                taken, pause_s = self._take(descriptor, name), min(2 * pause_s, _LONGEST_PAUSE_S)
            yield taken
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int, name: str) -> bool:
        place = int.from_bytes(blake2b(name.encode(), digest_size=7).digest(), "big")
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0))
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            _log.warning("result cache: cannot lock", file=str(self._path), reason=str(error))
        return True
