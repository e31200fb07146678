"""Processes that die or hang: they are replaced, the others go on, and nobody is left behind.

The figures on a quiet machine are 2 s, or the time-out and 2 s; tests allow for a busy one.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from processes import children, descendants, wait_until_gone
from server_support import RawClient
from serving import ROOT, Server, Servers
from supervision_support import (
    DEADLINE_S,
    STORE,
    Client,
    ask,
    hold_open,
    image_workers,
    kill_all,
    load,
    wait_until,
)

PICTURE = ROOT / "tests" / "data" / "rocket.jpg"
SLACK_S = 30
STUCK_S = 5  # the least that a request time-out makes of the time-out of workers


def with_picture(servers: Servers, *options: str) -> Server:
    server = servers.start(STORE, *options)
    assert ask(server.url, "PUT", "/store/a.jpg", PICTURE.read_bytes())[0] == 200
    return server


def wait_for_workers(server: Server, count: int, without: int) -> None:
    """Until so many HTTP workers serve, another one in the place of one."""
    wait_until(lambda: without not in (found := children(server.process.pid)) and len(found) == count)
    wait_until(lambda: all(map(image_workers, children(server.process.pid))))


def test_a_dead_http_worker_is_replaced_while_the_other_goes_on(servers: Servers) -> None:
    server = with_picture(servers, "--http-workers", "2", "--workers", "2")
    first, second = children(server.process.pid)
    began = time.monotonic()
    os.kill(first, signal.SIGKILL)
    for _ in range(10):  # a connection that waits for the dead one's accept is taken by the other
        assert ask(server.url, "GET", "/fit/a.jpg/8")[0] == 200
    wait_for_workers(server, 2, first)
    assert time.monotonic() - began < SLACK_S
    assert second in children(server.process.pid)


def test_a_hung_http_worker_is_replaced(servers: Servers) -> None:
    server = with_picture(servers, "--http-workers", "2", "--workers", "2", "--request-timeout", "1")
    first, second = children(server.process.pid)
    began = time.monotonic()
    os.kill(first, signal.SIGSTOP)
    wait_for_workers(server, 2, first)
    assert STUCK_S - 2 < time.monotonic() - began < STUCK_S + SLACK_S
    assert second in children(server.process.pid)
    assert ask(server.url, "GET", "/fit/a.jpg/8")[0] == 200


def test_dead_image_workers_and_templates_are_replaced(servers: Servers) -> None:
    server = with_picture(servers, "--workers", "2")
    (worker,) = children(server.process.pid)
    whole = len(image_workers(worker))
    for victims in (image_workers(worker), children(worker)):
        began = time.monotonic()
        kill_all(victims, signal.SIGKILL)
        assert ask(server.url, "GET", "/ok")[0] == 200
        wait_until(lambda: ask(server.url, "GET", "/fit/a.jpg/8")[0] == 200)
        wait_until(
            lambda gone=victims: (
                len(found := image_workers(worker)) == whole and not {*found, *children(worker)} & {*gone}
            )
        )
        assert time.monotonic() - began < SLACK_S
    assert children(server.process.pid) == [worker]


def test_a_hung_image_worker_costs_one_request(servers: Servers) -> None:
    server = with_picture(servers, "--workers", "1", "--transform-timeout", "2")
    (worker,) = children(server.process.pid)
    hung = image_workers(worker)
    kill_all(hung, signal.SIGSTOP)
    for _ in hung:
        began = time.monotonic()
        status, text = ask(server.url, "GET", "/fit/a.jpg/8")
        assert status in (504, 200)
        assert time.monotonic() - began < 2 + SLACK_S, text
    assert status == 504 or len(hung) > 1
    assert ask(server.url, "GET", "/fit/a.jpg/8")[0] == 200
    assert image_workers(worker) != hung


def test_a_killed_image_worker_costs_its_own_request_at_most(servers: Servers) -> None:
    server = with_picture(servers, "--workers", "2")
    (worker,) = children(server.process.pid)
    clients = [Client(server.url, "GET", "/ok", None, keep=keep) for keep in (True, False)]
    whole = len(image_workers(worker))
    statuses: list[int] = []

    def ask_for_many() -> None:
        statuses.extend(ask(server.url, "GET", "/fit/a.jpg/64")[0] for _ in range(12))

    with load(*clients):
        asking = [threading.Thread(target=ask_for_many) for _ in range(2)]
        for thread in asking:
            thread.start()
        killed = 0
        for _ in range(3):
            wait_until(lambda: len(image_workers(worker)) == whole)
            os.kill(image_workers(worker)[0], signal.SIGKILL)
            killed += 1
        for thread in asking:
            thread.join()
    assert len([status for status in statuses if status != 200]) <= killed


def test_a_killed_server_leaves_nobody_and_starts_again_at_once(servers: Servers, tmp_path: Path) -> None:
    """At the same address, with the same pid file, while its workers are still on their way out."""
    options = ("--workers", "1", "--http-workers", "2", "--pid-file", str(tmp_path / "pid"))
    process, directory, log_path = servers.launch(STORE, *options)
    killed = Server("", process, directory, log_path)
    killed.wait_for_log("Sandbox")
    wait_until(lambda: len(children(process.pid)) == 2 and all(map(image_workers, children(process.pid))))
    left = descendants(process.pid)
    port = int(killed.log.partition("http://127.0.0.1:")[2].split()[0])
    with RawClient(port) as client:
        client.send(b"GET /ok HTTP/1.1\r\n")  # a connection that a worker is busy with
        process.kill()
        process.wait()
        began = time.monotonic()
        again = servers.start(STORE, *options, listen=(f"127.0.0.1:{port}",))
        assert ask(again.url, "GET", "/ok")[0] == 200
        assert time.monotonic() - began < SLACK_S
    wait_until_gone(left)
    assert (tmp_path / "pid").read_text() == f"{again.process.pid}\n"


def test_an_orphan_ends_although_a_request_never_does(servers: Servers) -> None:
    process, directory, log_path = servers.launch(STORE, "--workers", "1", "--graceful-timeout", "4")
    server = Server("", process, directory, log_path)
    server.wait_for_log("Sandbox")
    port = int(server.log.partition("http://127.0.0.1:")[2].split()[0])
    left = descendants(process.pid)
    with RawClient(port, timeout_s=DEADLINE_S) as client:
        client.request("PUT /store/late HTTP/1.1\nHost: x\nContent-Length: 6", b"abc")
        wait_until(lambda: ask(f"http://127.0.0.1:{port}", "GET", "/stats/calling") == (200, b"2\r\n"))
        process.kill()
        process.wait()
        wait_until(lambda: not hold_open(port))
        wait_until_gone(left)


FAILING = """
import os
from server_support import FakeEngine, make_app
from safelight.errors import ConfigError
from safelight.server.log import configure_log
from safelight.server.process import ProcessSettings, serve
from safelight.server.stats import Statistics

