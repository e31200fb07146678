"""Access lines in syslog instead of a file."""

import logging
import os
import socket

from safelight.cli.launch.log import LOGGER
from safelight.server.access import AccessLog
from safelight.server.asgi import Scope
from safelight.server.request_line import Line
from safelight.timing import Account

MAX_LINE_BYTES = 1 << 16


class SyslogAccess(AccessLog):
    """Hands the lines to the application log, marked by `"type":"http-access"`.

    They are made for a descriptor, so they come back through a pair of sockets.
    """

    def __init__(self, line: Line | None = None) -> None:
        super().__init__(os.devnull, line)
        self._log = logging.getLogger(f"{LOGGER}.server")
        self._pair: tuple[socket.socket, socket.socket] | None = None

    def reopen(self) -> None:
        """Once in each worker: what one worker has written must not be read by another."""
        if self._pair is None:
            self._pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            os.close(self._descriptor)
            self._descriptor = self._pair[1].fileno()

    def write(self, scope: Scope, account: Account) -> None:
        super().write(scope, account)
        if self._pair is not None:
            line = self._pair[0].recv(MAX_LINE_BYTES).decode("utf-8", "backslashreplace").rstrip("\n")
            record = logging.LogRecord(self._log.name, logging.INFO, "", 0, line, None, None)
            record.meta = {"type": "http-access"}
            self._log.handle(record)  # whatever the level
