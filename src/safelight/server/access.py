"""The access log: one NCSA line per request (reference/imagestore 9.5)."""

import os
import re
import time
from contextlib import suppress

from safelight.errors import ConfigError
from safelight.server.asgi import Scope

_STDOUT = 1
_UNSAFE = re.compile(rb"[^\x20\x21\x23-\x5b\x5d-\x7e]")
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class AccessLog:
    """Appends lines to a file, `-` being standard output; each is one write(2), so workers can share it.

    Raises: ConfigError when the file cannot be opened.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._descriptor = _STDOUT if name == "-" else _open(name)
        self._second = 0
        self._date = b""

    def reopen(self) -> None:
        """Follow a log rotation; the old file is kept when the new one cannot be opened."""
        if self._name != "-":
            with suppress(ConfigError):
                descriptor = _open(self._name)
                old, self._descriptor = self._descriptor, descriptor
                os.close(old)

    def write(self, scope: Scope, status: int, size: int, duration_s: float) -> None:
        """`size`: the Content-Length sent; 0 is shown as `-`."""
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        line = b'%s - - [%s] "%s %s HTTP/%s" %d %s %.4f\n' % (
            _client(scope),
            self._now(),
            scope["method"].encode(),
            _UNSAFE.sub(_escape, target),
            scope["http_version"].encode(),
            status,
            b"%d" % size if size else b"-",
            duration_s,
        )
        with suppress(OSError):  # a full disk must not fail requests
            os.write(self._descriptor, line)

    def _now(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(second)).encode()
        return self._date


def _open(name: str) -> int:
    try:
        return os.open(name, _FLAGS, 0o644)
    except OSError as error:
        raise ConfigError(f"cannot write the access log '{name}': {error.strerror}") from error


def _client(scope: Scope) -> bytes:
    """X-Forwarded-For, else the address; clients of Unix sockets are local."""
    for name, value in scope["headers"]:
        if name == b"x-forwarded-for" and value:
            return _UNSAFE.sub(_escape, value)
    client = scope.get("client")
    return client[0].encode() if client else b"127.0.0.1"


def _escape(found: re.Match[bytes]) -> bytes:
    return b"\\x%02X" % found[0][0]
