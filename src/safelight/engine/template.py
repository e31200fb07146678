"""The template: a process that has imported everything, sees no image, and forks workers in milliseconds.

Started as a fresh interpreter, because the server's own process has threads and an event loop. It runs no
libvips pipeline and stays at one thread: a fork would copy locks that a second thread holds.
Usage: python -m safelight.engine.template CONTROL_DESCRIPTOR PARENT_PID
"""

import gc
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

from safelight.engine import jail, notes, orders, worker
from safelight.engine.handling import Handler, load_handler, start_failure
from safelight.errors import ConfigError

IGNORED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
FITTINGS = 3


def main() -> None:
    """Serve until the server hangs up or dies."""
    descriptor, parent_pid = map(int, sys.argv[1:])
    jail.die_with_parent(parent_pid)
    for number in IGNORED_SIGNALS:  # those are for the server, which ends us by hanging up
        signal.signal(number, signal.SIG_IGN)
    Path("/proc/self/comm").write_text("safelight-tmpl")  # what `ps` and `top` show
    control = socket.socket(fileno=descriptor)
    boot = orders.decode_boot(control.recv(orders.MAX_BYTES))
    with notes.collected(notes.LOADING) as said:
        try:
            handler = load_handler(boot.handler, boot.settings)
            _check_single_thread()
        except Exception as error:
            control.send(orders.encode(orders.Ready(start_failure(error)[:2000], said)))
            if isinstance(error, ConfigError):  # that said it all
                sys.exit(1)
            raise
    gc.collect()
    gc.freeze()
    control.send(orders.encode(orders.Ready(notes=said)))
    _Template(control, boot, handler).serve()


def _check_single_thread() -> None:
    count = sum(1 for _ in Path("/proc/self/task").iterdir())
    if count != 1:
        raise RuntimeError(f"importing the image code and plugins has started threads: {count - 1}")


class _Template:
    """Forks workers on request, reaps them and reports how they ended."""

    def __init__(self, control: socket.socket, boot: orders.Boot, handler: Handler) -> None:
        self._control = control
        self._boot = boot
        self._handler = handler
        self._children: dict[int, int] = {}  # pidfd -> pid
        self._events = select.poll()
        self._events.register(control, select.POLLIN)

    def serve(self) -> None:
        try:
            while True:
                for descriptor, _ in self._events.poll():
                    if descriptor in self._children:
                        self._reap(descriptor)
                    elif not self._obey():
                        return
        except (BrokenPipeError, ConnectionResetError):  # the server is gone
            return
        finally:
            self._end_children()

    def _obey(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._control, orders.MAX_BYTES, FITTINGS)
        if not message:
            return False
        try:
            self._fork(descriptors)
        except OSError as error:
            self._control.send(orders.encode(orders.Forked(0, str(error))))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _fork(self, descriptors: list[int]) -> None:
        template_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_worker(descriptors, template_pid)
        try:
            pidfd = os.pidfd_open(pid)  # cannot be another process: nobody else reaps our children
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._children[pidfd] = pid
        self._events.register(pidfd, select.POLLIN)
        socket.send_fds(self._control, [orders.encode(orders.Forked(pid))], [pidfd])

    def _become_worker(self, descriptors: list[int], template_pid: int) -> NoReturn:
        try:
            channel, arena, complaints = descriptors
            boot = self._boot
            fittings = worker.Fittings(
                channel, arena, complaints, template_pid, boot.arena_bytes, boot.address_space_bytes
            )
            worker.main(fittings, self._handler)
        finally:
            os._exit(1)  # whatever happens, never go on as a second template

    def _reap(self, pidfd: int) -> None:
        self._events.unregister(pidfd)
        pid = self._children.pop(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self._control.send(orders.encode(orders.Exited(pid, os.waitstatus_to_exitcode(status))))

    def _end_children(self) -> None:
        """Leave nobody behind, not even a zombie for a container without an init to reap."""
        for pidfd, pid in self._children.items():
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
