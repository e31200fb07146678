"""Numbers in options and edit arguments, and the declared arguments of methods and edits (reference 7.6)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import isfinite

from safelight.errors import BadRequest

_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_FLOAT = re.compile(
    rf"\s*[+-]?(?:0[xX][0-9a-fA-F]+(?:_[0-9a-fA-F]+)*"
    rf"|(?:{_DIGITS})?\.{_DIGITS}(?:[eE][+-]?{_DIGITS})?"
    rf"|{_DIGITS}(?:[eE][+-]?{_DIGITS})?)\s*"
)
_INTEGER = re.compile(
    r"\s*(?P<sign>[+-]?)(?:0[xX](?P<hex>[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*)"
    r"|0[bB](?P<binary>[01]+(?:_[01]+)*)"
    r"|0[oO]?_?(?P<octal>[0-7]+(?:_[0-7]+)*)"
    r"|(?P<decimal>0|[1-9][0-9]*(?:_[0-9]+)*))\s*"
)
_BASES = {"hex": 16, "binary": 2, "octal": 8, "decimal": 10}
_INTEGER_PREFIX = re.compile(rf"\s*[+-]?{_DIGITS}")
_MAX_DIGITS = 400  # more cannot be a finite double; int() of long texts takes quadratic time


class ArgumentError(BadRequest):
    """An argument or option of a method or edit has no or an unusable value."""


class Kind(Enum):
    """What an argument text means."""

    FLOAT = "float"
    UFLOAT = "unsigned float"
    INT = "integer"
    UINT = "unsigned integer"
    TEXT = "text"
    COLOUR = "colour"


@dataclass(frozen=True, slots=True)
class Argument:
    """One declared argument or option. Without a default a number is required, a text may be None."""

    name: str
    kind: Kind = Kind.FLOAT
    default: float | str | None = None
    help: str = ""


def float_arg(name: str, text: str | None, default: float | None = None) -> float:
    """Parse a finite decimal or hexadecimal number. Raises: ArgumentError."""
    if not text:
        if default is None:
            raise ArgumentError(f"expected argument '{name}' to be a float but got no value")
        return default
    value = parse_float(text)
    if value is None:
        raise ArgumentError(f"expected argument '{name}' to be a float, got: {text}")
    return value


def ufloat_arg(name: str, text: str | None, default: float | None = None) -> float:
    """As `float_arg`, refusing negative values. Raises: ArgumentError."""
    value = float_arg(name, text, default)
    if value < 0:
        shown = text or value
        raise ArgumentError(
            f"expected argument '{name}' to be an unsigned float, got negative value: {shown}"
        )
    return value


def int_arg(name: str, text: str | None, default: int | None = None) -> int:
    """Parse an integer with optional 0x, 0b, 0o or 0 prefix. Raises: ArgumentError."""
    if not text:
        if default is None:
            raise ArgumentError(f"expected argument '{name}' to be an integer but got no value")
        return default
    value = parse_int(text)
    if value is None:
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        raise ArgumentError(f"expected argument '{name}' to be an integer, got: \"{quoted}\"")
    return value


def uint_arg(name: str, text: str | None, default: int | None = None) -> int:
    """As `int_arg`, refusing negative values. Raises: ArgumentError."""
    value = int_arg(name, text, default)
    if value < 0:
        shown = text or value
        raise ArgumentError(
            f"expected argument '{name}' to be an unsigned integer, got negative value: {shown}"
        )
    return value


def parse_float(text: str) -> float | None:
    """Number of `text`, None if it is no finite one. Unlike float(): no `5.`, `nan`, `inf`; hex is fine."""
    if len(text) > _MAX_DIGITS or not _FLOAT.fullmatch(text) or not text.isascii():
        return None
    bare = text.strip().replace("_", "")
    try:
        value = float(int(bare, 16)) if "x" in bare.lower() else float(bare)
    except OverflowError:
        return None
    return value if isfinite(value) else None


def parse_int(text: str) -> int | None:
    """Integer of `text` with its prefix; None if it is none."""
    match = _INTEGER.fullmatch(text) if len(text) <= _MAX_DIGITS and text.isascii() else None
    if match is None:
        return None
    for group, base in _BASES.items():
        digits = match[group]
        if digits is not None:
            value = int(digits.replace("_", ""), base)
            return -value if match["sign"] == "-" else value
    return None


def integer_prefix(text: str) -> int:
    """Integer at the beginning of `text`: 85 for `85.7`, 0 for `abc` (reference 7.2, `quality`)."""
    match = _INTEGER_PREFIX.match(text[:_MAX_DIGITS])
    return int(match[0].replace("_", "")) if match else 0


_NUMBERS = {Kind.FLOAT: float_arg, Kind.UFLOAT: ufloat_arg}


class Values:
    """Values of declared arguments by name: numbers parsed, texts and colours raw."""

    def __init__(self, numbers: Mapping[str, float], texts: Mapping[str, str | None]) -> None:
        self._numbers = numbers
        self._texts = texts

    def number(self, name: str) -> float:
        """Value of a float argument."""
        return self._numbers[name]

    def numbers(self, *names: str) -> tuple[float, ...]:
        """Values of several float arguments."""
        return tuple(self._numbers[name] for name in names)

    def text(self, name: str) -> str | None:
        """Raw text of a text or colour argument, its default, or None."""
        return self._texts[name]


def parse_values(declared: Sequence[tuple[Argument, str | None]]) -> Values:
    """Parse texts by their declarations, in order. Raises: ArgumentError for the first bad one."""
    numbers: dict[str, float] = {}
    texts: dict[str, str | None] = {}
    for argument, text in declared:
        name, default = argument.name, argument.default
        if argument.kind in _NUMBERS:
            fallback = default if isinstance(default, float) else None
            numbers[name] = _NUMBERS[argument.kind](name, text, fallback)
        elif argument.kind in (Kind.INT, Kind.UINT):
            parse = int_arg if argument.kind is Kind.INT else uint_arg
            numbers[name] = parse(name, text, int(default) if isinstance(default, float) else None)
        else:
            texts[name] = text or (default if isinstance(default, str) else None)
    return Values(numbers, texts)
