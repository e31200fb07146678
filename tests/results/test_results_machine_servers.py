"""Servers of several machines, with directories of their own, that share answers in one bucket."""

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
from fault_proxy import Delay, Fault, FaultProxy, Pass, SeenRequest
from processes import children
from s3_servers import S3Server
from serving import ROOT, Server, Servers

from safelight.results.epochs import url_slot
from safelight.results.shelf import Shelf

PHOTO = (ROOT / "tests" / "data" / "coffee.jpg").read_bytes()
WAIT_S = 60
SLACK_S = 15
SHARED = "safelight; hit; detail=SHARED"
WORKERS = ("--workers", "1", "--http-workers", "2")
ONE_WORKER = ("--workers", "1", "--http-workers", "1")

API = """
s3 key="KEY" secret="SECRET" endpoint="URL" region="us-east-1"
s3 "tier" key="KEY" secret="SECRET" endpoint="ANSWERS_URL" region="us-east-1"
path "name" "#{path}"
get "thumbnails" {
    cache root="cache" bucket="BUCKET" prefix="kept/" s3="tier" recheck="RECHECK" tag="thumbnails"
    source_s3 "photo" bucket="BUCKET" prefix="photos/" path="name"
    thumbnail "photo" "small" operation="fit" width=100 height=100 format="png"
    output_image "small"
}
get "objects" {
    cache root="cache" bucket="BUCKET" prefix="kept/" s3="tier" recheck="RECHECK"
    source_s3 "object" bucket="BUCKET" prefix="photos/" path="name"
    output_image "object"
}
put "objects" { store_s3 "input" bucket="BUCKET" prefix="photos/" path="name"; }
"""


class Fleet:
    """Machines with one bucket. The one whose answers go through `proxy` is the `weak` one."""

    def __init__(self, seaweed: S3Server, proxy: FaultProxy, servers: Servers, directory: Path) -> None:
        self.bucket = seaweed.make_bucket()
        self.proxy = proxy
        self.seaweed = seaweed
        self._servers = servers
        self._directory = directory

    def configuration(self, recheck: str, url: str) -> str:
        values = {
            "ANSWERS_URL": url,
            "URL": self.seaweed.url,
            "KEY": self.seaweed.access_key,
            "SECRET": self.seaweed.secret_key,
            "BUCKET": self.bucket,
            "RECHECK": recheck,
        }
        text = API
        for name, value in values.items():
            text = text.replace(name, value)
        return text

    def start(self, recheck: str = "1h", workers: tuple[str, ...] = WORKERS) -> Server:
        return self._servers.start(self.configuration(recheck, self.seaweed.url), *workers)

    def start_weak(self, recheck: str = "1h") -> Server:
        return self._servers.start(self.configuration(recheck, self.proxy.url), *ONE_WORKER)

    def store(self, key: str, data: bytes) -> None:
        """Behind the backs of the servers."""
        self.seaweed.write(self.bucket, f"photos/{key}", data, "image/jpeg")

    def answers(self) -> list[str]:
        """The keys of the shared answers."""
        return [key for key in self.seaweed.keys(self.bucket) if key.startswith("kept/answers/")]

    def shelf(self) -> Shelf:
        """A cache of the machine that purges."""
        return Shelf(self._directory / "cache", None)

    def purge(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """By the command, on a machine where no server has ever run."""
        self._directory.mkdir(exist_ok=True)
        file = self._directory / "api.sdl"
        file.write_text(self.configuration("1h", self.proxy.url))
        return subprocess.run(
            [sys.executable, "-m", "safelight", "cache", "purge", *arguments, "--config", str(file)],
            cwd=self._directory,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            timeout=WAIT_S,
        )


@pytest.fixture
def fleet(seaweed: S3Server, servers: Servers, tmp_path: Path) -> Iterator[Fleet]:
    with FaultProxy(seaweed.url) as proxy:
        yield Fleet(seaweed, proxy, servers, tmp_path / "nowhere")


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.05)


def get(server: Server, path: str) -> httpx.Response:
    return httpx.get(server.url + path, timeout=WAIT_S)


def state(server: Server, path: str) -> str:
    answer = get(server, path)
    assert answer.status_code == 200, answer.text
    return answer.headers["cache-status"]


def statistic(server: Server, name: str) -> int:
    return int(get(server, f"/stats/{name}").text)


def test_a_thumbnail_of_one_machine_needs_no_engine_on_another(fleet: Fleet) -> None:
    fleet.store("a", PHOTO)
    one, two = fleet.start(), fleet.start()
    made = get(one, "/thumbnails/a")
    eventually(lambda: len(fleet.answers()) == 1)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: get(two, "/thumbnails/a"), range(16)))
    assert {answer.content for answer in found} == {made.content}
    assert {answer.headers["etag"] for answer in found} == {made.headers["etag"]}
    assert SHARED in {answer.headers["cache-status"] for answer in found}
    assert statistic(two, "total_thumbnail_requests") == 0
    assert statistic(two, "total_s3_source") == 0
    assert statistic(one, "total_thumbnail_requests") == 1


