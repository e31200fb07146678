"""Signals: what stops, drains, reloads and replaces the server, under load where that matters."""

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest
from processes import children, is_running, wait_until_gone
from server_support import RawClient
from serving import ROOT, Server, Servers
from supervision_support import (
    DEADLINE_S,
    STORE,
    Client,
    ask,
    hold_open,
    image_workers,
    load,
    wait_until,
)

PICTURE = ROOT / "tests" / "data" / "rocket.jpg"


def begin_upload(server: Server, client: RawClient) -> None:
    """Send half of a body, and wait until the server has begun to read it."""
    client.request("PUT /store/late HTTP/1.1\nHost: x\nContent-Length: 6", b"abc")
    wait_until(lambda: ask(server.url, "GET", "/stats/calling") == (200, b"2\r\n"))


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_graceful_stop_answers_what_was_accepted_and_refuses_the_rest(
    servers: Servers, number: signal.Signals
) -> None:
    server = servers.start(STORE, "--workers", "1")
    with RawClient(server.port, timeout_s=DEADLINE_S) as client:
        begin_upload(server, client)
        server.signal(number)
        wait_until(lambda: not hold_open(server.port))
        client.send(b"def")
        response = client.response()
    assert (response.status, response.body) == (200, b"late\r\n")
    assert response.headers["connection"] == "close"
    assert server.process.wait(DEADLINE_S) == 0
    assert (server.directory / "files" / "late").read_bytes() == b"abcdef"


def test_int_waits_for_nobody(servers: Servers) -> None:
    server = servers.start(STORE, "--workers", "1")
    with RawClient(server.port, timeout_s=DEADLINE_S) as client:
        begin_upload(server, client)
        began = time.monotonic()
        server.signal(signal.SIGINT)
        assert server.process.wait(DEADLINE_S) == 0
        assert time.monotonic() - began < 10  # a graceful stop would take up to 30 s
        assert client.is_closed()
    assert not (server.directory / "files" / "late").exists()


def test_a_socket_that_somebody_has_removed_does_not_keep_it_from_stopping(servers: Servers) -> None:
    server = servers.start(STORE, "--workers", "1", listen=("127.0.0.1:0", "unix:socket"))
    (server.directory / "socket").unlink()
    server.stop()
    assert server.process.returncode == 0


# Reload


def reload(server: Server) -> None:
    """SIGHUP, and wait until the workers from before are gone."""
    old = children(server.process.pid)
    server.signal(signal.SIGHUP)
    wait_until_gone(old)


def test_no_request_fails_while_the_server_reloads(servers: Servers) -> None:
    """On TCP and on a Unix socket, on kept connections and on new ones, with and without bodies."""
    server = servers.start(STORE, "--workers", "2", listen=("127.0.0.1:0", "unix:socket"))
    addresses = (server.url, f"unix:{server.directory}/socket")
    body = os.urandom(100_000)
    assert ask(server.url, "PUT", "/store/a.jpg", PICTURE.read_bytes())[0] == 200
    clients = [
        client
        for number, address in enumerate(addresses)
        for client in (
            Client(address, "GET", "/ok", None, keep=True),
            Client(address, "GET", "/ok", None, keep=False),
            Client(address, "PUT", f"/store/body-{number}", body, keep=True),
            Client(address, "GET", "/fit/a.jpg/16", None, keep=False),
        )
    ]
    with load(*clients):
        for generation in range(3):
            (server.directory / "api.sdl").write_text(STORE + f'get "new" {{ output_text "{generation}" }}\n')
            reload(server)
            assert ask(server.url, "GET", "/new") == (200, b"%d\r\n" % generation)
            (server.directory / "api.sdl").write_text("get { nonsense")
            workers = children(server.process.pid)
            server.signal(signal.SIGHUP)
            wait_until(lambda so_far=generation: server.log.count("kept as it was: api.sdl:1:") > so_far)
            assert ask(server.url, "GET", "/new") == (200, b"%d\r\n" % generation)
            assert children(server.process.pid) == workers


def test_old_workers_serve_until_new_ones_do(servers: Servers) -> None:
    server = servers.start(STORE, "--workers", "1")
    (old,) = children(server.process.pid)
    before = time.monotonic()
    slowest = 0.0
    server.signal(signal.SIGHUP)
    while is_running(old):
        began = time.monotonic()
        assert ask(server.url, "GET", "/ok")[0] == 200
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < (time.monotonic() - before) / 2  # never for as long as a start takes


def test_a_dead_worker_is_replaced_while_an_old_one_has_a_request_left(servers: Servers) -> None:
    server = servers.start(STORE, "--workers", "1")
    (old,) = children(server.process.pid)
    with RawClient(server.port, timeout_s=DEADLINE_S) as client:
        begin_upload(server, client)
        with RawClient(server.port, timeout_s=DEADLINE_S) as idle:
            idle.request("GET /ok HTTP/1.1\nHost: x")
            idle.response()
            server.signal(signal.SIGHUP)
            assert idle.is_closed()  # the old one has been told to stop
        (new,) = (pid for pid in children(server.process.pid) if pid != old)
        os.kill(new, signal.SIGKILL)
        assert ask(server.url, "GET", "/ok")[0] == 200
        assert is_running(old)
        client.send(b"def")
        assert client.response().status == 200
    wait_until_gone([old])


