"""System calls that image code may make; every other one fails with EPERM.

What is not here cannot be done: no socket, no exec, no fork, no ptrace, no signal to another process, no file
opened for writing, no executable memory. Numbers: the kernel's tables of x86-64 and of the generic ABI.
Struct and constants: seccomp(2), linux/seccomp.h, linux/bpf_common.h.
"""

import ctypes
import errno
import fcntl
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass

LOAD_WORD, JUMP_IF_EQUAL, AND, RETURN = 0x20, 0x15, 0x54, 0x06
ALLOW, FAIL_WITH = 0x7FFF0000, 0x00050000
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
SET_MODE_FILTER, GET_ACTION_AVAILABLE, TSYNC = 1, 2, 1

CLONE_THREAD = 0x00010000
MAP_SHARED = 0x01
PROT_EXEC = 0x04
OPEN_TO_CHANGE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
PR_SET_NAME = 15
# Not F_SETOWN and F_SETSIG, which make the kernel send signals for us.
FCNTL_COMMANDS = (fcntl.F_DUPFD, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_DUPFD_CLOEXEC)

Instruction = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Table:
    """One architecture. Files opened by number `openat` are left to Landlock and to the rule on flags."""

    audit_arch: int
    seccomp: int
    plain: Sequence[int]
    openat: int
    clone: int
    clone3: int
    fcntl: int
    tgkill: int
    prctl: int
    prlimit64: int
    mmap: int
    mprotect: int


# `plain` has the same calls in both, in this order: read write close fstat lseek munmap brk,
# rt_sig{action,procmask,return}, pread pwrite readv writev, sched_yield mremap madvise mincore, dup,
# nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday, sendto sendmsg recvfrom recvmsg,
# exit exit_group, uname getcwd, readlinkat faccessat newfstatat statx statfs fstatfs getdents64,
# getrusage sysinfo, getpid getppid gettid getuid geteuid getgid getegid, sigaltstack,
# futex set_robust_list set_tid_address rseq restart_syscall membarrier, sched_getaffinity sched_getattr,
# getrandom ppoll faccessat2 preadv preadv2.
# fmt: off
X86_64 = Table(
    audit_arch=0xC000003E, seccomp=317, openat=257, clone=56, clone3=435, fcntl=72, tgkill=234, prctl=157,
    prlimit64=302, mmap=9, mprotect=10,
    plain=(
        0, 1, 3, 5, 8, 11, 12, 13, 14, 15, 17, 18, 19, 20, 24, 25, 28, 27, 32, 35, 230, 228, 229, 96,
        44, 46, 45, 47, 60, 231, 63, 79, 267, 269, 262, 332, 137, 138, 217, 98, 99, 39, 110, 186, 102, 107,
        104, 108, 131, 202, 273, 218, 334, 219, 324, 204, 315, 318, 271, 439, 295, 327,
        # Older entry points that the C library of x86-64 still uses: stat lstat poll access readlink time.
        4, 6, 7, 21, 89, 201,
    ),
)
AARCH64 = Table(
    audit_arch=0xC00000B7, seccomp=277, openat=56, clone=220, clone3=435, fcntl=25, tgkill=131, prctl=167,
    prlimit64=261, mmap=222, mprotect=226,
    plain=(
        63, 64, 57, 80, 62, 215, 214, 134, 135, 139, 67, 68, 65, 66, 124, 216, 233, 232, 23, 101, 115,
        113, 114, 169, 206, 211, 207, 212, 93, 94, 160, 17, 78, 48, 79, 291, 43, 44, 61, 165, 179, 172, 173,
        178, 174, 175, 176, 177, 132, 98, 99, 96, 293, 128, 283, 123, 275, 278, 73, 439, 69, 286,
    ),
)
# fmt: on
TABLES = {"x86_64": X86_64, "aarch64": AARCH64}


