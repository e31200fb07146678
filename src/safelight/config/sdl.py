"""Configuration text to tags: the subset of SDL that the image store's language uses.

The parser knows no statement. Beyond the original it accepts `}` on the line of a statement, reads integers
with a leading zero as decimal, lets names begin with `on`, `off`, `true`, `false` or `null`, and needs no
newline at the end of the file.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, NamedTuple, NoReturn

from safelight.config.problem import Problem
from safelight.config.tag import ANONYMOUS, Position, Tag, Value

MAX_DEPTH = 100
"""Blocks within blocks. Everything that walks tags may recurse, because of this limit."""

MAX_DIGITS = 100
"""On either side of the point. Keeps `int` clear of its own limit and floats finite."""

MAX_PROBLEMS = 100
"""After as many, parsing stops: the file is no configuration."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """All that could be read of a file. With no `problems`, `tags` is the whole file.

    `problems` are errors, in file order. A statement with a problem is missing in `tags` together with its
    block (which was still checked); so is a statement whose block is not closed.
    """

    tags: tuple[Tag, ...]
    problems: tuple[Problem, ...]


def parse(text: str, file: str = "<config>") -> Parsed:
    """Read every statement of `text`; `file` is only named in positions. Never raises, takes linear time."""
    text = text.removeprefix("\ufeff")
    parser = _Parser(text)
    statements = parser.statements()
    lines = _Lines(text, file)
    problems = sorted(parser.problems, key=lambda problem: problem[0])
    return Parsed(
        tags=_tags(statements, lines),
        problems=tuple(Problem(lines.position(offset), message) for offset, message in problems),
    )


class _Lines:
    """Offsets to positions."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._starts = [0, *(match.end() for match in re.finditer(r"\r\n?|\n", text))]

    def position(self, offset: int) -> Position:
        line = bisect_right(self._starts, offset)
        return Position(self._file, line, offset - self._starts[line - 1] + 1)


# Lexer

Kind = Literal["name", "value", "bad value", "junk", "cut", "=", "{", "}", "end", "eof"]
"""`bad value`: stands where a value may stand, but is none. `junk`: belongs nowhere.
`cut`: opens something that the rest of the file does not close."""


class _Token(NamedTuple):
    """`text` is the name, or the message of the problem."""

    kind: Kind
    offset: int
    text: str = ""
    value: Value = None


# Everything repeats possessively or at the end of its alternative, or hostile files would make the engine try
# again and again. No lookahead stands in a possessive group: Python before 3.11.5 loses its place there.
# An unclosed string ends before a `{` that ends its line: that block is meant.
_LEXEME = re.compile(
    r"""
      (?P<skip>    [ \t\f\v]++
                 | (?: \# | // | -- ) [^\r\n]*+
                 | /\* (?s: .*? ) \*/
                 | \\ [ \t\f\v]*+ (?: \r\n? | \n | \Z ) )
    | (?P<end>     \r\n? | \n | ; )
    | (?P<mark>    [={}] )
    | (?P<name>    [^\W\d][\w.$-]*+ (?: : [^\W\d][\w.$-]*+ )? )
    | (?P<number>  (?: -?[0-9]{1,9} / [0-9]{1,2} / [0-9]{1,2} [ \t]++ (?= [0-9]{1,2} : ) )?
                   [+-]?\.?[0-9] [\w.$:+]*+ (?: [-/] [\w.$:+]++ )* )
    | (?P<string>  " (?: [^"\\\r\n]++ | \\ [ \t\f\v]*+ (?: \r\n? | \n ) [ \t\f\v]*+ | \\ [^\r\n] )*+ " )
    | (?P<char>    ' (?: [^'\\\r\n]++ | \\ [^\r\n] )*+ ' )
    | (?P<raw>     ` [^`]*+ ` )
    | (?P<binary>  \[ [A-Za-z0-9+/=\s]*+ \] )
    | (?P<open>    ["'\[] (?: [^\\\r\n{]++ | \{ (?! [ \t]*+ (?: [\r\n] | \Z ) )
                            | \\ [ \t\f\v]*+ (?: \r\n? | \n ) | \\ [^\r\n] )* )
    | (?P<cut>     (?s: (?: ` | /\* ) .*+ ) )
    | (?P<junk>    (?s: . ) )
    """,
    re.VERBOSE,
)


