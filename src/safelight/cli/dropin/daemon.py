"""Going into the background: the command returns when the server is ready, or says why it is not."""

import contextlib
import logging
import os
import sys

READY = b"\0"
PIECE_BYTES = 4096


class Launch(logging.Handler):
    """The way back to the command that somebody waits for.

    As a log handler it passes errors on, which count if the server ends without having been ready.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(logging.ERROR)
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        self.tell(record.getMessage() + "\n")

    def tell(self, text: str) -> None:
        """Say why the server does not start."""
        self._send(text.encode("utf-8", "backslashreplace").replace(READY, b""))

    def ready(self) -> None:
        """Let the command return."""
        self._send(READY)

    def _send(self, data: bytes) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):  # the command has returned, or was interrupted
                os.write(self._descriptor, data)
                return
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def detach() -> Launch:
    """Go on as a daemon: a session of its own, no terminal, nothing on the standard streams.

    The calling process stays until the daemon is ready, and exits with 0, or with 1 and the message of the
    first error. Nothing that cannot be forked may be running.
    """
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        os._exit(_wait(reader))
    os.close(reader)
    os.setsid()
    if os.fork():
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    os.close(nothing)
    return Launch(writer)


def _wait(reader: int) -> int:
    """Exit code of the command."""
    said = b""
    while piece := os.read(reader, PIECE_BYTES):
        said += piece
        if READY in said:
            return 0
    first, _, _ = said.decode(errors="replace").strip().partition("\n")
    sys.stderr.write(f"Error: {first or 'the server ended before it was ready'}\n")
    sys.stderr.flush()
    return 1
