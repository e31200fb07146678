"""`safelight statements`, and whether every statement is documented."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from safelight.api import load_config
from safelight.cli import main
from safelight.cli.statements import Entry, entries, example
from safelight.config.document import paragraphs, parts_of
from safelight.config.spec import Statement
from safelight.statements import REGISTRY
from safelight.statements.endpoint import EndpointStatement

DOCUMENT = Path(__file__).parents[2] / "docs" / "statements.md"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["statements", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def name(entry: Entry) -> str:
    return entry.names[0]


def with_parts(statement: type[Statement]) -> Iterator[type[Statement]]:
    yield statement
    for part in parts_of(statement):
        yield from with_parts(part)


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text("utf-8") == run("--markdown"), (
        "docs/statements.md is stale: safelight statements --markdown > docs/statements.md"
    )


@pytest.mark.parametrize("entry", entries(), ids=name)
def test_every_statement_is_explained(entry: Entry) -> None:
    assert entry.statement.example
    for statement in with_parts(entry.statement):
        assert paragraphs(statement)[0].endswith("."), statement
        assert [own.name for own in statement.fields if not own.help] == []


@pytest.mark.parametrize("entry", entries(), ids=name)
def test_every_example_loads_and_shows_its_statement(entry: Entry) -> None:
    config = load_config(example(entry), "example.sdl")
    shown = [*config.statements]
    for endpoint in config.of(EndpointStatement):
        shown += endpoint.parts()
    assert any(isinstance(statement, entry.statement) for statement in shown)


@pytest.mark.parametrize("options", [(), ("--markdown",), ("--list",)])
def test_everything_registered_is_there(options: tuple[str, ...]) -> None:
    text = run(*options)
    for _, registered, statement in REGISTRY.entries():
        assert re.search(rf"\b{registered}\b", text)
        if options != ("--list",):
            for own in statement.fields:
                assert own.help in text
                assert own.example in text


def test_links_lead_to_headings() -> None:
    text = run("--markdown")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def test_named_statements_only() -> None:
    text = run("source_file", "get", "output_store_file")
    assert re.findall(r"^\S.*  \(\w+\)$", text, re.MULTILINE) == [
        "source_file  (source)",
        "get, put, post, delete  (endpoint)",
        "output_store_path, output_store_file  (output)",
    ]


def test_what_is_said_of_a_statement() -> None:
    text = run("source_file")
    assert "source_file <image name> root=<directory> path=<path name> [attributes]" in text
    assert re.search(r"^    root +directory that holds the images; directory; required$", text, re.MULTILINE)
    assert "thumbnail image name" in run("thumbnail")
    assert 'operation            `crop`, `fit`, `limit`, `pad` or `stretch`; template; default "fit"' in run(
        "thumbnail"
    )
    assert "In the block: source_file and source_s3." in run("source_failover")


def test_an_unknown_name_suggests_the_nearest() -> None:
    result = CliRunner().invoke(main, ["statements", "source_fil", "get"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "unknown statement: source_fil (did you mean 'source_file'?)" in result.stderr