def _tokens(text: str) -> Iterator[_Token]:
    for match in _LEXEME.finditer(text):
        group = match.lastgroup
        if group == "skip":
            continue
        yield _READERS[group or "junk"](match[0], match.start())
    yield _Token("eof", len(text))


_KEYWORDS = {"true": True, "on": True, "false": False, "off": False, "null": None}


def _word(word: str, offset: int) -> _Token:
    if word in _KEYWORDS:
        return _Token("value", offset, word, _KEYWORDS[word])
    return _Token("name", offset, word)


def _mark(mark: str, offset: int) -> _Token:
    kind: Kind = "=" if mark == "=" else "{" if mark == "{" else "}"
    return _Token(kind, offset)


_TIME = r"(?: [0-9]++d: )? [0-9]++ : [0-9]++ (?: : [0-9]++ (?: \.[0-9]++ )? )? (?: -[A-Za-z][\w/:+-]*+ )?"
_DATE = r"-? [0-9]++ / [0-9]++ / [0-9]++"
_MOMENT = re.compile(rf"{_DATE} (?: [ \t]++ {_TIME} )? | [+-]? {_TIME}", re.VERBOSE)
_NUMBER = re.compile(
    r"(?P<digits> [+-]? (?P<whole> [0-9]*+ ) (?: \. (?P<fraction> [0-9]++ ) )? ) (?P<suffix> BD | [LFD] )?",
    re.VERBOSE | re.IGNORECASE,
)


def _number(word: str, offset: int) -> _Token:
    if _MOMENT.fullmatch(word):
        return _Token("value", offset, value=word)
    match = _NUMBER.fullmatch(word)
    if match is None or (match["fraction"] and match["suffix"] in ("L", "l")):
        return _Token("bad value", offset, f"'{_short(word)}' is not a number: put text in double quotes")
    whole, fraction = match["whole"], match["fraction"] or ""
    if max(len(whole), len(fraction)) > MAX_DIGITS:
        return _Token("bad value", offset, f"number too long: at most {MAX_DIGITS} digits")
    return _Token("value", offset, value=_numeric(match["digits"], match["suffix"] or ""))


def _numeric(digits: str, suffix: str) -> Value:
    if suffix.upper() == "BD":
        return Decimal(digits)
    if "." in digits or suffix.upper() in ("F", "D"):
        return float(digits)
    return int(digits)


_ESCAPE = re.compile(r"\\(?:[ \t\f\v]*+(?:\r\n?|\n)[ \t\f\v]*+|(?s:(.)))")
_ESCAPED = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


def _string(lexeme: str, offset: int) -> _Token:
    body = lexeme[1:-1]
    if "\\" not in body:
        return _Token("value", offset, value=body)
    return _illegal_escape(body, '"', offset) or _Token("value", offset, value=_unescape(body))


def _char(lexeme: str, offset: int) -> _Token:
    body = lexeme[1:-1]
    char = _unescape(body)
    if len(char) != 1:
        return _Token(
            "bad value", offset, f"{_short(lexeme)} is not one character: put text in double quotes"
        )
    return _illegal_escape(body, "'", offset) or _Token("value", offset, value=char)


def _illegal_escape(body: str, quote: str, offset: int) -> _Token | None:
    for match in _ESCAPE.finditer(body):
        char: str | None = match[1]
        if char is not None and char not in _ESCAPED and char != quote:
            shown = _shown(char)
            advice = f"illegal escape '\\{shown}' in a string: write '\\\\{shown}' or use backticks"
            return _Token("bad value", offset + 1 + match.start(), advice)
    return None


def _unescape(body: str) -> str:
    def replace(match: re.Match[str]) -> str:
        char: str | None = match[1]
        return "" if char is None else _ESCAPED.get(char, char)

    return _ESCAPE.sub(replace, body)


