"""A client that takes as little time of the machine as Python can."""

import re
import socket

_PIECE_BYTES = 1 << 18


def received_head(connection: socket.socket, status: bytes) -> bytes:
    """Read one answer to its end; its status line and headers. Raises: RuntimeError for another status."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(_PIECE_BYTES)
        if not piece:
            raise RuntimeError(f"the server closed the connection after {received!r}")
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 " + status):
        raise RuntimeError(f"not {status.decode()}: {head.decode()}")
    size = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    missing = (int(size[1]) if size else 0) - len(body)
    while missing > 0:
        missing -= len(connection.recv(min(missing, _PIECE_BYTES)))
    return head
