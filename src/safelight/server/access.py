"""The access log: one line per request."""

import os
from contextlib import suppress

from safelight.errors import ConfigError
from safelight.server.asgi import Scope
from safelight.server.request_line import Line, NcsaLine
from safelight.timing import Account

_STDOUT = 1
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class AccessLog:
    """Appends lines to a file, `-` being standard output; each is one write(2), so workers can share it.

    `line`: their form; NCSA unless told otherwise. Raises: ConfigError when the file cannot be opened.
    """

    def __init__(self, name: str, line: Line | None = None) -> None:
        self._name = name
        self._line = line or NcsaLine()
        self._descriptor = _STDOUT if name == "-" else _open(name)

    def reopen(self) -> None:
        """Follow a log rotation; the old file is kept when the new one cannot be opened."""
        if self._name != "-":
            with suppress(ConfigError):
                descriptor = _open(self._name)
                old, self._descriptor = self._descriptor, descriptor
                os.close(old)

    def write(self, scope: Scope, account: Account) -> None:
        """Tell of a request that has ended."""
        line = self._line(scope, account)
        with suppress(OSError):  # a full disk must not fail requests
            os.write(self._descriptor, line)


def _open(name: str) -> int:
    try:
        return os.open(name, _FLAGS, 0o644)
    except OSError as error:
        raise ConfigError(f"cannot write the access log '{name}': {error.strerror}") from error