class _Filter(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("operand", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filters", ctypes.POINTER(_Filter)))


def table() -> Table | None:
    """The table of this machine, None on another architecture."""
    return TABLES.get(platform.machine())


def program(table: Table, pid: int, may_open: bool) -> list[Instruction]:
    """The filter for the process `pid`. `may_open`: allow opening for reading, where Landlock says what."""
    lines = [*_unless(ARCHITECTURE_AT, table.audit_arch, _fail(errno.EPERM)), (LOAD_WORD, 0, 0, NUMBER_AT)]
    for number in table.plain:
        lines += _when(number, [(RETURN, 0, 0, ALLOW)])
    # ENOSYS: the C library then starts its threads with clone, whose flags can be seen here.
    lines += _when(table.clone3, _fail(errno.ENOSYS))
    lines += _when(table.clone, _when_bits(0, CLONE_THREAD, CLONE_THREAD))
    lines += _when(table.mmap, [*_unless_bits(2, PROT_EXEC), *_when_bits(3, MAP_SHARED, 0)])
    lines += _when(table.mprotect, _when_bits(2, PROT_EXEC, 0))
    lines += _when(table.fcntl, _when_one_of(1, FCNTL_COMMANDS))
    lines += _when(table.tgkill, _when_bits(0, 0xFFFFFFFF, pid))  # abort() signals its own thread
    lines += _when(table.prctl, _when_bits(0, 0xFFFFFFFF, PR_SET_NAME))
    lines += _when(table.prlimit64, [*_unless_null(2), *_when_bits(0, 0xFFFFFFFF, 0)])  # read own limits only
    if may_open:
        lines += _when(table.openat, _when_bits(2, OPEN_TO_CHANGE, 0))
    return [*lines, *_fail(errno.EPERM)]


def install(table: Table, lines: Sequence[Instruction]) -> None:
    """Put every thread of this process under the filter; needs no_new_privs. Raises: OSError."""
    filters = (_Filter * len(lines))(*lines)
    request = _Program(len(lines), filters)
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(table.seccomp, SET_MODE_FILTER, TSYNC, ctypes.byref(request))
    if result != 0:
        number = ctypes.get_errno() or errno.ESRCH  # a positive result is a thread that could not follow
        raise OSError(number, f"seccomp: {os.strerror(number)}")


def _fail(number: int) -> list[Instruction]:
    return [(RETURN, 0, 0, FAIL_WITH | number)]


def _when(number: int, then: Sequence[Instruction]) -> list[Instruction]:
    """Run `then`, which returns, for this system call."""
    return [(JUMP_IF_EQUAL, 0, len(then), number), *then]


def _unless(offset: int, value: int, otherwise: Sequence[Instruction]) -> list[Instruction]:
    return [(LOAD_WORD, 0, 0, offset), (JUMP_IF_EQUAL, len(otherwise), 0, value), *otherwise]


def _low_bits(argument: int, mask: int) -> list[Instruction]:
    return [(LOAD_WORD, 0, 0, ARGUMENTS_AT + 8 * argument), (AND, 0, 0, mask)]


def _when_bits(argument: int, mask: int, value: int) -> list[Instruction]:
    """Allow when the masked low word of an argument has this value, else refuse."""
    return [
        *_low_bits(argument, mask),
        (JUMP_IF_EQUAL, 0, 1, value),
        (RETURN, 0, 0, ALLOW),
        *_fail(errno.EPERM),
    ]


def _when_one_of(argument: int, values: Sequence[int]) -> list[Instruction]:
    """Allow when the low word of an argument is one of these, else refuse."""
    lines = _low_bits(argument, 0xFFFFFFFF)
    for value in values:
        lines += [(JUMP_IF_EQUAL, 0, 1, value), (RETURN, 0, 0, ALLOW)]
    return [*lines, *_fail(errno.EPERM)]


def _unless_bits(argument: int, mask: int) -> list[Instruction]:
    """Refuse when one of these bits is set, else go on."""
    return [*_low_bits(argument, mask), (JUMP_IF_EQUAL, 1, 0, 0), *_fail(errno.EPERM)]


def _unless_null(argument: int) -> list[Instruction]:
    """Refuse a pointer that is not null, else go on."""
    high = [(LOAD_WORD, 0, 0, ARGUMENTS_AT + 8 * argument + 4), (JUMP_IF_EQUAL, 1, 0, 0), *_fail(errno.EPERM)]
    return [*_unless_bits(argument, 0xFFFFFFFF), *high]
