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
    delimiter = b"\r\n--" + boundary.encode()
    first, *pieces = (CRLF + body).split(delimiter)
    if first or not pieces or pieces.pop() not in (b"--\r\n", b"--"):
        raise ValueError("multipart body without its delimiters")
    return [_part(piece) for piece in pieces]


def boundary_of(content_type: str) -> str:
    """The boundary in a `Content-Type` value, quoted or not. Raises: ValueError."""
    for parameter in content_type.split(";")[1:]:
        name, _, text = parameter.strip().partition("=")
        if name.lower() == "boundary" and text.strip('"'):
            return text.strip('"')
    raise ValueError("multipart content type without a boundary")


def _part(piece: bytes) -> Part:
    head, separator, body = piece.removeprefix(CRLF).partition(CRLF + CRLF)
    if not separator or not piece.startswith(CRLF) or len(head) > MAX_PART_HEADERS_BYTES:
        raise ValueError("multipart part without headers")
    headers: dict[str, str] = {}
    for line in head.decode("latin-1").split("\r\n"):
        name, _, text = line.partition(":")
        headers[name.strip().lower()] = text.strip()
    return Part(headers.pop("content-type", ""), body, headers)
