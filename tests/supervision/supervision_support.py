"""Processes of a server as the kernel shows them, and clients that count requests that failed."""

import http.client
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import children

DEADLINE_S = 60
"""For what takes a second or two on a quiet machine."""

PAUSE_S = 0.01
"""Between the requests of one client, so that something is left of the machine for the server."""

STORE = """
path { "by-name" "#{name}" }
put "store" ":name" {
    store_file "input" root="files" path="by-name"
    output_store_path "input"
}
get "fit" ":name" ":size" {
    source_file "image" root="files" path="by-name"
    thumbnail "image" "small" operation="fit" width="#{size}" height="#{size}" format="png"
    output_image "small"
}
get "ok" { output_ok }
"""


def wait_until(condition: Callable[[], object], timeout_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def image_workers(worker: int) -> list[int]:
    """Of an HTTP worker: the children of its template; one more than was asked for, for health checks."""
    return [image_worker for template in children(worker) for image_worker in children(template)]


def identity(pid: int, kind: str) -> set[int]:
    """The `Uid`, `Gid` or `Groups` of a process."""
    found = re.search(rf"^{kind}:\s(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return set(map(int, found[1].split()))


class UnixConnection(http.client.HTTPConnection):
    """HTTP on a socket in the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=DEADLINE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connect(address: str) -> http.client.HTTPConnection:
    """`unix:PATH` or `http://HOST:PORT`."""
    if address.startswith("unix:"):
        return UnixConnection(address.removeprefix("unix:"))
    host, port = address.removeprefix("http://").split(":")
    return http.client.HTTPConnection(host, int(port), timeout=DEADLINE_S)


def ask(address: str, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of one request on a connection of its own."""
    connection = connect(address)
    try:
        connection.request(method, target, body, {"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Client(threading.Thread):
    """Sends requests one after the other until it is told to stop, on a connection kept or on new ones.

    A request on a kept connection may find it closed; it has failed if it fails again on a new one.
    Everything else that is not 200 has failed.
    """

    def __init__(self, address: str, method: str, target: str, body: bytes | None, *, keep: bool) -> None:
        super().__init__()
        self._address, self._keep = address, keep
        self._request = (method, target, body)
        self._done = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self.count = 0
        self.failures: list[str] = []

    def run(self) -> None:
        while not self._done.wait(PAUSE_S):
            try:
                self._once()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                self._close()
            self.count += 1
        self._close()

    def end(self) -> None:
        self._done.set()
        self.join()

    def _once(self) -> None:
        if self._connection is not None:
            try:
                self._exchange(self._connection)
                return
            except (ConnectionError, http.client.RemoteDisconnected):
                self._close()
        self._connection = connect(self._address)
        self._exchange(self._connection)

    def _exchange(self, connection: http.client.HTTPConnection) -> None:
        connection.request(*self._request)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            self.failures.append(f"{answer.status} {answer.reason}")
        if not self._keep or answer.getheader("connection") == "close":
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextmanager
def load(*clients: Client) -> Iterator[None]:
    """The clients at work; afterwards, none of their requests may have failed."""
    for client in clients:
        client.start()
    try:
        wait_until(lambda: all(client.count > 3 for client in clients))
        yield
    finally:
        for client in clients:
            client.end()
    assert [failure for client in clients for failure in client.failures] == []


def hold_open(port: int) -> bool:
    """Whether somebody listens at a port of this machine."""
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def kill_all(pids: list[int], number: int) -> None:
    for pid in pids:
        os.kill(pid, number)
