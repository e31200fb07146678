"""Connections to other servers by httpx."""

from collections.abc import Generator
from contextlib import contextmanager

import httpx


@contextmanager
def connecting() -> Generator[None]:
    """Around requests: a connection that ended as soon as it was made is one that could not be made.

    anyio asks such a connection for the address of its other end, and uvloop has no socket of it any more.
    Raises: httpx.ConnectError.
    """
    try:
        yield
    except AttributeError as error:
        if error.name != "getpeername":
            raise
        raise httpx.ConnectError("the connection ended as soon as it was made") from error
