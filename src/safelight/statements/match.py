"""Matchers: what chooses between endpoints and captures variables.

Matchers work left to right without backtracking, each on what the previous ones left of the raw path
(reference/imagestore section 3).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from safelight.errors import SetupError
from safelight.model import Captures, Request
from safelight.statements.regexp import compile_expression, match_expression, named_groups
from safelight.uri import decode


@dataclass(frozen=True, slots=True)
class Found:
    """What one matcher found: the rest of the path and the captured texts, still encoded."""

    rest: str
    captured: tuple[str, ...] = ()


class Matcher(Protocol):
    """One matcher of an endpoint: the variables it names, and how many texts it captures.

    Its text is what log lines of the older server call it (reference/imagestore 9.3).
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def captures(self) -> int: ...

    def match(self, rest: str, query: Mapping[str, str | None]) -> Found | None: ...


@dataclass(frozen=True, slots=True)
class Literal:
    """`text`: the next segments are exactly this."""

    text: str
    names: tuple[str, ...] = ()
    captures: int = 0

    def __str__(self) -> str:
        return self.text

    def match(self, rest: str, query: Mapping[str, str | None]) -> Found | None:
        wanted = "/" + self.text
        if rest == wanted or rest.startswith(wanted + "/"):
            return Found(rest[len(wanted) :])
        return None


@dataclass(frozen=True, slots=True)
class Segment:
    """`:name` or `:name?default`: one segment that is not empty."""

    names: tuple[str, ...]
    default: str | None = None
    captures: int = 1

    def __str__(self) -> str:
        kind, default = ("Segment", "") if self.default is None else ("SegmentDefault", f"|{self.default}")
        return f"{kind}({self.names[0]} => <segment>{default})"

    def match(self, rest: str, query: Mapping[str, str | None]) -> Found | None:
        segment = rest[1:].partition("/")[0] if rest.startswith("/") else ""
        if segment:
            return Found(rest[1 + len(segment) :], (segment,))
        return None if self.default is None else Found(rest, (self.default,))


class Expression:
    """`:name/re/` captures its whole match; `/re/` captures its named groups, an unused one as empty text.

    `captures` is how many texts Onigmo captures: with named groups the plain ones do not count, and the
    whole match of `:name/re/` is itself a plain one.
    """

    def __init__(self, expression: str, name: str | None) -> None:
        self._expression = expression
        self._pattern = compile_expression(expression)
        groups = named_groups(expression)
        self._names_itself = name is None
        self.names = tuple(dict.fromkeys(groups)) if name is None else (name,)
        self.captures = len(groups) if name is None else 0 if groups else 1 + self._pattern.groups

    def __str__(self) -> str:
        return f"Regexp({','.join(self.names)} => /{self._expression}/)"

    def match(self, rest: str, query: Mapping[str, str | None]) -> Found | None:
        found = match_expression(self._pattern, rest)
        if found is None:
            return None
        if self._names_itself:
            return Found(rest[found.end() :], tuple(found[name] or "" for name in self.names))
        return Found(rest[found.end() :], (found[0][1:],))


@dataclass(frozen=True, slots=True)
class QueryValue:
    """`&key=value`: the parameter has exactly this value."""

    names: tuple[str, ...]
    wanted: str
    captures: int = 1

    def __str__(self) -> str:
        return f"QueryKeyValue({self.names[0]} => {self.wanted})"

    def match(self, rest: str, query: Mapping[str, str | None]) -> Found | None:
        return Found(rest, (self.wanted,)) if query.get(self.names[0]) == self.wanted else None


@dataclass(frozen=True, slots=True)
class QueryKey:
    """`&:key` or `&:key?default`: the parameter's value."""

    names: tuple[str, ...]
    default: str | None = None
    captures: int = 1

    def __str__(self) -> str:
        kind, default = ("QueryKey", "") if self.default is None else ("QueryKeyDefault", f"|{self.default}")
        return f"{kind}({self.names[0]} => <key>{default})"

    def match(self, rest: str, query: Mapping[str, str | None]) -> Found | None:
        found = query.get(self.names[0])
        found = self.default if found is None else found
        return None if found is None else Found(rest, (found,))


_NAMED_EXPRESSION = re.compile(r":([^/]+)/(.*)/", re.DOTALL)
_EXPRESSION = re.compile(r"/(.*)/", re.DOTALL)
_QUERY_VALUE = re.compile(r"&([^=]+)=(.+)", re.DOTALL)


def parse_matcher(text: str) -> Matcher:
    """Make a matcher of its text; the kinds are tried in the order of reference 3.3. Raises: ValueError."""
    if found := _NAMED_EXPRESSION.fullmatch(text):
        return Expression(found[2], found[1])
    if found := _EXPRESSION.fullmatch(text):
        return Expression(found[1], None)
    if len(text) > 1 and text[0] == ":":
        return Segment(*_name_and_default(text[1:]))
    if found := _QUERY_VALUE.fullmatch(text):
        return QueryValue((found[1],), found[2])
    if len(text) > 2 and text[:2] == "&:":
        return QueryKey(*_name_and_default(text[2:]))
    return Literal(text)


def _name_and_default(text: str) -> tuple[tuple[str, ...], str | None]:
    """Split at the last `?`; without one, or with nothing before it, all is the name."""
    name, mark, default = text.rpartition("?")
    return ((name,), default) if mark and name else ((text,), None)


class Matchers:
    """All matchers of one endpoint."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._matchers = [parse_matcher(text) for text in texts]
        self.names = [name for matcher in self._matchers for name in matcher.names]
        self._complaint = self._counted()

    def __str__(self) -> str:
        return ", ".join(map(str, self._matchers))

    def complaint(self) -> str | None:
        """What is wrong with the number of captures, if anything; every matching request fails with it."""
        return self._complaint

    def _counted(self) -> str | None:
        captures = sum(matcher.captures for matcher in self._matchers)
        if captures == len(self.names):
            return None
        amount = "more" if captures > len(self.names) else "less"
        return f"matched {amount} arguments than named ({captures} for {len(self.names)})"

    def match(self, request: Request) -> Captures | None:
        """Match and decode. Raises: BadRequest for text that is no UTF-8, SetupError for `complaint()`."""
        rest = request.raw_path
        captured: list[str] = []
        for matcher in self._matchers:
            found = matcher.match(rest, request.query)
            if found is None:
                return None
            rest = found.rest
            captured += found.captured
        if self._complaint:
            raise SetupError(self._complaint)
        return Captures(dict(zip(self.names, map(decode, captured), strict=True)), remaining_path(rest))


def remaining_path(rest: str) -> str:
    """The decoded `path`: one leading slash and trailing empty parts dropped, the other parts kept."""
    return "/".join(map(decode, rest.removeprefix("/").rstrip("/").split("/")))
