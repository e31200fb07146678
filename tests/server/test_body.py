"""Where request bodies are kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safelight.blob import Blob
from safelight.errors import MemoryLimitExceeded, StorageError
from safelight.server.body import read_body
from safelight.server.errors import ClientLeft
from safelight.spool import MEMORY_BYTES

LENGTH = {"transfer-encoding": "chunked"}


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def receiving(*pieces: bytes, leave: bool = False) -> Callable[[], Any]:
    """An ASGI `receive` that gives `pieces`, then the end, or the news that the client has left."""
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.disconnect"} if leave else {"type": "http.request"})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    return receive


async def read(*pieces: bytes, limit: int = 1 << 30, directory: Path | None = None) -> Blob:
    return await read_body(LENGTH, receiving(*pieces), limit, directory)


async def test_small_bodies_stay_in_memory() -> None:
    body = await read(b"a" * MEMORY_BYTES)
    assert (body.fileno(), body.size) == (None, MEMORY_BYTES)


async def test_large_bodies_go_to_an_unnamed_file(tmp_path: Path) -> None:
    pieces = [bytes([number]) * 100_000 for number in range(37)]
    body = await read(*pieces, directory=tmp_path)
    assert body.fileno() is not None
    assert body.read() == b"".join(pieces)
    assert list(tmp_path.iterdir()) == []
    body.close()


async def test_no_body_is_not_waited_for() -> None:
    async def receive() -> dict[str, Any]:
        raise AssertionError

    for headers in ({}, {"content-length": "0"}):
        assert (await read_body(headers, receive, 10, None)).size == 0
    with pytest.raises(MemoryLimitExceeded):
        await read_body({"content-length": "11"}, receive, 10, None)


@pytest.mark.covers("s192")
async def test_the_limit_is_exact(tmp_path: Path) -> None:
    limit = 2 * MEMORY_BYTES + 5
    assert (await read(b"a" * limit, limit=limit)).size == limit
    before = open_files()
    with pytest.raises(MemoryLimitExceeded):
        await read(b"a" * limit, b"a", limit=limit)
    assert open_files() == before


async def test_a_client_that_leaves_leaves_no_file() -> None:
    before = open_files()
    with pytest.raises(ClientLeft):
        await read_body(LENGTH, receiving(b"a" * 3 * MEMORY_BYTES, leave=True), 1 << 30, None)
    assert open_files() == before


async def test_a_directory_that_cannot_be_written_to_is_our_fault(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="temporary file cannot be written"):
        await read(b"a" * 3 * MEMORY_BYTES, directory=tmp_path / "missing")
