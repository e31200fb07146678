"""One statement of a configuration file, as written: the parser's result and every declaration's origin."""

from dataclasses import dataclass
from decimal import Decimal

Value = str | int | float | Decimal | bool | None
"""Dates, times, spans and binaries are kept as their source text: no statement uses them."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where something stands in a file; line and column count from 1."""

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
        """The canonical rendering used in messages (reference/imagestore 1.7)."""
        from safelight.config.render import render

        return render(self)
