"""Result caches under several server processes, with an object store that is slow, killed or gone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fault_proxy import Delay, FaultProxy, Pass, SeenRequest, times
from processes import children
from s3_servers import S3Server
from serving import ROOT, Server, Servers

PHOTO = (ROOT / "tests" / "data" / "coffee.jpg").read_bytes()
WAIT_S = 60
ONE_WORKER = ("--workers", "1", "--http-workers", "1")

API = """
s3 key="KEY" secret="SECRET" endpoint="URL" region="us-east-1"
path "name" "#{path}"
get "objects" {
    cache root="CACHE" OPTIONS
    source_s3 "object" bucket="BUCKET" path="name"
    output_image "object"
}
put "objects" { store_s3 "input" bucket="BUCKET" path="name"; }
delete "objects" { delete_s3 bucket="BUCKET" path="name"; }
delete "purged" { purge_cache bucket="BUCKET" path="name"; }
get "thumbnails" {
    cache root="CACHE"
    source_file "photo" root="IMAGES" path="name"
    thumbnail "photo" "small" operation="fit" width=700 height=700 format="png"
    output_image "small"
}
"""


class Store:
    """An object store behind a proxy, and servers that share one cache of what is made of its objects."""

    def __init__(self, seaweed: S3Server, proxy: FaultProxy, servers: Servers, directory: Path) -> None:
        self.bucket = seaweed.make_bucket()
        self.proxy = proxy
        self.directory = directory
        self._seaweed = seaweed
        self._servers = servers
        (directory / "images").mkdir()
        (directory / "images" / "photo.jpg").write_bytes(PHOTO)

    def configuration(self, options: str = "") -> str:
        values = {
            "URL": self.proxy.url,
            "KEY": self._seaweed.access_key,
            "SECRET": self._seaweed.secret_key,
            "BUCKET": self.bucket,
            "CACHE": str(self.directory / "cache"),
            "IMAGES": str(self.directory / "images"),
            "OPTIONS": options,
        }
        text = API
        for name, value in values.items():
            text = text.replace(name, value)
        return text

    def start(self, options: str = "") -> Server:
        return self._servers.start(self.configuration(options), *ONE_WORKER)

    def put(self, key: str, data: bytes) -> None:
        """Behind the back of the servers."""
        self._seaweed.client.put_object(Bucket=self.bucket, Key=key, Body=data, ContentType="image/png")

    def fetched(self, key: str) -> int:
        """How often the servers have asked for an object."""
        return sum(
            request.method == "GET" and request.target.partition("?")[0].endswith(f"/{key}")
            for request in self.proxy.requests
        )


@pytest.fixture
def store(seaweed: S3Server, servers: Servers, tmp_path: Path) -> Iterator[Store]:
    directory = tmp_path / "shared"
    directory.mkdir()
    with FaultProxy(seaweed.url) as proxy:
        yield Store(seaweed, proxy, servers, directory)


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.02)


def get(server: Server, path: str) -> httpx.Response:
    return httpx.get(server.url + path, timeout=WAIT_S)


def statistic(server: Server, name: str) -> int:
    return int(get(server, f"/stats/{name}").text)


def state(server: Server, path: str) -> str:
    answer = get(server, path)
    assert answer.status_code == 200, answer.text
    return answer.headers["cache-status"]


def test_a_burst_over_three_servers_is_one_computation(store: Store) -> None:
    running = [store.start() for _ in range(3)]
    store.put("a", PHOTO)
    store.proxy.fault = Delay(1.5)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda number: get(running[number % 3], "/objects/a"), range(50)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, PHOTO)}
    assert store.fetched("a") == 1
    assert len({answer.headers["etag"] for answer in answers}) == 1
    stored = [answer for answer in answers if answer.headers["cache-status"].endswith("stored")]
    assert len(stored) == 1


def test_a_burst_of_thumbnails_is_one_call_of_an_engine(store: Store) -> None:
    running = [store.start() for _ in range(3)]
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda number: get(running[number % 3], "/thumbnails/photo.jpg"), range(30)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sum(statistic(server, "total_thumbnail_requests") for server in running) == 1


def test_who_waits_goes_on_when_the_computing_process_is_killed(store: Store) -> None:
    first, second = store.start(), store.start()
    store.put("a", PHOTO)
    store.proxy.fault = times(1, Delay(None))
    with ThreadPoolExecutor(2) as pool:
        hanging = pool.submit(get, first, "/objects/a")
        eventually(lambda: store.fetched("a") == 1)
        waiting = pool.submit(get, second, "/objects/a")
        time.sleep(0.3)  # enough for it to ask, were it not to wait
        assert store.fetched("a") == 1
        for child in children(first.process.pid):
            os.kill(child, signal.SIGKILL)
        assert waiting.result(WAIT_S).content == PHOTO
        assert isinstance(hanging.exception(WAIT_S), httpx.TransportError)
    assert store.fetched("a") == 2
    assert state(second, "/objects/a").startswith("safelight; hit")


def test_kills_at_any_moment_leave_a_cache_that_works(store: Store) -> None:
    steady, shaken = store.start(), store.start()
    for number in range(30):
        store.put(str(number), PHOTO + bytes([number]))
    with ThreadPoolExecutor(8) as pool:
        for round_ in range(4):
            asking = [pool.submit(get, shaken, f"/objects/{number}") for number in range(30)]
            eventually(lambda asking=asking, least=round_ + 1: sum(one.done() for one in asking) >= least)
            for child in children(shaken.process.pid):
                os.kill(child, signal.SIGKILL)
            for one in asking:
                one.exception(WAIT_S)
    for number in range(30):
        for _ in range(2):
            assert get(steady, f"/objects/{number}").content == PHOTO + bytes([number])
    assert state(steady, "/objects/7").startswith("safelight; hit")


def test_stores_and_deletes_of_one_server_drop_what_others_have_kept(store: Store) -> None:
    one, two = store.start(), store.start()
    store.put("a", b"old")
    for server in (one, two, one, two, one):
        assert get(server, "/objects/a").content == b"old"
    assert store.fetched("a") == 1
    assert httpx.put(two.url + "/objects/a", content=b"new", timeout=WAIT_S).status_code == 200
    for server in (one, two):
        assert get(server, "/objects/a").content == b"new"
    assert httpx.delete(one.url + "/objects/a", timeout=WAIT_S).status_code == 200
    for server in (one, two):
        assert get(server, "/objects/a").status_code == 404


def test_readers_never_see_an_older_object_after_an_acknowledged_store(store: Store) -> None:
    one, two = store.start(), store.start()
    with httpx.Client(timeout=WAIT_S) as client:
        for number in range(60):
            body = b"%d" % number
            assert client.put(one.url + "/objects/a", content=body).status_code == 200
            for server in (two, one, two):
                assert client.get(server.url + "/objects/a").content == body


def test_a_slow_fetch_that_a_store_has_overtaken_is_not_kept(store: Store) -> None:
    """The object is read before the store and arrives after it."""
    one, two = store.start(), store.start()
    store.put("a", b"old")

    def slow_reads(seen: SeenRequest) -> Delay | Pass:
        return Delay(1.5) if seen.method == "GET" else Pass()

    store.proxy.fault = slow_reads
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(get, one, "/objects/a")
        eventually(lambda: store.fetched("a") == 1)
        assert httpx.put(two.url + "/objects/a", content=b"new", timeout=WAIT_S).status_code == 200
        reading.result(WAIT_S)
    store.proxy.fault = Pass()
    assert get(one, "/objects/a").headers["cache-status"] == "safelight; fwd=miss; stored"
    assert get(two, "/objects/a").content == b"new"


def test_old_answers_serve_while_the_store_is_down_and_new_ones_when_it_is_back(store: Store) -> None:
    server = store.start('max-age="1s" stale-while-revalidate="1s" stale-if-error="1h"')
    store.put("a", b"old")
    assert get(server, "/objects/a").content == b"old"
    store.put("a", b"new")
    with store.proxy.refusing():
        time.sleep(2.1)
        for _ in range(3):
            answer = get(server, "/objects/a")
            assert (answer.status_code, answer.content) == (200, b"old")
            assert answer.headers["cache-status"].endswith("detail=ERROR")
            assert int(answer.headers["age"]) >= 2
        assert get(server, "/objects/never-seen").status_code == 502
    eventually(lambda: get(server, "/objects/a").content == b"new")


def test_what_was_purged_is_not_served_while_the_store_is_down(store: Store) -> None:
    server = store.start('max-age="1s" stale-if-error="1h"')
    store.put("a", b"old")
    assert get(server, "/objects/a").content == b"old"
    with store.proxy.refusing():
        time.sleep(1.1)
        assert get(server, "/objects/a").content == b"old"
        assert httpx.delete(server.url + "/purged/a", timeout=WAIT_S).status_code == 200
        assert get(server, "/objects/a").status_code == 502


def test_one_server_renews_behind_an_old_answer(store: Store) -> None:
    options = 'max-age="1s" stale-while-revalidate="1h"'
    running = [store.start(options) for _ in range(2)]
    store.put("a", b"old")
    for server in running:
        assert get(server, "/objects/a").content == b"old"
    store.put("a", b"new")
    store.proxy.fault = Delay(8)
    time.sleep(1.1)
    before = store.fetched("a")
    assert [get(server, "/objects/a").content for server in running] == [b"old", b"old"]
    eventually(lambda: store.fetched("a") == before + 1)
    assert [get(server, "/objects/a").content for server in running] == [b"old", b"old"]
    assert store.fetched("a") == before + 1
    eventually(lambda: all(get(server, "/objects/a").content == b"new" for server in running))


def command(store: Store, *arguments: str) -> str:
    file = store.directory / "api.sdl"
    file.write_text(store.configuration())
    done = subprocess.run(
        [sys.executable, "-m", "safelight", "cache", *arguments, "--config", str(file)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_the_command_drops_answers_beside_a_running_server(store: Store) -> None:
    assert command(store, "stats") == f"{store.directory}/cache: 0 answers, 0 of 1073741824 bytes\n"
    assert "nothing dropped" in command(store, "purge", "--all")
    server = store.start()
    store.put("of/a", b"1")
    options = [
        ("--source", f"s3://{store.bucket}/of/a"),
        ("--url", "/objects/of%2Fa?x=1"),
        ("--url", f"{server.url}/objects/of/a"),
        ("--all",),
    ]
    for option in options:
        for _ in range(3):
            state(server, "/objects/of/a")
        assert state(server, "/objects/of/a") == "safelight; hit"
        assert command(store, "purge", "--tag", "nothing").endswith("/cache: purged\n")
        assert state(server, "/objects/of/a") == "safelight; hit"
        command(store, "purge", *option)
        assert state(server, "/objects/of/a") == "safelight; fwd=miss; stored", option
    assert "/cache: 1 answers, " in command(store, "stats")
    state(server, "/thumbnails/photo.jpg")
    command(store, "purge", "--source", str(store.directory / "images" / "photo.jpg"))
    assert state(server, "/thumbnails/photo.jpg") == "safelight; fwd=miss; stored"


def test_hits_are_in_the_access_log_and_in_the_statistics(store: Store, servers: Servers) -> None:
    store.put("a", b"1")
    log = store.directory / "access.log"
    server = servers.start(
        store.configuration(), *ONE_WORKER, "--access-log-file", str(log), "--access-log-format", "json"
    )
    for _ in range(4):
        get(server, "/objects/a")
    eventually(lambda: log.read_text().count("/objects/a") == 4)
    assert [line.count('"cache":"hit"') for line in log.read_text().splitlines()] == [0, 1, 1, 1]
    assert '"cache":"miss"' in log.read_text().splitlines()[0]
    assert statistic(server, "total_result_cache_hits") == 3
    assert statistic(server, "total_result_cache_misses") == 1


def test_a_server_stops_at_once_although_it_renews_an_answer(store: Store) -> None:
    server = store.start('max-age="1s" stale-while-revalidate="1h"')
    store.put("a", b"old")
    get(server, "/objects/a")
    time.sleep(1.1)
    store.proxy.fault = Delay(None)
    assert get(server, "/objects/a").content == b"old"
    eventually(lambda: store.fetched("a") == 2)
    server.stop()
    assert "Task was destroyed" not in server.log
