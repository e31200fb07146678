"""An API with a result cache in this process: the server's own application, asked without a socket.

    async def test_something(sites):
        site = sites('get "x" { cache root="cache"; output_text "a"; }')
        assert (await site.get("/x")).content == b"a\\r\\n"

Nothing here decodes an image, so no engine is started.
"""

from collections.abc import Callable
from pathlib import Path

import httpx

from safelight.api import build, load_config
from safelight.engine.inline import InlineEngine
from safelight.image.settings import ImageSettings
from safelight.model import Api
from safelight.server.app import App, AppSettings
from safelight.server.image_store import StoreService
from safelight.server.metrics import Metrics
from safelight.server.stats import Statistics


class Site:
    """A configuration that is served from the working directory."""

    def __init__(self, text: str, request_timeout_s: float | None = None) -> None:
        self.statistics = Statistics()
        row = self.statistics.take_row()
        counters = self.statistics.counters(row)
        config = load_config(text, "api.sdl")
        self._engine = InlineEngine(ImageSettings(), workers=1)
        self.api: Api = build(config, self._engine, counters, request_timeout_s=request_timeout_s)
        self.service = StoreService(self.api, 1 << 27)
        metrics = Metrics(self.statistics.tallies.row(row))
        app = App(self.service, AppSettings(), self.statistics, counters, metrics=metrics)
        transport = httpx.ASGITransport(app=app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://site")

    async def get(self, target: str, **headers: str) -> httpx.Response:
        return await self.client.get(
            target, headers={name.replace("_", "-"): headers[name] for name in headers}
        )

    async def put(self, target: str, body: bytes) -> httpx.Response:
        return await self.client.put(target, content=body)

    async def delete(self, target: str) -> httpx.Response:
        return await self.client.delete(target)

    async def state(self, target: str) -> str:
        """What `Cache-Status` says first of a successful answer: `hit` or `fwd=miss`."""
        answer = await self.get(target)
        assert answer.status_code == 200, answer.text
        return answer.headers["cache-status"].split("; ")[1]

    @property
    def sourced(self) -> int:
        """How often a file was read by a source."""
        return self.statistics.value("total_file_source")

    def value(self, name: str) -> int:
        return self.statistics.value(name)

    def write(self, path: str, data: bytes) -> None:
        """Behind the back of the server."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(data)

    def kept(self, root: str = "cache") -> list[Path]:
        """The files of the answers."""
        return sorted(file for file in Path(root).glob("??/*") if file.is_file())

    async def close(self) -> None:
        await self.client.aclose()
        await self.service.close()


Sites = Callable[[str], Site]
