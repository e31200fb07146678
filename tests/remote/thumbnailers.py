"""Thumbnailers to talk to: ours as a process, and one of the tests' own that plays a script on sockets."""

import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from serving import ROOT, Server, Servers

TIMEOUT_S = 20


class ThumbnailerServers(Servers):
    """Starts `safelight thumbnailer` where `Servers` starts `safelight serve`."""

    def launch(
        self,
        configuration: str | None,
        *options: str,
        directory: Path | None = None,
        environment: dict[str, str] | None = None,
        listen: tuple[str, ...] = ("127.0.0.1:0",),
    ) -> tuple[subprocess.Popen[bytes], Path, Path]:
        assert configuration is None, "a thumbnailer has no configuration"
        directory = directory or self._scratch / f"thumbnailer-{len(list(self._scratch.iterdir()))}"
        directory.mkdir(parents=True, exist_ok=True)
        log_path = directory / "server.log"
        listeners = [text for address in listen for text in ("--listen", address)]
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("SAFELIGHT_")}
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "safelight", "thumbnailer", *listeners, *options],
                cwd=directory,
                stdout=log,
                stderr=log,
                env={**inherited, "PYTHONPATH": str(ROOT / "src"), **(environment or {})},
            )
        self._launched.append(process)
        return process, directory, log_path

    def start_one(self, *options: str) -> Server:
        return self.start(None, *options)


@dataclass(frozen=True)
class Received:
    """A request as it came, header names as they were spelt."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Act = Callable[[socket.socket], bool]
"""Answers one request; says whether the connection is kept for another one."""


@dataclass
class Scripted:
    """A server on loopback that answers its n-th request by the n-th act, all further ones by the last."""

    acts: tuple[Act, ...]
    url: str = ""
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0
    failures: list[BaseException] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_until(self, holds: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(holds, TIMEOUT_S)

    def serve(self, connection: socket.socket) -> None:
        with self.changed:
            self.connections += 1
            self.open_connections += 1
        try:
            with connection:
                while (request := _received(connection)) is not None:
                    with self.changed:
                        act = self.acts[min(len(self.requests), len(self.acts) - 1)]
                        self.requests.append(request)
                        self.changed.notify_all()
                    if not act(connection):
                        break
        except OSError:
            pass  # the client has left
        except BaseException as error:
            self.failures.append(error)
        finally:
            with self.changed:
                self.open_connections -= 1
                self.changed.notify_all()


@contextmanager
def scripted(*acts: Act) -> Iterator[Scripted]:
    """Serve by `acts` until the end of the block."""
    server = Scripted(acts)
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.settimeout(TIMEOUT_S)
                    sockets.append(connection)
                    threads.append(threading.Thread(target=server.serve, args=(connection,), daemon=True))
                    threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(TIMEOUT_S)
            for connection in sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(TIMEOUT_S)
                assert not thread.is_alive()
    assert not server.failures, server.failures


def _received(connection: socket.socket) -> Received | None:
    """The next request, None at the end of the connection or if it ends too soon."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(1 << 16)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(text.split(": ", 1) for text in lines)
    length = int({name.lower(): text for name, text in headers.items()}.get("content-length", "0"))
    while len(body) < length:
        piece = connection.recv(1 << 16)
        if not piece:
            return None
        body += piece
    method, target, _ = line.split(" ")
    return Received(method, target, headers, body)


def head(status: str = "200 OK", **headers: str | int) -> bytes:
    """The head of an answer; `_` in names stands for `-`."""
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {text}" for name, text in headers.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def send(*pieces: bytes, keep: bool = False) -> Act:
    """Send this, whatever it is."""

    def act(connection: socket.socket) -> bool:
        for piece in pieces:
            connection.sendall(piece)
        return keep

    return act


def answer(body: bytes, content_type: str, status: str = "200 OK", **headers: str | int) -> Act:
    """A whole answer as the original gives it: it closes the connection."""
    facts = {"Content_Type": content_type, "Content_Length": len(body), "Connection": "close", **headers}
    return send(head(status, **facts) + body)


def kept(body: bytes, content_type: str, status: str = "200 OK", **headers: str | int) -> Act:
    """A whole answer of a server that keeps connections."""
    facts = {"Content_Type": content_type, "Content_Length": len(body), **headers}
    return send(head(status, **facts) + body, keep=True)


def text(message: str, status: str) -> Act:
    """An error of the original."""
    return answer(message.encode() + b"\r\n", "text/plain", status)


def reset(connection: socket.socket) -> bool:
    """Break the connection off without a word."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def close(_connection: socket.socket) -> bool:
    """End the connection without an answer."""
    return False


def hang(connection: socket.socket) -> bool:
    """Say nothing until the client leaves."""
    connection.recv(1)
    return False


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
