"""`multipart/mixed` as the thumbnailer protocol frames it (reference/thumbnailer section 5).

Per part: `--B` CRLF, `Content-Type: T` CRLF, more header lines CRLF, CRLF, body, CRLF; finally `--B--` CRLF.
No preamble, no `Content-Length` of parts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

CRLF = b"\r\n"
MAX_PART_HEADERS_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Part:
    """One part; header names are lower case when read."""

    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def join(parts: Iterable[Part], boundary: str) -> bytes:
    """The whole body."""
    delimiter = f"--{boundary}\r\n".encode()
    pieces: list[bytes] = []
    for part in parts:
        lines = [
            f"Content-Type: {part.content_type}",
            *(f"{name}: {text}" for name, text in part.headers.items()),
        ]
        pieces += [delimiter, "\r\n".join(lines).encode(), CRLF, CRLF, part.body, CRLF]
    return b"".join([*pieces, f"--{boundary}--\r\n".encode()])


def split(body: bytes, boundary: str) -> list[Part]:
    """The parts of a body. Raises: ValueError for one that is not framed as above."""
    opening, delimiter = f"--{boundary}".encode(), f"\r\n--{boundary}".encode()
    if not body.startswith(opening):
        raise ValueError("multipart body without its delimiters")
    parts: list[Part] = []
    start = len(opening)
    while not body.startswith(b"--", start):
        end = body.find(delimiter, start)
        if end < 0:
            raise ValueError("multipart body without its last delimiter")
        parts.append(_part(body, start, end))
        start = end + len(delimiter)
    if body[start:] not in (b"--\r\n", b"--"):
        raise ValueError("multipart body that goes on after its last delimiter")
    return parts


def boundary_of(content_type: str) -> str:
    """The boundary in a `Content-Type` value, quoted or not. Raises: ValueError."""
    for parameter in content_type.split(";")[1:]:
        name, _, text = parameter.strip().partition("=")
        if name.lower() == "boundary" and text.strip('"'):
            return text.strip('"')
    raise ValueError("multipart content type without a boundary")


def _part(body: bytes, start: int, end: int) -> Part:
    """The part between two delimiters; only its own bytes are copied, whatever the size of `body`."""
    head_end = body.find(CRLF + CRLF, start, min(end, start + MAX_PART_HEADERS_BYTES))
    if head_end < 0 or not body.startswith(CRLF, start):
        raise ValueError("multipart part without headers")
    headers: dict[str, str] = {}
    for line in body[start:head_end].decode("latin-1").split("\r\n")[1:]:
        name, _, text = line.partition(":")
        headers[name.strip().lower()] = text.strip()
    return Part(headers.pop("content-type", ""), body[head_end + 4 : end], headers)
