"""The body of a request: kept in memory while it is small, then in a file without a name."""

from collections.abc import Mapping
from pathlib import Path

from safelight.blob import EMPTY, Blob
from safelight.errors import MemoryLimitExceeded
from safelight.server.asgi import Receive
from safelight.server.errors import ClientLeft
from safelight.spool import Spool
from safelight.timing import measured


def has_body(headers: Mapping[str, str]) -> bool:
    """Whether a request announces a body (RFC 9112, 6.3)."""
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


async def read_body(
    headers: Mapping[str, str], receive: Receive, max_bytes: int, directory: Path | None
) -> Blob:
    """Receive the whole body: up to 1 MiB in memory, more in an unnamed file in `directory`.

    A length announced beyond `max_bytes` is refused before anything is read.
    Raises: MemoryLimitExceeded; StorageError when the file cannot be written; ClientLeft.
    """
    if not has_body(headers):
        return EMPTY
    if int(headers.get("content-length", "0")) > max_bytes:
        raise MemoryLimitExceeded
    spool = Spool(directory)
    try:
        with measured("reading request body"):
            await _fill(spool, receive, max_bytes)
            return await spool.finish()
    finally:
        spool.close()


async def _fill(spool: Spool, receive: Receive, max_bytes: int) -> None:
    more, size = True, 0
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        piece: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(piece)
        if size > max_bytes:
            raise MemoryLimitExceeded
        await spool.add(piece)
