"""`safelight check`: say everything that is wrong with a configuration, or what it declares."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from safelight.config.load import Config

FAMILY_COLUMNS = 11


def lenient_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The `--lenient` of every command that loads a configuration."""
    text = "Only warn of unknown statements and attributes, unless they guard an endpoint."
    return click.option("--lenient", is_flag=True, help=text)(command)


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@lenient_option
def command(files: tuple[Path, ...], lenient: bool) -> None:
    """Load each FILE and say everything that is wrong with it, or what it declares.

    Complaints and warnings go to standard error, one on each line, as FILE:LINE:COLUMN: MESSAGE. The exit
    code is 1 if the server would refuse one of the files, else 0. Nothing is opened, contacted or changed,
    and secrets are never shown.
    """
    from safelight.cli.show import model
    from safelight.errors import ConfigError

    complaints: list[str] = []
    for file in files:
        try:
            config = load(file, lenient=lenient)
        except ConfigError as error:
            complaints.append(error.message)
            continue
        warn(config)
        for line in overview(model(config)):
            click.echo(line)
    if complaints:
        raise ConfigError("\n".join(complaints))


def load(file: Path, *, lenient: bool) -> "Config":
    """Read and declare a configuration file. Raises: ConfigError with every complaint."""
    from safelight.api import load_config, read_config

    return load_config(read_config(file), str(file), lenient=lenient)


def warn(config: "Config") -> None:
    """Write the warnings about a configuration to standard error."""
    for warning in config.warnings:
        click.echo(str(warning), err=True)


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
