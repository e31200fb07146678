"""The log of the server: plain lines on standard error, secrets masked, control characters escaped.

Drop-in commands have lines of their own, and times (`measured`), see `safelight.cli.launch.log`.
"""

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Generator, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import structlog

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_SECRET = re.compile(
    r"(?i)((?:hmac|signature|secret|token|password|credential)\w*['\"]?[=:]\s*['\"]?)[^&\s'\",]+"
)
_USER_INFO = re.compile(r"(://[^/\s:@]*):[^/\s@]+@")


def configure_log(level: int = logging.WARNING) -> None:
    """Send lines of at least `level` to standard error."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=True),
            _line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def mask(text: str) -> str:
    """`text` without the values of parameters that look secret and without passwords in URLs."""
    return _USER_INFO.sub(r"\1:***@", _SECRET.sub(r"\1***", text))


def _line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """`time level text (name: value)`, and a trace below it. What a client sent cannot begin a new line."""
    head = f"{event.pop('timestamp')} {event.pop('level')}: "
    trace = event.pop("exception", None)
    text = str(event.pop("event"))
    rest = ", ".join(f"{name}: {value}" for name, value in event.items())
    line = head + escape(mask(text + (f" ({rest})" if rest else "")))
    return f"{line}\n{mask(trace)}" if trace else line


def escape(text: str) -> str:
    """`text` without line ends and other control characters, nor lone surrogates."""
    plain = text.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", plain)


# Times


@dataclass(frozen=True, slots=True)
class Took:
    """How long a task took. `tasks`: from the outermost to this one. `thing`: what it worked on.

    Seconds. `user_s` and `system_s` are those of this process, so of whatever it did meanwhile.
    """

    tasks: tuple[str, ...]
    thing: str | None
    user_s: float
    system_s: float
    real_s: float


_tasks: ContextVar[tuple[str, ...]] = ContextVar("tasks", default=())
_tell: Callable[[Took], None] | None = None
_NOTHING = nullcontext()


def report_times(tell: Callable[[Took], None] | None) -> None:
    """Have `tell` called at the end of everything `measured`; None: measure nothing."""
    global _tell
    _tell = tell


def measured(task: str, thing: object = None) -> AbstractContextManager[None]:
    """Measure what happens inside. `task` is constant text, `thing` any object that can be printed."""
    return _NOTHING if _tell is None else _measured(_tell, task, thing)


@contextmanager
def _measured(tell: Callable[[Took], None], task: str, thing: object) -> Generator[None]:
    tasks = (*_tasks.get(), task)
    token = _tasks.set(tasks)
    begin, started = os.times(), time.perf_counter()
    try:
        yield
    finally:
        real_s = time.perf_counter() - started
        end = os.times()
        _tasks.reset(token)
        shown = None if thing is None else str(thing)
        tell(Took(tasks, shown, end.user - begin.user, end.system - begin.system, real_s))