_UNCLOSED = {
    '"': "unclosed string",
    "'": "unclosed single quote: put text in double quotes",
    "[": "unclosed '['",
    "`": "unclosed backtick string",
    "/": "unclosed comment '/*'",
}

_ADVICE = {
    "\\": "outside a string it must be the last character of its line",
    ",": "separate values by spaces",
    **dict.fromkeys("“”„«»‘’", "use plain double quotes"),
}


def _junk(char: str, offset: int) -> _Token:
    fallback = "only spaces and tabs separate words" if char.isspace() else "put text in double quotes"
    return _Token("junk", offset, f"unexpected '{_shown(char)}': {_ADVICE.get(char, fallback)}")


def _shown(char: str) -> str:
    return char if char.isprintable() else f"U+{ord(char):04X}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "..."


_READERS: dict[str, Callable[[str, int], _Token]] = {
    "end": lambda _, offset: _Token("end", offset),
    "mark": _mark,
    "name": _word,
    "number": _number,
    "string": _string,
    "char": _char,
    "raw": lambda lexeme, offset: _Token("value", offset, value=lexeme[1:-1]),
    "binary": lambda lexeme, offset: _Token("value", offset, value=lexeme),
    "open": lambda lexeme, offset: _Token("bad value", offset, _UNCLOSED[lexeme[0]]),
    "cut": lambda lexeme, offset: _Token("cut", offset, _UNCLOSED[lexeme[0]]),
    "junk": _junk,
}


# Parser


@dataclass(slots=True)
class _Statement:
    """A tag in the making. `brace` is the offset of its `{`; `broken` leaves it out of the result."""

    name: str
    offset: int
    values: list[Value] = field(default_factory=list[Value])
    attributes: dict[str, Value] = field(default_factory=dict[str, Value])
    children: "list[_Statement]" = field(default_factory=list["_Statement"])
    brace: int | None = None
    broken: bool = False


class _GiveUp(Exception):
    """The rest of the file would only give follow-up problems."""