def make(seat):
    if os.path.exists("broken"):
        with open("starts", "a") as starts:
            starts.write("x")
        raise FAILURE
    return make_app(engine=FakeEngine(), statistics=statistics)

configure_log()
statistics = Statistics()
serve(ProcessSettings(("unix:socket",), http_workers=1), lambda: make, statistics)
"""


def failing(directory: Path, failure: str) -> subprocess.Popen[bytes]:
    """A server whose workers raise while a file `broken` is in its directory."""
    with (directory / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", FAILING.replace("FAILURE", failure)],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": f"{ROOT}/src:{ROOT}/tests/server"},
            stderr=log,
        )


@pytest.mark.parametrize("failure", ["ValueError('a bug')", "ConfigError('a mistake')", "SystemExit(7)"])
def test_a_server_whose_first_worker_cannot_start_ends(tmp_path: Path, failure: str) -> None:
    (tmp_path / "broken").touch()
    process = failing(tmp_path, failure)
    assert process.wait(DEADLINE_S) == 1
    log = (tmp_path / "log").read_text()
    assert "Reason: the first worker could not start" in log
    assert (tmp_path / "starts").read_text() == "x"


def test_starts_that_fail_later_are_repeated_with_pauses(tmp_path: Path) -> None:
    """And the server recovers as soon as it can."""
    process = failing(tmp_path, "ValueError('a bug')")
    address = f"unix:{tmp_path}/socket"
    try:
        wait_until((tmp_path / "socket").exists)
        assert ask(address, "GET", "/")[0] == 200
        (tmp_path / "broken").touch()
        began = time.monotonic()
        kill_all(children(process.pid), signal.SIGKILL)
        wait_until(lambda: (tmp_path / "starts").exists() and (tmp_path / "starts").stat().st_size == 3)
        assert time.monotonic() - began > 1.5  # pauses of 0.5 s and 1 s
        (tmp_path / "broken").unlink()
        assert ask(address, "GET", "/")[0] == 200
        assert (tmp_path / "starts").stat().st_size <= 5
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
    assert not psutil.pid_exists(process.pid)
