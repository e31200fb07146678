"""What a service manager hears, on a socket of the test's own; and the mode of sockets that proxies use."""

import os
import signal
import socket
import stat
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from serving import Server, Servers

OK = 'get "ok" { output_ok }'
TIMEOUT_S = 60
CREDENTIALS = struct.Struct("3i")


class Heard(NamedTuple):
    """A message, and who has sent it as the kernel knows."""

    text: str
    pid: int


class Manager:
    """The receiving end of sd_notify(3), at an address as `NOTIFY_SOCKET` has it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.bind(address.replace("@", "\0", 1))

    def environment(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": "30000000"}

    def next(self) -> Heard:
        data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(CREDENTIALS.size))
        (_, _, credentials), *_ = ancillary
        return Heard(data.decode(), CREDENTIALS.unpack(credentials)[0])

    def news(self) -> Heard:
        """The next message that is not a sign of life."""
        while (heard := self.next()).text == "WATCHDOG=1":
            pass
        return heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A directory whose paths are short enough for sockets."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, sockets: Path) -> Iterator[Manager]:
    opened = Manager(f"{sockets}/notify" if request.param == "path" else f"@{sockets}/notify")
    yield opened
    opened.close()


def start(servers: Servers, manager: Manager) -> Server:
    """A server that has said that it is ready, and was."""
    server = servers.start(OK, "--workers", "1", environment=manager.environment())
    assert manager.news() == Heard("READY=1", server.process.pid)
    return server


def test_the_manager_hears_of_start_reload_and_stop(servers: Servers, manager: Manager) -> None:
    server = start(servers, manager)
    assert httpx.get(f"{server.url}/ok", timeout=TIMEOUT_S).status_code == 200
    assert manager.next() == Heard("WATCHDOG=1", server.process.pid)
    before_us = time.monotonic_ns() // 1000
    server.signal(signal.SIGHUP)
    state, _, moment = manager.news().text.partition("\nMONOTONIC_USEC=")
    assert state == "RELOADING=1"
    assert before_us <= int(moment) <= time.monotonic_ns() // 1000
    assert manager.news() == Heard("READY=1", server.process.pid)
    server.signal(signal.SIGTERM)
    assert manager.news() == Heard("STOPPING=1", server.process.pid)


def test_a_server_that_is_not_ready_yet_does_not_say_so(servers: Servers, tmp_path: Path) -> None:
    """Image workers cannot start without their plugins: nothing is heard before the end."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "broken.py").write_text("raise RuntimeError('no')")
    manager = Manager(f"@{tmp_path}/notify")
    process, _, _ = servers.launch(
        OK, "--plugins", str(tmp_path / "broken"), environment=manager.environment()
    )
    heard: list[str] = []
    while not heard or heard[-1] == "WATCHDOG=1":
        heard.append(manager.next().text)
    manager.close()
    assert heard[-1] == "STOPPING=1"
    assert process.wait(TIMEOUT_S) == 1


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_a_successor_becomes_the_main_process(servers: Servers, manager: Manager) -> None:
    """USR2 starts another master beside the first one, which names it when it ends."""
    server = start(servers, manager)
    server.signal(signal.SIGUSR2)
    successor = manager.news()
    assert successor.text == "READY=1"
    assert successor.pid != server.process.pid
    server.signal(signal.SIGQUIT)
    assert manager.news() == Heard(f"MAINPID={successor.pid}", server.process.pid)
    assert server.process.wait(TIMEOUT_S) == 0
    assert httpx.get(f"{server.url}/ok", timeout=TIMEOUT_S).status_code == 200
    os.kill(successor.pid, signal.SIGTERM)
    assert manager.news() == Heard("STOPPING=1", successor.pid)
    deadline = time.monotonic() + TIMEOUT_S
    while Path(f"/proc/{successor.pid}/cmdline").exists():  # an orphan, so not to be waited for
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_nobody_listening_is_no_reason_to_fail(servers: Servers, tmp_path: Path) -> None:
    server = servers.start(OK, "--workers", "1", environment={"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert httpx.get(f"{server.url}/ok", timeout=TIMEOUT_S).status_code == 200


def test_every_user_may_connect_to_a_unix_socket(sockets: Path, servers: Servers) -> None:
    """Whatever the umask; to connect is to write (unix(7))."""
    umask = os.umask(0o077)
    try:
        servers.start(OK, "--workers", "1", listen=(f"unix:{sockets}/safelight.sock",))
    finally:
        os.umask(umask)
    assert stat.S_IMODE((sockets / "safelight.sock").stat().st_mode) == 0o666
