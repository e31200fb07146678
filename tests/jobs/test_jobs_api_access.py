"""Who may use the job API, where it is, and what a start warns of."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from job_api_support import (
    HERE,
    PROBLEM,
    TOKEN,
    Api,
    JobServer,
    allowed,
    api_client,
    bodies,
    job_server,
    new_job,
    picture,
)
from job_servers import HttpServer, reply
from job_support import until

from safelight.cli.jobs.serve import job_loader
from safelight.server.hosting import HostSettings

OTHER = "another.Token-of_16/chars+=="
JOB = new_job("http://127.0.0.1/a.png", "http://127.0.0.1/b.png")
OLD = {"operationType": "resize", "srcURL": "x", "dstURL": "y", "args": {}}
WARNING = "everybody who can connect may place jobs"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    lines = (*HERE, f'token "{TOKEN}"', f'token "{OTHER}"')
    with job_server(tmp_path_factory.mktemp("tokens") / "server", configuration=allowed(*lines)) as server:
        yield server


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    with job_server(tmp_path_factory.mktemp("plain") / "server", configuration=allowed(*HERE)) as server:
        yield server


@pytest.fixture
async def api(plain: JobServer) -> AsyncIterator[Api]:
    async with api_client(plain) as made:
        yield made


# --- tokens


REQUESTS = [
    ("POST", "/jobs"),
    ("GET", "/jobs"),
    ("HEAD", "/jobs"),
    ("GET", "/jobs/x"),
    ("DELETE", "/jobs/x"),
    ("POST", "/jobs/retry"),
    ("GET", "/jobs/x/events"),
    ("GET", "/batches/x"),
    ("GET", "/nothing"),
    ("POST", "/"),
    ("POST", "/any/path"),
    ("POST", "/metrics"),
    ("PUT", "/openapi.json/x"),
]


@pytest.mark.parametrize(("method", "path"), REQUESTS)
async def test_nothing_without_a_token(guarded: JobServer, method: str, path: str) -> None:
    """Jobs in the older server's words are no exception."""
    async with httpx.AsyncClient(base_url=guarded.url, trust_env=False, timeout=60) as client:
        answer = await client.request(method, path, json=JOB if path == "/jobs" else OLD)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == PROBLEM
        if method != "HEAD":
            assert answer.json()["detail"] == "a token is needed"


@pytest.mark.parametrize(
    "shown",
    [
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN.upper()}",
        f"Bearer {TOKEN} {TOKEN}",
        f"Bearer {TOKEN}, Bearer {TOKEN}",
        f"Basic {TOKEN}",
        f"Token {TOKEN}",
        TOKEN,
        "Bearer",
        "Bearer \xe9",
    ],
)
async def test_no_other_token(guarded: JobServer, shown: str) -> None:
    headers = {"Authorization": shown.encode("latin-1")}
    async with httpx.AsyncClient(base_url=guarded.url, trust_env=False, timeout=60) as client:
        answer = await client.get("/jobs", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert answer.json()["detail"] == "the token is not valid"
    assert TOKEN not in guarded.log


@pytest.mark.parametrize("token", [TOKEN, OTHER])
async def test_every_token_opens_everything(guarded: JobServer, token: str) -> None:
    async with api_client(guarded, token) as api:
        view = await api.submit(JOB)
        assert (await api.ask("GET", "/jobs", 200, params={"limit": 1}))["jobs"][0]["id"] == view["id"]
        old = await api.client.post("/some/path", json=OLD)
        assert (old.status_code, old.json()["code"]) == (200, 106)
        await api.client.get("/jobs", headers={"Authorization": f"bEARER   {token}"})
    assert token not in guarded.log


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/openapi.json", "application/json"),
        ("/health_check", "text/plain"),
        ("/stats", "text/plain"),
        ("/metrics", "text/plain; version=0.0.4"),
    ],
)
async def test_what_is_served_to_all(guarded: JobServer, path: str, kind: str) -> None:
    async with httpx.AsyncClient(base_url=guarded.url, trust_env=False, timeout=60) as client:
        for method in ("GET", "HEAD"):
            answer = await client.request(method, path)
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith(kind.partition(";")[0])


async def test_a_body_is_not_read_before_the_token(guarded: JobServer) -> None:
    """Who waits for leave to send it is told at once, and the connection ends there."""

    reader, writer = await asyncio.open_connection("127.0.0.1", int(guarded.url.rpartition(":")[2]))
    writer.write(
        b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 10000000\r\nExpect: 100-continue\r\n\r\n"
    )
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in head
    writer.close()


