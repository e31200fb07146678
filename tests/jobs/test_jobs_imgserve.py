"""The command line of the older job server (reference/imgserve section 9)."""

import logging
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from loopback_ports import free_ports
from PIL import Image
from serving import ROOT

from safelight.cli import imgserve
from safelight.cli.imgserve import LegacyFormatter, UsageError, parse
from safelight.cli.launch.rotating import RotatingLogFile, Rotation

TIMEOUT_S = 120


@dataclass
class Imgserve:
    """The command with places of its own below `directory`, which is the home directory, too."""

    directory: Path
    port: int
    places: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.places = ["-pid", str(self.pid_file)]

    @property
    def pid_file(self) -> Path:
        return self.directory / "run" / "imgserve.pid"

    @property
    def log(self) -> Path:
        return self.directory / "log" / "imgserve.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        environment = {
            name: text for name, text in os.environ.items() if not name.startswith("SAFELIGHT_")
        } | {"HOME": str(self.directory), "PYTHONPATH": str(ROOT / "src")}
        return subprocess.run(
            [sys.executable, "-m", "safelight.cli.imgserve", *words],
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def start_words(self, *more: str) -> list[str]:
        own = ["-host", "127.0.0.1", "-port", str(self.port), "-logdir", str(self.log.parent)]
        return [*self.places, *own, "-data", str(self.directory / "data"), *more]

    def start(self, *more: str) -> "subprocess.CompletedProcess[str]":
        return self.run("start", *self.start_words(*more))

    def pid(self) -> int:
        return int(self.pid_file.read_text())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Imgserve]:
    made = Imgserve(tmp_path, *free_ports(1))
    yield made
    if made.pid_file.exists():
        made.run("stop", *made.places)


# --- commands that need no server


@pytest.mark.covers("j059")
def test_commands_that_only_say_something(server: Imgserve) -> None:
    nothing, help_, version, unknown = (server.run(*words) for words in ([], ["help"], ["version"], ["run"]))
    assert (nothing.returncode, nothing.stdout) == (0, help_.stdout)
    for command in ("start", "stop", "restart", "status", "help", "version"):
        assert re.search(rf"^  {command} ", help_.stdout, re.MULTILINE)
    lines = version.stdout.splitlines()
    assert (version.returncode, lines[0], lines[1], lines[-2], lines[-1]) == (
        0, "Imgserve-Version:  0.2", "", "", "Have fun."
    )  # fmt: skip
    assert unknown.returncode == 1
    assert unknown.stdout.startswith("You must specify a valid command.  Try these: help, restart, start")
    assert "-KILL" in server.run("help", "-for", "stop").stdout


@pytest.mark.covers("j059")
@pytest.mark.parametrize(
    "words",
    [["start", "-bogus", "1"], ["start", "extra"], ["stop", "-host", "x"], ["start", "-port"],
     ["start", "-FORCE", "no"], ["status", "-KILL"], ["help", "-for", "nobody"], ["start", "-uid", "1"]],
)  # fmt: skip
def test_command_lines_that_make_no_sense(server: Imgserve, words: list[str]) -> None:
    done = server.run(*words, *(server.places if words[0] == "start" else []))
    assert done.returncode == 2
    assert done.stdout.startswith("ERROR: ")
    assert done.stderr == ""


def test_any_number_of_dashes() -> None:
    words = ["-host", "h", "--port", "80", "---FORCE", "-legacy", "True"]
    assert parse(words, imgserve.START) == {"host": "h", "port": "80", "FORCE": "", "legacy": ""}
    with pytest.raises(UsageError):
        parse(["host", "h"], imgserve.START)


