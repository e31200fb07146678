"""Servers as processes: `python -m safelight serve` in scratch directories (see tests/conftest.py)."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 20


@dataclass
class Server:
    """A running server: its URL, process, scratch directory (where relative roots lead) and log."""

    url: str
    process: subprocess.Popen[bytes]
    directory: Path
    log_path: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        """What it has written to standard error so far."""
        return self.log_path.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_for_log(self, text: str, timeout_s: float = START_TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while text not in self.log:
            assert time.monotonic() < deadline, f"{text!r} is not in the log:\n{self.log}"
            time.sleep(0.02)

    def stop(self) -> None:
        """Ask it to stop, wait, and check that it went well."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"the server did not stop:\n{self.log}")
        assert "Traceback" not in self.log, self.log


class Servers:
    """Starts servers in directories below `scratch`."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._running: list[Server] = []
        self._launched: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        configuration: str | None,
        *options: str,
        directory: Path | None = None,
        environment: dict[str, str] | None = None,
        listen: tuple[str, ...] = ("127.0.0.1:0",),
    ) -> Server:
        """Start a server and wait until it is ready; `configuration` None: the built-in example."""
        process, directory, log_path = self.launch(
            configuration, *options, directory=directory, environment=environment, listen=listen
        )
        server = Server("", process, directory, log_path)
        self._running.append(server)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (found := re.search(r"^Safelight \S+ at (\S+?)(,|$)", server.log, re.MULTILINE)):
            assert process.poll() is None, f"the server ended with {process.returncode}:\n{server.log}"
            assert time.monotonic() < deadline, f"the server is not ready:\n{server.log}"
            time.sleep(0.02)
        server.url = found[1]
        return server

    def launch(
        self,
        configuration: str | None,
        *options: str,
        directory: Path | None = None,
        environment: dict[str, str] | None = None,
        listen: tuple[str, ...] = ("127.0.0.1:0",),
    ) -> tuple[subprocess.Popen[bytes], Path, Path]:
        """Start the command without waiting; its output goes to `server.log`."""
        directory = directory or self._scratch / f"server-{len(list(self._scratch.iterdir()))}"
        directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-W", "error::ResourceWarning", "-m", "safelight", "serve"]
        if configuration is not None:
            (directory / "api.sdl").write_text(configuration)
            command.append("api.sdl")
        for address in listen:
            command += ["--listen", address]
        log_path = directory / "server.log"
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("SAFELIGHT_")}
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [*command, *options],
                cwd=directory,
                stdout=log,
                stderr=log,
                env={**inherited, "PYTHONPATH": str(ROOT / "src"), **(environment or {})},
            )
        self._launched.append(process)
        return process, directory, log_path

    def stop_all(self) -> None:
        try:
            for server in self._running:
                server.stop()
        finally:
            for process in self._launched:
                if process.poll() is None:
                    process.kill()
                process.wait()
