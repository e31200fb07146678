"""`packaging/nginx/safelight.conf` with a real nginx and a real Safelight behind it."""

import asyncio
import random
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from image_makers import photo_p
from nginx_support import TIMEOUT_S, Nginx, start_site
from serving import Server, Servers

DATA = Path(__file__).parent.parent / "data"
MIB = 1 << 20
STORE = """
path "name" "#{name}"
put "files" ":name" {
    store_file "input" root="files" path="name"
    output_store_path "input"
}
get "files" ":name" {
    source_file "file" root="files" path="name"
    output_image "file" cache-control="public, max-age=3600"
}
get "thumbnail" ":name" ":width" {
    source_file "file" root="files" path="name"
    thumbnail "file" "small" operation="limit" width="#{width}" height="#{width}" format="jpeg"
    output_image "small" cache-control="public, max-age=1"
}
get "slow" ":name" {
    source_file "file" root="files" path="name"
    thumbnail "file" "small" operation="limit" width=1000 height=1000 format="jpeg"
    output_image "small"
}
"""


@pytest.fixture
def client(site: tuple[Nginx, Server]) -> Iterator[httpx.Client]:
    nginx, _ = site
    with httpx.Client(base_url=nginx.url, timeout=TIMEOUT_S) as opened:
        yield opened


@pytest.fixture
def name(client: httpx.Client) -> str:
    """A stored image."""
    answer = client.put("/images", content=(DATA / "coffee.jpg").read_bytes())
    assert answer.status_code == 200, answer.text
    return answer.text.strip()


def test_an_image_goes_in_and_out(client: httpx.Client, name: str) -> None:
    stored = client.get(f"/images/{name}")
    assert stored.content == (DATA / "coffee.jpg").read_bytes()
    assert stored.headers["server"].startswith("nginx")
    assert "x-cache-status" not in stored.headers


def made(client: httpx.Client) -> int:
    """How many thumbnails Safelight has made so far."""
    return int(client.get("/stats/total_thumbnail_thumbnails").text)


def test_a_thumbnail_is_made_once(client: httpx.Client, name: str) -> None:
    before = made(client)
    path = f"/thumbnail/{name}/fit/{random.randrange(20, 400)}/97"
    first, second = client.get(path), client.get(path)
    assert [answer.headers["x-cache-status"] for answer in (first, second)] == ["MISS", "HIT"]
    assert first.headers["cache-control"] == "public, max-age=31557600"
    assert second.content == first.content
    assert second.headers["etag"] == first.headers["etag"]
    assert made(client) == before + 1


def test_a_burst_for_one_thumbnail_is_one_computation(client: httpx.Client, name: str) -> None:
    before = made(client)
    path = f"/thumbnail/{name}/pad/1600/1201?format=webp"
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.get(path), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert made(client) == before + 1


def test_conditions_and_ranges_of_what_is_cached(client: httpx.Client, name: str) -> None:
    path = f"/thumbnail/{name}/crop/150/151"
    whole = client.get(path)
    known = client.get(path, headers={"If-None-Match": whole.headers["etag"]})
    part = client.get(path, headers={"Range": "bytes=10-19"})
    beyond = client.get(path, headers={"Range": "bytes=999999-"})
    head = client.head(path)
    assert (known.status_code, known.content) == (304, b"")
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole.content)}"
    assert beyond.status_code == 416
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(whole.content)))
    assert {answer.headers["x-cache-status"] for answer in (known, part, head)} == {"HIT"}


def test_a_first_request_may_already_be_for_a_range(client: httpx.Client, name: str) -> None:
    """nginx asks for all of it and gives the part."""
    path = f"/thumbnail/{name}/crop/152/153"
    part = client.get(path, headers={"Range": "bytes=0-1"})
    assert (part.status_code, part.content, part.headers["x-cache-status"]) == (206, b"\xff\xd8", "MISS")
    assert client.get(path).headers["x-cache-status"] == "HIT"


def test_conditions_and_ranges_of_what_is_passed_on(client: httpx.Client, name: str) -> None:
    whole = client.get(f"/images/{name}")
    known = client.get(f"/images/{name}", headers={"If-None-Match": whole.headers["etag"]})
    part = client.get(f"/images/{name}", headers={"Range": "bytes=-5"})
    assert known.status_code == 304
    assert (part.status_code, part.content) == (206, whole.content[-5:])


def test_errors_arrive_with_their_reasons_and_are_not_kept(client: httpx.Client, name: str) -> None:
    for _ in range(2):
        answer = client.get(f"/thumbnail/{name}/squeeze/10/10")
        assert (answer.status_code, answer.headers["x-cache-status"]) == (400, "MISS")
        assert "thumbnail method 'squeeze' is not supported" in answer.text


