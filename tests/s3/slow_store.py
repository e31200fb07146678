"""A store on loopback that is as slow as a test wants, and notices when its client leaves."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

TIMEOUT_S = 30

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class SlowStore:
    """What is known of its connections. `arrived`: a request has come. `left`: its client has gone."""

    def __init__(self) -> None:
        self.url = ""
        self.arrived = asyncio.Event()
        self.left = asyncio.Event()

    async def until_left(self) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await self.left.wait()


@asynccontextmanager
async def serving(serve: Serve) -> AsyncGenerator[SlowStore]:
    """A store whose connections are served by `serve`, which begins after the head of a request.

    When `serve` returns, the end of the connection is waited for.
    """
    store = SlowStore()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            store.arrived.set()
            await serve(reader, writer)
            while await reader.read(1 << 16):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            store.left.set()
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    store.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield store
    finally:
        server.close()
