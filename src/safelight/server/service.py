"""What a server serves, behind the routes that every server has."""

from typing import Protocol

from safelight.engine.base import Engine
from safelight.model import Answer
from safelight.run import ReadBody
from safelight.server.answer import Stream
from safelight.server.exchange import Exchange


class Service(Protocol):
    """Answers requests with the help of one engine."""

    banner: str
    engine: Engine

    async def start(self) -> None:
        """Start the engine, and whatever else there is. Raises: SafelightError; nothing is served then."""
        ...

    async def answer(self, exchange: Exchange, read_body: ReadBody) -> Answer | Stream | None:
        """Serve one request; None when it is for nobody here. `read_body` is to be called once at the most.

        Raises: any SafelightError.
        """
        ...

    async def close(self) -> None:
        """Stop the engine, and let go of whatever else the service holds open."""
        ...

    async def check_health(self) -> Answer:
        """Say whether images can be processed. Raises: any SafelightError."""
        ...
