"""The wheel: built without a network, installed where nothing else of this checkout can be seen."""

import re
import subprocess
import sys
import sysconfig
import time
import venv
from dataclasses import dataclass
from pathlib import Path

import httpx
from serving import Server

ROOT = Path(__file__).parent.parent.parent
PHOTO = ROOT / "tests" / "data" / "coffee.jpg"
TIMEOUT_S = 120


@dataclass(frozen=True)
class Installed:
    """`environment`: a virtual environment with the wheel in it; it borrows dependencies from ours."""

    directory: Path

    @property
    def wheel(self) -> Path:
        (wheel,) = self.directory.glob("*.whl")
        return wheel

    @property
    def environment(self) -> Path:
        return self.directory / "environment"

    @property
    def commands(self) -> Path:
        return self.environment / "bin"


def install(directory: Path) -> None:
    """Build the wheel into `directory` and install it into `directory / "environment"`."""
    environment = Installed(directory).environment
    _run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory))
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    (packages,) = environment.glob("lib/*/site-packages")
    # Named in a .pth file, a directory's own .pth files do not count: so not the one of our editable install.
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    wheel = Installed(directory).wheel
    _run(sys.executable, "-m", "pip", "-q", "--python", str(python), "install", "--no-index", "--no-deps",
         "--disable-pip-version-check", str(wheel))  # fmt: skip


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr


def bare_environment(commands: Path, **more: str) -> dict[str, str]:
    """What a service manager would give: nothing of ours."""
    return {"PATH": f"{commands}:/usr/bin:/bin", "LANG": "C.UTF-8", **more}


class Programs:
    """Starts commands that serve, below `scratch`."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._running: list[Server] = []

    def start(self, command: list[str], environment: dict[str, str], directory: Path) -> Server:
        """Start a command in `directory` and wait until it says where it listens."""
        log_path = self._scratch / f"log-{len(self._running)}"
        with log_path.open("wb") as log:
            process = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)
        server = Server("", process, directory, log_path)
        self._running.append(server)
        deadline = time.monotonic() + TIMEOUT_S
        while not (found := re.search(r"^Safelight \S+ at (\S+?)(,|$)", server.log, re.MULTILINE)):
            assert process.poll() is None, f"it ended with {process.returncode}:\n{server.log}"
            assert time.monotonic() < deadline, f"it is not ready:\n{server.log}"
            time.sleep(0.02)
        server.url = found[1]
        return server

    def stop_all(self) -> None:
        try:
            for server in self._running:
                server.stop()
        finally:
            for server in self._running:
                if server.process.poll() is None:
                    server.process.kill()
                    server.process.wait()


def try_example(client: httpx.Client, formats: tuple[str, ...] = ("jpeg",), query: str = "") -> None:
    """Store, fetch and shrink a photograph by the example API. `query`: what signs an upload."""
    photo = PHOTO.read_bytes()
    stored = client.put(f"/images{query}", content=photo)
    assert stored.status_code == 200, stored.text
    name = stored.text.strip()
    assert client.get(f"/images/{name}").content == photo
    for wanted in formats:
        answer = client.get(f"/thumbnail/{name}/fit/50/50?format={wanted}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, f"image/{wanted}")
