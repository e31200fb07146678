"""Text to declarations, gathering every complaint of a file before giving up."""

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from safelight.config.declaring import Declaring, StatementTable
from safelight.config.problem import Problem
from safelight.config.sdl import parse
from safelight.config.secrets import masked_complaint
from safelight.config.spec import Statement
from safelight.errors import ConfigError

S = TypeVar("S", bound=Statement)

_LINE_END = re.compile(r"\r\n?|\n")

TOP_LEVEL = ("configuration", "endpoint", "header")


@dataclass(frozen=True, slots=True)
class Config:
    """The top-level statements of a file, in order, and the warnings about it."""

    file: str
    statements: tuple[Statement, ...]
    warnings: tuple[Problem, ...] = ()

    def of(self, kind: type[S]) -> list[S]:
        """The statements of one class, in order."""
        return [statement for statement in self.statements if isinstance(statement, kind)]


def load(
    text: str,
    file: str,
    table: StatementTable,
    *,
    lenient: bool = False,
) -> Config:
    """Declare everything that `text` says.

    Raises: ConfigError holding every complaint as `file:line:column: message`, warnings included.
    """
    parsed = parse(text, file)
    declaring = Declaring(table, lenient=lenient)
    statements: list[Statement] = []
    taken: set[Hashable] = set()
    for tag in parsed.tags:
        found = declaring.find(tag, TOP_LEVEL)
        if found is None:
            continue
        statement_class = found[1]
        slot = statement_class.slot(tag)
        if slot is not None and slot in taken:
            message = f"only one {tag.name} type statement can be specified within context"
            declaring.error(tag, message)
            continue
        taken.add(slot)
        statement = statement_class.declare(tag, declaring)
        if statement is not None:
            statements.append(statement)
    problems = presentable([*parsed.problems, *declaring.problems], text)
    refuse_errors(problems)
    return Config(file, tuple(statements), tuple(problems))


def refuse_errors(problems: Sequence[Problem]) -> None:
    """Raises: ConfigError holding all of `problems` when one of them is an error."""
    if any(problem.severity == "error" for problem in problems):
        raise ConfigError("\n".join(map(str, problems)))


def presentable(problems: Sequence[Problem], text: str) -> list[Problem]:
    """`problems` about `text` in file order, each on one line even if it shows a block, without secrets."""
    lines = _LINE_END.split(text.removeprefix("\ufeff"))

    def shown(problem: Problem) -> Problem:
        line, column = problem.position.line, problem.position.column
        before = lines[line - 1][: column - 1] if line <= len(lines) else ""
        message = " ".join(problem.message.split("\n")).replace("\t", "").strip()
        return replace(problem, message=masked_complaint(message, before))

    in_order = sorted(problems, key=lambda found: (found.position.line, found.position.column))
    return list(map(shown, in_order))
