"""`docs/commands.md` has every option of every server, and none that does not exist."""

import re
from pathlib import Path

import click
import pytest
from serving import ROOT

from safelight.cli import httpimagestore, httpthumbnailer, serve, thumbnailer
from safelight.cli.dropin.program import Program

DOCUMENT = Path(ROOT / "docs" / "commands.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in DOCUMENT.partition("## Options")[2].partition("## Signals")[0].splitlines()
    if line.startswith("|")
][2:]
OLD, MODERN, VARIABLE = 1, 3, 5
EVERYWHERE = {"--help", "-h", "--version"}


def words(column: int) -> set[str]:
    return {word for row in ROWS for word in re.findall(r"`(?:safelight )?(--?[A-Za-z][\w-]*)`", row[column])}


def old_options(program: Program) -> set[str]:
    options = program.all_options()
    return {f"--{option.name}" for option in options} | {
        f"-{option.short}" for option in options if option.short
    }


def modern_options() -> list[click.Option]:
    commands = (serve.command, thumbnailer.command)
    return [option for command in commands for option in command.params if isinstance(option, click.Option)]


def spellings(option: click.Option) -> list[str]:
    return [*option.opts, *option.secondary_opts]


def test_the_table_is_one() -> None:
    assert len(ROWS) > 30
    assert {len(row) for row in ROWS} == {6}


def test_every_option_of_the_drop_in_commands_is_in_the_table() -> None:
    ours = old_options(httpimagestore.PROGRAM) | old_options(httpthumbnailer.PROGRAM)
    assert words(OLD) == ours


def test_every_option_of_safelight_is_in_the_table() -> None:
    assert (
        words(MODERN) | EVERYWHERE
        == {name for option in modern_options() for name in spellings(option)} | EVERYWHERE
    )


def test_every_variable_is_beside_its_option() -> None:
    variables = {name: option.envvar for option in modern_options() for name in spellings(option)}
    for row in ROWS:
        for name in re.findall(r"`(--[a-z-]+)`", row[MODERN]):
            if name not in EVERYWHERE:
                assert row[VARIABLE] == f"`{variables[name]}`"


@pytest.mark.parametrize("program", [httpimagestore.PROGRAM, httpthumbnailer.PROGRAM], ids=lambda p: p.name)
def test_defaults_of_the_drop_in_commands(program: Program) -> None:
    defaults = {f"--{option.name}": option.default for option in program.all_options()}
    for row in ROWS:
        for name in re.findall(r"`(--[a-z-]+)`", row[OLD]):
            default = defaults.get(name)
            if isinstance(default, int) and row[OLD + 1].isdigit():
                assert row[OLD + 1] == str(default)


def test_defaults_of_safelight() -> None:
    defaults = {option.opts[-1]: option.default for option in modern_options()}
    for row in ROWS:
        for name in re.findall(r"`(--[a-z-]+)`", row[MODERN]):
            if row[MODERN + 1].isdigit():
                assert float(row[MODERN + 1]) == defaults[name]
