"""`safelight statements`: the reference of the configuration language, made from its declarations."""

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from safelight.config.spec import Field, Statement

TITLES = {
    "configuration": "Top level",
    "endpoint": "Endpoints",
    "validator": "Validators",
    "cache": "Caches",
    "source": "Sources",
    "processor": "Processors",
    "store": "Stores",
    "output": "Outputs",
    "header": "Headers",
}
"""Families in the order in which they stand in the reference, which is that in which they run."""

TOP_LEVEL = ("configuration", "endpoint")


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered statement. Its first name is the one to use; the others do the same or are verbs."""

    family: str
    names: tuple[str, ...]
    statement: "type[Statement]"


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.option("--list", "as_list", is_flag=True, help="Print a line for each statement.")
def command(names: tuple[str, ...], markdown: bool, as_list: bool) -> None:
    """Explain the statements of the configuration language: those NAMEd, or all."""
    chosen = choose(names)
    if as_list:
        output = "\n".join(_listing(chosen)) + "\n"
    else:
        output = reference(chosen, complete=not names) if markdown else "\n".join(_text(chosen)) + "\n"
    click.echo(output, nl=False)


def entries() -> list[Entry]:
    """Everything that is registered; names that mean the same are one entry."""
    from safelight.statements import REGISTRY

    found: dict[type[Statement], tuple[str, list[str]]] = {}
    for family, name, statement in REGISTRY.entries():
        found.setdefault(statement, (family, []))[1].append(name)
    return [Entry(family, tuple(names), statement) for statement, (family, names) in found.items()]


def choose(names: tuple[str, ...]) -> list[Entry]:
    """The entries that have these names, all without any. Raises: click.UsageError for an unknown name."""
    from safelight.config.declaring import suggestion

    known = entries()
    if not names:
        return known
    by_name = {name: entry for entry in known for name in entry.names}
    unknown = [
        f"unknown statement: {name}{suggestion(name, list(by_name))}" for name in names if name not in by_name
    ]
    if unknown:
        raise click.UsageError("\n".join(unknown))
    return list(dict.fromkeys(by_name[name] for name in names))


def example(entry: Entry) -> str:
    """A configuration that shows the statement, inside an endpoint if it belongs there."""
    text = entry.statement.example
    if entry.family in TOP_LEVEL:
        return text
    verb = (
        "delete" if entry.names[0].startswith(("delete", "purge")) else "put" if '"input"' in text else "get"
    )
    return f"{verb} {{\n{textwrap.indent(text, '    ')}\n}}"


def _listing(chosen: list[Entry]) -> Iterator[str]:
    from safelight.config.document import paragraphs

    width = max(len(", ".join(entry.names)) for entry in chosen)
    for entry in chosen:
        first = paragraphs(entry.statement)[0].replace("\n", " ")
        yield f"{', '.join(entry.names):{width}}  {first}"


# Text


def _text(chosen: list[Entry]) -> Iterator[str]:
    from safelight.config.document import paragraphs

    for number, entry in enumerate(chosen):
        if number:
            yield ""
        yield f"{', '.join(entry.names)}  ({entry.family})"
        for paragraph in paragraphs(entry.statement):
            yield from ("", textwrap.indent(paragraph, "  "))
        yield from _text_fields(entry.names[0], entry.statement)
        yield from ("", "  Example:", textwrap.indent(example(entry), "    "))


def _text_fields(name: str, statement: "type[Statement]") -> Iterator[str]:
    yield from ("", f"  {_usage(name, statement)}")
    for title, own in _tables(statement):
        width = max(map(len, map(_name, own)))
        yield from ("", f"  {title}:")
        for field in own:
            yield f"    {_name(field):{width}}  {'; '.join([_meaning(field, str), *_facts(field, str)])}"
    for name, part in _own_parts(statement):
        yield from ("", f"  In the block: {_block(statement, part)}")
        yield from _text_fields(name, part)
    if names := _registered_parts(statement):
        yield from ("", f"  In the block: {' and '.join(names)}.")


# Markdown


def reference(chosen: list[Entry], *, complete: bool = True) -> str:
    """The reference as Markdown; a `complete` one begins with a title and a table of contents."""
    lines = list(_contents(chosen)) if complete else []
    for family, title in TITLES.items():
        members = [entry for entry in chosen if entry.family == family]
        if members and complete:
            lines += ["", f"## {title}"]
        for entry in members:
            lines += ["", *_markdown(entry)]
    return "\n".join(lines).lstrip("\n") + "\n"


def _contents(chosen: list[Entry]) -> Iterator[str]:
    yield "# Statements"
    yield ""
    yield "Every statement of the configuration language; made by `safelight statements --markdown`."
    yield "[The language by example](configuration.md) explains how statements make an image API."
    yield ""
    for family, title in TITLES.items():
        links = [f"[{entry.names[0]}](#{_anchor(entry)})" for entry in chosen if entry.family == family]
        yield f"- {title}: {', '.join(links)}"


def _anchor(entry: Entry) -> str:
    """As GitHub makes it of the heading."""
    return "-".join(name.lower() for name in entry.names)


def _markdown(entry: Entry) -> Iterator[str]:
    from safelight.config.document import paragraphs

    yield f"### {', '.join(entry.names)}"
    for paragraph in paragraphs(entry.statement):
        yield from ("", paragraph)
    yield from ("", "```sdl", example(entry), "```")
    yield from _markdown_fields(entry.names[0], entry.statement)


def _markdown_fields(name: str, statement: "type[Statement]") -> Iterator[str]:
    yield from ("", f"`{_usage(name, statement)}`")
    for title, own in _tables(statement):
        yield from ("", f"| {title[:-1].lower()} | holds | default | meaning |", "|---|---|---|---|")
        for field in own:
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in _cells(field))} |"
    for name, part in _own_parts(statement):
        yield from ("", f"In the block: {_block(statement, part)}")
        yield from _markdown_fields(name, part)
    if names := _registered_parts(statement):
        yield from ("", f"In the block: {' and '.join(f'[{name}](#{name})' for name in names)}.")


def _cells(field: "Field") -> tuple[str, str, str, str]:
    from safelight.config.document import default_of

    default = f"`{default_of(field)}`" if default_of(field) else ""
    shown = f"`{field.example}`" if field.example else ""
    meaning = _meaning(field, _code) + (f"; for example {shown}" if shown else "")
    return f"`{_name(field)}`", field.kind.label, "required" if field.required else default, meaning


# What both forms say


def _code(text: str) -> str:
    return f"`{text}`"


def _usage(name: str, statement: "type[Statement]") -> str:
    from safelight.config.document import parts_of, usage
    from safelight.statements.endpoint import EndpointStatement

    block = " { ... }" if parts_of(statement) or statement is EndpointStatement else ""
    return usage(name, statement) + block


def _tables(statement: "type[Statement]") -> "Iterator[tuple[str, list[Field]]]":
    from safelight.config.document import fields_of

    values = [field for field in statement.fields if field.role in ("value", "values")]
    attributes = fields_of(statement, "attribute", "free")
    yield from ((title, own) for title, own in (("Values", values), ("Attributes", attributes)) if own)


PART_NAMES = {"EditStatement": "edit"}
"""Statements that have a name but stand only in one block; the others begin with their first value."""


def _own_parts(statement: "type[Statement]") -> "list[tuple[str, type[Statement]]]":
    """Names (or none) and classes of the statements that only the block of `statement` knows."""
    from safelight.config.document import parts_of

    registered = {entry.statement for entry in entries()}
    parts = [part for part in parts_of(statement) if part not in registered]
    return [(PART_NAMES.get(part.__name__, ""), part) for part in parts]


def _registered_parts(statement: "type[Statement]") -> list[str]:
    """Names of the statements in the block of `statement` that have entries of their own."""
    from safelight.config.document import parts_of

    return [entry.names[0] for entry in entries() if entry.statement in parts_of(statement)]


def _block(statement: "type[Statement]", part: "type[Statement]") -> str:
    """What a block of `part` in a `statement` holds."""
    from safelight.config.document import paragraphs

    declared = [own.help for own in statement.fields if own.of is part]
    return f"{declared[0]}." if declared else paragraphs(part)[0].replace("\n", " ")


def _name(field: "Field") -> str:
    return {"value": field.what, "values": f"{field.what} ...", "free": "any other"}.get(
        field.role, field.name
    )


def _meaning(field: "Field", quote: Callable[[str], str]) -> str:
    choices = f" (one of {', '.join(map(quote, field.choices))})" if field.choices else ""
    return field.help + choices


def _facts(field: "Field", quote: Callable[[str], str]) -> Iterator[str]:
    from safelight.config.document import default_of

    if field.role != "values":
        yield field.kind.label
    if field.required:
        yield "required"
    if default_of(field):
        yield f"default {quote(default_of(field))}"
    if field.example:
        yield f"for example {quote(field.example)}"
