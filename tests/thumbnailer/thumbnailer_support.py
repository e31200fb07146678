"""`httpthumbnailer` as a process, and a client that sends request targets exactly as they are written."""

import os
import pwd
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from processes import is_running, wait_until_gone
from server_support import RawClient, Response
from serving import START_TIMEOUT_S, Server

from safelight.multipart import Part, boundary_of, split

ROOT = Path(__file__).parent.parent.parent
COMMAND = (sys.executable, "-W", "error::ResourceWarning", "-m", "safelight.cli.httpthumbnailer")
DEADLINE_S = 60
ME = pwd.getpwuid(os.getuid()).pw_name


@dataclass
class Thumbnailer(Server):
    """A running thumbnailer."""

    def ask(self, method: str, target: str, body: bytes = b"", headers: str = "") -> Response:
        """One request on a connection of its own; `headers`: lines, each ended by a line feed."""
        with RawClient(self.port, timeout_s=DEADLINE_S) as client:
            head = f"{method} {target} HTTP/1.1\nHost: test\n{headers}Content-Length: {len(body)}"
            client.request(head, body)
            return client.response(head_only=method == "HEAD")

    def put(self, target: str, body: bytes = b"", headers: str = "") -> Response:
        return self.ask("PUT", target, body, headers)

    def get(self, target: str) -> Response:
        return self.ask("GET", target)

    def statistic(self, name: str) -> int:
        return int(self.get(f"/stats/{name}").body)

    def statistics(self) -> dict[str, int]:
        lines = self.get("/stats").body.decode().split("\r\n")
        pairs = (line.split(": ") for line in lines if line)
        return {name: int(value) for name, value in pairs}


def parts_of(response: Response) -> list[Part]:
    """The parts of a multipart answer."""
    assert response.status == 200, response
    return split(response.body, boundary_of(response.headers["content-type"]))


def environment(**more: str) -> dict[str, str]:
    """Ours without settings of the server, with the sources of this checkout."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("SAFELIGHT_")}
    return {**kept, "PYTHONPATH": str(ROOT / "src"), **more}


def wait_until(condition: object, timeout_s: float = START_TIMEOUT_S) -> None:
    """Wait for a callable to be true."""
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Commands:
    """Starts `httpthumbnailer` in directories below `scratch`."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self._running: list[Thumbnailer] = []
        self._launched: list[subprocess.Popen[bytes]] = []
        self._daemons: list[int] = []

    def start(
        self,
        *options: str,
        listen: tuple[str, ...] = ("127.0.0.1:0",),
        program: tuple[str, ...] = COMMAND,
        **variables: str,
    ) -> Thumbnailer:
        """Start in the foreground and wait until it is ready."""
        directory = self.scratch / f"command-{len(self._launched)}"
        directory.mkdir()
        listeners = [word for address in listen for word in ("--listener", address)]
        log_path = directory / "stderr"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [*program, "--foreground", "--verbose", *listeners, *options],
                cwd=directory,
                stdout=log,
                stderr=log,
                env=environment(**variables),
            )
        self._launched.append(process)
        server = Thumbnailer("", process, directory, log_path)
        self._running.append(server)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (found := re.search(r"Safelight \S+ at (\S+?)(,|$)", server.log, re.MULTILINE)):
            assert process.poll() is None, f"the server ended with {process.returncode}:\n{server.log}"
            assert time.monotonic() < deadline, f"the server is not ready:\n{server.log}"
            time.sleep(0.02)
        server.url = found[1]
        return server

    def run(
        self, *options: str, program: tuple[str, ...] = COMMAND, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run in the scratch directory until it ends by itself, as a daemon's launcher does."""
        return subprocess.run(
            [*program, *options],
            cwd=self.scratch,
            env=environment(**variables),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def adopt(self, pid_file: Path) -> int:
        """Remember a daemon by its pid file, so that it ends with the test; the pid."""
        pid = int(pid_file.read_text())
        self._daemons.append(pid)
        return pid

    def adopt_any(self) -> None:
        """Remember a daemon that should not have started."""
        for pid_file in self.scratch.glob("*.pid"):
            self.adopt(pid_file)

    def stop_all(self) -> None:
        try:
            for server in self._running:
                server.stop()
        finally:
            for process in self._launched:
                if process.poll() is None:
                    process.kill()
                process.wait()
            for pid in self._daemons:
                end_daemon(pid)


def other_user() -> str:
    """`nobody`, if we may become it and it can run this interpreter; ourselves otherwise."""
    script = "import asyncio, safelight"
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], user="nobody", group="nogroup", env={"PYTHONPATH": f"{ROOT}/src"},
            capture_output=True, check=False, cwd="/",
        )  # fmt: skip
    except (OSError, LookupError, subprocess.SubprocessError):
        return ME
    return "nobody" if done.returncode == 0 else ME


def end_daemon(pid: int) -> None:
    """Ask a daemon to stop and wait for it."""
    if is_running(pid):
        os.kill(pid, signal.SIGTERM)
        wait_until_gone([pid])