# --- pages of other sites


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/jobs"),
        ("POST", "/jobs/retry"),
        ("DELETE", "/jobs/x"),
        ("POST", "/jobs/x/retry"),
        ("POST", "/"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[bad"},
    ],
)
async def test_pages_of_other_sites_change_nothing(
    api: Api, method: str, path: str, headers: dict[str, str]
) -> None:
    """Browsers send such requests without asking, and this server may only be within their reach."""
    problem = await api.ask(method, path, 403, headers=headers)
    assert "other sites" in problem["detail"]


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "same-origin", "Origin": "https://proxied.example"}, {"Sec-Fetch-Site": "none"}],
)
async def test_other_requests_are_heeded(api: Api, headers: dict[str, str]) -> None:
    await api.ask("POST", "/jobs/retry", 200, headers=headers, params={"batch": "none"})
    own = {"Origin": api.server.url}
    await api.ask("POST", "/jobs/retry", 200, headers=own, params={"batch": "none"})


# --- beside the older server's protocol


def posted(server: JobServer, path: str) -> httpx.Response:
    return httpx.post(server.url + path, json=OLD, trust_env=False, timeout=60)


async def test_the_older_protocol_is_everywhere_else(api: Api) -> None:
    for path in ("/", "/jobsx", "/job", "/batchesx", "/openapi", "/metrics"):
        answer = posted(api.server, path)
        assert (answer.status_code, answer.json()["code"]) == (200, 106)
    answer = await api.client.get("/other")
    assert (answer.status_code, answer.text) == (404, "404 Not Found - imgserve 0.2")


@pytest.mark.covers("j002")
def test_legacy_takes_old_jobs_on_every_path(tmp_path: Path) -> None:
    """Those of the API and of the built-in routes, too; these answer GET all the same."""
    with job_server(tmp_path / "server", "--legacy") as server:
        for path in ("/jobs", "/jobs/retry", "/batches/x", "/openapi.json", "/stats", "/stats/workers",
                     "/health_check", "/health_check/x", "/metrics"):  # fmt: skip
            answer = posted(server, path)
            assert (answer.status_code, answer.json()["code"]) == (200, 106)
        for path in ("/jobs", "/batches/x", "/openapi.json", "/metrics"):
            assert httpx.get(server.url + path, trust_env=False, timeout=60).status_code == 404
        for path in ("/stats", "/health_check"):
            assert httpx.get(server.url + path, trust_env=False, timeout=60).status_code == 200


def test_the_built_in_routes_answer_post_otherwise(plain: JobServer) -> None:
    assert posted(plain, "/stats/workers").text == "1\r\n"


async def test_tokens_guard_a_legacy_server_as_well(tmp_path: Path, web: HttpServer) -> None:
    web.answers = {"/a.png": reply(200, picture()), "/b.png": reply(201)}
    configuration = allowed(f'token "{TOKEN}"')
    job: dict[str, Any] = {
        "operationType": "resize",
        "srcURL": f"{web.url}/a.png",
        "dstURL": f"{web.url}/b.png",
        "args": {"width": 10, "height": 10, "http_method": "PUT"},
    }
    with job_server(tmp_path / "server", "--legacy", configuration=configuration) as server:
        assert posted(server, "/jobs").status_code == 401
        assert posted(server, "/stats").status_code == 401
        async with api_client(server, TOKEN) as api:
            answer = await api.client.post("/", content=json.dumps(job))
            assert answer.json() == {"dstURL": f"{web.url}/b.png"}
            await until(lambda: asyncio.sleep(0, len(bodies(web, "/b.png")) == 2))


# --- warnings


@pytest.mark.parametrize(
    ("listeners", "has_api", "lines", "warns"),
    [
        (("127.0.0.1:8602", "[::1]:8602", "localhost:8602", "unix:/run/jobs"), True, (), False),
        (("0.0.0.0:8602",), True, (), True),
        (("127.0.0.1:8602", ":8602"), True, (), True),
        (("192.0.2.1:8602",), True, (f'token "{TOKEN}"',), False),
        (("0.0.0.0:8602",), False, (), False),
    ],
)
def test_a_listener_for_others_needs_tokens(
    tmp_path: Path, listeners: tuple[str, ...], has_api: bool, lines: tuple[str, ...], warns: bool
) -> None:
    file = tmp_path / "jobs.sdl"
    file.write_text(allowed(*HERE, *lines))
    said: list[str] = []
    load = job_loader(
        file, tmp_path, HostSettings(), legacy=False, user=None, has_api=has_api, listeners=listeners
    )
    load(said.append, said.append)()
    assert [line for line in said if WARNING in line] == said
    assert bool(said) == warns
