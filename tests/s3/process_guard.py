"""Run a command for as long as another process lives: `python process_guard.py PID LEFTOVERS COMMAND...`

The command's process id is the only line on standard output; what it prints itself goes to standard error. It
is killed as soon as process PID has ended, however that came, and also when this guard is killed. So a server
that several test processes share, any of which may start it, lives as long as the one that started them all.
LEFTOVERS are files, separated by colons, that are removed after the command's end.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process gets when its parent ends."""


def guard(watched: int, leftovers: list[Path], command: list[str]) -> int:
    """The status of the command; -9 when it was killed for the end of `watched`."""
    own = os.getpid()
    libc = ctypes.CDLL(None)

    def die_with_the_guard() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != own:  # it has ended before the line above
            os._exit(1)

    try:
        watched_fd = os.pidfd_open(watched)
    except ProcessLookupError:
        return -signal.SIGKILL
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr, preexec_fn=die_with_the_guard
    ) as process:
        print(process.pid, flush=True)
        ends = select.poll()
        for descriptor in (watched_fd, os.pidfd_open(process.pid)):
            ends.register(descriptor, select.POLLIN)
        if any(descriptor == watched_fd for descriptor, _ in ends.poll()):
            process.kill()
    for path in leftovers:
        path.unlink(missing_ok=True)
    return process.returncode


if __name__ == "__main__":
    leftovers = [Path(text) for text in sys.argv[2].split(":") if text]
    sys.exit(guard(int(sys.argv[1]), leftovers, sys.argv[3:]) & 0xFF)
