"""Sending an answer: its headers, and its body from memory, from a file or as it comes."""

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache

from safelight.blob import CHUNK_BYTES, Blob, MemoryBlob
from safelight.errors import StorageError
from safelight.model import Answer, Facts
from safelight.server.asgi import Header, Receive, Send
from safelight.server.ranges import Excerpt

SMALL_FILE_BYTES = 1 << 16
LAST_PIECE_S = 1.0
"""How long the end of a stream may take when it is we who end it, and the client is not reading."""

_OCTETS = "application/octet-stream"
_INLINE = frozenset(
    {
        "text/plain",
        "text/uri-list",
        "text/event-stream",
        "application/json",
        "application/problem+json",
        "multipart/mixed",
    }
)
_MIME_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(; boundary=\"[\w-]+\")?", re.ASCII)
_NOT_A_VALUE = re.compile(r"[^\t\x20-\x7e]")
_BODYLESS = frozenset({204, 304})
_ACCEPT_RANGES: Header = (b"accept-ranges", b"bytes")


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that is sent as it comes: nobody knows how long it will be, or how long it will take.

    It ends when `pieces` end, which are closed then, when its client leaves, and when the server is to stop.
    While it lasts nothing else is held for it, and no request timeout runs.
    """

    pieces: AsyncGenerator[bytes]
    content_type: str
    status: int = 200
    facts: Facts = ()


def head_of(answer: Answer) -> list[Header]:
    """The headers of `answer`. Nothing in it can end a header line: such characters are replaced."""
    headers: list[Header] = []
    if answer.status not in _BODYLESS:
        headers += content_headers(answer.content_type)
        headers.append((b"content-length", b"%d" % answer.body.size))
    if answer.cache_control:
        headers.append((b"cache-control", header_value(answer.cache_control)))
    if answer.etag is not None:
        headers += ((b"etag", header_value(answer.etag)), _ACCEPT_RANGES)
    if answer.modified is not None:
        headers.append((b"last-modified", http_date(int(answer.modified))))
    if answer.facts:
        facts = encoded(answer.facts)
        replaced = {name for name, _ in facts}
        headers = [header for header in headers if header[0] not in replaced] + facts
    return headers


def encoded(facts: Facts) -> list[Header]:
    """Names and values as headers."""
    return [(name.lower().encode(), header_value(text)) for name, text in facts]


@lru_cache(1024)
def http_date(seconds: int) -> bytes:
    """A Unix time as headers show it (RFC 9110, 5.6.7)."""
    return formatdate(max(0, seconds), usegmt=True).encode()


@lru_cache(256)
def content_headers(content_type: str) -> tuple[Header, ...]:
    """Type and the precautions it needs: a browser must not sniff, run or open what somebody uploaded."""
    if not _MIME_TYPE.fullmatch(content_type):
        content_type = _OCTETS
    headers = [(b"content-type", content_type.encode()), (b"x-content-type-options", b"nosniff")]
    kind = content_type.partition(";")[0].lower()
    if kind == "image/svg+xml":
        headers.append((b"content-security-policy", b"sandbox"))
    elif not kind.startswith("image/") and kind not in _INLINE:
        headers.append((b"content-disposition", b"attachment"))
    return tuple(headers)


def header_value(text: str) -> bytes:
    """`text` as a header value: printable ASCII, everything else (CR and LF above all) a `?`."""
    return _NOT_A_VALUE.sub("?", text).encode()


async def read_piece(body: Blob, offset: int) -> bytes:
    """Up to 256 KiB of a file from `offset`, or what is in memory; threads only for what is on disk.

    Raises: StorageError when the file has become shorter.
    """
    if isinstance(body, Excerpt):
        body, offset, stop = body.at(offset)
    else:
        stop = body.size
    if isinstance(body, MemoryBlob):
        return body.read_at(offset, stop - offset)
    count = min(CHUNK_BYTES, stop - offset)
    is_small = body.size <= SMALL_FILE_BYTES
    piece = body.read_at(offset, count) if is_small else _read_cached(body.fileno(), offset, count)
    if len(piece) < count:
        piece = await asyncio.to_thread(body.read_at, offset, count)
    if len(piece) < count:
        raise StorageError("the file was cut short while it was read")
    return piece


def _read_cached(descriptor: int | None, offset: int, count: int) -> bytes:
    """What the page cache holds, without waiting for the disk (preadv2(2), RWF_NOWAIT)."""
    if descriptor is None:
        return b""
    buffer = bytearray(count)
    try:
        done = os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT)
    except OSError:
        return b""
    return bytes(buffer) if done == count else b""


async def send_answer(
    send: Send, answer: Answer, first: bytes, head_only: bool, extra: tuple[Header, ...]
) -> None:
    """Send `answer`, whose first piece has been read already, so that its failure could still be told."""
    await send(
        {"type": "http.response.start", "status": answer.status, "headers": [*head_of(answer), *extra]}
    )
    if head_only or answer.status in _BODYLESS:
        await send({"type": "http.response.body", "body": b""})
        return
    piece, sent = first, len(first)
    while sent < answer.body.size:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        piece = await read_piece(answer.body, sent)
        sent += len(piece)
    await send({"type": "http.response.body", "body": piece})


async def send_stream(
    send: Send,
    receive: Receive,
    stream: Stream,
    head_only: bool,
    extra: tuple[Header, ...],
    stopping: asyncio.Event,
    note_sent: Callable[[int], None],
) -> None:
    """Send `stream`, and tell `note_sent` of the bytes of each piece.

    `receive`: of a request whose body is there or is not wanted.
    """
    headers = [*content_headers(stream.content_type), *encoded(stream.facts), *extra]
    await send({"type": "http.response.start", "status": stream.status, "headers": headers})
    if head_only:
        await stream.pieces.aclose()
        await send({"type": "http.response.body", "body": b""})
        return
    pumping = asyncio.create_task(_pump(send, stream.pieces, note_sent))
    ends = (asyncio.create_task(_client_leaves(receive)), asyncio.create_task(stopping.wait()))
    try:
        await asyncio.wait((pumping, *ends), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (pumping, *ends):
            task.cancel()
        outcomes = await asyncio.gather(pumping, *ends, return_exceptions=True)
    if isinstance(outcomes[0], Exception):
        raise outcomes[0]
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_PIECE_S):
            await send({"type": "http.response.body", "body": b""})


async def _pump(send: Send, pieces: AsyncGenerator[bytes], note_sent: Callable[[int], None]) -> None:
    """Send pieces until there are no more. Raises: what making or sending one raises."""
    async with aclosing(pieces):
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            note_sent(len(piece))


async def _client_leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