def test_odd_characters_arrive_as_they_were_sent(
    client: httpx.Client, site: tuple[Nginx, Server], places: Path
) -> None:
    """What Safelight says of a path is the same with and without nginx."""
    transport = httpx.HTTPTransport(uds=f"{places}/http.sock")
    with httpx.Client(base_url="http://direct", transport=transport, timeout=TIMEOUT_S) as direct:
        for path in ("/images/a%2Fb%20c?x=%41", "/thumbnail//%2e%2e/fit/1/1", "/none//%2F;a=%C3%A9?b%20c"):
            asked = [asker.get(path) for asker in (client, direct)]
            assert asked[0].status_code == asked[1].status_code != 200
            assert asked[0].text == asked[1].text
            assert asked[0].text.endswith("\r\n")


def test_the_access_log_shows_the_client(
    module_servers: Servers, places: Path, running: Callable[[Nginx], Nginx]
) -> None:
    """And not what the client says: `X-Forwarded-For` is nginx's to write."""
    log = places / "access.log"
    module_servers.start(
        STORE, "--workers", "1", "--access-log-file", str(log), listen=(f"unix:{places}/a.sock",)
    )
    nginx = running(start_site(places / "logged", f"unix:{places}/a.sock"))
    httpx.get(f"{nginx.url}/files/none", headers={"X-Forwarded-For": "203.0.113.9"}, timeout=TIMEOUT_S)
    deadline = time.monotonic() + TIMEOUT_S
    while not log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert log.read_text().startswith("127.0.0.1 - - [")


def test_bodies_up_to_the_limit(
    module_servers: Servers, places: Path, running: Callable[[Nginx], Nginx]
) -> None:
    """By TCP this time. 12 MiB in pieces without a length; more than the limit is refused by nginx."""
    server = module_servers.start(STORE, "--workers", "1", "--limit-memory", "16")
    nginx = running(
        start_site(
            places / "bodies",
            f"127.0.0.1:{server.port}",
            {"client_max_body_size 128m": "client_max_body_size 16m"},
        )
    )
    body = random.Random(7).randbytes(12 * MIB)
    pieces = (body[start : start + 50_000] for start in range(0, len(body), 50_000))
    with httpx.Client(base_url=nginx.url, timeout=TIMEOUT_S) as client:
        assert client.put("/files/large", content=pieces).text == "large\r\n"
        assert (server.directory / "files" / "large").read_bytes() == body
        assert client.get("/files/large").content == body
        assert client.put("/files/largest", content=bytes(16 * MIB)).status_code == 200
        assert client.put("/files/larger", content=bytes(16 * MIB + 1)).status_code == 413
    assert not (server.directory / "files" / "larger").exists()


