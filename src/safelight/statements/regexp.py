"""Regular expressions of matchers: Onigmo's spellings on the `regex` package, with a time limit per match."""

import re
from typing import Any

import regex

from safelight.errors import BadRequest

MATCH_TIMEOUT_S = 0.2

_TOKEN = re.compile(
    r"\\[kg]<(?P<name>[^>]+)>|\\(?P<escaped>.)|\(\?(?P<flags>[imx-]+)(?=[:)])|\[\[:|:\]\]?|[\[\]]", re.DOTALL
)
_GROUP = re.compile(r"\\.|\(\?P?<([^\W\d]\w*)>", re.DOTALL)
_OUTSIDE_CLASS = {"h": "[0-9a-fA-F]", "H": "[^0-9a-fA-F]", "z": r"\Z", "Z": r"(?=\n?\Z)", "e": r"\x1b"}
_INSIDE_CLASS = {"h": "0-9a-fA-F", "e": r"\x1b"}


def compile_expression(expression: str) -> "regex.Pattern[str]":
    r"""Compile an anchored matcher: `/`, the expression, then `/` or the end of the path.

    `^` and `$` are line anchors, `.` matches no newline, `\h` is a hex digit, as in Onigmo.
    Raises: ValueError that says what is wrong.
    """
    translated = translate(expression)
    try:
        regex.compile(translated, regex.V1 | regex.MULTILINE)
        return regex.compile(rf"/(?:{translated})(?=/|\Z)", regex.V1 | regex.MULTILINE)
    except (regex.error, OverflowError, RecursionError) as error:
        raise ValueError(f"bad regular expression /{expression}/: {error}") from error


def match_expression(pattern: "regex.Pattern[str]", text: str) -> Any:
    """Match at the start of `text`. Raises: BadRequest when it takes longer than `MATCH_TIMEOUT_S`."""
    try:
        return pattern.match(text, timeout=MATCH_TIMEOUT_S)
    except TimeoutError as error:
        raise BadRequest("matching the URI against a regular expression takes too long") from error


def named_groups(expression: str) -> list[str]:
    """Names of the named groups in order, repeated as often as they are written."""
    return [found[1] for found in _GROUP.finditer(expression) if found[1]]


def translate(expression: str) -> str:
    """Rewrite what Onigmo and the `regex` package spell differently."""
    depth = 0
    pieces: list[str] = []
    end = 0
    for token in _TOKEN.finditer(expression):
        pieces.append(expression[end : token.start()])
        end = token.end()
        if token.lastgroup is None:
            depth = max(0, depth + token[0].count("[") - token[0].count("]"))
        pieces.append(_translated(token, inside=depth > 0))
    return "".join([*pieces, expression[end:]])


def _translated(token: "re.Match[str]", *, inside: bool) -> str:
    if token["name"]:
        return f"(?P={token['name']})" if token[0][1] == "k" else f"(?&{token['name']})"
    if token["escaped"]:
        return (_INSIDE_CLASS if inside else _OUTSIDE_CLASS).get(token["escaped"], token[0])
    if token["flags"]:
        return "(?" + token["flags"].replace("m", "s")
    return token[0]
