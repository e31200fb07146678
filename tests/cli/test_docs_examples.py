"""Everything that the documents show: configurations load, commands print what stands below them."""

import doctest
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import structlog
from click.testing import CliRunner
from PIL import Image

from safelight.api import load_config
from safelight.cli import main
from safelight.errors import ConfigError

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILE = "api.sdl"

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """A fenced block of a document."""

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


def blocks(document: Path) -> Iterator[Block]:
    text = document.read_text("utf-8")
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        indented = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        yield Block(document, line, found["language"], indented)


def all_blocks(language: str) -> list[Block]:
    return [
        block
        for document in DOCUMENTS
        if document.exists()
        for block in blocks(document)
        if block.language == language
    ]


def complaints(text: str) -> list[str]:
    """What loading says: errors, or warnings if there are none."""
    try:
        return [str(warning) for warning in load_config(text, FILE).warnings]
    except ConfigError as error:
        return error.message.split("\n")


CONFIGURATION = ROOT / "docs" / "configuration.md"
MISTAKES = [
    (mistake, message)
    for mistake, message in zip(blocks(CONFIGURATION), list(blocks(CONFIGURATION))[1:], strict=False)
    if mistake.language == "conf"
]


@pytest.mark.parametrize("block", all_blocks("sdl"), ids=str)
def test_configurations_load(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some take the keys of an object store from the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRETEXAMPLE")
    load_config(block.text, FILE)


@pytest.mark.parametrize(
    "block", [block for block in all_blocks("sdl") if block.document == CONFIGURATION], ids=str
)
def test_the_explained_configurations_have_no_warnings(block: Block) -> None:
    assert complaints(block.text) == []


@pytest.mark.parametrize(("mistake", "message"), MISTAKES, ids=str)
def test_mistakes_give_the_message_below_them(mistake: Block, message: Block) -> None:
    assert message.language == "text"
    assert complaints(mistake.text) == message.text.splitlines()


def test_there_are_mistakes() -> None:
    assert len(MISTAKES) > 10


def sessions(document: Path) -> Iterator[tuple[Block, Block]]:
    """Every console block with the configuration that it is about: the last one above it."""
    configuration: Block | None = None
    for block in blocks(document):
        if block.language == "sdl":
            configuration = block
        elif block.language == "console":
            assert configuration, f"{block}: no configuration stands above it"
            yield configuration, block


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Command lines and their expected output."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, expected = part.partition("\n")
        yield line, expected


@pytest.mark.parametrize(("configuration", "console"), list(sessions(CONFIGURATION)), ids=str)
def test_commands_print_what_is_shown(
    configuration: Block, console: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / FILE).write_text(configuration.text, "utf-8")
    (tmp_path / "key").write_text("pass123\n")
    Image.effect_mandelbrot((160, 120), (-2, -1, 1, 1), 50).convert("RGB").save(tmp_path / "cat.jpg")
    check = doctest.OutputChecker()
    for line, expected in commands(console.text):
        program, *arguments = shlex.split(line)
        assert program == "safelight"
        result = CliRunner().invoke(main, arguments)
        got = result.output.replace("\r\n", "\n")
        assert check.check_output(expected, got, doctest.ELLIPSIS), f"{line}\n{got}"
    structlog.reset_defaults()