@pytest.fixture
def overloaded() -> Iterator[str]:
    """URL of a thumbnailer that answers 503 with `Retry-After`."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(503)
            self.send_header("Retry-After", "7")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_being_busy_is_passed_on_and_what_is_kept_helps_out(
    servers: Servers, places: Path, running: Callable[[Nginx], Nginx], overloaded: str
) -> None:
    """A thumbnail of a healthy server is kept; then a busy one takes its place."""
    listen = (f"unix:{places}/busy.sock",)
    healthy = servers.start(STORE, "--workers", "1", listen=listen)
    nginx = running(start_site(places / "busy", f"unix:{places}/busy.sock"))
    with httpx.Client(base_url=nginx.url, timeout=TIMEOUT_S) as client:
        client.put("/files/cup", content=(DATA / "coffee.jpg").read_bytes())
        kept = client.get("/thumbnail/cup/50")
        assert kept.status_code == 200
        healthy.stop()
        servers.start(STORE, "--thumbnailer", overloaded, listen=listen, directory=healthy.directory)
        refused = client.get("/thumbnail/cup/51")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "7")
        deadline = time.monotonic() + TIMEOUT_S
        while (answer := client.get("/thumbnail/cup/50")).headers["x-cache-status"] == "HIT":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert answer.headers["x-cache-status"] in ("STALE", "UPDATING")
        assert answer.content == kept.content


def test_what_has_expired_is_asked_for_again_by_its_tag(
    module_servers: Servers, places: Path, running: Callable[[Nginx], Nginx]
) -> None:
    module_servers.start(STORE, "--workers", "1", listen=(f"unix:{places}/again.sock",))
    nginx = running(
        start_site(places / "again", f"unix:{places}/again.sock", {"proxy_cache_background_update on;": ""})
    )
    with httpx.Client(base_url=nginx.url, timeout=TIMEOUT_S) as client:
        client.put("/files/cup", content=(DATA / "coffee.jpg").read_bytes())
        first = client.get("/thumbnail/cup/50")
        deadline = time.monotonic() + TIMEOUT_S
        while (answer := client.get("/thumbnail/cup/50")).headers["x-cache-status"] == "HIT":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert answer.headers["x-cache-status"] == "REVALIDATED"
        assert answer.content == first.content


def test_statistics_are_for_this_machine_only(
    site: tuple[Nginx, Server], places: Path, running: Callable[[Nginx], Nginx], client: httpx.Client
) -> None:
    assert client.get("/health_check").text == "HTTP Image Store OK\r\n"
    elsewhere = running(
        start_site(places / "far", f"unix:{places}/http.sock", {"allow 127.0.0.1;": "allow 192.0.2.1;"})
    )
    for path in ("/stats", "/stats/workers", "/health_check", "/health_check/x", "/metrics"):
        assert httpx.get(f"{elsewhere.url}{path}", timeout=TIMEOUT_S).status_code == 403
    assert httpx.get(f"{elsewhere.url}/statistics", timeout=TIMEOUT_S).status_code == 404


Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


async def keep_asking(client: httpx.AsyncClient, ask: Ask, done: asyncio.Event) -> list[int]:
    statuses: list[int] = []
    while not done.is_set():
        statuses.append((await ask(client)).status_code)
    return statuses


async def test_reloads_under_load_fail_no_request(
    servers: Servers, places: Path, running: Callable[[Nginx], Nginx]
) -> None:
    """Uploads and slow thumbnails without a pause while Safelight replaces its workers, three times."""
    server = servers.start(STORE, "--workers", "2", listen=(f"unix:{places}/reload.sock",))
    nginx = running(start_site(places / "reload", f"unix:{places}/reload.sock"))
    photo, upload = (DATA / "coffee.jpg").read_bytes(), photo_p()
    asks: list[Ask] = [
        lambda client: client.put("/files/new", content=upload),
        lambda client: client.get("/slow/cup"),
        lambda client: client.get("/files/cup"),
    ]
    done = asyncio.Event()
    async with httpx.AsyncClient(base_url=nginx.url, timeout=TIMEOUT_S) as client:
        await client.put("/files/cup", content=photo)
        clients = [asyncio.create_task(keep_asking(client, ask, done)) for ask in asks * 2]
        for reloads in range(1, 4):
            server.signal(signal.SIGHUP)
            deadline = time.monotonic() + TIMEOUT_S
            while int((await client.get("/stats/workers")).text) <= reloads:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
        done.set()
        statuses = [status for found in await asyncio.gather(*clients) for status in found]
    assert set(statuses) == {200}
    assert len(statuses) > 30


async def test_another_server_takes_over_without_a_gap(
    servers: Servers, places: Path, running: Callable[[Nginx], Nginx]
) -> None:
    """A second one beside the first, on the same data; then nginx is told, and the first one stopped."""
    first = servers.start(STORE, "--workers", "1", listen=(f"unix:{places}/first.sock",))
    nginx = running(start_site(places / "moving", f"unix:{places}/first.sock"))
    photo = (DATA / "coffee.jpg").read_bytes()
    asks: list[Ask] = [
        lambda client: client.put("/files/new", content=photo),
        lambda client: client.get("/slow/cup"),
    ]
    done = asyncio.Event()
    # nginx closes idle connections when it is told, perhaps just as they are used again: none are kept.
    fresh = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=nginx.url, timeout=TIMEOUT_S, limits=fresh) as client:
        await client.put("/files/cup", content=photo)
        clients = [asyncio.create_task(keep_asking(client, ask, done)) for ask in asks * 2]
        command = "--workers", "1", "--access-log-file", str(places / "second.log")
        listen = (f"unix:{places}/second.sock",)
        await asyncio.to_thread(servers.start, STORE, *command, directory=first.directory, listen=listen)
        nginx.use(f"unix:{places}/first.sock fail", f"unix:{places}/second.sock fail")
        log = places / "second.log"
        deadline = time.monotonic() + TIMEOUT_S
        while "/slow/cup" not in log.read_text():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        first.process.terminate()
        assert await asyncio.to_thread(first.process.wait, TIMEOUT_S) == 0
        done.set()
        statuses = [status for found in await asyncio.gather(*clients) for status in found]
    assert set(statuses) == {200}