@pytest.mark.covers("j060")
def test_places_of_root_and_of_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    places = imgserve._pid_file, imgserve._log_directory
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert [str(place({})) for place in places] == ["/var/run/imgserve.pid", "/var/log/imgserve"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    own = tmp_path / ".imgserve"
    assert [place({}) for place in places] == [own / "imgserve.pid", own / "log"]
    given = {"pid": "/p", "logdir": "/l"}
    assert [str(place(given)) for place in places] == ["/p", "/l"]


def test_chroot_is_refused(server: Imgserve) -> None:
    done = server.start("-chroot", "/srv")
    assert (done.returncode, done.stdout.startswith("-chroot is not supported")) == (1, True)


# --- a server


@pytest.mark.covers("j056", "j057", "j058", "j059", "j060", "j061", "j068")
def test_the_life_of_a_server(server: Imgserve, tmp_path: Path) -> None:
    assert server.run("status", *server.places).stdout == "imgserve not running.\n"
    missing = server.run("stop", *server.places)
    assert missing.returncode == 1
    assert missing.stdout == f"PID file {server.pid_file} doesn't exist, maybe imgserve isn't running?\n"

    done = server.start("-legacy")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    first = server.pid()
    assert server.run("status", *server.places).stdout == f"imgserve running with PID {first}\n"
    Image.new("RGB", (300, 300), "red").save(tmp_path / "a.png")
    job = {
        "operationType": "resize",
        "srcURL": f"file://{tmp_path}/a.png",
        "dstURL": f"file://{tmp_path}/new/{{$width}}.png",
        "args": {"width": 60, "height": 60},
    }
    assert httpx.post(server.url, json=job, timeout=60).json() == {"dstURL": f"file://{tmp_path}/new/60.png"}

    again = server.start("-legacy")
    assert again.returncode == 1
    assert again.stdout == (
        f"PID file {server.pid_file} exists, so assuming daemon is running.  "
        "Give -FORCE to force it to start.\n"
    )
    other = Imgserve(tmp_path / "other", server.port)
    other.directory.mkdir()
    taken = other.start()
    assert taken.returncode == 1
    assert "in use" in taken.stdout + taken.stderr

    restarted = server.run("restart", *server.start_words("-legacy"))
    assert restarted.returncode == 0, restarted.stderr
    assert f"Attempting to stop imgserve at pid {first}" in restarted.stdout
    assert server.pid() != first
    assert httpx.get(server.url).status_code == 404
    stopped = server.run("stop", *server.places)
    assert (stopped.returncode, server.pid_file.exists()) == (0, False)
    assert Image.open(tmp_path / "new" / "60.png").getpixel((0, 0)) == (255, 0, 0)

    lines = server.log.read_text().splitlines()
    assert all(re.match(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d :: ", line) for line in lines), lines
    assert sum("legacy mode" in line for line in lines) == 2, "at every start"
    assert stat.S_IMODE(server.log.stat().st_mode) == 0o640
    assert stat.S_IMODE(server.log.parent.stat().st_mode) == 0o755


@pytest.mark.covers("j056", "j058")
def test_a_file_that_was_left_behind(server: Imgserve) -> None:
    """As after a crash: only `-FORCE` starts, and `-KILL` does not wait."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    server.pid_file.parent.mkdir()
    server.pid_file.write_text(f"{gone.pid}\n")
    assert server.run("status", *server.places).stdout == "imgserve not running.\n"
    assert server.start().returncode == 1
    started = server.start("-FORCE")
    assert started.returncode == 0, started.stderr
    assert httpx.get(server.url).status_code == 404
    assert "no destinations are allowed" in server.log.read_text()
    assert server.run("stop", "-KILL", *server.places).returncode == 0
    assert not server.pid_file.exists()


def test_a_configuration_that_makes_no_sense(server: Imgserve) -> None:
    (server.directory / "jobs.sdl").write_text('jobs {\n  destination "ftp//x y"\n  sorce "a"\n}\n')
    done = server.start("-config", "jobs.sdl")
    assert done.returncode == 1
    assert "jobs.sdl:3" in done.stderr + done.stdout
    assert "did you mean 'source'" in done.stderr + done.stdout


# --- the log


@pytest.mark.covers("j061")
def test_rotation(tmp_path: Path) -> None:
    """Two handlers stand for two processes."""
    path = tmp_path / "imgserve.log"
    saved = [os.dup(standard) for standard in (1, 2)]
    handlers = [RotatingLogFile(str(path), LegacyFormatter(), Rotation(1000, 3, 0o640)) for _ in range(2)]
    try:
        for number in range(400):
            record = logging.LogRecord("x", logging.INFO, "", 0, f"line {number:04}", None, None)
            handlers[number % 2].handle(record)
    finally:
        for handler in handlers:
            handler.close()
        for standard, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, standard)
            os.close(copy)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["imgserve.log", *(f"imgserve.log.{n}" for n in (1, 2, 3))]
    assert all(file.stat().st_size < 1100 for file in files)
    kept = "".join(file.read_text() for file in [*reversed(files[1:]), files[0]])
    numbers = [int(line.rpartition(" ")[2]) for line in kept.splitlines()]
    assert numbers == list(range(numbers[0], 400)), "nothing is lost between, nothing is there twice"


def test_the_limits_of_the_log() -> None:
    assert Rotation(360_000, 3, 0o640) == imgserve.ROTATION


def test_a_line_says_no_password() -> None:
    text = "from ftp://user:secret@host/a\nb"
    line = LegacyFormatter().format(logging.LogRecord("x", logging.INFO, "", 0, text, None, None))
    assert line.endswith(" :: from ftp://user:***@host/a\\nb")


def test_the_script_is_installed() -> None:
    assert 'imgserve = "safelight.cli.imgserve:main"' in (ROOT / "pyproject.toml").read_text()