def test_a_reload_that_no_worker_can_start_with_is_taken_back(servers: Servers, tmp_path: Path) -> None:
    """Here a plugin is broken, which only the image workers find out."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    server = servers.start(STORE, "--workers", "1", "--plugins", str(plugins))
    workers = children(server.process.pid)
    (plugins / "broken.py").write_text("nonsense(")
    (server.directory / "api.sdl").write_text('get "new" { output_text "new" }')
    server.signal(signal.SIGHUP)
    server.wait_for_log("the configuration is kept as it was: workers cannot start with the new one", 60)
    assert ask(server.url, "GET", "/ok")[0] == 200
    assert ask(server.url, "GET", "/new")[0] == 404
    assert children(server.process.pid) == workers
    (plugins / "broken.py").unlink()
    reload(server)
    assert ask(server.url, "GET", "/new") == (200, b"new\r\n")


def test_a_service_manager_hears_that_a_refused_reload_is_over(servers: Servers, tmp_path: Path) -> None:
    """Otherwise it would wait, and then take the server for one that hangs (`Type=notify-reload`)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{tmp_path}")
        manager.settimeout(DEADLINE_S)
        server = servers.start(STORE, "--workers", "1", environment={"NOTIFY_SOCKET": f"@{tmp_path}"})
        assert manager.recv(4096) == b"READY=1"
        (server.directory / "api.sdl").write_text("get { nonsense")
        server.signal(signal.SIGHUP)
        assert manager.recv(4096).startswith(b"RELOADING=1\n")
        assert manager.recv(4096) == b"READY=1"


# Numbers of workers, and another server in the place of this one


def test_ttin_and_ttou_change_the_number_of_http_workers(servers: Servers) -> None:
    server = servers.start(STORE, "--workers", "1", "--http-workers", "1")
    (first,) = children(server.process.pid)
    server.signal(signal.SIGTTIN)
    wait_until(lambda: len(children(server.process.pid)) == 2)
    server.signal(signal.SIGTTOU)
    wait_until_gone([first])
    wait_until(lambda: len(children(server.process.pid)) == 1)
    assert ask(server.url, "GET", "/ok")[0] == 200
    server.signal(signal.SIGTTOU)  # the last one stays
    assert ask(server.url, "GET", "/ok")[0] == 200
    assert len(children(server.process.pid)) == 1


def test_usr2_starts_a_successor_that_serves_on(servers: Servers) -> None:
    """Without a failed request, at the same addresses, and with the pid file in the end."""
    server = servers.start(
        STORE, "--workers", "1", "--pid-file", "pid", listen=("127.0.0.1:0", "unix:socket")
    )
    pid_file = server.directory / "pid"
    addresses = (server.url, f"unix:{server.directory}/socket")
    clients = [Client(address, "GET", "/ok", None, keep=keep) for address in addresses for keep in (0, 1)]
    with load(*clients):
        server.signal(signal.SIGUSR2)
        wait_until((server.directory / "pid.2").exists)
        successor = int((server.directory / "pid.2").read_text())
        wait_until(lambda: any(map(image_workers, children(successor))))
        server.signal(signal.SIGQUIT)
        assert server.process.wait(DEADLINE_S) == 0
        wait_until(lambda: pid_file.exists() and pid_file.read_text() == f"{successor}\n")
        assert ask(server.url, "PUT", "/store/a.jpg", PICTURE.read_bytes())[0] == 200
        assert ask(server.url, "GET", "/fit/a.jpg/8")[0] == 200
    os.kill(successor, signal.SIGTERM)
    wait_until_gone([successor])
    assert not pid_file.exists()


# Watching the configuration


def test_watch_reloads_when_the_file_changes(servers: Servers) -> None:
    server = servers.start(STORE, "--workers", "1", "--watch")
    file = server.directory / "api.sdl"
    (old,) = (child for child in children(server.process.pid) if children(child))  # the other one watches
    file.write_text('get "new" { output_text "new" }')
    wait_until_gone([old])
    assert ask(server.url, "GET", "/new")[0] == 200
    file.write_text('get "worse" { nonsense }')
    server.wait_for_log("the configuration is kept as it was: api.sdl:1:15", DEADLINE_S)
    assert ask(server.url, "GET", "/new") == (200, b"new\r\n")
    better = file.with_suffix(".new")  # as editors do
    better.write_text('get "better" { output_text "better" }')
    better.rename(file)
    wait_until(lambda: ask(server.url, "GET", "/better")[0] == 200)
    everything = children(server.process.pid)
    server.stop()
    wait_until_gone(everything)


def test_watch_needs_a_file(servers: Servers) -> None:
    process, _, log_path = servers.launch(None, "--watch")
    assert process.wait(DEADLINE_S) == 2
    assert re.search(r"^Error: --watch needs a FILE$", log_path.read_text(), re.MULTILINE)
