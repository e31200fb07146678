"""`safelight show`: the model that a configuration is loaded into."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from safelight.cli.check import lenient_option, load, warn

if TYPE_CHECKING:
    from safelight.config.load import Config
    from safelight.config.spec import Statement
    from safelight.statements.endpoint import EndpointStatement
    from safelight.statements.match import Matcher

Plain = dict[str, Any]


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@lenient_option
def command(file: Path, as_json: bool, lenient: bool) -> None:
    """Print what FILE means: every endpoint, matcher and step with all fields, defaults included.

    Steps stand in the order in which they run, not in that of the file. Secrets are never shown.
    """
    config = load(file, lenient=lenient)
    declared = model(config)
    if as_json:
        click.echo(json.dumps(declared, indent=2, ensure_ascii=False))
        return
    warn(config)
    for line in _text(declared):
        click.echo(line)


def model(config: "Config") -> Plain:
    """A loaded configuration as plain values, without its secrets."""
    from safelight.api import templates
    from safelight.statements.endpoint import EndpointStatement
    from safelight.statements.paths import Path as PathStatement

    paths = templates(config).items()
    clients = [
        found for found in config.statements if not isinstance(found, EndpointStatement | PathStatement)
    ]
    return {
        "file": config.file,
        "paths": [
            {"name": name, "template": template.text, "variables": list(dict.fromkeys(template.names))}
            for name, template in paths
        ],
        "clients": [_top(statement) for statement in clients],
        "endpoints": [_endpoint(endpoint) for endpoint in config.of(EndpointStatement)],
        "warnings": list(map(str, config.warnings)),
    }


def _endpoint(endpoint: "EndpointStatement") -> Plain:
    from safelight.config.document import head
    from safelight.statements.match import parse_matcher

    matchers = [(text, parse_matcher(text)) for text in endpoint.matchers]
    return {
        "verb": endpoint.tag.name,
        "line": endpoint.tag.position.line,
        "written": head(endpoint.tag),
        "matchers": [_matcher(text, matcher) for text, matcher in matchers],
        "variables": list(dict.fromkeys(name for _, matcher in matchers for name in matcher.names)),
        "steps": list(_steps(endpoint)),
    }


def _matcher(text: str, matcher: "Matcher") -> Plain:
    default = getattr(matcher, "default", None)
    return {"text": text, "kind": _kind(matcher), "captures": list(matcher.names), "default": default}


def _kind(matcher: "Matcher") -> str:
    from safelight.statements.match import Expression, Literal, QueryKey, QueryValue, Segment

    optional = "optional " if getattr(matcher, "default", None) is not None else ""
    match matcher:
        case Literal():
            return "literal"
        case Segment():
            return optional + "segment"
        case Expression():
            return "regular expression"
        case QueryValue():
            return f"query parameter of value '{matcher.wanted}'"
        case QueryKey():
            return optional + "query parameter"
        case _:
            return type(matcher).__name__


def _steps(endpoint: "EndpointStatement") -> Iterator[Plain]:
    """The steps in running order, those included that nobody wrote."""
    from safelight.statements.endpoint import UPLOADS
    from safelight.statements.registry import FLOW

    for family in FLOW:
        if family == "source" and endpoint.tag.name in UPLOADS:
            yield _implied(family, 'request body as "input"', "request body", {"image-name": "input"})
        found = [statement for own_family, statement in endpoint.steps if own_family == family]
        yield from ({"family": family, **_top(statement)} for statement in found)
        if family == "output" and not found:
            yield _implied(family, "output_ok", "output_ok", {"cache-control": None})


def _implied(family: str, written: str, statement: str, fields: Plain) -> Plain:
    named = {"family": family, "statement": statement, "line": None, "written": written}
    return {**named, "fields": fields, "parts": list[Plain]()}


def _top(statement: "Statement") -> Plain:
    from safelight.config.document import written

    name, line = statement.tag.name, statement.tag.position.line
    return {"statement": name, "line": line, "written": written(statement), **_contents(statement)}


def _contents(statement: "Statement") -> Plain:
    from safelight.config.document import held

    return {"fields": held(statement), "parts": [_part(part, statement) for part in statement.parts()]}


def _part(part: "Statement", whole: "Statement") -> Plain:
    """A statement of a block; without a name if it has none, or if it is written in one with its `whole`."""
    from safelight.config.tag import ANONYMOUS

    tag = part.tag
    unnamed = tag.name == ANONYMOUS or tag.position == whole.tag.position
    return {"statement": None if unnamed else tag.name, "line": tag.position.line, **_contents(part)}


# Text for people


def _text(declared: Plain) -> Iterator[str]:
    yield declared["file"]
    for path in declared["paths"]:
        yield from ("", f'path "{path["name"]}"')
        yield from _fields({"template": path["template"], "variables": path["variables"]}, "  ")
    for client in declared["clients"]:
        yield from ("", f"{client['statement']}  (line {client['line']})")
        yield from _fields(client["fields"], "  ")
    for endpoint in declared["endpoints"]:
        yield from ("", f"{endpoint['written']}  (line {endpoint['line']})")
        yield from _matchers(endpoint["matchers"])
        for number, step in enumerate(endpoint["steps"], 1):
            place = f"line {step['line']}" if step["line"] else "implied"
            yield f"  {number}. {step['family']}: {step['statement']}  ({place})"
            yield from _body(step, "       ")


def _matchers(matchers: list[Plain]) -> Iterator[str]:
    width = max((len(matcher["text"]) for matcher in matchers), default=0)
    for matcher in matchers:
        captures = f", captures {', '.join(matcher['captures'])}" if matcher["captures"] else ""
        default = f", default '{matcher['default']}'" if matcher["default"] is not None else ""
        yield f"  {matcher['text']:{width}}  {matcher['kind']}{captures}{default}"


def _body(statement: Plain, indent: str) -> Iterator[str]:
    yield from _fields(statement["fields"], indent)
    for part in statement["parts"]:
        yield f"{indent}- {part['statement'] or 'entry'}  (line {part['line']})"
        yield from _body(part, indent + "  ")


def _fields(fields: Plain, indent: str) -> Iterator[str]:
    width = max(map(len, fields), default=0)
    for name, found in fields.items():
        yield f"{indent}{name:{width}}  {_shown(found)}"


def _shown(found: Any) -> str:
    if found is None:
        return "-"
    if isinstance(found, dict):
        return ", ".join(f"{key}={_shown(item)}" for key, item in found.items()) or "-"  # pyright: ignore[reportUnknownVariableType]
    if isinstance(found, list):
        return ", ".join(map(_shown, found)) or "-"  # pyright: ignore[reportUnknownArgumentType]
    return str(found).lower() if isinstance(found, bool) else str(found) or '""'
