"""Whole servers on a real object store that is killed, hangs or breaks off: nothing acknowledged is lost.

What is promised is about our acknowledgement: an upload that we answered 200 had been acknowledged by the
object store. Whether that keeps its word through a power failure is its own affair; SeaweedFS writes to the
system without waiting for the disk, so a kill of its processes loses nothing that it has acknowledged.
"""

import asyncio
import hashlib
import os
import random
import signal
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import httpx
import msgspec
import pytest
from fault_proxy import Answer, CutResponse, Delay, Fault, FaultProxy, Pass, SeenRequest
from PIL import Image
from processes import children
from s3_servers import OwnSeaweed, S3Server
from serving import ROOT, Server, Servers

PHOTO = (ROOT / "tests" / "data" / "coffee.jpg").read_bytes()
LATER = {502, 503, 504}
"""What is answered while the object store cannot do its work."""

MARGIN_S = 10
"""How late an answer may be on a machine that has much else to do."""

WAIT_S = 60

API = """
path "key" "#{name}"

put "objects" ":name" {
    store_s3 "input" bucket="BUCKET" path="key" CACHE
    output_store_path "input"
}
get "objects" ":name" {
    source_s3 "object" bucket="BUCKET" path="key" CACHE
    output_image "object"
}
get "small" ":name" {
    source_s3 "object" bucket="BUCKET" path="key" CACHE
    thumbnail "object" "small" operation="fit" width=120 height=120 format="png"
    output_image "small"
}
get "without" "s3" { output_ok; }
"""


def configuration(seaweed: S3Server, bucket: str, url: str | None = None, cache: str = "") -> str:
    account = (
        f's3 key="{seaweed.access_key}" secret="{seaweed.secret_key}" '
        f'endpoint="{url or seaweed.url}" region="{seaweed.region}"'
    )
    return account + API.replace("BUCKET", bucket).replace("CACHE", cache)


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=WAIT_S, trust_env=False) as client:
        yield client


def many_connections() -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(timeout=2 * WAIT_S, limits=limits, trust_env=False)


def assert_explained(answer: httpx.Response) -> None:
    """An answer that the object store is to blame for: when to come again, and why, in one line of text."""
    assert answer.status_code in LATER, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "text/plain"
    assert answer.text.endswith("\r\n")
    assert answer.text.count("\r\n") == 1
    assert answer.text.startswith("S3 bucket '") or answer.text == "request took too long\r\n"
    assert "Traceback" not in answer.text


async def uploads(server: Server, contents: dict[str, bytes], seen: Callable[[], None]) -> dict[str, int]:
    """Upload everything at the same time; the status of each, all failures being explained."""

    async def upload(client: httpx.AsyncClient, name: str) -> tuple[str, int]:
        answer = await client.put(f"{server.url}/objects/{name}", content=contents[name])
        if answer.status_code != 200:
            assert_explained(answer)
        seen()
        return name, answer.status_code

    async with many_connections() as client:
        return dict(await asyncio.gather(*(upload(client, name) for name in contents)))


async def works_again(server: Server) -> None:
    """Wait until an upload succeeds: on a busy machine that can take longer than a request may."""
    deadline = time.monotonic() + WAIT_S
    while set((await uploads(server, {"again": PHOTO}, lambda: None)).values()) != {200}:
        assert time.monotonic() < deadline, "the server does not work although the object store does"


async def restart_when(reached: asyncio.Event, seaweed: OwnSeaweed) -> None:
    await reached.wait()
    await asyncio.to_thread(seaweed.kill)
    await asyncio.to_thread(seaweed.start)


def some_contents(count: int) -> dict[str, bytes]:
    """Different ones, the largest too large to be kept in memory while they wait."""
    sizes = random.Random(4)
    return {
        f"{number}.bin": os.urandom(sizes.choice((1, 2_000, 80_000, 1_500_000))) for number in range(count)
    }


@pytest.mark.parametrize("timeout_s", ["3", "60"], ids=["impatient", "patient"])
async def test_no_acknowledged_upload_is_lost_when_the_object_store_is_killed(
    servers: Servers, own_seaweed: Callable[[], OwnSeaweed], timeout_s: str
) -> None:
    """The impatient server gives up before the object store is back, the patient one need not."""
    seaweed = own_seaweed()
    bucket = seaweed.make_bucket()
    server = servers.start(configuration(seaweed, bucket), "--workers", "1", "--request-timeout", timeout_s)
    contents, answered, reached = some_contents(200), Counter[str](), asyncio.Event()

    def seen() -> None:
        answered["uploads"] += 1
        if answered["uploads"] == 20:
            reached.set()

    restarting = asyncio.create_task(restart_when(reached, seaweed))
    statuses = await uploads(server, contents, seen)
    await restarting
    acknowledged = [name for name, status in statuses.items() if status == 200]
    assert acknowledged
    lost = [name for name in acknowledged if seaweed.read(bucket, name) != contents[name]]
    assert lost == []
    await works_again(server)


