"""Reload when the configuration file changes (`--watch`): a process that sends SIGHUP to the master.

It is a process of its own because watching takes threads, and the master forks.
"""

import os
import signal
import sys
from pathlib import Path

from watchfiles import Change, watch

from safelight.server.worker import stop_with_parent


def start_watching(file: Path) -> None:
    """Have this process told by SIGHUP whenever `file`, an absolute path, has changed, until it ends."""
    words = [sys.executable, "-m", __name__, str(file), str(os.getpid())]
    os.posix_spawn(sys.executable, words, os.environ)


def main() -> None:
    """Watch the directory: editors put another file in the place of the old one."""
    file, master = Path(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the end of the master is ours
    stop_with_parent(master)

    def concerns_it(_change: Change, path: str) -> bool:
        return Path(path) == file

    for _ in watch(file.parent, watch_filter=concerns_it, recursive=False):
        os.kill(master, signal.SIGHUP)


if __name__ == "__main__":
    main()
