"""The example of docs/http.md answers as it shows."""

import doctest
import re
import shlex
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner

from safelight.cli import main

ROOT = Path(__file__).parents[2]


def test_the_example_answers_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = (ROOT / "docs/http.md").read_text()
    configuration, console = re.findall(r"```(?:sdl|console)\n(.*?)```", document, re.DOTALL)[:2]
    command, _, expected = console.removeprefix("$ ").partition("\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "api.sdl").write_text(configuration)
    (tmp_path / "photos").mkdir()
    picture = (ROOT / "tests/data/rocket.jpg").read_bytes()
    (tmp_path / "photos/cat.jpg").write_bytes(picture)
    result = CliRunner().invoke(main, shlex.split(command)[1:])
    structlog.reset_defaults()
    assert result.exit_code == 0, result.output
    assert (tmp_path / "cat-copy.jpg").read_bytes() == picture
    got = result.output.replace("\r\n", "\n").rstrip("\n") + "\n"
    assert doctest.OutputChecker().check_output(expected, got, doctest.ELLIPSIS), got
