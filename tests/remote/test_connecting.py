"""Servers that end each connection as soon as it is made cannot be reached, whoever asks.

On uvloop, which the server runs on, a few in a hundred such connections have no socket left that could be
asked for its other end, when many are made at once.
"""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest
import uvloop
from thumbnailers import TIMEOUT_S, reset

from safelight.blob import MemoryBlob
from safelight.client import AsyncThumbnailer
from safelight.engine.remote import RemoteEngine
from safelight.errors import EngineUnreachable, StorageError
from safelight.image.spec import ThumbnailSpec
from safelight.storage.s3.account import Account, Credentials, Patience
from safelight.storage.s3.address import endpoint_of
from safelight.storage.s3.bucket import Client

AT_ONCE, TIMES = 30, 20
SPEC = "fit,1,1,png"

Ask = Callable[[], Awaitable[object]]
Asker = Callable[[str], AbstractAsyncContextManager[Ask]]


@pytest.fixture
def url() -> Iterator[str]:
    """Of a server that resets every connection."""
    with socket.create_server(("127.0.0.1", 0), backlog=AT_ONCE) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    with listener.accept()[0] as connection:
                        reset(connection)

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(TIMEOUT_S)


@asynccontextmanager
async def engine(url: str) -> AsyncIterator[Ask]:
    remote = RemoteEngine(url)
    await remote.start()
    yield lambda: remote.thumbnail(MemoryBlob(b"x"), [ThumbnailSpec.parse(SPEC)])
    await remote.close()


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Ask]:
    async with AsyncThumbnailer(url) as thumbnailer:
        yield lambda: thumbnailer.thumbnail(b"x", SPEC)


@asynccontextmanager
async def object_store(url: str) -> AsyncIterator[Ask]:
    """By requests of our own, which odd keys need."""
    account = Account(Credentials("id", "secret"), endpoint_of(url, ssl=False, style=None), "us-east-1")
    client = Client(account, patience=Patience(give_up_s=0))
    yield lambda: client.bucket("photos").delete("a//b")
    await client.close()


@pytest.mark.parametrize("asker", [engine, client, object_store])
def test_a_connection_that_ends_as_soon_as_it_is_made(url: str, asker: Asker) -> None:
    async def ask() -> list[object]:
        async with asker(url) as request:
            return [
                failure
                for _ in range(TIMES)
                for failure in await asyncio.gather(
                    *(request() for _ in range(AT_ONCE)), return_exceptions=True
                )
            ]

    failures = uvloop.run(ask())
    assert len(failures) == AT_ONCE * TIMES
    assert [one for one in failures if not isinstance(one, EngineUnreachable | StorageError)] == []
