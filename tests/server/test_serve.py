"""`safelight serve`, as a process: real workers, real files, real signals."""

import hmac
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from processes import children, descendants, wait_until_gone
from server_support import RawClient
from serving import Server, Servers

ROOT = Path(__file__).parent.parent.parent
DATA = ROOT / "tests" / "data"
STORE = """
path { "by-name" "#{name}" }
put "store" ":name" {
    store_file "input" root="files" path="by-name"
    output_store_path "input"
}
get "store" ":name" {
    source_file "image" root="files" path="by-name"
    output_image "image"
}
get "fit" ":name" ":width" ":height" {
    source_file "image" root="files" path="by-name"
    thumbnail "image" "small" operation="fit" width="#{width}" height="#{height}" format="jpeg"
    output_image "small"
}
get "many" ":name" {
    source_file "image" root="files" path="by-name"
    thumbnail "image" "a" operation="pad" width=600 height=400 format="png" options="quality:0"
    thumbnail "image" "b" operation="pad" width=600 height=400 format="png" options="quality:0"
    output_image "b"
}
get "endless" {
    source_file "image" root="/dev" path="zero"
    output_image "image"
}
path "zero" "zero"
get "undefined" { output_text "#{nothing}" }
get "ok" { output_ok }
"""
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(shared_servers: Servers) -> Server:
    return shared_servers.start(STORE, "--limit-memory", "1", "--workers", "1", "--access-log-file", "-")


def failing(process: subprocess.Popen[bytes], log_path: Path, timeout_s: float = 30) -> tuple[int, str]:
    return process.wait(timeout_s), log_path.read_text()


# What it serves


def test_it_starts_and_says_where(server: Server) -> None:
    assert re.search(r"^Safelight \d+\.\d+\.\d+ at http://127\.0\.0\.1:\d+$", server.log, re.MULTILINE)
    assert httpx.get(f"{server.url}/ok").text == "OK\r\n"
    deadline = time.monotonic() + 10
    while not re.search(r"^Sandbox of image workers: ", server.log, re.MULTILINE):
        assert time.monotonic() < deadline, server.log
        time.sleep(0.02)


def test_an_upload_is_stored_and_shrunk(server: Server) -> None:
    picture = (DATA / "rocket.jpg").read_bytes()
    answer = httpx.put(f"{server.url}/store/rocket.jpg", content=picture)
    assert (answer.status_code, answer.text) == (200, "rocket.jpg\r\n")
    assert (server.directory / "files" / "rocket.jpg").read_bytes() == picture
    small = httpx.get(f"{server.url}/fit/rocket.jpg/50/50")
    assert (small.status_code, small.headers["content-type"]) == (200, "image/jpeg")
    assert small.content[:2] == b"\xff\xd8"


@pytest.mark.covers("s192", "s195")
def test_the_limit_is_for_each_request(server: Server) -> None:
    for _ in range(2):
        assert httpx.put(f"{server.url}/store/limit", content=bytes(MIB)).status_code == 200
        for size in (MIB + 1, 2 * MIB, 5 * MIB):
            with RawClient(server.port) as client:
                client.request(f"PUT /store/limit HTTP/1.1\nHost: x\nContent-Length: {size}")
                response = client.response()
                assert (response.status, response.body) == (413, b"memory limit exceeded\r\n")
    assert (server.directory / "files" / "limit").stat().st_size == MIB


@pytest.mark.covers("s193")
def test_an_endless_file_is_413(server: Server) -> None:
    answer = httpx.get(f"{server.url}/endless")
    assert (answer.status_code, answer.text) == (413, "memory limit exceeded\r\n")


@pytest.mark.covers("s194")
def test_thumbnails_count_against_the_limit(server: Server) -> None:
    httpx.put(f"{server.url}/store/rocket.jpg", content=(DATA / "rocket.jpg").read_bytes())
    answer = httpx.get(f"{server.url}/many/rocket.jpg")
    assert (answer.status_code, answer.text) == (413, "memory limit exceeded\r\n")


@pytest.mark.covers("s196")
def test_a_failed_request_has_a_reason(server: Server) -> None:
    answer = httpx.get(f"{server.url}/undefined")
    assert (answer.status_code, answer.text) == (500, "variable 'nothing' not defined\r\n")
    assert answer.headers["content-type"] == "text/plain"
    server.wait_for_log("unhandled error while processing request: GET [/undefined]: VariableNotDefined")


@pytest.mark.covers("s198")
def test_it_is_healthy(server: Server) -> None:
    answer = httpx.get(f"{server.url}/health_check")
    assert (answer.status_code, answer.text) == (200, "HTTP Image Store OK\r\n")