class _Parser:
    """Holds one token ahead, and the open blocks, innermost last; the first stands for the file itself."""

    def __init__(self, text: str) -> None:
        self.problems: list[tuple[int, str]] = []
        self._tokens = _tokens(text)
        self._token = self._consumed = _Token("end", 0)
        self._blocks = [_Statement("", 0)]
        self._is_stray_known = False

    def statements(self) -> list[_Statement]:
        with suppress(_GiveUp):
            self._next()
            self._file()
        for block in self._blocks:
            block.broken = True
        return self._blocks[0].children

    def _file(self) -> None:
        while self._token.kind != "eof":
            match self._token.kind:
                case "end":
                    self._advance()
                case "}":
                    self._close()
                case "{":
                    self._open_without_statement()
                case _:
                    self._is_stray_known = False
                    self._statement()
        for block in self._blocks:
            if block.brace is not None:
                self._report(block.brace, f"unclosed '{{'{_of(block.name)}")

    def _advance(self) -> _Token:
        self._consumed = self._token
        self._next()
        return self._consumed

    def _next(self) -> None:
        self._token = next(self._tokens, self._token)
        if self._token.kind == "cut":
            self._give_up(self._token.offset, self._token.text)

    def _report(self, offset: int, message: str) -> None:
        if len(self.problems) == MAX_PROBLEMS:
            self._give_up(offset, f"more than {MAX_PROBLEMS} problems: the rest of the file is not checked")
        self.problems.append((offset, message))

    def _give_up(self, offset: int, message: str) -> NoReturn:
        self.problems.append((offset, message))
        raise _GiveUp

    # Blocks

    def _open(self, statement: _Statement) -> None:
        offset = self._advance().offset
        if len(self._blocks) > MAX_DEPTH:
            self._give_up(offset, f"blocks are nested more than {MAX_DEPTH} deep")
        self._blocks.append(statement)

    def _open_without_statement(self) -> None:
        """Take the block for that of the statement before, so that its `}` is not a stray one."""
        block, offset = self._blocks[-1], self._token.offset
        statement = block.children[-1] if block.children else None
        if statement is not None and statement.name and statement.brace is None:
            self._report(offset, "'{' must be on the same line as its statement")
            statement.brace = offset
        else:
            if block.children or not block.broken:
                self._report(offset, "'{' without a statement before it")
            statement = _Statement("", offset)
            block.children.append(statement)
        statement.broken = True
        self._open(statement)

    def _close(self) -> None:
        """One stray `}` is a mistake, more of them in a row are the same mistake."""
        offset = self._advance().offset
        if len(self._blocks) > 1:
            self._blocks.pop()
        elif not self._is_stray_known:
            self._report(offset, "stray '}'")
            self._is_stray_known = True

    # Statements

    def _statement(self) -> None:
        statement = self._begin()
        self._blocks[-1].children.append(statement)
        while self._token.kind not in ("end", "{", "}", "eof"):
            self._item(statement)
        if self._token.kind == "{":
            statement.brace = self._token.offset
            self._open(statement)

    def _begin(self) -> _Statement:
        if self._token.kind == "name":
            token = self._advance()
            return _Statement(token.text, token.offset)
        return _Statement(ANONYMOUS, self._token.offset)

    def _item(self, statement: _Statement) -> None:
        match self._token.kind:
            case "value" if statement.attributes:
                self._fail(statement, "values must come before attributes")
            case "value" | "bad value":
                statement.values.append(self._value(statement))
            case "name":
                self._attribute(statement)
            case "=" if self._consumed.kind == "name":
                self._fail(statement, self._lonely_attribute(statement), statement.offset)
            case "=":
                self._fail(statement, "'=' must follow an attribute name")
            case _:
                self._fail(statement, self._token.text)

    def _value(self, statement: _Statement) -> Value:
        token = self._advance()
        if token.kind == "bad value":
            self._report(token.offset, token.text)
            statement.broken = True
        return token.value

    def _attribute(self, statement: _Statement) -> None:
        is_part_of_bad_value = self._consumed.kind == "bad value"
        key = self._advance()
        if self._token.kind == "=":
            self._assign(statement, key)
        elif is_part_of_bad_value:
            self._skip(statement)
        else:
            self._fail(statement, _bare_word(key.text), key.offset)

    def _assign(self, statement: _Statement, key: _Token) -> None:
        self._advance()
        match self._token.kind:
            case "value" | "bad value":
                statement.attributes[key.text] = self._value(statement)
            case "name":
                self._fail(statement, _bare_word(self._token.text))
            case "junk":
                self._fail(statement, self._token.text)
            case _:
                self._fail(statement, f"'{_short(key.text)}=' needs a value", key.offset)

    def _lonely_attribute(self, statement: _Statement) -> str:
        name = _short(statement.name)
        return f"attribute '{name}' must be on the line of its statement, or that line must end with '\\'"

    def _fail(self, statement: _Statement, message: str, offset: int | None = None) -> None:
        """Complain, unless right after a malformed value: then it is most likely a part of that."""
        if self._consumed.kind != "bad value":
            self._report(self._token.offset if offset is None else offset, message)
        self._skip(statement)

    def _skip(self, statement: _Statement) -> None:
        """Leave the rest of the statement alone, but for values that are wrong wherever they stand."""
        statement.broken = True
        while self._token.kind not in ("end", "{", "}", "eof"):
            self._value(statement)


def _of(name: str) -> str:
    return "" if name == ANONYMOUS else f" of '{_short(name)}'"


def _bare_word(word: str) -> str:
    return f"bare word '{_short(word)}': put text in double quotes"


def _tags(statements: list[_Statement], lines: _Lines) -> tuple[Tag, ...]:
    return tuple(_tag(statement, lines) for statement in statements if not statement.broken)


def _tag(statement: _Statement, lines: _Lines) -> Tag:
    namespace, _, name = statement.name.rpartition(":")
    return Tag(
        name=name,
        values=tuple(statement.values),
        attributes=statement.attributes,
        children=_tags(statement.children, lines),
        position=lines.position(statement.offset),
        namespace=namespace,
    )
