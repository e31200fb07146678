"""The log of a server: our own lines, gunicorn's and uvicorn's go to one logger of the standard library.

From there they go to standard error, to a file, or to syslog, in our own form or in that of the older servers
(reference/thumbnailer section 13), or as JSON:

    2026-11-21 22:51:15 warning: message (xid: a1)
    2026-11-21 22:51:15.123456 UTC [meta {"pid":17,"xid":"a1","className":"safelight.server"}] WARN: message
"""

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import SysLogHandler
from pathlib import Path
from typing import Any

import msgspec
import structlog
from structlog.typing import EventDict

from safelight.errors import ConfigError
from safelight.server.log import escape, mask
from safelight.timing import Finish, Span, current_account, listen
from safelight.xid import current_xid

LOGGER = "safelight"
GUESTS = ("gunicorn.error", "uvicorn.error")
ANY = 60
LEVEL_NAMES = {
    logging.DEBUG: "DEBUG",
    logging.INFO: "INFO",
    logging.WARNING: "WARN",
    logging.ERROR: "ERROR",
    logging.CRITICAL: "FATAL",
}
FACILITIES = (
    *("auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "syslog", "user", "uucp"),
    *(f"local{number}" for number in range(8)),
)
SYSLOG_SOCKET_VARIABLE = "SAFELIGHT_SYSLOG_SOCKET"
SYSLOG_SOCKET = "/dev/log"
_REDIRECTED = (1, 2)


def configure(handlers: Sequence[logging.Handler], level: int, *, perf_stats: bool = False) -> None:
    """Send all lines of at least `level`, and the times if wanted, to the handlers."""
    logger = logging.getLogger(LOGGER)
    logger.handlers = list(handlers)
    logger.setLevel(level)
    logger.propagate = False
    for name in GUESTS:
        logging.getLogger(name).addFilter(_Diversion(logger, level))
    structlog.configure(
        processors=[_hand_over],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *names: logging.getLogger(*names[:1] or (LOGGER,)),
        cache_logger_on_first_use=True,
    )
    if perf_stats:
        listen(_log_times)


def _hand_over(_logger: object, _method: str, event: EventDict) -> tuple[tuple[str], dict[str, Any]]:
    """structlog's last step: what the logger of the standard library is called with."""
    trace = event.pop("exc_info", None)
    text = str(event.pop("event"))
    rest = ", ".join(f"{name}: {value}" for name, value in event.items())
    return (text + (f" ({rest})" if rest else ""),), {"exc_info": trace}


def _log_times(span: Span) -> Finish:
    """The line at the end of a task. CPU times are those of this process, so of whatever it did meanwhile."""
    began = os.times()

    def finish() -> None:
        ended, tasks = os.times(), span.path()
        user_s, system_s = ended.user - began.user, ended.system - began.system
        thing = None if span.thing is None else str(span.thing)
        meta = {
            "type": "perf-stats",
            "user_time": round(user_s, 6),
            "system_time": round(system_s, 6),
            "total_time": round(user_s + system_s, 6),
            "real_time": round(span.real_s, 6),
            "task": tasks[-1],
            "object": thing,
            "level": len(tasks) - 1,
        }
        text = f"took {span.real_s:.6f} sec - {' -> '.join(tasks)}"
        text += f": {thing}" if thing is not None else ""
        logging.getLogger(f"{LOGGER}.server").log(ANY, text, extra={"meta": meta})

    return finish


class _Diversion(logging.Filter):
    """Has the lines of another library's logger handled by ours instead."""

    def __init__(self, logger: logging.Logger, level: int) -> None:
        super().__init__()
        self._logger = logger
        self._level = level

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= self._level:
            self._logger.handle(record)
        return False


class LineFormatter(logging.Formatter):
    """One line per record, and the backtrace below it. What a client sent cannot begin a new line."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        return f"{moment:%Y-%m-%d %H:%M:%S.%f} UTC {self.body(record, {'pid': os.getpid()})}"

    def body(self, record: logging.LogRecord, meta: dict[str, object], *, named: bool = True) -> str:
        """What follows the time. `named`: with the name of the level."""
        for xid in current_xid().values():
            meta["xid"] = xid
        served = current_account()
        if served is not None and served.handler is not None:
            meta["api_method"] = served.handler.partition(" ")[0].upper()
            meta["api_handler"] = served.handler
        meta["className"] = record.name
        meta |= getattr(record, "meta", {})
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            meta["exceptionClass"] = type(error).__name__
        level = LEVEL_NAMES.get(record.levelno, "ANY")
        text = (f"{level}: " if named else "") + escape(mask(record.getMessage()))
        return f"[meta {msgspec.json.encode(_printable(meta)).decode()}] {text}{_trace(error)}"


class PlainFormatter(logging.Formatter):
    """`time level: text (xid: ...)`, and the backtrace below it."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        level = "perf" if record.levelno == ANY else record.levelname.lower()
        text = record.getMessage() + "".join(f" (xid: {xid})" for xid in current_xid().values())
        error = record.exc_info[1] if record.exc_info else None
        return f"{moment:%Y-%m-%d %H:%M:%S} {level}: {escape(mask(text))}{_trace(error)}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line, a backtrace included. See docs/observability.md."""

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, object] = {
            "time": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
            "type": "log",
            "level": "perf" if record.levelno == ANY else record.levelname.lower(),
            "message": mask(record.getMessage()),
            "logger": record.name,
            "pid": os.getpid(),
        }
        for xid in current_xid().values():
            facts["xid"] = xid
        facts |= getattr(record, "meta", {})
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            facts["error"] = _trace(error).lstrip()
        return msgspec.json.encode(_encodable(facts)).decode()


