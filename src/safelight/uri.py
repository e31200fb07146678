"""Decoding of request targets and query strings (reference/imagestore 3.5)."""

import re
from urllib.parse import unquote_to_bytes

from safelight.errors import BadRequest

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4})")
_UNICODE_ESCAPE = re.compile(r"%u([0-9A-Fa-f]{4})")
_SEPARATOR = re.compile(r"[&;]")
_PRINTED = {
    "\t": "\\t",
    "\n": "\\n",
    "\r": "\\r",
    "\x1b": "\\e",
    "\x07": "\\a",
    "\b": "\\b",
    "\v": "\\v",
    "\f": "\\f",
}


def well_formed(target: str) -> bool:
    """Whether every `%` of a raw path or query begins an escape: `%XX`, or JavaScript's `%uXXXX`."""
    return not _BAD_ESCAPE.search(target)


def decode(text: str) -> str:
    """Decode one captured text: percent escapes to UTF-8, then `%uXXXX` (which clients send as `%25uXXXX`).

    `+` stays. Raises: BadRequest when the result is no valid UTF-8, surrogates included.
    """
    if "%" not in text and text.isascii():
        return text
    plain = _valid(unquote_to_bytes(text.encode("utf-8", "surrogateescape")))
    if "%u" not in plain:
        return plain
    expanded = _UNICODE_ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), plain)
    return _valid(expanded.encode("utf-8", "surrogatepass"))


def parse_query(query: str) -> dict[str, str | None]:
    """Decode a raw query string; keys are plain text, a later duplicate wins, no `=` gives None.

    Bytes that are no UTF-8 are kept as lone surrogates: `decode` refuses them when a matcher captures them.
    """
    parameters: dict[str, str | None] = {}
    for item in _SEPARATOR.split(query) if query else ():
        if item:
            key, equals, text = item.partition("=")
            parameters[_form_decode(key)] = _form_decode(text) if equals else None
    return parameters


def _form_decode(text: str) -> str:
    octets = text.replace("+", " ").encode("utf-8", "surrogateescape")
    return unquote_to_bytes(octets).decode("utf-8", "surrogateescape")


def _valid(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"invalid UTF-8 encoding in URI: {inspect(octets)}") from error


def inspect(octets: bytes) -> str:
    r"""Quote bytes for a message: invalid ones as `\xE9`, printable Unicode as it is."""
    text = octets.decode("utf-8", "surrogateescape")
    return '"' + "".join(map(_inspect_character, text)).replace("#{", "\\#{") + '"'


def _inspect_character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02X}"
    if character in _PRINTED:
        return _PRINTED[character]
    if character.isprintable():
        return character
    return f"\\x{ord(character):02X}" if ord(character) < 0x80 else f"\\u{ord(character):04X}"