def refuse(proxy: FaultProxy) -> None:
    proxy.refuse()


def hang(proxy: FaultProxy) -> None:
    proxy.fault = Delay(None)


def fail(proxy: FaultProxy) -> None:
    proxy.fault = Answer(500, b"<Error><Code>InternalError</Code></Error>")


@pytest.mark.covers("s159")
@pytest.mark.parametrize("break_down", [refuse, hang, fail])
async def test_requests_end_in_time_without_the_object_store(
    servers: Servers, seaweed: S3Server, break_down: Callable[[FaultProxy], None]
) -> None:
    bucket = seaweed.make_bucket()
    with FaultProxy(seaweed.url) as proxy:
        text = configuration(seaweed, bucket, proxy.url)
        server = servers.start(text, "--workers", "1", "--request-timeout", "3")
        break_down(proxy)
        async with many_connections() as client:

            async def take_time(request: Awaitable[httpx.Response]) -> float:
                begun = time.monotonic()
                assert_explained(await request)
                return time.monotonic() - begun

            contents = some_contents(40)
            urls = {name: f"{server.url}/objects/{name}" for name in contents}
            puts = [client.put(urls[name], content=data) for name, data in contents.items()]
            gets = [client.get(url) for url in urls.values()]
            took = await asyncio.gather(*map(take_time, puts + gets))
        assert max(took) < 3 + MARGIN_S
        proxy.fault = Pass()
        if break_down is refuse:
            proxy.listen()
        await works_again(server)


@pytest.mark.parametrize(
    ("break_down", "status", "message"),
    [
        (refuse, 502, "cannot be reached"),
        (fail, 502, "answered 500"),
        (hang, 504, "does not answer in time"),
    ],
)
def test_a_store_that_fails_leaves_time_for_the_next_source(
    servers: Servers,
    client: httpx.Client,
    seaweed: S3Server,
    break_down: Callable[[FaultProxy], None],
    status: int,
    message: str,
) -> None:
    """Further attempts are no reason to answer that the request took too long, which helps nobody."""
    bucket = seaweed.make_bucket()
    seaweed.write(bucket, "x", b"of the archive")
    with FaultProxy(seaweed.url) as proxy:
        account = f'key="{seaweed.access_key}" secret="{seaweed.secret_key}" endpoint='
        source = f'source_s3 "o" bucket="{bucket}" path="path"'
        text = f"""
            s3 {account}"{proxy.url}"
            s3 "archive" {account}"{seaweed.url}"
            path "path" "x"
            get "alone" {{
                {source}
                output_image "o"
            }}
            get {{
                source_failover {{
                    {source}
                    {source} s3="archive"
                }}
                output_image "o"
            }}
        """
        server = servers.start(text, "--workers", "1", "--request-timeout", "12")
        break_down(proxy)
        alone = client.get(f"{server.url}/alone")
        assert (alone.status_code, message in alone.text) == (status, True)
        assert client.get(server.url).content == b"of the archive"


def test_what_needs_no_object_store_is_answered_while_it_hangs(
    servers: Servers, seaweed: S3Server, client: httpx.Client
) -> None:
    with FaultProxy(seaweed.url) as proxy, ThreadPoolExecutor(30) as threads:
        proxy.fault = Delay(None)
        text = configuration(seaweed, seaweed.make_bucket(), proxy.url)
        server = servers.start(text, "--workers", "1")
        waiting = [threads.submit(httpx.get, f"{server.url}/objects/{n}", timeout=WAIT_S) for n in range(30)]
        proxy.wait_until(lambda proxy: len(proxy.requests) >= 30)
        for path in ("/health_check", "/stats/total_requests", "/without/s3", "/"):
            assert client.get(server.url + path).status_code == 200
        assert not any(request.done() for request in waiting)
        proxy.fault = Pass()
        proxy.refuse()  # cuts off those that wait ...
        proxy.listen()  # ... which are then sent again
        assert {request.result().status_code for request in waiting} == {404}


