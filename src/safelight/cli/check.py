"""`safelight check`: say everything that is wrong with a configuration, or what it declares."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from safelight.config.load import Config

FAMILY_COLUMNS = 11

_LINE_END = re.compile(r"\r\n?|\n")


def lenient_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The `--lenient` of every command that loads a configuration."""
    text = "Only warn of unknown statements and attributes, unless they guard an endpoint."
    return click.option("--lenient", is_flag=True, help=text)(command)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@lenient_option
def command(file: Path, lenient: bool) -> None:
    """Load FILE and say everything that is wrong with it, or what it declares.

    Complaints and warnings go to standard error, one on each line, as FILE:LINE:COLUMN: MESSAGE. The exit
    code is 1 if the server would refuse the file, else 0. Nothing is opened, contacted or changed, and
    secrets are never shown.
    """
    from safelight.cli.show import model

    config = load(file, lenient=lenient)
    warn(config)
    for line in overview(model(config)):
        click.echo(line)


def read(file: Path) -> str:
    """The text of a configuration file. Raises: ConfigError, with the place of what is no UTF-8."""
    from safelight.errors import ConfigError

    octets = b""
    try:
        octets = file.read_bytes()
        return octets.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        before = _LINE_END.split(octets[: error.start].decode())
        place = f"{file}:{len(before)}:{len(before[-1]) + 1}"
        message = f"{place}: not UTF-8: byte 0x{octets[error.start]:02x} (save the file as UTF-8)"
        raise ConfigError(message) from error


def load(file: Path, *, lenient: bool) -> "Config":
    """Read and declare a configuration file. Raises: ConfigError with every complaint, secrets masked."""
    from safelight.api import load_config
    from safelight.errors import ConfigError

    text = read(file)
    try:
        return load_config(text, str(file), lenient=lenient)
    except ConfigError as error:
        raise error.reworded("\n".join(_complaints(error.message, str(file), text))) from None


def _complaints(message: str, file: str, text: str) -> Iterator[str]:
    """The complaints of a ConfigError, a line each, without secrets."""
    from safelight.config.document import masked_complaint

    lines = _LINE_END.split(text.removeprefix("\ufeff"))
    starts = re.compile(rf"^{re.escape(file)}:(\d+):(\d+): ", re.MULTILINE)
    places = list(starts.finditer(message))
    ends = [place.start() for place in places[1:]] + [len(message)]
    for place, end in zip(places, ends, strict=True):
        before = lines[int(place[1]) - 1][: int(place[2]) - 1]
        yield place[0] + masked_complaint(_one_line(message[place.end() : end]), before)


def warn(config: "Config") -> None:
    """Write the warnings about a configuration to standard error."""
    for warning in warnings(config):
        click.echo(warning, err=True)


def warnings(config: "Config") -> list[str]:
    """The warnings about a configuration, a line each, without secrets."""
    from safelight.config.document import masked

    return [masked(_one_line(str(warning))) for warning in config.warnings]


def _one_line(message: str) -> str:
    """A message that shows a statement with its block."""
    return " ".join(message.split("\n")).replace("\t", "").strip()


def overview(declared: dict[str, Any]) -> Iterator[str]:
    """Lines that show what a configuration declares; `declared` is what `show.model` makes."""
    paths, clients, endpoints = declared["paths"], declared["clients"], declared["endpoints"]
    counts = [_count(len(paths), "path"), _count(len(clients), "client"), _count(len(endpoints), "endpoint")]
    yield f"{declared['file']}: {', '.join(counts)}"
    if paths:
        yield from ("", "paths")
        width = max(len(path["name"]) for path in paths)
        yield from (f"  {path['name']:{width}}  {path['template']}" for path in paths)
    if clients:
        yield from ("", "clients")
        yield from ("  " + client["written"] for client in clients)
    for endpoint in endpoints:
        yield from ("", f"{endpoint['written']}  (line {endpoint['line']})")
        for step in endpoint["steps"]:
            yield from _step(step)


def _step(step: dict[str, Any]) -> Iterator[str]:
    first, *others = step["written"].split("\n")
    note = "" if step["line"] else "  (implied)"
    yield f"  {step['family']:{FAMILY_COLUMNS}}{first}{note}"
    yield from (" " * (FAMILY_COLUMNS + 2) + line for line in others)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
