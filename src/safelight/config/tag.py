"""One statement of a configuration file, as written: the parser's result and every declaration's origin."""

from dataclasses import dataclass
from decimal import Decimal

Value = str | int | float | Decimal | bool | None
"""Dates, times, spans and binaries are kept as their source text: no statement uses them."""

ANONYMOUS = "content"
"""Name of a statement that begins with a value."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where something stands in a file; line and column count from 1, columns in characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Tag:
    """`name value... key=value... { children }`. An anonymous statement is named `content`.

    `attributes` keeps the order of writing; of a repeated key the last value.
    """

    name: str
    values: tuple[Value, ...]
    attributes: dict[str, Value]
    children: "tuple[Tag, ...]"
    position: Position
    namespace: str = ""

    def __str__(self) -> str:
        """The canonical rendering used in messages: attributes sorted by key.

        Parsing it gives the same tag again, except that integers beyond 64 bits become decimals.
        """
        lines: list[str] = []
        pending: list[tuple[int, Tag | str]] = [(0, self)]
        while pending:
            depth, item = pending.pop()
            indent = "\t" * depth
            if isinstance(item, str):
                lines.append(indent + item)
            elif item.children:
                lines.append(f"{indent}{_head(item)} {{")
                pending.append((depth, "}"))
                pending.extend((depth + 1, child) for child in reversed(item.children))
            else:
                lines.append(indent + _head(item))
        return "\n".join(lines)


def literal(value: Value) -> str:
    """`value` as it would be written in a configuration file."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return _quoted(value)
        case int():
            return f"{value}{_integer_suffix(value)}"
        case float():
            return f"{Decimal(repr(value)):f}F"
        case Decimal():
            return f"{value:f}BD"


def _head(tag: Tag) -> str:
    parts = [literal(value) for value in tag.values]
    if tag.namespace:
        parts.insert(0, f"{tag.namespace}:{tag.name}")
    elif tag.name != ANONYMOUS or not parts:
        parts.insert(0, tag.name)
    parts += [f"{key}={literal(tag.attributes[key])}" for key in sorted(tag.attributes)]
    return " ".join(parts)


_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\r": r"\r", "\n": r"\n"})


def _quoted(text: str) -> str:
    quote = "'" if len(text) == 1 else '"'
    return quote + text.translate(_ESCAPES).replace(quote, "\\" + quote) + quote


def _integer_suffix(number: int) -> str:
    bits = (number if number >= 0 else ~number).bit_length() + 1
    if bits <= 32:
        return ""
    return "L" if bits <= 64 else "BD"
