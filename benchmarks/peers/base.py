"""What a benchmark has to know of a server, and how one is started and stopped."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

SIDE = 300
"""Pixels: the square that every thumbnail fits into."""
QUALITY = 80
CORES = os.cpu_count() or 1
BOOT_S, STOP_S, ANSWER_S = 60, 30, 120


@dataclass(frozen=True, slots=True)
class Input:
    """A picture as a file, and the format that its thumbnail is to have: `jpeg` or `png`."""

    title: str
    file: str
    width: int
    height: int
    output: str

    @property
    def fitted(self) -> tuple[int, int]:
        """Width and height, in pixels, of the thumbnail that fits into the square."""
        scale = SIDE / max(self.width, self.height)
        return round(self.width * scale), round(self.height * scale)


@dataclass(frozen=True, slots=True)
class Launch:
    """A command, and what its environment has besides ours."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


class Server(Protocol):
    """One server that makes thumbnails of the files in a directory."""

    @property
    def name(self) -> str: ...

    def version(self) -> str | None:
        """What is installed, or None."""
        ...

    def launch(self, port: int, pictures: Path, directory: Path) -> Launch:
        """Serve `pictures` on the loopback `port` with as many workers as there are cores, caching nothing.

        `directory` is empty, for configuration and logs.
        """
        ...

    def path(self, picture: Input) -> str | None:
        """Path and query of the thumbnail; None for what the server cannot make."""
        ...


@dataclass(frozen=True, slots=True)
class Running:
    """A started server: its port, and the process that all of its others descend from."""

    server: Server
    port: int
    pid: int


@contextmanager
def running(server: Server, pictures: Path, directory: Path) -> Generator[Running]:
    """Start `server` and stop it at the end. Raises: SystemExit with its log, if it does not start."""
    directory.mkdir()
    port = _free_port()
    launch = server.launch(port, pictures, directory)
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            launch.command,
            cwd=directory,
            env={**os.environ, **launch.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_for(port, process, server.name, log)
        yield Running(server, port, process.pid)
    finally:
        _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the process, and what it leaves behind: thumbor's outlive the first of them."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _wait_for(port: int, process: "subprocess.Popen[bytes]", name: str, log: Path) -> None:
    deadline = time.monotonic() + BOOT_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"{name} does not start:\n{log.read_text('utf-8', 'replace')}")


def fetch(port: int, path: str) -> bytes:
    """One answer. Raises: RuntimeError for any other status than 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}: {body[:200].decode(errors='replace')}")
    return body
