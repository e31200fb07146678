"""Which workers of this machine have died: each locks a file of its own, and no lock outlives its process.

Process ids could not tell: they are given again, and mean something else in another container.
"""

import errno
import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote


class Presence:
    """Shows in `directory` that workers of this process live. Not for use by two threads at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[str, int | None] = {}

    def show(self, worker: str) -> None:
        """Lock the file of `worker`, until `end`, or until this process dies.

        Where that is not possible it is not done: the worker's leases will have to expire, should it die.
        """
        if worker not in self._held:
            self._held[worker] = None
            with suppress(OSError):
                self._directory.mkdir(mode=0o700, exist_ok=True)
                self._held[worker] = _made_locked(self._file(worker))

    def end(self) -> None:
        """Remove the files: these workers are gone, but have not died."""
        for worker, file in self._held.items():
            if file is not None:
                self._file(worker).unlink(missing_ok=True)
                os.close(file)
        self._held.clear()

    def _file(self, worker: str) -> Path:
        return self._directory / quote(worker, safe=":")


@contextmanager
def dead_workers(directory: Path) -> Generator[list[str]]:
    """Workers that showed themselves in `directory` and have died. They are forgotten when this ends well."""
    files: dict[Path, int] = {}
    try:
        for path in directory.iterdir() if directory.is_dir() else ():
            with suppress(OSError):  # locked by a worker that lives, or by another process that looks
                files[path] = _locked(path)
        yield [unquote(path.name) for path in files]
        for path in files:
            path.unlink(missing_ok=True)
    finally:
        for file in files.values():
            os.close(file)


def _made_locked(path: Path) -> int:
    """A new file, opened. It is locked before others see it under its name, or they would take it for dead.

    Raises: OSError.
    """
    aside = path.with_name(f".{path.name}")
    os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    file = _locked(aside)
    try:
        os.link(aside, path)
        aside.unlink(missing_ok=True)
    except OSError:
        os.close(file)
        raise
    return file


def _locked(path: Path) -> int:
    """The file, opened and locked. Raises: OSError, also when it was removed before it could be locked."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "removed meanwhile", str(path))
    except OSError:
        os.close(file)
        raise
    return file
