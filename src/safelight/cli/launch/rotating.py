"""A log file that several processes write to and that is moved aside when it has become too large."""

import fcntl
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

from safelight.cli.launch.log import LogFile


@dataclass(frozen=True, slots=True)
class Rotation:
    """A file of more than `max_bytes` becomes `.1`, that `.2` and so on; `kept` of them stay.

    `mode`: permissions of a new file.
    """

    max_bytes: int
    kept: int
    mode: int


class RotatingLogFile(LogFile):
    """Each process looks before each line whether the file is too large, or has been moved by another."""

    def __init__(self, path: str, formatter: logging.Formatter, rotation: Rotation) -> None:
        super().__init__(path, formatter)
        self._rotation = rotation

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # perhaps this process is another user now: the file in use still takes lines
            self._look()
        super().emit(record)

    def _open(self) -> TextIOWrapper:
        with suppress(OSError):
            os.close(os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT, self._rotation.mode))
        return super()._open()

    def _look(self) -> None:
        stream: TextIOWrapper | None = self.stream
        if stream is None:
            return
        if os.fstat(stream.fileno()).st_size > self._rotation.max_bytes:
            self._rotate(stream.fileno())
        if self._is_moved(stream.fileno()):
            self.stream = self._open()
            stream.close()

    def _is_moved(self, descriptor: int) -> bool:
        try:
            named = Path(self.baseFilename).stat()
        except FileNotFoundError:
            return True
        return not os.path.samestat(named, os.fstat(descriptor))

    def _rotate(self, descriptor: int) -> None:
        """Move the files, unless another process has just done so."""
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if self._is_moved(descriptor):
                return
            for number in range(self._rotation.kept, 0, -1):
                source = Path(f"{self.baseFilename}.{number - 1}" if number > 1 else self.baseFilename)
                with suppress(FileNotFoundError):
                    source.replace(f"{self.baseFilename}.{number}")
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
