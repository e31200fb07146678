"""Command lines as the older servers take them: `--name VALUE`, `-n VALUE`, `--name`, `-n`.

Underscores in long names are dashes; `--name=VALUE` and combined short forms do not exist; of several values
for one option the last counts, unless it gathers them. Options come first: from the first argument on, or
after `--`, everything is an argument. Rules and complaints are those of reference/imagestore 9.1.
"""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["switch", "text", "texts", "choice", "count", "number"]
"""`switch`: no value. `texts`: repeatable. `choice`: one of some. `count`: a whole number from 1, `number`:
from 0.
"""

LEAST: Mapping[Kind, int] = {"count": 1, "number": 0}
MOST = 10**9
HELP_COLUMNS = 100
HELP_INDENT = " " * 8


@dataclass(frozen=True, slots=True)
class Option:
    """One line of the table of options. `name` without dashes in front; `default`: of the kind's type.

    `choices`: what a value of the kind `choice` may be.
    """

    name: str
    help: str
    short: str | None = None
    kind: Kind = "switch"
    default: Any = None
    choices: Sequence[str] = ()

    def spelling(self) -> str:
        """`--name|-n VALUE`, as the help shows it."""
        names = f"--{self.name}" + (f"|-{self.short}" if self.short else "")
        value = {"switch": "", "count": " N", "number": " N"}.get(self.kind, " VALUE")
        return names + value + ("*" if self.kind == "texts" else "")


@dataclass(frozen=True, slots=True)
class Parsed:
    """Values by option name, defaults filled in; and arguments that belong to no option."""

    values: Mapping[str, Any]
    arguments: tuple[str, ...]


class UsageError(Exception):
    """A command line that cannot be understood."""


def parse(words: Iterable[str], options: Sequence[Option]) -> Parsed:
    """Read the command line. Raises: UsageError."""
    spellings = {f"--{option.name}": option for option in options}
    spellings |= {f"-{option.short}": option for option in options if option.short}
    found: dict[str, Any] = {}
    arguments: tuple[str, ...] = ()
    waiting = iter(words)
    for word in waiting:
        if not word.startswith("-") or word in ("-", "--"):
            arguments = (*((word,) if word != "--" else ()), *waiting)
            break
        option = spellings.get(word.replace("_", "-"))
        if option is None:
            raise UsageError(f"unknown switch {word}")
        value = True if option.kind == "switch" else _value(option, waiting)
        found[option.name] = [*found.get(option.name, ()), value] if option.kind == "texts" else value
    defaults = {option.name: False if option.kind == "switch" else option.default for option in options}
    return Parsed(defaults | found, arguments)


def _value(option: Option, waiting: Iterator[str]) -> str | int:
    text = next(waiting, None)
    if text is None:
        raise UsageError(f"missing value for option --{option.name}")
    if option.kind == "choice" and text not in option.choices:
        raise UsageError(f"option --{option.name} needs one of {', '.join(option.choices)}, got: {text}")
    return text if option.kind not in LEAST else _number(option, text, LEAST[option.kind])


def _number(option: Option, text: str, least: int) -> int:
    name = option.name.replace("-", "_")
    try:
        number = int(text)
    except ValueError:
        reason = f"failed to cast: '{name}' to type: Integer: invalid value for Integer(): \"{text}\""
        raise UsageError(reason) from None
    if not least <= number <= MOST:
        raise UsageError(f"option --{option.name} needs a whole number from {least} to {MOST}, got: {text}")
    return number


def usage(words: str, description: str, options: Sequence[Option]) -> str:
    """The help text; `words` is the form of a command line."""
    lines = [f"Usage: {words}", description]
    for title, wanted in (("Switches:", True), ("Options:", False)):
        lines += [title, *(line for option in options if (option.kind == "switch") == wanted
                           for line in _described(option))]  # fmt: skip
    return "\n".join(lines) + "\n"


def _described(option: Option) -> Iterator[str]:
    yield f"   {option.spelling()}"
    text = option.help
    if option.default is not None:
        shown = " ".join(option.default) if option.kind == "texts" else option.default
        text += f" [default: {shown}]"
    yield from textwrap.wrap(
        text, HELP_COLUMNS, initial_indent=HELP_INDENT, subsequent_indent=HELP_INDENT, break_on_hyphens=False
    )
