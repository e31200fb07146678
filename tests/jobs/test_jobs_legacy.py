"""Jobs in the older server's words, from the POST to what lies at the destination, over real servers.

Sources and destinations are on loopback, so they are named in the configuration, or `--legacy` is on.
"""

import asyncio
import email
import email.policy
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import certifi
import httpx
import pytest
from job_servers import Ftp, HttpServer, Seen, for_ever, raw, reply
from job_support import until
from loopback_ports import free_ports
from PIL import Image, ImageDraw
from s3_servers import S3Server
from serving import ROOT

SIZE = (200, 120)
START_S, STOP_S, REPLY_S = 60, 60, 60
CIRCLE = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90"><circle cx="45" cy="45" r="45"/></svg>'
)


def picture(size: tuple[int, int] = (600, 600), kind: str = "PNG", mode: str = "RGB") -> bytes:
    """Red, with a blue upper half, so that no placeholder looks like a result."""
    drawn = Image.new("RGB", size, "red")
    ImageDraw.Draw(drawn).rectangle((0, 0, size[0], size[1] // 2), fill="blue")
    file = io.BytesIO()
    drawn.convert(mode).save(file, kind)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def is_result(data: bytes) -> bool:
    image = opened(data).convert("RGB")
    return image.size == SIZE and image.getpixel((0, 0)) != (255, 255, 255)


def is_picture_of_ours(data: bytes) -> bool:
    """White, with dark text across the middle row (section 7)."""
    image = opened(data).convert("L")
    middle = image.crop((0, SIZE[1] // 2, SIZE[0], SIZE[1] // 2 + 1))
    corner = image.getpixel((0, 0))
    return image.size == SIZE and corner == 255 and middle.getextrema()[0] < 64


@dataclass
class JobServer:
    """A running server and its directory."""

    url: str
    process: "subprocess.Popen[bytes]"
    log_path: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    async def post(self, job: Any, path: str = "/") -> httpx.Response:
        async with httpx.AsyncClient(timeout=REPLY_S, trust_env=False) as client:
            content = job if isinstance(job, bytes) else None
            return await client.post(self.url + path, content=content, json=None if content else job)

    async def code(self, source: str, destination: str, **args: Any) -> int | None:
        """None when the job is accepted."""
        answer = await self.post(job(source, destination, **args))
        assert answer.status_code == 200
        return answer.json().get("code")

    def kill(self) -> None:
        """All of it, at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def job(source: str, destination: str, operation: str = "resize", **args: Any) -> dict[str, Any]:
    sides = {"width": SIZE[0], "height": SIZE[1]}
    return {"operationType": operation, "srcURL": source, "dstURL": destination, "args": {**sides, **args}}


@contextmanager
def job_server(
    directory: Path,
    *options: str,
    configuration: str = "",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[JobServer]:
    """`safelight jobs` in `directory`; stopped in the end unless it was killed. It must log no traceback."""
    directory.mkdir(exist_ok=True)
    (directory / "jobs.sdl").write_text(configuration)
    (port,) = free_ports(1)
    words = ["--config", "jobs.sdl", "--listen", f"127.0.0.1:{port}", "--workers", "2", "--verbose"]
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("SAFELIGHT_")}
    log_path = directory / f"log-{port}"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "safelight", "jobs", *words, *options],
            cwd=directory,
            stdout=log,
            stderr=log,
            env={**inherited, "PYTHONPATH": str(ROOT / "src"), **environment},
            start_new_session=True,
        )
    server = JobServer(f"http://127.0.0.1:{port}", process, log_path)
    try:
        deadline = time.monotonic() + START_S
        while f" at {server.url}\n" not in server.log:
            assert process.poll() is None, server.log
            assert time.monotonic() < deadline, server.log
            time.sleep(0.02)
        yield server
        if process.poll() is None:
            process.terminate()
            process.wait(STOP_S)
        assert "Traceback" not in server.log, server.log
    finally:
        if process.poll() is None:
            server.kill()


def allowed(*lines: str) -> str:
    return "jobs attempts=2 {\n" + "\n".join(lines) + "\n}\n"


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    with job_server(tmp_path_factory.mktemp("legacy") / "server", "--legacy") as server:
        yield server


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    """Loopback may be source and destination, for 127.0.0.1 is named; there are no roots."""
    lines = ('source "127.0.0.1"', 'destination "127.0.0.1"', 'source "gone.invalid"')
    configuration = allowed(*lines, 'destination "gone.invalid"')
    with job_server(tmp_path_factory.mktemp("strict") / "server", configuration=configuration) as server:
        yield server


@dataclass
class Target:
    """A destination over HTTP: keeps what it was sent by path; what is sent first waits for `gate`."""

    web: HttpServer
    got: dict[str, list[bytes]]

    async def take(self, request: Seen, writer: asyncio.StreamWriter) -> None:
        self.got.setdefault(request.target, []).append(request.body)
        await reply(201)(request, writer)

    def results(self, path: str) -> Callable[[], Awaitable[bool]]:
        """Whether the last that was sent to `path` is a result."""

        async def look() -> bool:
            return is_result(self.got[path][-1])

        return look


@pytest.fixture
async def target(web: HttpServer) -> Target:
    made = Target(web, {})
    for name in ("/out.png", "/out.jpg", "/200-a.png"):
        web.answers[name] = made.take
    return made


def parts(request: Seen) -> list[Any]:
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    return list(email.message_from_bytes(head + request.body, policy=email.policy.HTTP).iter_parts())  # type: ignore[attr-defined]


# --- HTTP


@pytest.mark.covers("j001")
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
async def test_other_methods_find_nothing(strict: JobServer, method: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.request(method, f"{strict.url}/any/path")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html")
    assert answer.text == ("" if method == "HEAD" else "404 Not Found - imgserve 0.2")


@pytest.mark.covers("j002", "j003")
@pytest.mark.parametrize("path", ["/", "/any", "/a/b%zz?c=d"])
async def test_any_path_takes_jobs(strict: JobServer, legacy: JobServer, path: str) -> None:
    for server, kind in ((strict, "application/json"), (legacy, "text/html")):
        answer = await server.post(b"{", path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.json() == {"msg": "request parse error"}


@pytest.mark.covers("j024", "j065")
async def test_quick_refusals_cause_no_traffic(strict: JobServer, web: HttpServer) -> None:
    assert await strict.code(f"{web.url}/a.png", f"{web.url}/a.gif", field_file="f") == 113
    assert await strict.code("file:///etc/a.png", f"{web.url}/:a.png", field_file="f") == 109
    assert await strict.code(f"{web.url}/a.png", "file:///tmp/a.png") == 110
    assert web.connections == 0


async def test_a_start_says_what_is_open_and_what_is_closed(legacy: JobServer, tmp_path: Path) -> None:
    assert "legacy mode" in legacy.log
    with job_server(tmp_path / "closed") as closed:
        assert "no destinations are allowed" in closed.log


# --- from source to destination


def fixtures() -> dict[str, bytes]:
    """As the older server's own tests have them (section 11)."""
    return {
        "a.gif": picture((900, 1166), "GIF", "P"),
        "b.jpeg": picture((800, 533), "JPEG"),
        "c.jpg": picture((604, 451), "JPEG"),
        "d.png": picture((600, 600), "PNG", "RGBA"),
        "e.svg": CIRCLE,
    }


@pytest.mark.covers("j031", "j032", "j035", "j036", "j037", "j039", "j040", "j041", "j042", "j043", "j046")
@pytest.mark.parametrize("name", sorted(fixtures()))
@pytest.mark.parametrize("to", ["http", "ftp", "file"])
async def test_every_source_to_every_destination(
    legacy: JobServer, web: HttpServer, ftp: Ftp, tmp_path: Path, name: str, to: str
) -> None:
    stem, extension = name.split(".")
    extension = "png" if extension == "svg" else extension
    operation = "rasterize" if name.endswith("svg") else "resize"
    data = fixtures()[name]
    web.answers = {f"/{name}": reply(200, data), "/page": reply(302)}
    (ftp.root / name).write_bytes(data)
    (tmp_path / name).write_bytes(data)
    (ftp.root / "200").mkdir()
    for source in (f"{web.url}/{name}", f"ftp://{ftp.login}/{name}", f"file://{tmp_path}/{name}"):
        web.seen.clear()
        result = f"200/{stem}-120.{extension}"
        for old in (ftp.root / result, tmp_path / "new" / result):
            if old.exists():
                old.write_bytes(b"old")
        destination = {
            "http": f"{web.url}/page:{{$basename}}.{extension}",
            "ftp": f"ftp://{ftp.login}/{{$width}}/{{$basename}}-{{$height}}.{extension}",
            "file": f"file://{tmp_path}/new/{{$width}}/{{$basename}}-{{$height}}.{extension}",
        }[to]

        def arrived(result: str = result) -> list[bytes]:
            """What has been delivered, the latest last."""
            if to == "http":
                posts = [request for request in web.seen if request.method == "POST"]
                return [parts(request)[0].get_content() for request in posts]
            return [((ftp.root if to == "ftp" else tmp_path / "new") / result).read_bytes()]

        answer = await legacy.post(job(source, destination, operation, field_file="image"))
        at_reply = arrived()
        expected = destination.replace("{$width}", "200").replace("{$height}", "120")
        assert answer.json() == {"dstURL": expected.replace("{$basename}", stem)}
        assert opened(at_reply[0]).size == SIZE
        if to == "http":
            assert is_picture_of_ours(at_reply[0])

        async def is_done() -> bool:
            return opened(arrived()[-1]).size == SIZE and not is_picture_of_ours(arrived()[-1])

        await until(is_done)
        image = opened(arrived()[-1])
        assert image.format == {"jpg": "JPEG", "jpeg": "JPEG"}.get(extension, extension.upper())
        assert image.mode in ("P", "RGB", "RGBA")


@pytest.mark.covers("j037")
async def test_the_form(strict: JobServer, web: HttpServer) -> None:
    web.answers = {"/a.png": reply(200, picture()), "/page.html": reply(200)}
    assert (
        await strict.code(f"{web.url}/a.png", f"{web.url}/page.html:{{$width}}.png", field_file="pic") is None
    )
    (part,) = parts(next(request for request in web.seen if request.method == "POST"))
    assert part["Content-Disposition"].params == {"name": "pic", "filename": "200.png"}
    assert part.get_content_type() == "image/png"


@pytest.mark.covers("j047")
async def test_alpha_survives(strict: JobServer, target: Target) -> None:
    image = Image.new("RGBA", (400, 240), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 200, 240))
    file = io.BytesIO()
    image.save(file, "PNG")
    target.web.answers["/a.png"] = reply(200, file.getvalue())
    await strict.code(f"{target.web.url}/a.png", f"{target.web.url}/out.png", http_method="PUT")
    await until(lambda: asyncio.sleep(0, len(target.got["/out.png"]) > 1))
    made = opened(target.got["/out.png"][-1])
    assert [made.getpixel((10, 60)), made.getpixel((190, 60))[3]] == [(0, 0, 255, 255), 0]


@pytest.mark.covers("j048", "j049")
async def test_a_circle_becomes_an_ellipse(strict: JobServer, target: Target) -> None:
    target.web.answers["/a.svg"] = reply(200, CIRCLE)
    to = f"{target.web.url}/out.png"
    await strict.post(job(f"{target.web.url}/a.svg", to, "rasterize", http_method="PUT"))
    await until(lambda: asyncio.sleep(0, len(target.got["/out.png"]) > 1))
    made = opened(target.got["/out.png"][-1])
    assert (made.mode, made.size) == ("RGBA", SIZE)
    alpha = made.getchannel("A")
    assert [alpha.getpixel(place) for place in ((0, 0), (199, 0), (0, 119), (199, 119))] == [0] * 4
    assert min(alpha.getpixel(place) for place in ((100, 1), (100, 118), (1, 60), (198, 60))) > 200


@pytest.mark.covers("j053", "j043")
async def test_put(strict: JobServer, target: Target) -> None:
    target.web.answers["/a.png"] = reply(200, picture())
    to = f"{target.web.url}/{{$width}}-{{$basename}}.png"
    assert await strict.code(f"{target.web.url}/a.png", to, http_method="put") is None
    await until(target.results("/200-a.png"))
    first, last = target.got["/200-a.png"]
    assert is_picture_of_ours(first)
    assert is_result(last)
    sources = [request for request in target.web.seen if request.target == "/a.png"]
    assert len(sources) == 1, "what was fetched for the check is kept for the work"


# --- refusals that take a look


@pytest.mark.covers("j025", "j026")
async def test_sources_that_cannot_be_had(
    legacy: JobServer, web: HttpServer, ftp: Ftp, free_port: int
) -> None:
    web.answers = {"/500.png": reply(500), "/loop.png": reply(302, location="/loop.png")}
    to = f"{web.url}/out.png"
    for source in (
        f"{web.url}/none.png",
        f"{web.url}/500.png",
        f"{web.url}/loop.png",
        f"ftp://{ftp.place}/none.png",
        "file:///nowhere/none.png",
        "http://gone.invalid/a.png",
        f"http://127.0.0.1:{free_port}/a.png",
    ):
        assert await legacy.code(source, to, http_method="PUT") == 201, source
    assert "PUT" not in {request.method for request in web.seen}


@pytest.mark.covers("j027")
@pytest.mark.parametrize("extension", ["png", "gif", "jpg", "jpeg"])
async def test_a_text_is_no_image(strict: JobServer, web: HttpServer, extension: str) -> None:
    web.answers = {f"/a.{extension}": reply(200, b"just a text"), f"/b.{extension}": reply(200, CIRCLE)}
    for name in "ab":
        source = f"{web.url}/{name}.{extension}"
        assert await strict.code(source, f"{web.url}/out.{extension}", http_method="PUT") == 202


@pytest.mark.covers("j028")
async def test_nothing_is_enlarged(strict: JobServer, target: Target) -> None:
    web = target.web
    for size, expected in (((100, 48), 203), ((276, 110), 203), ((79, 148), 203), (SIZE, None)):
        web.answers["/a.png"] = reply(200, picture(size))
        assert await strict.code(f"{web.url}/a.png", f"{web.url}/out.png", http_method="PUT") == expected


@pytest.mark.covers("j029", "j030", "j064", "j066")
async def test_destinations_that_take_nothing(strict: JobServer, web: HttpServer, ftp: Ftp) -> None:
    web.answers = {"/a.png": reply(200, picture()), "/page": reply(200), "/500.png": reply(500)}
    source = f"{web.url}/a.png"
    assert await strict.code(source, "http://gone.invalid/out.png", http_method="PUT") == 205
    assert await strict.code(source, f"ftp://user:wrong@{ftp.place}/out.png") == 205
    assert await strict.code(source, f"{web.url}/500.png", http_method="PUT") == 205
    before = web.connections
    not_allowed = f"http://localhost:{web.port}/page"
    assert await strict.code(source, f"{not_allowed}:x.png", field_file="f") == 205
    for name in ("../../x.png", "/x/y.png", "..\\x.png", "a\r\nb.png"):
        assert await strict.code(source, f"{web.url}/page:{name}", field_file="f") == 205, name
    assert web.connections - before == 5, "the sources"


@pytest.mark.covers("j063")
async def test_private_sources_are_refused(tmp_path: Path, web: HttpServer) -> None:
    """Without a `source` line; an address that is named may redirect only to what is named, too."""
    web.answers = {"/a.png": reply(302, location=f"http://localhost:{web.port}/b.png")}
    with job_server(tmp_path / "default", configuration=allowed('destination "127.0.0.1"')) as server:
        for host in ("127.0.0.1", "localhost", "2130706433", "[::1]", "169.254.169.254", "10.0.0.1"):
            source = f"http://{host}:{web.port}/a.png"
            assert await server.code(source, f"{web.url}/out.png", http_method="PUT") == 201, host
    assert web.connections == 0
    lines = ('source "127.0.0.1"', 'destination "127.0.0.1"')
    with job_server(tmp_path / "named", configuration=allowed(*lines)) as server:
        assert await server.code(f"{web.url}/a.png", f"{web.url}/out.png", http_method="PUT") == 201
    assert [request.target for request in web.seen] == ["/a.png"]


@pytest.mark.covers("j067")
async def test_large_sources_are_refused(tmp_path: Path, web: HttpServer) -> None:
    lines = ('source "127.0.0.1"', 'destination "127.0.0.1"')
    configuration = allowed(*lines).replace("attempts=2", 'attempts=2 max-bytes="64KiB"')
    noise = Image.effect_noise((500, 500), 200)
    file = io.BytesIO()
    noise.save(file, "PNG")
    huge = bytearray(picture((300, 200)))
    huge[16:24] = (20_000).to_bytes(4, "big") * 2
    assert len(file.getvalue()) > 64 << 10
    web.answers = {"/a.png": reply(200, file.getvalue()), "/b.png": reply(200, bytes(huge))}
    with job_server(tmp_path / "small", configuration=configuration) as server:
        assert await server.code(f"{web.url}/a.png", f"{web.url}/out.png", http_method="PUT") == 201
        assert await server.code(f"{web.url}/b.png", f"{web.url}/out.png", http_method="PUT") == 202


@pytest.mark.covers("j050")
async def test_broken_svg(strict: JobServer, legacy: JobServer, target: Target) -> None:
    web = target.web
    web.answers["/a.svg"] = reply(200, b"<svg><g></svg>")
    written = job(f"{web.url}/a.svg", f"{web.url}/out.png", "rasterize", http_method="PUT")
    assert (await strict.post(written)).json()["code"] == 204
    assert target.got == {}
    assert "dstURL" in (await legacy.post(written)).json()
    await until(lambda: asyncio.sleep(0, len(target.got["/out.png"]) == 2))
    first, last = target.got["/out.png"]
    assert first != last
    assert is_picture_of_ours(last)


# --- after the answer


@pytest.mark.covers("j044", "j055")
async def test_a_source_whose_pixels_are_bad_ends_as_the_failure_picture(
    strict: JobServer, target: Target
) -> None:
    """Its header is right. Neither the worker nor the connection of the client is harmed."""
    web = target.web
    web.answers["/a.png"] = reply(200, picture((3000, 2000))[:1000])
    assert await strict.code(f"{web.url}/a.png", f"{web.url}/out.png", http_method="PUT") is None
    await until(lambda: asyncio.sleep(0, len(target.got["/out.png"]) == 2))
    assert is_picture_of_ours(target.got["/out.png"][0])
    assert is_picture_of_ours(target.got["/out.png"][1])
    assert target.got["/out.png"][0] != target.got["/out.png"][1]
    web.answers["/a.png"] = reply(200, picture())
    assert await strict.code(f"{web.url}/a.png", f"{web.url}/out.png", http_method="PUT") is None
    await until(target.results("/out.png"))


@pytest.mark.covers("j054")
async def test_slow_jobs_wait_for_nobody(strict: JobServer, target: Target) -> None:
    """Both sources are asked for before one answers; each client gets its own answer."""
    web = target.web
    asked, both = [], asyncio.Event()

    async def slow(request: Seen, writer: asyncio.StreamWriter) -> None:
        asked.append(request.target)
        if len(asked) == 2:
            both.set()
        await both.wait()
        await reply(200, picture())(request, writer)

    web.answers |= {"/1.png": slow, "/2.png": slow}
    answers = await asyncio.gather(
        strict.post(job(f"{web.url}/1.png", f"{web.url}/out.png", http_method="PUT")),
        strict.post(job(f"{web.url}/2.png", f"{web.url}/200-a.png", http_method="PUT")),
    )
    assert [answer.json()["dstURL"].rpartition("/")[2] for answer in answers] == ["out.png", "200-a.png"]


async def test_a_job_outlives_the_server(tmp_path: Path, target: Target) -> None:
    """Killed after its answer, while the result is being delivered; a placeholder is put only once."""
    web, deliveries, held = target.web, [], asyncio.Event()

    async def hold_the_second(request: Seen, writer: asyncio.StreamWriter) -> None:
        deliveries.append(request.body)
        if len(deliveries) == 2:
            held.set()
            await for_ever()
        await reply(201)(request, writer)

    web.answers |= {"/a.png": reply(200, picture()), "/held.png": hold_the_second}
    configuration = allowed('source "127.0.0.1"', 'destination "127.0.0.1"')
    with job_server(tmp_path / "server", configuration=configuration) as server:
        assert await server.code(f"{web.url}/a.png", f"{web.url}/held.png", http_method="PUT") is None
        await asyncio.wait_for(held.wait(), 60)
        server.kill()
    with job_server(tmp_path / "server", configuration=configuration):
        await until(lambda: asyncio.sleep(0, len(deliveries) == 3))
    assert is_picture_of_ours(deliveries[0])
    assert is_result(deliveries[1])
    assert is_result(deliveries[2])


async def test_a_job_that_nobody_was_told_of_is_completed(tmp_path: Path, target: Target) -> None:
    """Killed while the placeholder is being delivered: the next server delivers it, and the result."""
    web, deliveries, held = target.web, [], asyncio.Event()

    async def hold_the_first(request: Seen, writer: asyncio.StreamWriter) -> None:
        deliveries.append(request.body)
        if len(deliveries) == 1:
            held.set()
            await for_ever()
        await reply(201)(request, writer)

    web.answers |= {"/a.png": reply(200, picture()), "/held.png": hold_the_first}
    configuration = allowed('source "127.0.0.1"', 'destination "127.0.0.1"')
    with job_server(tmp_path / "server", configuration=configuration) as server:
        asking = asyncio.create_task(
            server.code(f"{web.url}/a.png", f"{web.url}/held.png", http_method="PUT")
        )
        await asyncio.wait_for(held.wait(), 60)
        assert not asking.done()
        server.kill()
        with pytest.raises(httpx.TransportError):
            await asking
    with job_server(tmp_path / "server", configuration=configuration):
        await until(lambda: asyncio.sleep(0, len(deliveries) == 3))
    assert is_picture_of_ours(deliveries[1])
    assert is_result(deliveries[2])


@pytest.mark.covers("j044")
async def test_the_failure_picture_goes_out_after_the_last_attempt(strict: JobServer, target: Target) -> None:
    """The destination takes the placeholder, and no result in two attempts."""
    web, deliveries = target.web, list[bytes]()

    async def fail_twice(request: Seen, writer: asyncio.StreamWriter) -> None:
        deliveries.append(request.body)
        await reply(503 if len(deliveries) in (2, 3) else 201)(request, writer)

    web.answers |= {"/a.png": reply(200, picture()), "/failing.png": fail_twice}
    assert await strict.code(f"{web.url}/a.png", f"{web.url}/failing.png", http_method="PUT") is None
    await until(lambda: asyncio.sleep(0, len(deliveries) == 4))
    await until(lambda: asyncio.sleep(0, "a job is given up" in strict.log))
    assert [is_result(delivered) for delivered in deliveries] == [False, True, True, False]
    assert deliveries[0] != deliveries[3]
    assert is_picture_of_ours(deliveries[3])


@pytest.mark.covers("j058")
async def test_a_stop_finishes_the_jobs_that_run(tmp_path: Path, target: Target) -> None:
    web, second = target.web, asyncio.Event()

    async def slowly(request: Seen, writer: asyncio.StreamWriter) -> None:
        target.got.setdefault("slow", []).append(request.body)
        if len(target.got["slow"]) == 2:
            second.set()
            await asyncio.sleep(1)
        await reply(201)(request, writer)

    web.answers |= {"/a.png": reply(200, picture()), "/slow.png": slowly}
    configuration = allowed('source "127.0.0.1"', 'destination "127.0.0.1"')
    with job_server(tmp_path / "server", configuration=configuration) as server:
        assert await server.code(f"{web.url}/a.png", f"{web.url}/slow.png", http_method="PUT") is None
        await second.wait()
        server.process.terminate()
        await asyncio.to_thread(server.process.wait, STOP_S)
    with job_server(tmp_path / "server", configuration=configuration) as server:
        answer = await asyncio.to_thread(httpx.get, f"{server.url}/health_check", trust_env=False)
        assert answer.status_code == 200
    assert len(target.got["slow"]) == 2, "it was finished, so it is not done again"


@pytest.mark.covers("j062")
async def test_no_password_in_the_log(legacy: JobServer, ftp: Ftp) -> None:
    (ftp.root / "a.png").write_bytes(picture())
    source, to = f"ftp://{ftp.login}/a.png", f"ftp://{ftp.login}/out.png"
    assert (await legacy.post(job(source, to))).json() == {"dstURL": to}
    assert await legacy.code(f"ftp://{ftp.login}/none.png", to) == 201
    assert await legacy.code(source, f"ftp://user:hunter2@{ftp.place}/out.png") == 205
    assert "job accepted" in legacy.log
    for secret in ("p%40ss", "p@ss", "w/rd", "w%2Frd", "hunter2"):
        assert secret not in legacy.log


async def test_an_endless_source_ends(tmp_path: Path, web: HttpServer) -> None:
    head = b"HTTP/1.1 200 X\r\n\r\n"
    web.answers = {"/a.png": raw(head, picture()[:50], then=for_ever)}
    configuration = allowed('source "127.0.0.1"', 'destination "127.0.0.1"').replace(
        "attempts=2", 'fetch-timeout="1s"'
    )
    with job_server(tmp_path / "server", configuration=configuration) as server:
        assert await server.code(f"{web.url}/a.png", f"{web.url}/out.png", http_method="PUT") == 201


# --- other ends, and several workers


@pytest.mark.covers("j051", "j052")
async def test_secure_sources_and_destinations(tmp_path: Path, secure_web: HttpServer, ftps: Ftp) -> None:
    """Certificates are checked: with an authority that is trusted it works, without it does not."""
    (ftps.root / "a.png").write_bytes(picture())
    secure_web.answers = {"/a.png": reply(200, picture()), "/page": reply(200)}
    over_ftp, over_http = f"ftps://{ftps.login}/out.png", f"{secure_web.url}/page:out.png"
    lines = allowed('source "127.0.0.1"', 'destination "127.0.0.1"')
    with job_server(tmp_path / "server", configuration=lines) as server:
        assert await server.code(f"{secure_web.url}/a.png", over_ftp) is None
        assert await server.code(f"ftps://{ftps.login}/a.png", over_http, field_file="f") is None

        async def are_done() -> bool:
            posts = [request for request in secure_web.seen if request.method == "POST"]
            over = [parts(request)[0].get_content() for request in posts]
            return is_result((ftps.root / "out.png").read_bytes()) and is_result(over[-1])

        await until(are_done)
    untrusting = {"SSL_CERT_FILE": certifi.where()}
    with job_server(tmp_path / "server", configuration=lines, environment=untrusting) as server:
        assert await server.code(f"{secure_web.url}/a.png", over_ftp) == 201


async def test_a_bucket(tmp_path: Path, web: HttpServer, seaweed: S3Server) -> None:
    bucket = seaweed.make_bucket()
    configuration = (
        f's3 key="{seaweed.access_key}" secret="{seaweed.secret_key}" endpoint="{seaweed.url}"\n'
        + allowed('source "127.0.0.1"', f'destination "s3://{bucket}/thumbs"')
    )
    web.answers = {"/a.png": reply(200, picture())}
    with job_server(tmp_path / "server", configuration=configuration) as server:
        to = f"s3://{bucket}/thumbs/{{$width}}.png"
        answer = await server.post(job(f"{web.url}/a.png", to))
        assert answer.json() == {"dstURL": f"s3://{bucket}/thumbs/200.png"}

        async def is_done() -> bool:
            return is_result(await asyncio.to_thread(seaweed.read, bucket, "thumbs/200.png"))

        await until(is_done)
        assert await server.code(f"{web.url}/a.png", f"s3://{bucket}/other/a.png") == 205
    assert seaweed.keys(bucket) == ["thumbs/200.png"]


async def test_any_http_worker_may_begin_a_job(tmp_path: Path, web: HttpServer) -> None:
    """The one that answers need not do the job; each placeholder comes before its result."""
    web.answers = {"/a.png": reply(200, picture())} | {f"/{n}.png": reply(201) for n in range(24)}
    configuration = allowed('source "127.0.0.1"', 'destination "127.0.0.1"')
    with job_server(tmp_path / "server", "--http-workers", "3", configuration=configuration) as server:
        codes = await asyncio.gather(
            *(
                server.code(f"{web.url}/a.png", f"{web.url}/{number}.png", http_method="PUT")
                for number in range(24)
            )
        )
        assert codes == [None] * 24

        def delivered(number: int) -> list[bytes]:
            return [seen.body for seen in web.seen if seen.target == f"/{number}.png"]

        await until(lambda: asyncio.sleep(0, all(len(delivered(number)) == 2 for number in range(24))))
    for number in range(24):
        first, last = delivered(number)
        assert is_picture_of_ours(first)
        assert is_result(last)
