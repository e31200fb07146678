"""The README's sessions, line by line: what it shows is what happens."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest
from PIL import Image

from safelight.api import load_config
from safelight.cli import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHOWN_ADDRESS = "http://127.0.0.1:3000"
LANGUAGES = {"sh", "console", "sdl"}


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a session and the lines that it prints."""

    command: str
    output: str


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def steps(session: str) -> list[Step]:
    """Split at the prompts; empty lines only set commands apart."""
    parts = re.split(r"^\$ ", session, flags=re.MULTILINE)
    split = [part.partition("\n") for part in parts if part.strip()]
    return [Step(command, output.strip()) for command, _, output in split]


def play(session: str, directory: Path, address: str) -> list[Step]:
    """Run every command of a session in `directory` and write down what it printed."""
    played: list[Step] = []
    for step in steps(session):
        done = subprocess.run(
            ["bash", "-c", step.command.replace(SHOWN_ADDRESS, address)],
            cwd=directory,
            env={
                "PATH": f"{directory / 'bin'}:/usr/local/bin:/usr/bin:/bin",
                "PYTHONPATH": str(ROOT / "src"),
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        errors = "" if step.command.startswith("curl ") else done.stderr  # curl shows its progress there
        printed = (errors + done.stdout).replace("\r\n", "\n").replace(address, SHOWN_ADDRESS).strip()
        played.append(Step(step.command, printed))
    return played


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory that looks like the checkout, with the README's configuration and `safelight` in it."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "safelight"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m safelight "$@"\n')
    command.chmod(0o755)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / "README.md").symlink_to(ROOT / "README.md")
    (tmp_path / "gallery.sdl").write_text(blocks("sdl")[0])
    return tmp_path


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_first_session(checkout: Path, servers) -> None:
    session = blocks("console")[0]
    address = servers.start(None, directory=checkout / "served").url
    assert play(session, checkout, address) == steps(session)
    made, shown = (
        numpy.asarray(Image.open(path).convert("RGB")).astype(int)
        for path in (checkout / "cup.jpg", ROOT / "docs" / "images" / "cup.jpg")
    )
    assert made.shape == shown.shape
    assert numpy.abs(made - shown).mean() < 2, "the picture shown is not the one that the session makes"


def test_the_session_without_a_server(checkout: Path) -> None:
    session = blocks("console")[1]
    assert play(session, checkout, SHOWN_ADDRESS) == steps(session)


def test_every_session_is_played() -> None:
    assert len(blocks("console")) == 2
    assert set(re.findall(r"^```(\w+)$", README, re.MULTILINE)) == LANGUAGES


@pytest.mark.parametrize("text", blocks("sdl"))
def test_configurations_load_without_a_complaint(text: str) -> None:
    assert load_config(text, "README.md").warnings == ()


def test_every_command_is_in_the_table() -> None:
    table = set(re.findall(r"^\| `safelight ([a-z]+)", README, re.MULTILINE))
    assert table == set(COMMANDS)


def test_every_example_is_in_the_table() -> None:
    assert set(re.findall(r"\(examples/([\w.-]+)\) \|", README)) == {
        path.name for path in (ROOT / "examples").glob("*.sdl")
    }
