"""Clients of the job API, and servers with it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from job_servers import Answer, HttpServer, Seen, reply
from job_support import until
from test_jobs_legacy import JobServer, allowed, job_server, picture

__all__ = ["JobServer", "allowed", "job_server", "picture"]

HERE = ('source "127.0.0.1"', 'destination "127.0.0.1"')
"""Loopback may be source and destination."""

TIMEOUT_S = 60
PROBLEM = "application/problem+json"
ENDED = ("done", "dead", "cancelled")
TOKEN = "0123456789-abcdef"


def new_job(source: str, *places: str, make: str = "fit,30,20,png", **rest: Any) -> dict[str, Any]:
    """A job that brings the same image to each place."""
    return {"source": source, "outputs": [{"make": make, "to": to} for to in places], **rest}


class Api:
    """The API of one server."""

    def __init__(self, server: JobServer, client: httpx.AsyncClient) -> None:
        self.server = server
        self.client = client

    async def ask(self, method: str, path: str, status: int, **rest: Any) -> Any:
        """The JSON of the answer, which must have that status."""
        answer = await self.client.request(method, path, **rest)
        assert answer.status_code == status, (answer.status_code, answer.text)
        kind = PROBLEM if status >= 400 else "application/json"
        assert answer.headers["content-type"] == kind
        return answer.json()

    async def submit(self, job: Any) -> dict[str, Any]:
        """One job; its view."""
        view: dict[str, Any] = await self.ask("POST", "/jobs", 202, json=job)
        return view

    async def submit_all(self, jobs: list[Any]) -> list[str]:
        ids: list[str] = (await self.ask("POST", "/jobs", 202, json=jobs))["ids"]
        return ids

    async def view(self, job_id: str) -> dict[str, Any]:
        view: dict[str, Any] = await self.ask("GET", f"/jobs/{job_id}", 200)
        return view

    async def when(self, job_id: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The job as soon as it is so."""

        async def look() -> dict[str, Any] | None:
            view = await self.view(job_id)
            return view if is_so(view) else None

        seen = await until(look)
        assert seen
        return seen

    async def ended(self, job_id: str) -> dict[str, Any]:
        return await self.when(job_id, lambda view: view["state"] in ENDED)

    @asynccontextmanager
    async def events(self, path: str, status: int = 200) -> AsyncIterator["Events"]:
        async with self.client.stream("GET", path) as response:
            assert response.status_code == status
            yield Events(response)


class Events:
    """A stream of server-sent events, read by the rules of the standard as far as ours need them."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()
        self.comments = 0

    async def __aiter__(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        name, data = "", ""
        async for line in self._lines:
            field, _, text = line.partition(": ")
            if line.startswith(":"):
                self.comments += 1
            elif field == "event":
                name = text
            elif field == "data":
                data = text
            elif data:
                yield name, json.loads(data)
                name, data = "", ""

    async def next(self) -> tuple[str, dict[str, Any]]:
        async with asyncio.timeout(TIMEOUT_S):
            return await anext(aiter(self))

    async def rest(self) -> list[tuple[str, dict[str, Any]]]:
        """All until it ends."""
        async with asyncio.timeout(TIMEOUT_S):
            return [event async for event in self]


@asynccontextmanager
async def api_client(server: JobServer, token: str | None = None) -> AsyncIterator[Api]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=server.url, timeout=TIMEOUT_S, trust_env=False, headers=headers, limits=limits
    ) as client:
        yield Api(server, client)


class Gate:
    """An origin or a target that lets nobody through until it is opened."""

    def __init__(self, then: Answer | None = None) -> None:
        self._then = then or reply(201)
        self.opened = asyncio.Event()
        self.visitors: list[Seen] = []

    async def __call__(self, request: Seen, writer: asyncio.StreamWriter) -> None:
        self.visitors.append(request)
        await self.opened.wait()
        await self._then(request, writer)


def bodies(web: HttpServer, path: str) -> list[bytes]:
    """What was put to a path."""
    return [seen.body for seen in web.seen if seen.target == path and seen.method == "PUT"]


def start_api(directory: Path, *options: str, lines: tuple[str, ...] = HERE, **more: Any) -> Any:
    """`job_server` with the API, where loopback may be source and destination."""
    return job_server(directory, *options, configuration=allowed(*lines), **more)