@pytest.mark.covers("s200")
def test_stored_bytes_are_counted(server: Server) -> None:
    def stored() -> int:
        return int(httpx.get(f"{server.url}/stats/total_file_store_bytes").text)

    before = stored()
    httpx.put(f"{server.url}/store/counted", content=bytes(12345))
    assert stored() == before + 12345


@pytest.mark.parametrize(
    "target", ["/%00", "/store/%00", "/store/..%2f..%2fetc%2fpasswd", "/fit/%ff/1/1", "/%u0000"]
)
def test_odd_targets_are_no_server_error(server: Server, target: str) -> None:
    with RawClient(server.port) as client:
        client.request(f"GET {target} HTTP/1.1\nHost: x")
        assert 400 <= client.response().status < 500


def test_headers_name_no_software(server: Server) -> None:
    headers = httpx.get(f"{server.url}/ok").headers
    assert "server" not in headers
    assert "date" in headers


def test_requests_are_in_the_access_log(server: Server) -> None:
    httpx.get(f"{server.url}/ok?a=b", headers={"x-forwarded-for": "1.2.3.4"})
    server.wait_for_log('] "GET /ok?a=b HTTP/1.1" 200 4 ')
    assert re.search(
        r'^1\.2\.3\.4 - - \[[^]]+\] "GET /ok\?a=b HTTP/1\.1" 200 4 \d+\.\d+', server.log, re.MULTILINE
    )


def test_a_slow_head_is_cut_off_by_the_real_server(server: Server) -> None:
    began = time.monotonic()
    with RawClient(server.port, timeout_s=20) as client:
        client.send(b"GET /ok HTTP/1.1\r\n")
        assert client.is_closed()
    assert 8 < time.monotonic() - began < 15


# Several workers, several listeners


