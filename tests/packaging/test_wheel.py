"""The wheel: what is in it, and that it serves from an empty directory."""

import subprocess
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import httpx
import pytest
from installed import ROOT, TIMEOUT_S, Installed, Programs, bare_environment, try_example

from safelight import __version__

SOURCE = ROOT / "src"
IGNORED = {"__pycache__"}


def test_the_wheel_holds_the_package_and_nothing_else(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        names = set(archive.namelist())
        assert archive.read("safelight/example.sdl") == (ROOT / "examples" / "example.sdl").read_bytes()
    metadata = f"safelight-{__version__}.dist-info/"
    assert {f"{metadata}METADATA", f"{metadata}entry_points.txt", f"{metadata}licenses/LICENSE"} <= names
    others = {name for name in names if not name.startswith(metadata)}
    assert all(name.startswith("safelight/") for name in others)
    assert {"safelight/py.typed", "safelight/__main__.py", "safelight/engine/template.py"} <= others
    kept = {path for path in (SOURCE / "safelight").rglob("*") if path.is_file()}
    kept = {path for path in kept if IGNORED.isdisjoint(path.parts)}
    assert others == {str(path.relative_to(SOURCE)) for path in kept}


def test_the_commands_are_those_of_the_project(installed: Installed) -> None:
    (found,) = installed.environment.glob("lib/*/site-packages/safelight-*.dist-info")
    names = {point.name for point in PathDistribution(found).entry_points}
    assert {"safelight", "httpimagestore", "httpthumbnailer"} <= names
    for name in names:
        assert (installed.commands / name).exists()


@pytest.mark.parametrize(
    "command", ["safelight --help", "httpimagestore --version", "httpthumbnailer --help"]
)
def test_commands_start(installed: Installed, tmp_path: Path, command: str) -> None:
    done = subprocess.run(
        command.split(), cwd=tmp_path, env=bare_environment(installed.commands),
        capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_it_serves_the_example_from_an_empty_directory(
    installed: Installed, programs: Programs, tmp_path: Path
) -> None:
    directory = tmp_path / "empty"
    directory.mkdir()
    command = [str(installed.commands / "safelight"), "serve", "--listen", "127.0.0.1:0", "--workers", "1"]
    server = programs.start(command, bare_environment(installed.commands), directory)
    with httpx.Client(base_url=server.url, timeout=TIMEOUT_S) as client:
        try_example(client)
    master = Path(f"/proc/{server.process.pid}/cmdline").read_bytes().split(b"\0")
    assert str(installed.commands).encode() in master[0]
    assert [path.name for path in directory.iterdir()] == ["safelight-data"]


def test_the_package_that_serves_is_the_installed_one(installed: Installed, tmp_path: Path) -> None:
    script = "import safelight; print(safelight.__file__)"
    done = subprocess.run(
        [installed.commands / "python", "-c", script],
        cwd=tmp_path,
        env=bare_environment(installed.commands),
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(installed.environment)
