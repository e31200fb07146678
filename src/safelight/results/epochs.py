"""What has changed since an answer was kept: logical times in a file that all processes of a machine share.

The file has a clock, which every change advances, and a slot for each name (of a stored image, a URL, a tag),
which holds the time of its last change. Names share slots by their checksum: a collision only makes an answer
invalid that need not be. An answer remembers the time at which its computation began; it is valid while no
slot that it depends on is later. Checking that reads mapped memory and costs no system call.

Whoever changes something stored holds a lock on its slot, from before the slot is marked until the change
is made. So an answer computed meanwhile, from who knows which content, is known to be no answer to keep; and
a process that is killed half-way leaves no lock.

Changes are not written through to the disk one by one: that would cost each store another flush. The last
process to close the file does, and says so in it. Where nobody has said so before the machine was started
again, as after a power cut, changes may be lost, and the file is taken for none of ours.
"""

import fcntl
import os
import secrets
import stat
import struct
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from zlib import crc32

from safelight.errors import StorageError

FILE_NAME = ".safelight-epochs"
SLOTS = 1 << 20
"""With 10 changes a second, one of an answer's slots is hit by chance once in several hours."""

ALL = 0
"""The slot of everything."""

_MAGIC = b"SLepoch1"
_HEADER = struct.Struct("=8s16sQ16sQ")
"""What it is, its identity, the clock, the boot of the machine that used it last, if all of it is on disk."""
_HEADER_BYTES = 4096
_CLOCK = 3
_USE = struct.Struct("=16sQ")
_USE_AT = _HEADER.size - _USE.size
_FIRST_SLOT = _HEADER_BYTES // 8
_FILE_BYTES = _HEADER_BYTES + 8 * SLOTS
_NUMBER = struct.Struct("=Q")
_LOCK = struct.Struct("hhqqi4x")
_USERS = SLOTS
"""The byte, after those of the slots, on which all who use the file hold a lock."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LOOK_EVERY_S = 1.0


def place_slot(place: str) -> int:
    """The slot of something stored. `place`: what `Storage.place` calls it."""
    return _slot("place " + place)


def url_slot(path: str) -> int:
    """The slot of a URL. `path`: decoded, without query."""
    return _slot("url " + path)


def tag_slot(tag: str) -> int:
    """The slot of a tag."""
    return _slot("tag " + tag)


def tag_slots(tags: str) -> list[int]:
    """The slots of comma-separated tags."""
    return [tag_slot(tag.strip()) for tag in tags.split(",") if tag.strip()]


def _slot(name: str) -> int:
    return 1 + crc32(name.encode("utf-8", "surrogateescape")) % (SLOTS - 1)


@dataclass(frozen=True, slots=True)
class _File:
    """The file as it was opened. `identity` tells it from one that replaces it."""

    descriptor: int
    numbers: "memoryview[int]"
    identity: str
    inode: tuple[int, int]


class Epochs:
    """The logical times of one cache directory. To be used from one thread.

    The file is made when it is missing or none of ours; all answers kept before are invalid then.
    """

    def __init__(self, root: Path) -> None:
        """Raises: StorageError."""
        self._path = root / FILE_NAME
        self._look_again_s = 0.0
        try:
            with _translated(self._path):
                self._file = _opened_or_made(self._path)
        except StorageError as error:  # not told to clients, but to who starts a server
            raise error.reworded(f"{error.message}: '{self._path}'") from error

    @property
    def identity(self) -> str:
        """Changes when the file was replaced, which makes everything invalid. Raises: StorageError."""
        if time.monotonic() >= self._look_again_s:
            self._look()
        return self._file.identity

    def now(self) -> int:
        """The logical time. What is read from now on shows all changes up to it, or is locked."""
        return self._file.numbers[_CLOCK]

    def unchanged(self, slots: Iterable[int], since: int) -> bool:
        """Whether nothing with one of these slots has changed after the time `since`."""
        numbers = self._file.numbers
        for slot in slots:  # noqa: SIM110 (on every hit: a third of the time that `all` takes)
            if numbers[_FIRST_SLOT + slot] > since:
                return False
        return True

    def changed_at(self, slot: int) -> int:
        """The logical time of the last change of what has this slot."""
        return self._file.numbers[_FIRST_SLOT + slot]

    def mark(self, slot: int) -> None:
        """Make invalid what depends on `slot`. Raises: StorageError."""
        with _translated(self._path):
            self._look()
            file = self._file
            fcntl.flock(file.descriptor, fcntl.LOCK_EX)
            try:
                after = file.numbers[_CLOCK] + 1
                # the slot first: killed in between, answers are invalid that need not be
                os.pwrite(file.descriptor, _NUMBER.pack(after), 8 * (_FIRST_SLOT + slot))
                os.pwrite(file.descriptor, _NUMBER.pack(after), 8 * _CLOCK)
            finally:
                fcntl.flock(file.descriptor, fcntl.LOCK_UN)

    @contextmanager
    def changing(self, place: str) -> Generator[None]:
        """To be held while what is stored at `place` is changed. Raises: StorageError, before anything is."""
        slot = place_slot(place)
        with _translated(self._path):
            self._look()
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            with _translated(self._path):
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _lock(fcntl.F_RDLCK, slot))
            self.mark(slot)
            yield
        finally:
            os.close(descriptor)

    def is_changing(self, slot: int) -> bool:
        """Whether somebody, in any process, is about to change what has this slot. Raises: StorageError."""
        with _translated(self._path):
            asked = fcntl.fcntl(self._file.descriptor, fcntl.F_OFD_GETLK, _lock(fcntl.F_WRLCK, slot))
        return _LOCK.unpack(asked)[0] != fcntl.F_UNLCK

    def close(self) -> None:
        """Let go of the file; the last of its users sees to it that all of it is on disk."""
        descriptor = self._file.descriptor
        try:
            with suppress(OSError):  # others use it still
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _lock(fcntl.F_WRLCK, _USERS))
                os.fdatasync(descriptor)
                _note_use(descriptor, is_on_disk=True)
            with suppress(OSError):  # what is mapped would keep the lock
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _lock(fcntl.F_UNLCK, _USERS))
        finally:
            os.close(descriptor)

    def _look(self) -> None:
        """Follow a replaced or overwritten file: somebody may have emptied the directory, or restored it.

        Raises: StorageError.
        """
        self._look_again_s = time.monotonic() + _LOOK_EVERY_S
        with _translated(self._path):
            if _is_in_place(self._path, self._file):
                return
            former = self._file
            self._file = _opened_or_made(self._path)
            os.close(former.descriptor)


def _lock(kind: int, slot: int) -> bytes:
    """A lock on one byte of the file (fcntl(2), struct flock)."""
    return _LOCK.pack(kind, os.SEEK_SET, slot, 1, 0)


def _is_in_place(path: Path, file: _File) -> bool:
    """Whether `file` is what `path` names, and still of full length and the same identity. Raises: OSError.

    Reading mapped memory that a file no longer has kills the process (mmap(2), SIGBUS).
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    if (status.st_dev, status.st_ino) != file.inode or status.st_size != _FILE_BYTES:
        return False
    magic, identity, *_ = _HEADER.unpack(os.pread(file.descriptor, _HEADER.size, 0))
    return magic == _MAGIC and identity.hex() == file.identity


