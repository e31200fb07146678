"""The file that says which process a server is."""

import os
from contextlib import suppress
from pathlib import Path

from safelight.errors import ConfigError


def check_pid_file(path: Path) -> None:
    """Raises: ConfigError when it cannot be written, or names another process that runs.

    Our own number is one that was left behind: in a container, the same number comes again and again.
    """
    if not os.access(path.parent, os.W_OK):
        reason = "permission denied" if path.parent.is_dir() else "no such directory"
        raise ConfigError(f"cannot write the pid file '{path}': {reason}")
    with suppress(OSError, ValueError):
        pid = int(path.read_text())
        if pid > 0 and pid != os.getpid() and is_running(pid):
            raise ConfigError(f"already running with pid {pid}, see '{path}'")


def is_running(pid: int) -> bool:
    """Whether there is such a process, whosever it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
