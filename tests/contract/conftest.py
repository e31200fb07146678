"""A built API to send requests to: real files, a real engine, no socket.

    serve('get "hello" { output_text "hi" }').get("/hello").text == "hi\\r\\n"

Relative roots in a configuration are below `tmp_path`, which is the working directory of every test here.
"""

import asyncio
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from s3_servers import S3Server
from tally import Tally

from safelight import api
from safelight.blob import Blob, MemoryBlob
from safelight.config.load import Config
from safelight.engine.base import Engine
from safelight.engine.inline import InlineEngine
from safelight.errors import SafelightError
from safelight.image.result import ImageInfo, Thumbnails
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec
from safelight.model import Answer, Endpoint, Request
from safelight.run import run
from safelight.server.errors import status_of
from safelight.uri import parse_query

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Result:
    """What a request came to: an answer, or an error, or neither when no endpoint matched."""

    outcome: Answer | SafelightError | None

    @property
    def handled(self) -> bool:
        return self.outcome is not None

    @property
    def answer(self) -> Answer:
        assert isinstance(self.outcome, Answer), f"no answer but {self.outcome!r}"
        return self.outcome

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def error_status(self) -> int:
        assert isinstance(self.outcome, SafelightError), f"no error but {self.outcome!r}"
        return status_of(self.outcome)

    @property
    def body(self) -> bytes:
        return self.answer.body.read()

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def content_type(self) -> str:
        return self.answer.content_type

    @property
    def cache_control(self) -> str | None:
        return self.answer.cache_control

    def failed(self, kind: type[SafelightError]) -> str:
        """The message of the error, which is of this kind."""
        assert isinstance(self.outcome, kind), f"no {kind.__name__} but {self.outcome!r}"
        return self.outcome.message


class LateEngine(InlineEngine):
    """The real engine; the first call starts it, so tests without images do without the image code."""

    started = False

    async def start(self) -> None:
        if not self.started:
            await super().start()
            self.started = True


class WatchedEngine:
    """Passes everything on; remembers the specifications that it is given, a list for each call."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.calls: list[list[str]] = []

    async def start(self) -> None: ...

    async def thumbnail(
        self, image: Blob, specs: Sequence[ThumbnailSpec], *, urgent: bool = False
    ) -> Thumbnails:
        self.calls.append([str(spec) for spec in specs])
        await self._engine.start()
        return await self._engine.thumbnail(image, specs, urgent=urgent)

    async def identify(self, image: Blob) -> ImageInfo:
        await self._engine.start()
        return await self._engine.identify(image)

    async def close(self) -> None: ...


class Served:
    """A loaded and built configuration."""

    def __init__(self, config: Config, engine: Engine, runner: asyncio.Runner, max_bytes: int) -> None:
        self.config = config
        self.counters = Tally()
        self._engine = WatchedEngine(engine)
        self._api = api.build(config, self._engine, self.counters)
        self._runner = runner
        self._max_bytes = max_bytes

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return self._api.endpoints

    @property
    def specs(self) -> list[list[str]]:
        """What the engine was asked for, in wire form, a list for each call."""
        return self._engine.calls

    def request(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Result:
        path, _, query = target.partition("?")
        lower = {name.lower(): text for name, text in (headers or {}).items()}
        request = Request(method, path, query, parse_query(query), lower)
        return Result(self._runner.run(self._outcome(request, MemoryBlob(body))))

    def get(self, target: str, headers: Mapping[str, str] | None = None) -> Result:
        return self.request("GET", target, headers=headers)

    def put(self, target: str, body: bytes) -> Result:
        return self.request("PUT", target, body)

    def delete(self, target: str) -> Result:
        return self.request("DELETE", target)

    async def _outcome(self, request: Request, body: Blob) -> Answer | SafelightError | None:
        async def read_body() -> Blob:
            return body

        try:
            matched = self._api.match(request)
            return matched and await run(*matched, request, read_body, self._max_bytes)
        except SafelightError as error:
            return error

    def close(self) -> None:
        for client in self._api.resources.s3.values():
            self._runner.run(client.close())


Serve = Callable[..., Served]


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def engine(runner: asyncio.Runner) -> Iterator[LateEngine]:
    engine = LateEngine(ImageSettings())
    yield engine
    runner.run(engine.close())


@pytest.fixture
def serve(
    engine: LateEngine, runner: asyncio.Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Serve]:
    """Load and build a configuration text, in the directory `within`."""
    all_served: list[Served] = []

    def serve(
        text: str, *, lenient: bool = False, max_bytes: int = 128 * MEBIBYTE, within: Path = tmp_path
    ) -> Served:
        monkeypatch.chdir(within)
        config = api.load_config(text, "test.conf", lenient=lenient)
        all_served.append(Served(config, engine, runner, max_bytes))
        return all_served[-1]

    yield serve
    for served in all_served:
        served.close()


@pytest.fixture(autouse=True)
def no_account_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have one."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def amazon(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Amazon S3 for `ssl=false`: a server that, as HTTP proxy, answers for the host names of Amazon."""
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", moto.url)
    return moto


def encoded(size: tuple[int, int], kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """64 x 48 pixels."""
    return encoded((64, 48), "JPEG")


@pytest.fixture(scope="session")
def png() -> bytes:
    """40 x 20 pixels."""
    return encoded((40, 20), "PNG")


@pytest.fixture(scope="session")
def gif() -> bytes:
    """10 x 10 pixels."""
    return encoded((10, 10), "GIF")