def test_statistics_are_shared_by_all_workers_and_survive_them(servers: Servers) -> None:
    server = servers.start(STORE, "--http-workers", "2", "--workers", "2")
    workers = children(server.process.pid)
    assert len(workers) == 2
    server_total = 40

    def fetch(_: int) -> int:
        return httpx.get(f"{server.url}/ok").status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(fetch, range(server_total))) == {200}
    assert httpx.get(f"{server.url}/stats/total_requests").text == f"{server_total + 1}\r\n"
    os.kill(workers[0], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while len(set(children(server.process.pid)) - {workers[0]}) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    while int(httpx.get(f"{server.url}/stats/workers").text) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert int(httpx.get(f"{server.url}/stats/total_requests").text) > server_total + 1
    assert httpx.get(f"{server.url}/stats/calling").text == "1\r\n"


def test_it_listens_at_several_addresses(servers: Servers) -> None:
    server = servers.start(STORE, "--workers", "1", listen=("127.0.0.1:0", "unix:socket", "127.0.0.1:0"))
    (line,) = re.findall(r"^Safelight \S+ at (.*)$", server.log, re.MULTILINE)
    addresses = line.split(", ")
    assert len(addresses) == 3
    assert addresses[1] == f"unix:{server.directory}/socket"
    for address in (addresses[0], addresses[2]):
        assert httpx.get(f"{address}/ok").text == "OK\r\n"
    transport = httpx.HTTPTransport(uds=str(server.directory / "socket"))
    with httpx.Client(transport=transport) as client:
        assert client.get("http://localhost/ok").text == "OK\r\n"
    server.stop()
    assert not (server.directory / "socket").exists()


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_signals_stop_it_cleanly(servers: Servers, number: signal.Signals) -> None:
    server = servers.start(STORE, "--workers", "1", "--pid-file", "pid")
    assert (server.directory / "pid").read_text() == f"{server.process.pid}\n"
    everything = [server.process.pid, *descendants(server.process.pid)]
    with RawClient(server.port) as client:
        client.request("GET /ok HTTP/1.1\nHost: x")
        client.response()
        began = time.monotonic()
        server.signal(number)
        assert server.process.wait(20) == 0
    assert time.monotonic() - began < 15
    wait_until_gone(everything)
    assert not (server.directory / "pid").exists()


def test_term_lets_a_running_request_end(servers: Servers) -> None:
    server = servers.start(STORE, "--workers", "1")
    with RawClient(server.port) as client:
        client.request("PUT /store/late HTTP/1.1\nHost: x\nContent-Length: 6", b"abc")
        time.sleep(0.2)
        server.signal(signal.SIGTERM)
        time.sleep(0.5)
        client.send(b"def")
        assert client.response().body == b"late\r\n"
    assert server.process.wait(20) == 0


def test_a_killed_master_leaves_no_orphans(servers: Servers) -> None:
    process, directory, log_path = servers.launch(STORE, "--workers", "1", "--http-workers", "2")
    server = Server("", process, directory, log_path)
    server.wait_for_log("Sandbox")
    eventually(lambda: len(descendants(process.pid)) >= 4)
    orphans = descendants(process.pid)
    process.kill()
    process.wait()
    wait_until_gone(orphans)


def test_hup_reads_the_configuration_again(servers: Servers) -> None:
    server = servers.start(STORE, "--workers", "1", "--http-workers", "1")
    file = server.directory / "api.sdl"
    file.write_text('get "new" { output_text "new" }')
    (old,) = children(server.process.pid)
    server.signal(signal.SIGHUP)
    wait_until_gone([old])
    assert httpx.get(f"{server.url}/new").text == "new\r\n"
    assert httpx.get(f"{server.url}/ok").status_code == 404

    file.write_text('get "worse" { nonsense }')
    server.signal(signal.SIGHUP)
    server.wait_for_log("the configuration is kept as it was: api.sdl:1:15")
    assert httpx.get(f"{server.url}/new").text == "new\r\n"
    assert server.process.poll() is None


def test_a_new_connection_outlives_its_worker(servers: Servers) -> None:
    """A worker that is told to stop has accepted it; the request it was made for is answered all the same."""
    server = servers.start(STORE, "--workers", "1", "--http-workers", "1")
    (old,) = children(server.process.pid)
    with RawClient(server.port) as client:
        time.sleep(0.2)
        os.kill(old, signal.SIGTERM)
        time.sleep(0.5)
        client.request("GET /ok HTTP/1.1\nHost: x")
        response = client.response()
    assert response.status == 200
    assert response.headers["connection"] == "close"
    wait_until_gone([old])


def test_usr1_opens_the_access_log_again(servers: Servers) -> None:
    """A line is written after its answer has been sent, so it may come a little later."""
    server = servers.start(STORE, "--workers", "1", "--access-log-file", "access.log")
    log, old = server.directory / "access.log", server.directory / "old.log"
    httpx.get(f"{server.url}/ok")
    eventually(lambda: "GET /ok" in log.read_text())
    log.rename(old)
    server.signal(signal.SIGUSR1)
    eventually(log.exists)
    httpx.get(f"{server.url}/stats")
    eventually(lambda: "GET /stats" in log.read_text())
    assert "GET /stats" not in old.read_text()


def eventually(holds: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Failing to start


def test_all_complaints_of_a_configuration_are_printed(servers: Servers) -> None:
    text = 'get "a" { nonsense }\nget "b" { output_text }\n'
    process, _, log_path = servers.launch(text)
    status, log = failing(process, log_path)
    assert status == 1
    assert "api.sdl:1:11: " in log
    assert "api.sdl:2:11: " in log
    assert "Traceback" not in log


def test_lenient_turns_unknown_statements_into_warnings(servers: Servers) -> None:
    server = servers.start('get "a" { nonsense\n output_ok }', "--lenient", "--workers", "1")
    assert "api.sdl:1:11: warning: " in server.log
    assert httpx.get(f"{server.url}/a").text == "OK\r\n"


def one_line(servers: Servers, *options: str, **more: object) -> tuple[int, str]:
    process, _, log_path = servers.launch('get "a" { output_ok }', *options, **more)  # type: ignore[arg-type]
    status, log = failing(process, log_path)
    assert "Traceback" not in log
    return status, log


def test_a_port_in_use_is_one_clear_line(servers: Servers) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        status, log = one_line(servers, listen=(address,))
    assert (status, log) == (1, f"cannot listen at '{address}': the address is in use\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--listen", "nonsense"), "cannot listen at 'nonsense': give HOST:PORT or unix:PATH\n"),
        (("--data", "api.sdl/x"), "cannot use the directory 'api.sdl/x': Not a directory\n"),
        (("--access-log-file", "missing/log"), "cannot write the access log"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(
    servers: Servers, options: tuple[str, ...], message: str
) -> None:
    status, log = one_line(servers, *options)
    assert status == 1
    assert log.startswith(message)
    assert log.count("\n") == 1


@pytest.mark.parametrize(
    "options", [("--workers", "0"), ("--limit-memory", "x"), ("--nonsense",), ("a", "b")]
)
def test_bad_options_are_a_usage_error(servers: Servers, options: tuple[str, ...]) -> None:
    status, log = one_line(servers, *options)
    assert status == 2
    assert "Error: " in log


def test_an_unreadable_file_is_one_clear_line(servers: Servers, tmp_path: Path) -> None:
    process, _, log_path = servers.launch(None, "missing.sdl")
    status, log = failing(process, log_path)
    assert status == 1
    assert re.fullmatch(r"\S*missing\.sdl: cannot be read: No such file or directory\n", log)


FAILING = """
from dataclasses import dataclass
from server_support import FakeEngine, make_app
from safelight.errors import ImageError
from safelight.server.log import configure_log
from safelight.server.process import ProcessSettings, serve
from safelight.server.stats import Statistics

class Broken(FakeEngine):
    async def start(self):
        if statistics.value("workers") == BOOTS:
            raise ImageError("no image workers", detail="why")

configure_log()
statistics = Statistics()
serve(
    ProcessSettings(("unix:socket",), http_workers=1),
    lambda: lambda seat: make_app(engine=Broken(), statistics=statistics),
    statistics,
)
"""


def test_an_engine_that_does_not_start_ends_the_server(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/src:{ROOT}/tests/server"}
    script = FAILING.replace("BOOTS", "0")
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 1
    assert "ERROR: cannot start: no image workers (why)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_later_worker_that_does_not_start_is_tried_again(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/src:{ROOT}/tests/server"}
    log_path = tmp_path / "log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", FAILING.replace("BOOTS", "1")], cwd=tmp_path, env=environment, stderr=log
        )
    server = Server("", process, tmp_path, log_path)
    try:
        deadline = time.monotonic() + 30
        transport = httpx.HTTPTransport(uds=str(tmp_path / "socket"), retries=0)
        with httpx.Client(transport=transport) as client:
            while not (tmp_path / "socket").exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert client.get("http://localhost/").status_code == 200
        os.kill(children(process.pid)[0], signal.SIGKILL)
        server.wait_for_log("cannot start: no image workers (why)")
        time.sleep(1.5)
        assert process.poll() is None
    finally:
        server.stop()


