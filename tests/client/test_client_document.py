"""Every program of docs/client.md runs, against running servers."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from serving import ROOT, Server

from safelight import client, errors

DOCUMENT = (ROOT / "docs" / "client.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
PRINTED = [
    r"",
    r"\['[0-9a-f]{16}\.jpg'\]",
    r"image/jpeg 600 400\nimage/webp 128 128",
    r"fit,640,640,jpeg is 640 x 427\nfit,320,320,jpeg is 320 x 213\n"
    r"squeeze,64,64,jpeg failed: thumbnail method 'squeeze' is not supported",
    r"\d+ \d+",
    r"http://127\.0\.0\.1:3001/images/cat\.jpg\?expires=\d+&hmac=[0-9a-f]{64}",
    r".*'no-such-image\.jpg' not found",
]


@pytest.mark.parametrize("number", range(len(PRINTED)))
def test_programs_run(
    number: int, store: Server, thumbnailer: Server, signed: Server, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "tests" / "data" / "coffee.jpg", tmp_path / "photo.jpg")
    program = PROGRAMS[number]
    shown = {3000: store.url, 3001: signed.url, 3100: thumbnailer.url}
    for port, url in shown.items():
        program = program.replace(f"http://127.0.0.1:{port}", url)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    printed = done.stdout.replace(signed.url, "http://127.0.0.1:3001").strip()
    assert re.fullmatch(PRINTED[number], printed), printed


def test_every_program_is_run() -> None:
    assert len(PROGRAMS) == len(PRINTED)


def test_the_errors_of_the_table_exist() -> None:
    names = re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE)
    assert len(names) == 10
    assert all(issubclass(getattr(errors, name), errors.SafelightError) for name in names)


def test_every_class_is_named() -> None:
    named = set(re.findall(r"\w+", DOCUMENT))
    classes = {name for name in client.__all__ if name.endswith(("Store", "Thumbnailer", "Signer"))}
    assert classes <= named
