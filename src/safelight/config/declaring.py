"""Where declarations find each other, and where they report to."""

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from safelight.config.problem import Problem
from safelight.config.tag import Position, Tag

if TYPE_CHECKING:
    from safelight.config.spec import Statement


class StatementTable(Protocol):
    """The statements that exist, by family and name."""

    def find(self, name: str, families: Sequence[Any]) -> "tuple[Any, type[Statement]] | None": ...

    def names(self, families: Sequence[Any]) -> list[str]: ...


class Declaring:
    """Where declarations find each other and report to, and how strict they are."""

    def __init__(self, table: StatementTable, *, lenient: bool = False) -> None:
        self.table = table
        self.lenient = lenient
        self.problems: list[Problem] = []

    def error(self, tag: Tag, message: str) -> None:
        """Report a complaint about `tag` in the reference's form."""
        self.problems.append(Problem(tag.position, f"syntax error while parsing '{tag}': {message}"))

    def error_at(self, position: Position, message: str) -> None:
        self.problems.append(Problem(position, message))

    def warn(self, position: Position, message: str) -> None:
        self.problems.append(Problem(position, message, "warning"))

    def find(self, tag: Tag, families: Sequence[Any]) -> "tuple[Any, type[Statement]] | None":
        """The statement class of `tag`; an unknown one is reported with the nearest name."""
        found = self.table.find(tag.name, families)
        if found is None:
            hint = suggestion(tag.name, self.table.names(families))
            guards = tag.name.startswith("validate")
            self.unknown(tag.position, f"unexpected statement: {tag.name}{hint}", guards=guards)
        return found

    def unknown(self, position: Position, message: str, *, guards: bool = False) -> None:
        """Report an unknown name: an error, or a warning when lenient unless it `guards` an endpoint."""
        if self.lenient and not guards:
            self.warn(position, message)
        else:
            self.error_at(position, message)


def suggestion(name: str, known: list[str]) -> str:
    """` (did you mean 'x'?)` for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, known, 1, 0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""