def test_a_store_on_one_machine_is_seen_on_all(fleet: Fleet) -> None:
    one, two, three = [fleet.start("1s") for _ in range(3)]
    for number in range(4):
        body = b"%d" % number
        assert httpx.put(one.url + "/objects/a", content=body, timeout=WAIT_S).status_code == 200
        stored = time.monotonic()
        assert get(one, "/objects/a").content == body
        for server in (two, three):
            while get(server, "/objects/a").content != body:
                assert time.monotonic() - stored < 10, f"{number} is not seen"
                time.sleep(0.05)
            for _ in range(6):  # whichever worker answers
                assert get(server, "/objects/a").content in {body, b"%d" % (number - 1)}


def test_workers_of_a_machine_agree_within_recheck(fleet: Fleet) -> None:
    fleet.store("a", b"old")
    server = fleet.start("1s")
    for _ in range(8):
        assert get(server, "/objects/a").content == b"old"
    fleet.store("a", b"new")
    time.sleep(1.1)
    assert {get(server, "/objects/a").content for _ in range(8)} == {b"new"}


@pytest.mark.parametrize("what", ["--url", "--source", "--tag", "--all"])
def test_the_command_purges_all_machines(fleet: Fleet, what: str) -> None:
    fleet.store("a", PHOTO)
    one, two = fleet.start("1s"), fleet.start("1s")
    state(one, "/thumbnails/a")
    eventually(lambda: len(fleet.answers()) == 1)
    assert state(two, "/thumbnails/a") == SHARED
    named = {"--url": "/thumbnails/a", "--source": f"s3://{fleet.bucket}/photos/a", "--tag": "thumbnails"}
    done = fleet.purge(what, *([named[what]] if what in named else []))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"s3://{fleet.bucket}/kept/: purged" in done.stdout
    purged = time.monotonic()
    while sum(statistic(server, "total_thumbnail_requests") for server in (one, two)) == 1:
        assert time.monotonic() - purged < WAIT_S
        state(one, "/thumbnails/a")
        time.sleep(0.05)
    for server in (one, two):  # what the other one had of its own is a hit, too, until it is checked
        eventually(lambda server=server: state(server, "/thumbnails/a") == "safelight; hit")


def test_the_command_says_that_it_could_not_purge(fleet: Fleet) -> None:
    epochs = fleet.shelf().epochs
    before = epochs.now()
    with fleet.proxy.refusing():
        began = time.monotonic()
        done = fleet.purge("--url", "/thumbnails/a")
    assert time.monotonic() - began < 15 + SLACK_S
    assert done.returncode == 1
    assert "dropped on this machine, but other machines may not know: " in done.stderr
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == "cache: purged\n"
    assert not epochs.unchanged((url_slot("/thumbnails/a"),), before)


def test_a_kill_while_answers_are_put_leaves_nothing_wrong(fleet: Fleet) -> None:
    """Puts that are cut in the middle, and a machine that is gone before it could share."""
    contents = {f"{number}": os.urandom(300_000) for number in range(6)}
    for key, data in contents.items():
        fleet.store(key, data)
    weak, other = fleet.start_weak(), fleet.start(workers=ONE_WORKER)

    def slow_puts(seen: SeenRequest) -> Fault:
        return Delay(0.3) if seen.method == "PUT" else Pass()

    fleet.proxy.fault = slow_puts
    for key, data in contents.items():
        assert get(weak, f"/objects/{key}").content == data
    fleet.proxy.wait_until(lambda proxy: any(seen.method == "PUT" for seen in proxy.requests))
    for child in children(weak.process.pid):
        os.kill(child, signal.SIGKILL)
    for key, data in contents.items():
        assert get(other, f"/objects/{key}").content == data
    eventually(lambda: len(fleet.answers()) == len(contents))
    fresh = fleet.start(workers=ONE_WORKER)
    for key, data in contents.items():
        answer = get(fresh, f"/objects/{key}")
        assert (answer.content, answer.headers["cache-status"]) == (data, SHARED)
    for key, data in contents.items():
        assert get(weak, f"/objects/{key}").content == data


def test_a_server_whose_tier_is_gone_serves_and_stops(fleet: Fleet) -> None:
    fleet.store("a", PHOTO)
    weak = fleet.start_weak("1s")
    fleet.proxy.fault = Delay(None)
    began = time.monotonic()
    assert state(weak, "/objects/a") == "safelight; fwd=miss; stored"
    assert time.monotonic() - began < 20
    time.sleep(1.1)
    assert state(weak, "/objects/a") == "safelight; hit"
    assert weak.log.count("going on alone") == 1
    began = time.monotonic()
    weak.stop()
    assert time.monotonic() - began < 15
    assert "Task was destroyed" not in weak.log
