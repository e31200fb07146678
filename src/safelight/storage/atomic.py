"""Files that appear whole: written and fsynced without a name, then named in one step. Linux only."""

import errno
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from safelight.blob import Blob
from safelight.errors import StorageError

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
PART_SUFFIX = ".part"
"""Ends the hidden names of files that are being written; a kill may leave one."""

_COPY_BYTES = 1 << 20


def replace_file(parent: int, name: str, parts: Iterable[Blob]) -> None:
    """Make `parts`, one after another, the content of `name` in the directory open as `parent`.

    A reader sees the old content or the new, never a part. The content is durable on return; the name is
    after an fsync of `parent`.

    Raises: StorageError when a part was cut short; OSError.
    """
    aside = f".{secrets.token_hex(12)}{PART_SUFFIX}"
    try:
        if _write_aside(parent, name, aside, parts) != name:
            os.rename(aside, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        _unlink_if_there(parent, aside)
        raise


def make_durably(directory: Path) -> None:
    """Make a directory and its parents, each fsynced into the one that it is in."""
    if not directory.is_dir():
        make_durably(directory.parent)
        with suppress(FileExistsError):
            directory.mkdir()
        parent = os.open(directory.parent, DIRECTORY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)


def _write_aside(parent: int, name: str, aside: str, parts: Iterable[Blob]) -> str:
    """Write and fsync `parts`; return the name they then have: `name` if that was free, else `aside`.

    They are nameless until they are whole, where the file system can: a kill leaves nothing, except between
    the two names of a file that replaces another.
    """
    try:
        descriptor = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=parent)
        named = False
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        descriptor = os.open(aside, flags, 0o666, dir_fd=parent)
        named = True
    try:
        for part in parts:
            _copy(part, descriptor)
        os.fsync(descriptor)
        if not named:
            written = f"/proc/self/fd/{descriptor}"
            with suppress(FileExistsError):
                os.link(written, name, dst_dir_fd=parent, follow_symlinks=True)
                return name
            os.link(written, aside, dst_dir_fd=parent, follow_symlinks=True)
        return aside
    finally:
        os.close(descriptor)


def _copy(data: Blob, descriptor: int) -> None:
    offset = 0
    while piece := data.read_at(offset, _COPY_BYTES):
        view = memoryview(piece)
        while view:
            view = view[os.write(descriptor, view) :]
        offset += len(piece)
    if offset != data.size:
        raise StorageError("the data to store was cut short", detail=f"{offset} of {data.size} bytes")


def _unlink_if_there(parent: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)
