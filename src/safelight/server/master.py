"""gunicorn's master, where ours differs: no worker is sent away before another one serves in its place."""

import signal
import socket
import time
from abc import abstractmethod
from pathlib import Path
from typing import cast

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from safelight.server.notify import take_service_manager
from safelight.server.stats import Statistics
from safelight.server.worker import HttpWorker

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
START_FAILED = 3

_NO_EXIT_CODE = -1


class RenewableApplication(BaseApplication):
    """What the master asks of its application."""

    @abstractmethod
    def renew(self) -> bool:
        """Read what workers are started with again; whether there is anything new."""

    @abstractmethod
    def keep_new(self) -> None:
        """Workers serve with what was read."""

    @abstractmethod
    def take_back(self) -> bool:
        """A worker cannot start: go back to what was before, if it was read since; whether it was."""

    @abstractmethod
    def prepare_log_files(self) -> None:
        """Make the files that workers are going to open."""


class Master(Arbiter):
    """Watches over the HTTP workers, and has a service manager hear how it goes.

    QUIT is as graceful as TERM. After a reload (HUP), old workers are told to stop when all new ones serve;
    when a new one cannot start, the new ones are, and the configuration is what it was. A worker told to stop
    counts no more, however long its last requests take. A server whose first worker cannot start ends; starts
    that fail later are repeated, with pauses that get longer.
    """

    WORKER_BOOT_ERROR = APP_LOAD_ERROR = _NO_EXIT_CODE  # gunicorn would end the server: `mourn` decides

    def __init__(self, application: RenewableApplication, statistics: Statistics) -> None:
        super().__init__(application)
        self._application = application
        self._statistics = statistics
        self._service_manager = take_service_manager()  # after `super`: a successor (USR2) gets it, too
        self._has_served = False
        self._failed_starts = 0
        self._next_start = 0.0
        self._age_before_reload = 0
        self._stop_signal: signal.Signals | None = None

    def handle_quit(self) -> None:
        raise StopIteration

    def handle_usr1(self) -> None:
        self._application.prepare_log_files()
        super().handle_usr1()

    def reload(self) -> None:
        """Start workers with what can be read now. (gunicorn would wait here until the old ones are gone.)"""
        self._service_manager.reloading(self._statistics.value("workers"))
        if not self._application.renew():
            self._service_manager.unchanged()
            return
        self.setup(self._application)
        self._age_before_reload = self.worker_age
        for _ in range(self.num_workers):
            self.spawn_worker()

    def murder_workers(self) -> None:
        """Called once a second at least."""
        super().murder_workers()
        self._service_manager.alive(self._statistics.value("workers"))

    def kill_worker(self, pid: int, sig: int) -> None:
        """ABRT, which is for workers that hang, becomes KILL: one that is stopped would not notice it."""
        super().kill_worker(pid, signal.SIGKILL if sig == signal.SIGABRT else sig)

    def manage_workers(self) -> None:
        """Start workers that are missing; stop those that are too many once they are not needed any more."""
        workers = self._by_age()
        self._has_served = self._has_served or any(worker.is_serving for worker in workers.values())
        staying = [worker for worker in workers.values() if not worker.dismissed]
        surplus = len(staying) - self.num_workers
        if surplus < 0 and time.monotonic() >= self._next_start:
            for _ in range(-surplus):
                self.spawn_worker()
        elif surplus >= 0 and all(worker.is_serving for worker in staying[surplus:]):
            self._failed_starts = 0
            self._application.keep_new()
            for worker in staying[:surplus]:
                worker.dismissed = True
        for pid, worker in workers.items():
            if worker.dismissed:  # again and again: a process that was just forked misses signals
                self.kill_worker(pid, signal.SIGTERM)

    def mourn(self, worker: HttpWorker) -> None:
        """A worker has ended. Raises: HaltServer when it is the first, and has never served."""
        self._has_served = self._has_served or worker.is_serving
        if worker.is_serving or worker.dismissed:
            return
        if not self._has_served:
            raise HaltServer("the first worker could not start", START_FAILED)
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._failed_starts)
        self._failed_starts += 1
        self._next_start = time.monotonic() + pause_s
        if worker.age > self._age_before_reload and self._application.take_back():
            for other in self._by_age().values():
                other.dismissed = other.dismissed or other.age > self._age_before_reload
            self._service_manager.unchanged()

    def stop(self, graceful: bool = True) -> None:
        """Stop all workers and wait for them; those that have not started yet end without a complaint."""
        self._service_manager.stopping(self.reexec_pid)
        for worker in self._by_age().values():
            worker.dismissed = True
        self._close_lost_sockets()
        self._stop_signal = signal.SIGTERM if graceful else signal.SIGQUIT
        super().stop(graceful)

    def reap_workers(self) -> None:
        """Called ten times a second while the server stops: tells those that live again, which may have been
        forked a moment ago and have missed it. They would have been waited for in vain.
        """
        super().reap_workers()
        if self._stop_signal is not None:
            self.kill_workers(self._stop_signal)

    def _close_lost_sockets(self) -> None:
        """Those whose files somebody has removed, which would keep gunicorn from stopping."""
        for listener in list(self.LISTENERS):
            if listener.FAMILY == socket.AF_UNIX and not Path(listener.cfg_addr).exists():
                listener.close()
                self.LISTENERS.remove(listener)

    def _by_age(self) -> dict[int, HttpWorker]:
        """All workers by process id, the oldest first."""
        workers = cast("dict[int, HttpWorker]", self.WORKERS)
        return dict(sorted(workers.items(), key=lambda item: item[1].age))
