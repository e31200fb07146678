"""The log of the server: plain lines on standard error, secrets masked, control characters escaped.

Servers write theirs through `safelight.cli.launch.log`.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_SECRET_NAME = r"(?i:hmac|signature|secret|token|password|credential)\w*"  # noqa: S105 (no secret)
_SECRET = re.compile(rf"""({_SECRET_NAME}['\"]?[=:]\s*['\"]?)[^&\s'\",]+""")
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


def is_secret(name: str) -> bool:
    """Whether a parameter of this name looks secret."""
    return re.search(_SECRET_NAME + r"\Z", name) is not None


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
