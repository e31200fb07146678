"""Who the server is: its pid file, and the user that its workers run as."""

import os
import pwd
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from safelight.errors import ConfigError


def check_pid_file(path: Path) -> None:
    """Raises: ConfigError when it cannot be written, or names a process that runs."""
    if not os.access(path.parent, os.W_OK):
        reason = "permission denied" if path.parent.is_dir() else "no such directory"
        raise ConfigError(f"cannot write the pid file '{path}': {reason}")
    with suppress(OSError, ValueError):
        pid = int(path.read_text())
        if pid > 0 and _is_alive(pid):
            raise ConfigError(f"already running with pid {pid}, see '{path}'")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def find_user(name: str) -> pwd.struct_passwd:
    """The user that workers are to run as. Raises: ConfigError if unknown, or not ours to become."""
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"there is no user '{name}'") from None
    if os.geteuid() not in (0, user.pw_uid):
        raise ConfigError(f"only root can run workers as user '{name}'")
    return user


def adopt_groups(user: pwd.struct_passwd, files: Iterable[str]) -> None:
    """Take over the groups of `user`, which workers inherit, and give it the log files.

    The user id is left to gunicorn, which changes it in each worker: the master can still listen at low
    ports, write the pid file and start workers. As root only.
    """
    if os.geteuid() != 0 or user.pw_uid == 0:
        return
    for file in files:
        os.chown(file, user.pw_uid, user.pw_gid, follow_symlinks=False)
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
