"""What `safelight serve` runs: the endpoints of a configuration."""

from dataclasses import replace

from safelight.api import build, load_config
from safelight.model import Answer, Api
from safelight.run import ReadBody, run
from safelight.server.app import App
from safelight.server.cross_origin import always_told, preflight_answer
from safelight.server.exchange import Exchange
from safelight.server.health import HealthCheck
from safelight.server.hosting import Hints, HostSettings, Say, host
from safelight.server.process import MakeApp, Seat
from safelight.statements.clients import Thumbnailer
from safelight.timing import measured


class StoreService:
    """The endpoints of one configuration."""

    banner = "HTTP Image Store"

    def __init__(self, api: Api, max_bytes: int) -> None:
        self.engine = api.resources.engine
        self._api = api
        self._max_bytes = max_bytes
        self._health = HealthCheck(self.engine, self.banner)

    async def start(self) -> None:
        """Start the engine. Raises: what the engine raises."""
        await self.engine.start()

    async def answer(self, exchange: Exchange, read_body: ReadBody) -> Answer | None:
        """Run the endpoint that matches; None when none does. Raises: any SafelightError."""
        with measured("matching request"):
            request = exchange.request()
            found = self._api.match(request)
        if found is None:
            return preflight_answer(self._api, exchange, request)
        endpoint, captures = found
        exchange.tell(always_told(endpoint, request))
        answer = await run(endpoint, captures, request, read_body, self._max_bytes)
        if not endpoint.heeds_headers:
            exchange.standing = answer.standing
        return answer

    async def close(self) -> None:
        """Stop what works behind requests, the engine, and the connections to object stores."""
        for endpoint in self._api.endpoints:
            if endpoint.cache is not None:
                await endpoint.cache.close()
        await self.engine.close()
        for shelf in self._api.resources.shelves.values():
            shelf.epochs.close()
        for client in self._api.resources.s3.values():
            await client.close()

    async def check_health(self) -> Answer:
        """Process one tiny picture. Raises: what the engine raises."""
        return await self._health.answer()


def load_store(
    text: str,
    file: str,
    settings: HostSettings,
    say: Say,
    hints: Hints = lambda _address: (),
    *,
    lenient: bool = False,
    warn: Say | None = None,
) -> MakeApp:
    """Load a configuration; `warn`, or else `say`, is told its warnings.

    `hints`: more lines to say about the URL once the server is ready.
    A `thumbnailer` statement wins over the settings.
    Raises: ConfigError with all complaints.
    """
    config = load_config(text, file, lenient=lenient)
    for warning in config.warnings:
        (warn or say)(str(warning))
    for thumbnailer in config.of(Thumbnailer):
        settings = replace(settings, thumbnailer=thumbnailer.url)

    rendering = f"{settings.thumbnailer} {settings.images}"

    def make_app(seat: Seat) -> App:
        return host(
            lambda engine, counters: StoreService(
                build(
                    config,
                    engine,
                    counters,
                    settings.app.spool_directory,
                    rendering,
                    settings.app.request_timeout_s,
                ),
                settings.app.max_bytes,
            ),
            settings,
            seat,
            say,
            hints,
        )

    return make_app
