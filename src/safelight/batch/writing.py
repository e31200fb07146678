"""Write a result below its root: whole or not at all, never over a file that nobody gave up.

As in `storage.file`, what was opened is asked where it is, so links and races lead nowhere else. Unlike
there, names may be any bytes, an existing file can be left alone without a race, and the directory is not
synced: after a power cut a result may be missing, but what is there is whole.
"""

import errno
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from enum import Enum

from safelight.batch.naming import Target
from safelight.errors import OutsideOfRoot, SafelightError, StorageError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NO_NAMELESS_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOENT, errno.EXDEV)


class Existing(Enum):
    """What becomes of a file that is there already."""

    REFUSE = "refuse"
    SKIP = "skip"
    OVERWRITE = "overwrite"


class AlreadyThere(SafelightError):
    """The target exists and is not to be overwritten."""


def already_there(target: Target) -> AlreadyThere:
    return AlreadyThere(f"'{target.path}' exists already (--overwrite or --skip-existing)")


def check_root(root: str) -> None:
    """Find out before any work that nothing at all could be written. Raises: StorageError."""
    place = os.path.abspath(root)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        raise StorageError(f"'{place}' is not a directory")
    if not os.access(place, os.W_OK | os.X_OK):
        raise StorageError(f"'{place}' cannot be written to")


def write(target: Target, data: bytes, *, overwrite: bool) -> None:
    """Make the file and the directories it is in. Raises: AlreadyThere, OutsideOfRoot, StorageError."""
    directory, _, name = target.key.rpartition("/")
    with _translated(target), _opened(target, directory) as parent:
        descriptor, aside = _created(parent)
        try:
            _fill(descriptor, data)
            if overwrite:
                _replace(parent, descriptor, aside, name)
            else:
                _publish(parent, descriptor, aside, name)
        except FileExistsError as error:
            raise already_there(target) from error
        finally:
            os.close(descriptor)
            if aside:
                _forget(parent, aside)


@contextmanager
def _translated(target: Target) -> Generator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or "cannot be written"
        raise StorageError(f"'{target.path}': {reason}", detail=str(error)) from error


@contextmanager
def _opened(target: Target, directory: str) -> Generator[int]:
    """A descriptor of the directory below the root, made if it is missing."""
    descriptor = _open_root(target.root)
    try:
        if directory:
            real_root = _location(descriptor)
            for part in directory.split("/"):
                _descend(descriptor, part)
                _check_beneath(_location(descriptor), real_root, target)
        yield descriptor
    finally:
        os.close(descriptor)


def _open_root(root: str) -> int:
    try:
        return os.open(root, _DIRECTORY)
    except FileNotFoundError:
        os.makedirs(root, exist_ok=True)
        return os.open(root, _DIRECTORY)


def _descend(descriptor: int, part: str) -> None:
    """Turn `descriptor` into one of its directory `part`."""
    with suppress(FileExistsError):
        os.mkdir(part, dir_fd=descriptor)
    child = os.open(part, _DIRECTORY, dir_fd=descriptor)
    try:
        os.dup2(child, descriptor, inheritable=False)
    finally:
        os.close(child)


def _location(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def _check_beneath(reached: str, root: str, target: Target) -> None:
    if not reached.startswith(root.rstrip("/") + "/"):
        raise OutsideOfRoot(f"'{target.path}' is a link that leads out of '{target.root}'")


def _created(parent: int) -> tuple[int, str]:
    """A new file, nameless where the file system can (a kill then leaves nothing), and its name otherwise."""
    try:
        return os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=parent), ""
    except OSError as error:
        if error.errno not in _NO_NAMELESS_FILES:
            raise
    aside = _aside()
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    return os.open(aside, flags, 0o666, dir_fd=parent), aside


def _aside() -> str:
    return f".{secrets.token_hex(12)}.part"


def _fill(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def _publish(parent: int, descriptor: int, aside: str, name: str) -> None:
    """Give the file its name. Raises: FileExistsError."""
    try:
        _link(parent, descriptor, aside, name)
    except OSError as error:
        if not aside or error.errno not in _NO_LINKS:
            raise
        if _exists(parent, name):  # no hard links here: as good as it gets
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        os.rename(aside, name, src_dir_fd=parent, dst_dir_fd=parent)


def _replace(parent: int, descriptor: int, aside: str, name: str) -> None:
    """Give the file its name, in place of whatever has it."""
    temporary = aside or _aside()
    if not aside:
        _link(parent, descriptor, "", temporary)
    try:
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        _forget(parent, temporary)
        raise


def _link(parent: int, descriptor: int, aside: str, name: str) -> None:
    if aside:
        os.link(aside, name, src_dir_fd=parent, dst_dir_fd=parent)
    else:
        os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=parent, follow_symlinks=True)


def _exists(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _forget(parent: int, name: str) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=parent)
