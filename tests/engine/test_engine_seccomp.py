"""The filter programs of both architectures, run by a small interpreter: the kernel here runs only one."""

import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Sequence
from functools import cache

import pytest

from safelight.engine.seccomp import AARCH64, ALLOW, FAIL_WITH, TABLES, X86_64, Table, program

PID = 4711
EPERM, ENOSYS = FAIL_WITH | errno.EPERM, FAIL_WITH | errno.ENOSYS
FORK_FLAGS = 0x01200011
THREAD_FLAGS = 0x003D0F00


def run(table: Table, number: int, *arguments: int, may_open: bool = True, arch: int | None = None) -> int:
    """What the kernel would do with this system call (linux/seccomp.h, struct seccomp_data)."""
    six = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    arch = table.audit_arch if arch is None else arch
    data = struct.pack("=iIQ6Q", number, arch, 0, *(argument % 2**64 for argument in six))
    return interpret(_program(table.audit_arch, may_open), data)


@cache
def _program(audit_arch: int, may_open: bool) -> Sequence[tuple[int, int, int, int]]:
    (table,) = [table for table in TABLES.values() if table.audit_arch == audit_arch]
    return program(table, PID, may_open)


def interpret(lines: Sequence[tuple[int, int, int, int]], data: bytes) -> int:
    at = accumulator = 0
    while True:
        code, if_true, if_false, operand = lines[at]
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, operand)
            case 0x54:
                accumulator &= operand
            case 0x15:
                at += if_true if accumulator == operand else if_false
            case 0x06:
                return operand
            case _:
                raise AssertionError(code)


@pytest.fixture(params=sorted(TABLES))
def table(request: pytest.FixtureRequest) -> Table:
    return TABLES[request.param]


def test_plain_calls(table: Table) -> None:
    assert {run(table, number) for number in table.plain} == {ALLOW}
    assert len(set(table.plain)) == len(table.plain)


def test_everything_else_is_refused(table: Table) -> None:
    special = {table.openat, table.clone, table.clone3, table.mmap, table.mprotect, table.tgkill, table.prctl}
    known = special | {table.prlimit64, table.fcntl} | set(table.plain)
    assert {run(table, number) for number in range(600) if number not in known} == {EPERM}


def test_another_architecture_is_refused(table: Table) -> None:
    assert run(table, table.plain[0], arch=0x40000003) == EPERM


def test_the_32_bit_numbers_of_x86_64_are_refused() -> None:
    assert run(X86_64, 0x40000000 | X86_64.plain[0]) == EPERM


def test_threads_but_no_processes(table: Table) -> None:
    assert run(table, table.clone, THREAD_FLAGS) == ALLOW
    assert run(table, table.clone, FORK_FLAGS) == EPERM
    assert run(table, table.clone3) == ENOSYS


def test_files_for_reading_only(table: Table) -> None:
    assert run(table, table.openat, 0, 0, os.O_RDONLY | os.O_CLOEXEC) == ALLOW
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_APPEND):
        assert run(table, table.openat, 0, 0, flags) == EPERM
    assert run(table, table.openat, 0, 0, os.O_RDONLY, may_open=False) == EPERM


def test_memory_is_private_and_not_executable(table: Table) -> None:
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    assert run(table, table.mmap, 0, 4096, mmap.PROT_READ | mmap.PROT_WRITE, private) == ALLOW
    assert run(table, table.mmap, 0, 4096, mmap.PROT_EXEC, private) == EPERM
    assert run(table, table.mmap, 0, 4096, mmap.PROT_READ, mmap.MAP_SHARED) == EPERM
    assert run(table, table.mmap, 0, 4096, mmap.PROT_READ, 3) == EPERM  # MAP_SHARED_VALIDATE
    assert run(table, table.mprotect, 0, 4096, mmap.PROT_READ) == ALLOW
    assert run(table, table.mprotect, 0, 4096, mmap.PROT_READ | mmap.PROT_EXEC) == EPERM


def test_signals_to_itself_only(table: Table) -> None:
    assert run(table, table.tgkill, PID, PID, 6) == ALLOW
    assert run(table, table.tgkill, PID + 1, PID, 6) == EPERM
    assert run(table, table.tgkill, -1, PID, 6) == EPERM


def test_descriptors_send_no_signals(table: Table) -> None:
    assert run(table, table.fcntl, 3, fcntl.F_DUPFD_CLOEXEC) == ALLOW
    for command in (fcntl.F_SETOWN, fcntl.F_SETSIG, fcntl.F_SETFL, 15):
        assert run(table, table.fcntl, 3, command) == EPERM


def test_own_limits_for_reading_only(table: Table) -> None:
    assert run(table, table.prlimit64, 0, 3, 0, 1 << 40) == ALLOW
    assert run(table, table.prlimit64, 0, 3, 1 << 40, 0) == EPERM
    assert run(table, table.prlimit64, 0, 3, 7, 0) == EPERM
    assert run(table, table.prlimit64, 1, 3, 0, 1 << 40) == EPERM


def test_prctl_names_threads_and_does_nothing_else(table: Table) -> None:
    assert run(table, table.prctl, 15) == ALLOW
    for option in (1, 4, 22, 38, 0x59616D61):
        assert run(table, table.prctl, option) == EPERM


@pytest.mark.parametrize(
    ("name", "x86_64", "aarch64"),
    [
        ("socket", 41, 198),
        ("connect", 42, 203),
        ("execve", 59, 221),
        ("execveat", 322, 281),
        ("ptrace", 101, 117),
        ("kill", 62, 129),
        ("process_vm_readv", 310, 270),
        ("bpf", 321, 280),
        ("io_uring_setup", 425, 425),
        ("pidfd_getfd", 438, 438),
        ("userfaultfd", 323, 282),
        ("memfd_create", 319, 279),
        ("setns", 308, 268),
        ("openat2", 437, 437),
        ("perf_event_open", 298, 241),
        ("ioctl", 16, 29),
    ],
)
def test_named_dangers(name: str, x86_64: int, aarch64: int) -> None:
    assert run(X86_64, x86_64) == EPERM, name
    assert run(AARCH64, aarch64) == EPERM, name
