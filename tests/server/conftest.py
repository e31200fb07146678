"""A client that calls the app without a socket."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest
from server_support import Connect

from safelight.server.app import App


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """`client = await connect(app)`: starts the app and gives a client for it; closed after the test."""
    async with AsyncExitStack() as stack:

        async def start(app: App) -> httpx.AsyncClient:
            await app.start()
            stack.push_async_callback(app.close)
            transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
            return await stack.enter_async_context(
                httpx.AsyncClient(transport=transport, base_url="http://test")
            )

        yield start
