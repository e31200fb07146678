"""`packaging/safelight.service`: its rules, and its very command under some of them, without systemd."""

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from installed import ROOT, TIMEOUT_S, Installed, Programs, bare_environment, try_example

from safelight.server.process import ProcessSettings

UNIT = ROOT / "packaging" / "safelight.service"
FORMATS = ("jpeg", "png", "webp", "avif", "gif", "tiff")
LIKE_THE_UNIT = """
import ctypes, errno, os, sys
NO_NEW_PRIVILEGES, NO_WRITABLE_CODE = (38, 1), (65, 1)  # prctl(2)
libc = ctypes.CDLL(None, use_errno=True)
for option, value in (NO_NEW_PRIVILEGES, NO_WRITABLE_CODE):
    if libc.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))) != 0 and ctypes.get_errno() != errno.EINVAL:
        sys.exit("prctl")  # EINVAL: the kernel is older than 6.3
os.umask(0o027)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def settings() -> dict[str, list[str]]:
    """Values by name, in the order of the file."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def seconds(name: str) -> int:
    (value,) = settings()[name]
    return int(value.removesuffix("s"))


def test_times_and_rights_fit_the_server() -> None:
    assert seconds("TimeoutStopSec") > ProcessSettings().graceful_timeout_s
    assert seconds("WatchdogSec") > 2 * ProcessSettings().worker_timeout_s - 1
    assert settings()["Type"] == ["notify"]
    assert settings()["KillMode"] == ["mixed"]
    assert settings()["OOMPolicy"] == ["continue"]
    yes = {name for name, values in settings().items() if values == ["yes"]}
    assert {"NoNewPrivileges", "ProtectHome", "PrivateTmp", "MemoryDenyWriteExecute"} <= yes


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_understands_it(tmp_path: Path) -> None:
    """With programs that are there, and as strict as it says."""
    copy = tmp_path / "safelight.service"
    copy.write_text(UNIT.read_text().replace("/opt/safelight/bin/safelight", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, timeout=TIMEOUT_S
    )
    if "Failed to initialize manager" in done.stderr or "Failed to create" in done.stderr:
        pytest.skip(done.stderr)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def places() -> Iterator[Path]:
    """For what the unit has below / and paths of sockets that are short enough."""
    with tempfile.TemporaryDirectory() as directory:
        for name in ("run/safelight", "var/lib/safelight", "etc/safelight"):
            (Path(directory) / name).mkdir(parents=True)
        yield Path(directory)


def test_its_command_serves_without_code_that_can_be_written(
    places: Path, installed: Installed, programs: Programs
) -> None:
    """Every format, since encoders are what might want to write code."""
    (start,) = settings()["ExecStart"]
    words = [
        word.replace("/opt/safelight/bin", str(installed.commands))
        .replace("/run/safelight", f"{places}/run/safelight")
        .replace("/var/lib", f"{places}/var/lib")
        .replace("/etc/", f"{places}/etc/")
        for word in shlex.split(start)
    ]
    (places / "etc/safelight/api.sdl").write_bytes((ROOT / "examples/example.sdl").read_bytes())
    programs.start(
        [sys.executable, "-c", LIKE_THE_UNIT, *words], bare_environment(installed.commands), places
    )
    transport = httpx.HTTPTransport(uds=f"{places}/run/safelight/http.sock")
    with httpx.Client(base_url="http://unit", transport=transport, timeout=TIMEOUT_S) as client:
        try_example(client, FORMATS)
    assert [path.name for path in (places / "var/lib/safelight").iterdir()] == ["images"]
