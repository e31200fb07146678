"""Landlock: no file but the fonts, no TCP, no signal or abstract socket beyond this process.

Struct and constants: landlock(7), linux/landlock.h. The system calls have one number on every architecture.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
ASK_FOR_VERSION = 1
PATH_BENEATH = 1
READ_FILE, READ_DIR = 1 << 2, 1 << 3
# File rights, network rights and scopes that the kernel knows from each version of the interface on.
FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
NET_RIGHTS = {4: 0b11}
SCOPES = {6: 0b11}


def version() -> int:
    """The kernel's version of the interface, 0 without Landlock."""
    return max(0, _syscall(CREATE_RULESET, None, 0, ASK_FOR_VERSION))


def restrict(readable: Iterable[Path]) -> None:
    """Confine this thread and what it starts to reading beneath `readable`. Raises: OSError.

    Needs no_new_privs. Open descriptors keep their rights. Paths that do not exist are left out.
    """
    known = version()
    attributes = struct.pack(
        "=QQQ", _newest(FILE_RIGHTS, known), _newest(NET_RIGHTS, known), _newest(SCOPES, known)
    )
    size = 8 if known < 4 else 16 if known < 6 else 24
    ruleset = _checked(_syscall(CREATE_RULESET, attributes, size, 0))
    try:
        for path in readable:
            _allow_reading(ruleset, path)
        _checked(_syscall(RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _allow_reading(ruleset: int, path: Path) -> None:
    try:
        directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = struct.pack("=Qi", READ_FILE | READ_DIR, directory)
        _checked(_syscall(ADD_RULE, ruleset, PATH_BENEATH, rule, 0))
    finally:
        os.close(directory)


def _newest(rights: dict[int, int], known: int) -> int:
    return next((bits for since, bits in sorted(rights.items(), reverse=True) if since <= known), 0)


def _syscall(number: int, *arguments: bytes | int | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    as_words = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    return libc.syscall(ctypes.c_long(number), *as_words)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno() or errno.ENOSYS
        raise OSError(number, f"landlock: {os.strerror(number)}")
    return result