# Options and environment


def test_options_come_from_the_environment_too(servers: Servers) -> None:
    environment = {"SAFELIGHT_LIMIT_MEMORY": "1", "SAFELIGHT_WORKERS": "1", "SAFELIGHT_DATA": "elsewhere"}
    server = servers.start(STORE, environment=environment)
    assert httpx.put(f"{server.url}/store/a", content=bytes(MIB + 1)).status_code == 413
    assert httpx.put(f"{server.url}/store/a", content=b"a").status_code == 200
    assert (server.directory / "elsewhere" / "files" / "a").exists()


# The built-in example


def test_the_example_can_be_tried(servers: Servers) -> None:
    server = servers.start(None, "--workers", "1")
    server.wait_for_log("curl -o same.jpg")
    picture = (DATA / "rocket.jpg").read_bytes()
    name = httpx.put(f"{server.url}/images", content=picture).text.strip()
    assert httpx.get(f"{server.url}/images/{name}").content == picture
    assert httpx.get(f"{server.url}/thumbnail/{name}/fit/30/30").status_code == 200
    assert (server.directory / "safelight-data" / "images" / name).exists()
    assert httpx.delete(f"{server.url}/images/{name}").status_code == 200


def test_the_example_is_not_for_strangers(servers: Servers) -> None:
    process, _, log_path = servers.launch(None, listen=("0.0.0.0:0",))
    status, log = failing(process, log_path)
    assert status == 1
    assert log.startswith("the example API lets everybody upload, so it is not served at 0.0.0.0:0: ")
    assert log.count("\n") == 1


def test_the_example_with_a_secret_wants_signatures(servers: Servers) -> None:
    secret = "0123456789abcdef"
    server = servers.start(
        None, "--workers", "1", listen=("0.0.0.0:0",), environment={"SAFELIGHT_SECRET": secret}
    )
    url = f"http://127.0.0.1:{server.port}"
    picture = (DATA / "rocket.jpg").read_bytes()
    assert httpx.put(f"{url}/images", content=picture).status_code == 403
    assert httpx.delete(f"{url}/images/x").status_code == 403
    signature = hmac.new(secret.encode(), b"/images", "sha256").hexdigest()
    assert httpx.put(f"{url}/images?hmac={signature}", content=picture).status_code == 200
    assert secret not in server.log


def test_a_weak_secret_is_refused(servers: Servers) -> None:
    process, _, log_path = servers.launch(None, environment={"SAFELIGHT_SECRET": "short"})
    status, log = failing(process, log_path)
    assert (status, log) == (1, "SAFELIGHT_SECRET must have at least 16 characters, no quotes\n")
