"""Reload when the configuration file changes (`--watch`): a process that sends SIGHUP to the master.

It is a process of its own because watching takes threads, and the master forks.
"""

import os
import signal
import sys
from pathlib import Path

from watchfiles import watch

from safelight.server.worker import stop_with_parent

LONGEST_WAIT_MS = 1000

Stamp = tuple[int, ...]


def start_watching(file: Path) -> None:
    """Have this process told by SIGHUP whenever `file`, an absolute path, has changed."""
    words = [sys.executable, "-m", __name__, str(file), str(os.getpid()), *map(str, _stamp(file))]
    os.posix_spawn(sys.executable, words, os.environ)


def main() -> None:
    """Watch the directory: editors put another file in the place of the old one."""
    file, master, last = Path(sys.argv[1]), int(sys.argv[2]), tuple(map(int, sys.argv[3:]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the end of the master is ours
    stop_with_parent(master)
    for _ in watch(file.parent, recursive=False, rust_timeout=LONGEST_WAIT_MS, yield_on_timeout=True):
        if (stamp := _stamp(file)) != last:
            last = stamp
            os.kill(master, signal.SIGHUP)


def _stamp(file: Path) -> Stamp:
    """What is different after a change; nothing of a file that is not there."""
    try:
        status = file.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


if __name__ == "__main__":
    main()
