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
from safelight.server.admin import AdminListener
from safelight.server.app import METRICS, App, AppSettings
from safelight.server.metrics import Metrics
from safelight.server.process import Seat
from safelight.server.service import Service
from safelight.timing import Finish

Say = Callable[[str], None]
Hints = Callable[[str], Sequence[str]]
MakeService = Callable[[Engine, Counters], Service]

EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class HostSettings:
    """How a server treats requests and images.

    `transform_timeout_s`: for one job of an image worker. `thumbnailer`: URL of the server that processes
    images, or `embedded` for our own image workers. `total_memory_bytes`: for all transforms of the server at
    a time; None: half of what the machine or its control group has. `is_traced`: send traces by
    OpenTelemetry. `has_admin`: the last listener is the operator's.
    """

    app: AppSettings = field(default_factory=AppSettings)
    images: ImageSettings = field(default_factory=ImageSettings)
    transform_timeout_s: float = 20
    thumbnailer: str = EMBEDDED
    access_log: AccessLog | None = None
    total_memory_bytes: int | None = None
    is_traced: bool = False
    has_admin: bool = False


def host(
    make_service: MakeService,
    settings: HostSettings,
    seat: Seat,
    say: Say,
    hints: Hints = lambda _address: (),
) -> App:
    """The application of one HTTP worker; the first one says where it listens, and `hints` about the URL."""
    engine = _engine(settings, seat)
    metrics = Metrics(seat.tally)
    addresses, admin = (
        (seat.addresses[:-1], seat.addresses[-1]) if settings.has_admin else (seat.addresses, None)
    )

    def announce() -> None:
        if isinstance(engine, PoolEngine):
            metrics.watch(engine.status)
        if seat.number == 1:
            for line in (*_greeting(addresses, admin, engine), *hints(addresses[0])):
                say(line)

    return App(
        make_service(engine, seat.counters),
        settings.app,
        seat.statistics,
        seat.counters,
        settings.access_log,
        announce,
        metrics=metrics,
        admin=AdminListener(admin) if admin is not None else None,
        on_close=_start_tracing() if settings.is_traced else None,
    )


def _start_tracing() -> Finish:
    from safelight.server.telemetry import start_tracing  # an extra

    return start_tracing()


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


def _greeting(addresses: Sequence[str], admin: str | None, engine: Engine) -> list[str]:
    lines = [f"Safelight {__version__} at {', '.join(addresses)}"]
    if admin is not None:
        lines.append(f"Metrics at {admin}{METRICS}")
    if isinstance(engine, PoolEngine):
        missing = engine.status().missing
        sandbox = "complete" if not missing else "without " + "; ".join(missing)
        lines.append(f"Sandbox of image workers: {sandbox}")
    return lines