def _opened_or_made(path: Path) -> _File:
    """Raises: OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = _opened(path)
    if found is None:
        _make(path, replace=path.exists())
        found = _opened(path)
    if found is None:
        raise OSError(0, "is not a file of a result cache")
    return found


def _opened(path: Path) -> _File | None:
    """None for a file that is missing, none of ours, or may lack changes. Raises: OSError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        identity = _begun_use(descriptor)
        if identity is not None:
            status = os.fstat(descriptor)
            numbers = memoryview(mmap(descriptor, _FILE_BYTES, access=ACCESS_READ)).cast("Q")
            return _File(descriptor, numbers, identity.hex(), (status.st_dev, status.st_ino))
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _begun_use(descriptor: int) -> bytes | None:
    """The identity of a file that is used from now on; None for one that cannot be. Raises: OSError."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW, _lock(fcntl.F_RDLCK, _USERS))
    header = os.pread(descriptor, _HEADER.size, 0)
    if os.fstat(descriptor).st_size != _FILE_BYTES or header[: len(_MAGIC)] != _MAGIC:
        return None
    _, identity, _, boot, is_on_disk = _HEADER.unpack(header)
    if boot != _boot_id() and not is_on_disk:
        return None
    if boot != _boot_id() or is_on_disk:
        _note_use(descriptor, is_on_disk=False)
    return identity


def _note_use(descriptor: int, *, is_on_disk: bool) -> None:
    """Say on disk whether all changes are there. Raises: OSError."""
    os.pwrite(descriptor, _USE.pack(_boot_id(), is_on_disk), _USE_AT)
    os.fdatasync(descriptor)


@cache
def _boot_id() -> bytes:
    """Another one each time that the machine is started (random(4)); one for ever where nobody says."""
    try:
        return bytes.fromhex(_BOOT_ID.read_text().strip().replace("-", ""))
    except OSError:
        return bytes(16)


def _make(path: Path, *, replace: bool) -> None:
    """A file with all its blocks: a mark must not fail, nor a reader fault, because a disk is full."""
    aside = path.with_name(f"{FILE_NAME}.{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        os.posix_fallocate(descriptor, 0, _FILE_BYTES)
        os.pwrite(descriptor, _HEADER.pack(_MAGIC, secrets.token_bytes(16), 1, _boot_id(), False), 0)
        if replace:
            _give_to_owner(descriptor, path)
            aside.rename(path)
        else:
            with suppress(FileExistsError):  # another process was faster
                path.hardlink_to(aside)
    finally:
        os.close(descriptor)
        aside.unlink(missing_ok=True)


def _give_to_owner(descriptor: int, path: Path) -> None:
    """What a command of root makes anew still belongs to the server. Raises: OSError."""
    owner = path.stat()
    if os.geteuid() == 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(owner.st_mode))


@contextmanager
def _translated(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        detail = str(error) if error.filename else f"{error}: '{path}'"
        raise StorageError(f"result cache: {reason}", detail=detail) from error