def _trace(error: BaseException | None) -> str:
    """The lines below the line of an error."""
    return "" if error is None else "\n" + mask("".join(traceback.format_exception(error)).rstrip())


def _printable(meta: dict[str, object]) -> dict[str, object]:
    """What a client sent may hold anything, lone surrogates included, which JSON cannot."""
    return {key: escape(value) if isinstance(value, str) else value for key, value in meta.items()}


def _encodable(facts: dict[str, object]) -> dict[str, object]:
    """Line ends are escaped by JSON, which only cannot carry lone surrogates."""
    return {
        key: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        for key, value in facts.items()
    }


class SyslogFormatter(LineFormatter):
    """Without time and level, which syslog knows, and with the pid in the identity instead of the meta."""

    def __init__(self, identity: str) -> None:
        super().__init__()
        self._identity = identity

    def format(self, record: logging.LogRecord) -> str:
        return f"{self._identity}[{os.getpid()}]: {self.body(record, {}, named=False)}"


class Syslog(SysLogHandler):
    """Datagrams to the syslog of this machine. Raises: ConfigError when it or the facility does not exist."""

    priority_map = {  # noqa: RUF012 (as the base class has it)
        "DEBUG": "debug",
        "INFO": "info",
        "WARNING": "warning",
        "ERROR": "err",
        "CRITICAL": "crit",
    }
    append_nul = False

    def __init__(self, identity: str, facility: str) -> None:
        if facility not in FACILITIES:
            raise ConfigError(f"No such syslog facility: LOG_{facility.upper()}")
        path = Path(os.environ.get(SYSLOG_SOCKET_VARIABLE, SYSLOG_SOCKET))
        if not path.is_socket():  # the base class would wait for it to appear
            raise ConfigError(f"cannot reach syslog: there is no socket '{path}'")
        super().__init__(str(path), self.facility_names[facility])
        self.setFormatter(SyslogFormatter(identity))

    def mapPriority(self, levelName: str) -> str:  # noqa: N802, N803 (as the base class has it)
        return self.priority_map.get(levelName, "notice")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """A syslog that is being restarted must not fail requests; the next line connects again."""


def stderr_handler(formatter: logging.Formatter) -> logging.Handler:
    """Lines on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    return handler


class LogFile(logging.FileHandler):
    """A log file, to which standard output and error go, too. gunicorn reopens it on SIGUSR1.

    A file that cannot be opened again, perhaps because the worker is another user now, is kept.
    """

    def __init__(self, path: str, formatter: logging.Formatter) -> None:
        super().__init__(path, "a", "utf-8", delay=True, errors="backslashreplace")
        self.setFormatter(formatter)

    def take_standard_streams(self) -> None:
        """Open the file, and let standard output and error go there from now on."""
        self.stream = self._open()

    def _open(self) -> TextIOWrapper:
        try:
            descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError:
            descriptor = os.dup(_REDIRECTED[-1])
        for standard in _REDIRECTED:
            os.dup2(descriptor, standard)
        return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")


def check_log_file(path: str) -> None:
    """Create the file if need be. Raises: ConfigError when it cannot be written."""
    try:
        with Path(path).open("a"):
            pass
    except OSError as error:
        raise ConfigError(f"cannot write the log '{path}': {error.strerror}") from error
