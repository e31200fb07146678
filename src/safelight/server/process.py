"""The processes of a server: gunicorn, used as a library, watching over HTTP workers."""

import gc
import math
import os
import socket
import ssl
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import structlog
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.sock import BaseSocket

from safelight.errors import ConfigError, SafelightError
from safelight.model import Counters
from safelight.server.listeners import check_listener
from safelight.server.master import START_FAILED, Master, RenewableApplication
from safelight.server.protocol import GuardedProtocol
from safelight.server.stats import Statistics
from safelight.server.tallies import Tally
from safelight.server.tls import TlsSettings, tls_context
from safelight.server.user import find_user, hand_over
from safelight.server.worker import HttpWorker

CORES_PER_HTTP_WORKER = 8
SOCKET_MODE = 0o666
LEAST_STUCK_S, MOST_STUCK_S = 5, 30
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (for gunicorn's heartbeat files, which are unlinked at once)

_log = structlog.get_logger("safelight.server")


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """How a server is run.

    `listeners`: `HOST:PORT` or `unix:PATH`. `image_workers`: in all, shared out among the HTTP workers; None:
    one per core. `http_workers`: None: one per eight cores. `graceful_timeout_s`: how long a stop waits for
    running requests. `worker_timeout_s`: an event loop blocked for so long is replaced.
    `user`: whom workers run as, which takes root. `log_files`: those that workers open again (SIGUSR1).
    `keep_alive_s`: how long an idle connection is kept; longer than the 60 s of usual proxies, so that they
    close first. `directory`: where relative paths lead from then on; made if missing.
    `head_timeout_s`, `progress_timeout_s`, `max_discard_bytes`: see `GuardedProtocol`.
    `tls`: speak HTTPS at all listeners. `watched`: an absolute path; reload whenever this file changes.
    """

    listeners: tuple[str, ...] = ("127.0.0.1:3000",)
    image_workers: int | None = None
    http_workers: int | None = None
    graceful_timeout_s: int = 30
    worker_timeout_s: int = 30
    keep_alive_s: int = 75
    head_timeout_s: float = 10
    progress_timeout_s: float = 30
    max_discard_bytes: int = 128 << 20
    log_level: str = "warning"
    log_file: str | None = None
    pid_file: str | None = None
    daemon: bool = False
    user: str | None = None
    log_files: tuple[str, ...] = ()
    directory: Path | None = None
    tls: TlsSettings | None = None
    watched: Path | None = None


@dataclass(frozen=True, slots=True)
class Seat:
    """What one HTTP worker is given: its counters, its row of the metrics, its share of the image workers.

    `number` is 1 for the first worker of a server. `addresses`: where it listens, as URLs. `http_workers`:
    how many there are to share what the machine has.
    """

    number: int
    statistics: Statistics
    counters: Counters
    tally: Tally
    image_workers: int
    addresses: Sequence[str]
    http_workers: int


AsgiApp = Callable[..., Any]
MakeApp = Callable[[Seat], AsgiApp]
Load = Callable[[], MakeApp]


def serve(settings: ProcessSettings, load: Load, statistics: Statistics) -> NoReturn:
    """Run a server until it is stopped; ends by SystemExit.

    `load` runs in the master, now and at every reload (SIGHUP), and gives the function that makes the
    application in each worker; so the certificate is read. Raises: ConfigError for a listener that cannot be
    had, a user that is not ours to become or a certificate that cannot be used, and what `load` raises.
    """
    if settings.directory is not None:
        _enter(settings.directory)  # before loading: relative directories of the configuration are below it
    make_app = load()
    if "GUNICORN_FD" not in os.environ:  # set when a running server has replaced itself (USR2)
        for listener in settings.listeners:
            check_listener(listener)
    pid = os.getpid()
    application = Application(settings, load, make_app, statistics)
    application.prepare_log_files()
    master = Master(application, statistics)
    try:
        master.run()
    except SystemExit as error:
        if error.code == START_FAILED and os.getpid() == pid:  # workers come by here, too
            raise SystemExit(1) from error
        raise
    sys.exit(0)


class _Log(Logger):
    """gunicorn's and uvicorn's own lines in the form of ours."""

    error_fmt = "%(asctime)s %(levelname)s: %(message)s"
    datefmt = "%Y-%m-%d %H:%M:%S"


def stuck_after_s(request_timeout_s: float) -> int:
    """`worker_timeout_s` of a server whose requests may take so long; event loops have no excuse for more."""
    return max(LEAST_STUCK_S, min(MOST_STUCK_S, math.ceil(request_timeout_s)))


class Application(RenewableApplication):
    """The settings in gunicorn's words, and its hooks."""

    def __init__(
        self, settings: ProcessSettings, load: Load, make_app: MakeApp, statistics: Statistics
    ) -> None:
        self._settings = settings
        self._load = load
        self._make_app = make_app
        self._former: MakeApp | None = None
        self._statistics = statistics
        self._user = find_user(settings.user) if settings.user is not None else None
        self._addresses: list[str] = []
        self._seat: Seat | None = None
        cores = len(os.sched_getaffinity(0))
        self._tls = tls_context(settings.tls) if settings.tls else None
        self._image_workers = settings.image_workers or cores
        self._http_workers = settings.http_workers or max(1, cores // CORES_PER_HTTP_WORKER)
        super().__init__()

    def load_config(self) -> None:
        settings = self._settings
        values: dict[str, object] = {
            "bind": list(settings.listeners),
            "workers": self._http_workers,
            "worker_class": _worker_class(settings, self._statistics, self._tls),
            "logger_class": _Log,
            "timeout": settings.worker_timeout_s,
            "graceful_timeout": settings.graceful_timeout_s,
            "keepalive": settings.keep_alive_s,
            "loglevel": settings.log_level,
            "errorlog": settings.log_file or "-",
            "pidfile": settings.pid_file,
            "daemon": settings.daemon,
            "umask": _current_umask(),
            "control_socket_disable": True,  # a second way in, and a thread in a process that forks
            "proc_name": "safelight",
            "on_starting": self._on_starting,
            "when_ready": self._when_ready,
            "pre_fork": self._pre_fork,
            "post_fork": self._post_fork,
            "child_exit": self._child_exit,
        }
        if self._user is not None:
            values |= {"user": self._user.pw_uid, "group": self._user.pw_gid}
        if settings.tls is not None:  # gunicorn only checks that they are there, and calls listeners https://
            values["certfile"] = str(settings.tls.certificate)
            values["keyfile"] = str(settings.tls.key)
        if SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK):
            values["worker_tmp_dir"] = str(SHARED_MEMORY)
        for name, value in values.items():
            self.cfg.set(name, value)

    def load(self) -> AsgiApp:
        """In a worker: make its application. Raises: SystemExit when that is impossible, which is logged."""
        assert self._seat is not None  # noqa: S101 (set by `_post_fork`)
        try:
            return self._make_app(self._seat)
        except SafelightError as error:
            _log.error(f"cannot start: {error.message}", detail=error.detail)
            sys.exit(START_FAILED)

    def renew(self) -> bool:
        """In the master, on SIGHUP: read configuration and certificate again; a bad one changes nothing.

        Whether there is something for new workers.
        """
        is_renewed = self._renew_configuration()
        if self._settings.tls is not None:
            is_renewed = self._renew_certificate(self._settings.tls) or is_renewed
        if is_renewed:
            self.reload()
        return is_renewed

    def keep_new(self) -> None:
        """Workers serve with the new configuration."""
        self._former = None

    def take_back(self) -> bool:
        """Workers cannot start: go back to the configuration before, if there has been a new one."""
        if self._former is None:
            return False
        self._make_app, self._former = self._former, None
        _log.error("the configuration is kept as it was: workers cannot start with the new one")
        return True

    def prepare_log_files(self) -> None:
        """In the master, before workers open them: at the start, and after a rotation."""
        if self._user is not None:
            hand_over(self._settings.log_files, self._user)

    def _renew_configuration(self) -> bool:
        try:
            make_app = self._load()
        except SafelightError as error:
            for line in error.message.splitlines():
                _log.error(f"the configuration is kept as it was: {line}")
            return False
        self._former, self._make_app = self._former or self._make_app, make_app
        return True

    def _renew_certificate(self, settings: TlsSettings) -> bool:
        try:
            self._tls = tls_context(settings)
        except ConfigError as error:
            _log.error(f"the certificate is kept as it was: {error.message}")
            return False
        return True

    def _on_starting(self, _master: Arbiter) -> None:
        """Before there are sockets, which gunicorn lets every program inherit."""
        if self._settings.watched is not None:
            from safelight.server.config_watch import start_watching  # for development only

            start_watching(self._settings.watched)

    def _when_ready(self, master: Arbiter) -> None:
        self._addresses = [str(listener) for listener in master.LISTENERS]
        _open_to_all(master.LISTENERS)
        gc.freeze()  # what the workers share is not worth looking at, and looking would copy it

    def _pre_fork(self, _master: Arbiter, worker: HttpWorker) -> None:
        worker.row = self._statistics.take_row()

    def _post_fork(self, _master: Arbiter, worker: HttpWorker) -> None:
        if self._user is not None:  # all groups at once: told to see to it, gunicorn keeps root's own group
            os.initgroups(self._user.pw_name, self._user.pw_gid)
            os.setgid(self._user.pw_gid)
        shares = divmod(self._image_workers, self._http_workers)
        share = shares[0] + ((worker.age - 1) % self._http_workers < shares[1])
        counters = self._statistics.counters(worker.row)
        tally = self._statistics.tallies.row(worker.row)
        self._seat = Seat(
            worker.age, self._statistics, counters, tally, max(1, share), self._addresses, self._http_workers
        )

    def _child_exit(self, master: Master, worker: HttpWorker) -> None:
        self._statistics.free_row(worker.row)
        master.mourn(worker)


def _worker_class(
    settings: ProcessSettings, statistics: Statistics, tls: ssl.SSLContext | None
) -> type[HttpWorker]:
    """The context is shared by all workers, so that a client can resume its session at any of them."""
    limits = {
        "head_timeout_s": settings.head_timeout_s,
        "progress_timeout_s": settings.progress_timeout_s,
        "max_discard_bytes": settings.max_discard_bytes,
    }
    protocol = type("Protocol", (GuardedProtocol,), limits)
    return type("Worker", (HttpWorker,), {"protocol": protocol, "statistics": statistics, "tls": tls})


def _open_to_all(listeners: Iterable[BaseSocket]) -> None:
    """Let every user connect to sockets in the file system, as to ports of this machine.

    A proxy is another user. Who may connect is for the directory of the socket to say.
    """
    for listener in listeners:
        if listener.FAMILY == socket.AF_UNIX:
            Path(listener.cfg_addr).chmod(SOCKET_MODE)


def _enter(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        os.chdir(directory)
    except OSError as error:
        raise ConfigError(f"cannot use the directory '{directory}': {error.strerror}") from error


def _current_umask() -> int:
    """The umask can only be read by changing it."""
    umask = os.umask(0o77)
    os.umask(umask)
    return umask
