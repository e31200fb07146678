"""One service in an HTTP worker: its engine, its application and what it says when it is ready."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from safelight import __version__
from safelight.engine.base import Engine
from safelight.engine.memory import default_limit_bytes
from safelight.engine.pool import PoolEngine, PoolLimits
from safelight.image.settings import ImageSettings
from safelight.model import Counters
from safelight.server.access import AccessLog
from safelight.server.app import App, AppSettings
from safelight.server.process import Seat
from safelight.server.service import Service

Say = Callable[[str], None]
Hints = Callable[[str], Sequence[str]]
MakeService = Callable[[Engine, Counters], Service]

EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class HostSettings:
    """How a server treats requests and images.

    `transform_timeout_s`: for one job of an image worker. `thumbnailer`: URL of the server that processes
    images, or `embedded` for our own image workers. `total_memory_bytes`: for all transforms of the server at
    a time; None: half of what the machine or its control group has.
    """

    app: AppSettings = field(default_factory=AppSettings)
    images: ImageSettings = field(default_factory=ImageSettings)
    transform_timeout_s: float = 20
    thumbnailer: str = EMBEDDED
    access_log: AccessLog | None = None
    total_memory_bytes: int | None = None


def host(
    make_service: MakeService,
    settings: HostSettings,
    seat: Seat,
    say: Say,
    hints: Hints = lambda _address: (),
) -> App:
    """The application of one HTTP worker; the first one says where it listens, and `hints` about the URL."""
    engine = _engine(settings, seat)

    def announce() -> None:
        if seat.number == 1:
            for line in (*_greeting(seat, engine), *hints(seat.addresses[0])):
                say(line)

    return App(
        make_service(engine, seat.counters),
        settings.app,
        seat.statistics,
        seat.counters,
        settings.access_log,
        announce,
    )


def _engine(settings: HostSettings, seat: Seat) -> Engine:
    if settings.thumbnailer != EMBEDDED:
        from safelight.engine.remote import RemoteEngine  # its HTTP client takes long to import

        return RemoteEngine(settings.thumbnailer, max_reply_bytes=settings.app.max_bytes)
    total_bytes = settings.total_memory_bytes
    if total_bytes is None:
        total_bytes = default_limit_bytes()
    limits = PoolLimits(
        transform_timeout_s=settings.transform_timeout_s,
        memory_bytes=settings.app.max_bytes,
        total_memory_bytes=total_bytes // seat.http_workers,
    )
    return PoolEngine(settings.images, workers=seat.image_workers, limits=limits)


def _greeting(seat: Seat, engine: Engine) -> list[str]:
    where = f"Safelight {__version__} at {', '.join(seat.addresses)}"
    if not isinstance(engine, PoolEngine):
        return [where]
    missing = engine.status().missing
    sandbox = "complete" if not missing else "without " + "; ".join(missing)
    return [where, f"Sandbox of image workers: {sandbox}"]
