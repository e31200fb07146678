"""The jail of an image worker, from inside: what a process gives up before it sees a byte from outside.

Order matters: changing the user clears the parent-death signal; threads started before the filters would stay
outside of them. No part needs privileges, a library or a particular kernel; what is missing is reported.
"""

import ctypes
import errno
import os
import pwd
import resource
import signal
from pathlib import Path

from safelight.engine import landlock, seccomp

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
NOBODY = 65534
MAX_FILES = 64
# Text in SVG needs fonts and their configuration. Nothing else is readable, and nothing is writable.
FONT_PATHS = tuple(
    Path(path)
    for path in (
        "/etc/fonts",
        "/usr/share/fonts",
        "/usr/share/fontconfig",
        "/usr/local/share/fonts",
        "/var/cache/fontconfig",
    )
)


def die_with_parent(parent_pid: int) -> None:
    """Be killed when the parent ends, even by SIGKILL. Exits at once if it has ended already."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def enter(parent_pid: int, address_space_bytes: int) -> list[str]:
    """Lock this process up and return what could not be had, as sentences for the log; empty: all of it."""
    missing: list[str] = []
    die_with_parent(parent_pid)
    if os.geteuid() == 0:
        _drop_user(missing)
        die_with_parent(parent_pid)
    prctl(PR_SET_DUMPABLE, 0)  # no other process of this user may trace it or read its memory
    limit_resources(address_space_bytes)
    _filter(missing)
    return missing


def limit_resources(address_space_bytes: int) -> None:
    """Bound memory and descriptors; forbid core files and growing any file. Hard limits, never raised."""
    limits = {
        resource.RLIMIT_AS: address_space_bytes,
        resource.RLIMIT_NOFILE: MAX_FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
    }
    for kind, wanted in limits.items():
        _, hard = resource.getrlimit(kind)
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (limit, limit))


def _drop_user(missing: list[str]) -> None:
    try:
        user, group = _unprivileged_ids()
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    except OSError as error:
        missing.append(f"another user: {error}")


def _unprivileged_ids() -> tuple[int, int]:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return NOBODY, NOBODY
    return entry.pw_uid, entry.pw_gid


def _filter(missing: list[str]) -> None:
    try:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
    except OSError as error:
        missing.append(f"no new privileges, Landlock, seccomp: {error}")
        return
    has_landlock = _try_landlock(missing)
    table = seccomp.table()
    if table is None:
        missing.append("seccomp: no table for this architecture")
        return
    try:
        # Without Landlock nothing says which files, so none may be opened: text in SVG stays blank.
        seccomp.install(table, seccomp.program(table, os.getpid(), may_open=has_landlock))
    except OSError as error:
        missing.append(str(error))


def _try_landlock(missing: list[str]) -> bool:
    known = landlock.version()
    if not known:
        missing.append("Landlock: the kernel has none")
        return False
    try:
        landlock.restrict(FONT_PATHS)
    except OSError as error:
        missing.append(str(error))
        return False
    if known < 4:
        missing.append(f"Landlock for the network: version {known} is too old")
    return True


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument. Raises: OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno() or errno.EINVAL
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")
