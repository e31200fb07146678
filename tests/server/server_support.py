"""An API made by hand, an engine without images, a raw HTTP client, and the app on a socket in a thread."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
import uvloop

from safelight.blob import Blob, MemoryBlob
from safelight.engine.base import Engine
from safelight.errors import SafelightError
from safelight.image.result import ImageInfo, Thumbnail, Thumbnails
from safelight.image.spec import ThumbnailSpec
from safelight.model import Answer, Api, Captures, Endpoint, Request, RequestState, Resources
from safelight.server.app import App, AppSettings
from safelight.server.image_store import StoreService
from safelight.server.protocol import GuardedProtocol
from safelight.server.stats import Statistics

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(400)
Connect = Callable[[App], Awaitable[httpx.AsyncClient]]
Act = Callable[[RequestState], Awaitable[Answer]]


def text(body: str | bytes, content_type: str = "text/plain", **more: Any) -> Answer:
    data = body if isinstance(body, bytes) else body.encode()
    return Answer(MemoryBlob(data), content_type, **more)


@dataclass
class FakeEngine:
    """Gives the same picture for every specification, or raises `error`; records being cancelled."""

    picture: bytes | SafelightError = JPEG
    error: Exception | None = None
    delay_s: float = 0
    calls: list[tuple[Sequence[ThumbnailSpec], bool]] = field(default_factory=list)
    started: bool = False
    cancelled: int = 0

    async def start(self) -> None:
        self.started = True

    async def close(self) -> None:
        self.started = False

    async def identify(self, image: Blob) -> ImageInfo:
        return ImageInfo("image/jpeg", 4, 4)

    async def thumbnail(
        self, image: Blob, specs: Sequence[ThumbnailSpec], *, urgent: bool = False
    ) -> Thumbnails:
        self.calls.append((specs, urgent))
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        if isinstance(self.picture, SafelightError):
            outputs: tuple[Thumbnail | SafelightError, ...] = (self.picture,)
        else:
            outputs = (Thumbnail(self.picture, "image/jpeg", 4, 4),)
        return Thumbnails(ImageInfo("image/png", 4, 4), outputs)


@dataclass(frozen=True)
class _Exactly:
    path: str | None

    def match(self, request: Request) -> Captures | None:
        return Captures({}, "") if self.path in (None, request.raw_path) else None


@dataclass(frozen=True)
class _Acting:
    act: Act

    async def answer(self, state: RequestState) -> Answer:
        return await self.act(state)


def endpoint(verb: str, path: str | None, act: Act) -> Endpoint:
    """One that does everything in its output; path None matches all."""
    return Endpoint(verb, path or "", verb, _Exactly(path), (), (), (), (), _Acting(act))


def make_app(
    *endpoints: Endpoint,
    engine: Engine | None = None,
    settings: AppSettings | None = None,
    statistics: Statistics | None = None,
    **more: Any,
) -> App:
    statistics = statistics or Statistics()
    counters = statistics.counters(statistics.take_row())
    resources = Resources({}, engine or FakeEngine(), counters)
    settings = settings or AppSettings()
    service = StoreService(Api(endpoints, resources), settings.max_bytes)
    return App(service, settings, statistics, counters, **more)


async def echo(state: RequestState) -> Answer:
    return Answer(state.body, "application/json")


async def ok(state: RequestState) -> Answer:
    return text("OK\r\n")


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes


class RawClient:
    """A connection on which anything can be sent."""

    def __init__(self, port: int, timeout_s: float = 10, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout_s)
        self.socket.connect(("127.0.0.1", port))
        self._buffer = b""

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def request(self, head: str, body: bytes = b"") -> None:
        """Send a head, with CRLF for its line ends, and a body."""
        self.send(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)

    def response(self, *, head_only: bool = False) -> Response:
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = 0 if head_only else int(headers.get("content-length", "0"))
        while len(self._buffer) < length:
            self._receive()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Response(int(status_line.split()[1]), headers, body)

    def _receive(self) -> None:
        data = self.socket.recv(1 << 16)
        assert data, f"connection closed after {self._buffer[:200]!r}"
        self._buffer += data

    def send_until_cut(self, piece: bytes, *, pause_s: float, most: int) -> int:
        """Send `piece` again and again and return how often that went well before the server cut us off."""
        for count in range(most):
            try:
                self.socket.sendall(piece)
            except ConnectionError:
                return count
            time.sleep(pause_s)
        raise AssertionError(f"the server has taken {most} pieces")

    def is_closed(self) -> bool:
        """Wait for the server to close; False when the time-out passes first."""
        try:
            while self.socket.recv(1 << 16):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True


@contextlib.contextmanager
def running(app: App, **limits: Any) -> Iterator[int]:
    """Serve `app` on a free port by a thread; `limits` are attributes of `GuardedProtocol`."""
    keep_alive_s = limits.pop("keep_alive_s", 20)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    protocol = type("Protocol", (GuardedProtocol,), limits)
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        interface="asgi3",
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: uvloop.run(server.serve([listener])), daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline
        assert thread.is_alive()
        time.sleep(0.005)
    port: int = listener.getsockname()[1]
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
