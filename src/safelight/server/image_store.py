"""What `safelight serve` runs: a configuration as an ASGI application in every HTTP worker."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from safelight import __version__
from safelight.api import build, load_config
from safelight.engine.pool import PoolEngine, PoolLimits
from safelight.image.settings import ImageSettings
from safelight.model import Answer, Api
from safelight.run import ReadBody, run
from safelight.server.access import AccessLog
from safelight.server.app import App, AppSettings
from safelight.server.exchange import Exchange
from safelight.server.health import HealthCheck
from safelight.server.process import MakeApp, Seat

Say = Callable[[str], None]
Hints = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How an image store treats requests. `transform_timeout_s`: for one job of an image worker."""

    app: AppSettings = field(default_factory=AppSettings)
    images: ImageSettings = field(default_factory=ImageSettings)
    transform_timeout_s: float = 20
    lenient: bool = False
    access_log: AccessLog | None = None


class StoreService:
    """The endpoints of one configuration."""

    banner = "HTTP Image Store"

    def __init__(self, api: Api, max_bytes: int) -> None:
        self.engine = api.resources.engine
        self._api = api
        self._max_bytes = max_bytes
        self._health = HealthCheck(self.engine, self.banner)

    async def answer(self, exchange: Exchange, read_body: ReadBody) -> Answer | None:
        """Run the endpoint that matches; None when none does. Raises: any SafelightError."""
        request = exchange.request()
        found = self._api.match(request)
        if found is None:
            return None
        endpoint, captures = found
        return await run(endpoint, captures, request, read_body, self._max_bytes)

    async def check_health(self) -> Answer:
        """Process one tiny picture. Raises: what the engine raises."""
        return await self._health.answer()


def load_store(
    text: str, file: str, settings: StoreSettings, say: Say, hints: Hints = lambda _address: ()
) -> MakeApp:
    """Load a configuration and say its warnings. `hints`: more lines to show once the server is ready.

    Raises: ConfigError with all complaints.
    """
    config = load_config(text, file, lenient=settings.lenient)
    for warning in config.warnings:
        say(str(warning))

    def make_app(seat: Seat) -> App:
        limits = PoolLimits(
            transform_timeout_s=settings.transform_timeout_s, memory_bytes=settings.app.max_bytes
        )
        engine = PoolEngine(settings.images, workers=seat.image_workers, limits=limits)

        def announce() -> None:
            if seat.number == 1:
                for line in (*_greeting(seat, engine), *hints(seat.addresses[0])):
                    say(line)

        service = StoreService(build(config, engine, seat.counters), settings.app.max_bytes)
        return App(
            service,
            settings.app,
            seat.statistics,
            seat.counters,
            settings.access_log,
            announce,
        )

    return make_app


def _greeting(seat: Seat, engine: PoolEngine) -> list[str]:
    missing = engine.status().missing
    sandbox = "complete" if not missing else "without " + "; ".join(missing)
    return [f"Safelight {__version__} at {', '.join(seat.addresses)}", f"Sandbox of image workers: {sandbox}"]
