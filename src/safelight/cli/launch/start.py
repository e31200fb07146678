"""From settings to a running server: what can be refused while somebody is looking is refused first."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import structlog

from safelight.cli.launch.access import SyslogAccess
from safelight.cli.launch.daemon import Launch, detach
from safelight.cli.launch.log import LogFile, Syslog, check_log_file, configure, stderr_handler
from safelight.cli.launch.pid_file import check_pid_file
from safelight.cli.launch.rotating import RotatingLogFile, Rotation
from safelight.errors import SafelightError
from safelight.server.access import AccessLog
from safelight.server.hosting import Say
from safelight.server.process import Load, ProcessSettings, serve
from safelight.server.request_line import Line
from safelight.server.stats import Statistics
from safelight.server.user import find_user

FAILED = 1

_log = structlog.get_logger("safelight.cli")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where the lines of a server go, from which `level` on, and what they look like.

    `name`: of the program, for syslog. `file`: absolute; None: standard error. `facility`: of syslog, to
    which all lines go then; in the foreground to standard error as well. `rotation`: of the file; None: it
    is left to grow.
    """

    name: str
    formatter: logging.Formatter
    level: int = logging.WARNING
    file: str | None = None
    facility: str | None = None
    perf_stats: bool = False
    rotation: Rotation | None = None


def open_access_log(file: str | None, facility: str | None, line: Line | None = None) -> AccessLog | None:
    """Syslog if there is a `facility`, else the file, `-` being standard output; None without either.

    `line`: as `AccessLog` has it. Raises: ConfigError when the file cannot be written.
    """
    if facility is not None:
        return SyslogAccess(line)
    if file is None:
        return None
    return AccessLog(file if file == "-" else str(Path(file).absolute()), line)


def start(
    log: LogSettings,
    processes: ProcessSettings,
    load: Callable[[Say], Load],
    statistics: Statistics,
    notices: Sequence[str] = (),
    say: Say | None = None,
) -> NoReturn:
    """Serve, in the background if `processes.daemon`; ends by SystemExit.

    `load` is given the function to be called once the server is ready, which passes lines on to `say`, or to
    the log. `notices`: warnings for the log. Raises: SafelightError, as long as this is in the foreground.
    """
    _check(log, processes)
    handler = _handler(log)
    launch = detach() if processes.daemon and not _is_successor() else None
    _configure_log(log, handler, launch, is_daemon=processes.daemon)
    for notice in notices:
        _log.warning(notice)
    try:
        serve(processes, load(_announcer(launch, say or _log.info)), statistics)
    except SafelightError as error:
        if launch is None:
            raise
        _log.error(error.message)
        sys.exit(FAILED)


def _is_successor() -> bool:
    """Whether we replace a running server (USR2), which has the pid file and has gone into the background."""
    return "GUNICORN_FD" in os.environ


def _check(log: LogSettings, processes: ProcessSettings) -> None:
    """Raises: ConfigError."""
    if processes.pid_file is not None and not _is_successor():
        check_pid_file(Path(processes.pid_file))
    if log.file is not None:
        check_log_file(log.file)
    if processes.user is not None:
        find_user(processes.user)


def _handler(log: LogSettings) -> logging.Handler:
    """Raises: ConfigError for a syslog or a facility that does not exist."""
    if log.facility is not None:
        return Syslog(log.name, log.facility)
    if log.file is not None:
        if log.rotation is not None:
            return RotatingLogFile(log.file, log.formatter, log.rotation)
        return LogFile(log.file, log.formatter)
    return stderr_handler(log.formatter)


def _configure_log(
    log: LogSettings, handler: logging.Handler, launch: Launch | None, *, is_daemon: bool
) -> None:
    handlers = [handler]
    if isinstance(handler, LogFile):
        handler.take_standard_streams()
    if isinstance(handler, Syslog) and not is_daemon:
        handlers.append(stderr_handler(log.formatter))
    if launch is not None:
        handlers.append(launch)
    configure(handlers, log.level, perf_stats=log.perf_stats)


def _announcer(launch: Launch | None, say: Say) -> Say:
    """Called by the first worker when it is ready."""

    def announce(line: str) -> None:
        say(line)
        if launch is not None:
            launch.ready()

    return announce
