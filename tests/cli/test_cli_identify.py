"""`safelight identify`: real runs of the command on real files."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "error"}
COMMAND = [sys.executable, "-m", "safelight", "identify"]
NO_DECODER = "unsupported media type: no decode delegate for this image format"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("photos/sub").mkdir(parents=True)
    shutil.copy(DATA / "rocket.jpg", "photos/rocket.jpg")
    shutil.copy(DATA / "chelsea.png", "photos/sub/cat.png")
    return tmp_path


def run(*arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*COMMAND, *arguments], input=stdin, capture_output=True, env=ENVIRONMENT, timeout=60, check=False
    )


def test_lines_in_the_order_of_the_list() -> None:
    for number in range(50):
        os.link("photos/rocket.jpg", f"photos/{number:03}.jpg")
    done = run("photos/sub/cat.png", "photos")
    lines = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr) == (0, b"")
    assert lines[0] == "photos/sub/cat.png: image/png 451x300"
    assert lines[1:-2] == [f"photos/{number:03}.jpg: image/jpeg 640x427" for number in range(50)]
    assert lines[-2:] == ["photos/rocket.jpg: image/jpeg 640x427", "photos/sub/cat.png: image/png 451x300"]


def test_json_lines() -> None:
    done = run("--json", "photos", "-", stdin=(DATA / "coffee.jpg").read_bytes())
    assert done.returncode == 0
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"path": "photos/rocket.jpg", "mimeType": "image/jpeg", "width": 640, "height": 427},
        {"path": "photos/sub/cat.png", "mimeType": "image/png", "width": 451, "height": 300},
        {"path": "-", "mimeType": "image/jpeg", "width": 600, "height": 400},
    ]


def test_failures_go_to_standard_error() -> None:
    Path("photos/sub/text.jpg").write_text("no image")
    Path("photos/sub/empty.jpg").touch()
    done = run("photos", "missing.jpg", "photos/sub/")
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "photos/sub/empty.jpg: empty file",
        f"photos/sub/text.jpg: {NO_DECODER}",
        "missing.jpg: No such file or directory",
        "photos/sub/empty.jpg: empty file",
        f"photos/sub/text.jpg: {NO_DECODER}",
    ]
    assert len(done.stdout.splitlines()) == 3


def test_names_of_any_kind() -> None:
    odd = ["photos/a\nb.jpg", os.fsdecode(b"photos/caf\xe9.jpg"), "photos/ä €.jpg"]
    for name in odd:
        shutil.copy(DATA / "rocket.jpg", name)
    shown = run(*odd).stdout.decode().splitlines()
    assert [line.rpartition(": ")[0] for line in shown] == [
        "photos/a\\nb.jpg",
        "photos/caf\\xe9.jpg",
        "photos/ä €.jpg",
    ]
    lines = run("--json", *odd).stdout.splitlines()
    assert [json.loads(line)["path"] for line in lines] == odd


def test_a_reader_that_has_enough() -> None:
    for number in range(200):
        os.link("photos/rocket.jpg", f"photos/{number:03}.jpg")
    process = subprocess.Popen(
        [*COMMAND, "photos"], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stdout.readline() == b"photos/000.jpg: image/jpeg 640x427\n"
    process.stdout.close()
    assert process.wait(30) in (0, 1)
    assert process.stderr
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()


def test_standard_input_once() -> None:
    done = run("-", "-")
    assert done.returncode == 2
    assert b"standard input can be read once only" in done.stderr


def test_the_size_is_that_of_the_rotated_image() -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save("turned.jpg", exif=exif)
    assert run("turned.jpg").stdout == b"turned.jpg: image/jpeg 20x40\n"
    assert run("--no-auto-orient", "turned.jpg").stdout == b"turned.jpg: image/jpeg 40x20\n"
