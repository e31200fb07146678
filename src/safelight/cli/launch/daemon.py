"""Going into the background: the command returns when the server is ready, or says why it is not."""

import contextlib
import logging
import os
import select
import signal
import sys
import time

START_TIMEOUT_S = 120
AFTERTHOUGHT_S = 5  # a server with an error to report ends soon, or is trying again for ever
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
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {record.exc_info[1]}"
        self._send(f"{text}\n".encode("utf-8", "backslashreplace").replace(READY, b""))

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
    leader = os.fork()
    if leader:
        os.close(writer)
        os._exit(_wait(reader, leader))
    os.close(reader)
    os.setsid()
    if os.fork():
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    os.close(nothing)
    return Launch(writer)


def _wait(reader: int, group: int) -> int:
    """Exit code of the command. A server that does not get ready is ended, with its process group."""
    said = b""
    deadline = time.monotonic() + START_TIMEOUT_S
    while select.select([reader], [], [], max(0, deadline - time.monotonic()))[0]:
        piece = os.read(reader, PIECE_BYTES)
        said += piece
        if READY in said:
            return 0
        if not piece:
            break
        deadline = min(deadline, time.monotonic() + AFTERTHOUGHT_S)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)
    sys.stderr.write(f"Error: {_reason(said.decode(errors='replace').splitlines())}\n")
    sys.stderr.flush()
    return 1


def _reason(errors: list[str]) -> str:
    """The line that says most: the application's own, else the first."""
    own = [line for line in errors if line.startswith("cannot start: ")]
    return (own or errors or ["the server ended before it was ready"])[0]