def test_an_object_that_breaks_off_is_never_answered_in_part(
    servers: Servers, seaweed: S3Server, client: httpx.Client
) -> None:
    bucket = seaweed.make_bucket()
    seaweed.write(bucket, "photo", PHOTO, "image/jpeg")
    chance = random.Random(7)

    def always_cut(_seen: SeenRequest) -> Fault:
        return CutResponse(chance.choice((0, 1, len(PHOTO) // 2, len(PHOTO) - 1)))

    def often_cut(_seen: SeenRequest) -> Fault:
        return CutResponse(chance.randrange(len(PHOTO))) if chance.random() < 0.5 else Pass()

    with FaultProxy(seaweed.url) as proxy, ThreadPoolExecutor(2) as threads:
        server = servers.start(configuration(seaweed, bucket, proxy.url), "--workers", "1")
        whole = client.get(f"{server.url}/small/photo").content
        proxy.fault = always_cut
        paths = (f"{server.url}/{path}/photo" for path in ("objects", "small"))
        for answer in threads.map(client.get, paths):
            assert_explained(answer)
        proxy.fault = often_cut
        statuses = Counter[int]()
        for _ in range(8):
            answer = client.get(f"{server.url}/small/photo")  # raises when less arrives than was announced
            statuses[answer.status_code] += 1
            if answer.status_code != 200:
                assert_explained(answer)
                continue
            assert int(answer.headers["content-length"]) == len(answer.content) == len(whole)
            with Image.open(BytesIO(answer.content)) as image:
                image.load()
                assert image.size == (120, 80)
        assert statuses[200], statuses


@pytest.mark.covers("s201")
def test_statistics_count_what_went_to_the_object_store(
    servers: Servers, seaweed: S3Server, client: httpx.Client, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    bucket = seaweed.make_bucket()
    server = servers.start(configuration(seaweed, bucket, cache=f'cache-root="{cache}"'), "--workers", "1")
    seaweed.write(bucket, "there", PHOTO, "image/jpeg")
    assert client.put(f"{server.url}/objects/new", content=PHOTO).status_code == 200
    for name in ("new", "there", "there", "missing"):
        client.get(f"{server.url}/objects/{name}")
    figures = dict(line.split(": ") for line in client.get(f"{server.url}/stats").text.splitlines())
    assert {name: int(figures[name]) for name in figures if name.startswith("total_s3_")} == {
        "total_s3_store": 1,
        "total_s3_store_bytes": len(PHOTO),
        "total_s3_source": 3,
        "total_s3_source_bytes": 3 * len(PHOTO),
        "total_s3_cache_hits": 2,
        "total_s3_cache_misses": 2,
        "total_s3_cache_errors": 0,
    }


def cached(cache: Path) -> dict[str, bytes]:
    """The data of all files of an object cache by name; fails for one that is not whole."""
    found: dict[str, bytes] = {}
    for path in cache.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/[0-9a-f]*"):
        content = path.read_bytes()
        (length,) = struct.unpack_from("<I", content)
        assert "content_type" in msgspec.msgpack.decode(content[4 : 4 + length], type=dict[str, object])
        found["".join(path.relative_to(cache).parts)] = content[4 + length :]
    return found


async def test_a_cache_of_two_workers_stays_valid_when_workers_are_killed(
    servers: Servers, seaweed: S3Server, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    bucket = seaweed.make_bucket()
    options = f'cache-root="{cache}" cache-max-size="2MiB"'
    server = servers.start(
        configuration(seaweed, bucket, cache=options), "--http-workers", "2", "--workers", "2"
    )
    contents = {f"{number}": os.urandom(60_000 + number) for number in range(60)}
    for name, data in contents.items():
        seaweed.write(bucket, name, data, "image/jpeg")
    broken_off, over = Counter[str](), False

    async def keep_asking(client: httpx.AsyncClient, number: int) -> None:
        choose = random.Random(number)
        while not over:
            name = choose.choice(list(contents))
            put = choose.random() < 0.2
            try:
                if put:
                    answer = await client.put(f"{server.url}/objects/{name}", content=contents[name])
                else:
                    answer = await client.get(f"{server.url}/objects/{name}")
            except httpx.TransportError:  # its worker was killed
                broken_off["requests"] += 1
                continue
            assert answer.status_code == 200, answer.text
            assert put or answer.content == contents[name]

    async def kill_workers() -> None:
        nonlocal over
        for _ in range(3):
            await asyncio.sleep(0.7)  # under load: there is nothing to wait for
            oldest = min(children(server.process.pid))
            os.kill(oldest, signal.SIGKILL)
            deadline = time.monotonic() + WAIT_S
            while len(set(children(server.process.pid)) - {oldest}) < 2:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
        over = True

    async with many_connections() as client:
        await asyncio.gather(kill_workers(), *(keep_asking(client, number) for number in range(16)))
        names = {hashlib.sha256(f"{bucket}/{name}".encode()).hexdigest()[:32]: name for name in contents}
        kept = cached(cache)
        assert kept
        assert all(contents[names[digest]] == data for digest, data in kept.items())
        assert sum(map(len, kept.values())) < 2.5 * (1 << 20)
        for name, data in contents.items():
            assert (await client.get(f"{server.url}/objects/{name}")).content == data
        assert (await client.get(f"{server.url}/stats/total_s3_cache_errors")).text == "0\r\n"
