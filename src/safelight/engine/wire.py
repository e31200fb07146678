"""What the server and its image workers say to each other: bounded JSON messages, checked on arrival.

A worker may have been taken over by its input. So nothing it says is trusted: no pickle, every text and
number bounded, error classes from a list, media types from a pattern (they become HTTP headers).
"""

import logging
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from safelight.engine.handling import IMAGE_ERRORS, error_name
from safelight.engine.notes import Note
from safelight.errors import BadRequest, ImageError, SafelightError
from safelight.image.counts import CountName
from safelight.image.result import ImageInfo, Thumbnail, Thumbnails
from safelight.image.spec import ThumbnailSpec

MAX_REQUEST_BYTES = 128 << 10  # a datagram; the kernel's default send buffer is 208 KiB
MAX_ORDER_BYTES = MAX_REQUEST_BYTES + 64
MAX_REPLY_BYTES = 128 << 10
MAX_ERROR_CHARACTERS = 2_000
MAX_OUTPUTS = 64
MAX_NOTES = 16
MAX_COUNT = 1 << 40

_MimeType = Annotated[str, Meta(pattern=r"^[a-z]{1,16}/[A-Za-z0-9.+-]{1,64}\Z", max_length=81)]
_Text = Annotated[str, Meta(max_length=MAX_ERROR_CHARACTERS)]
_Side = Annotated[int, Meta(ge=0, le=1 << 31)]
_Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]


class Request(msgspec.Struct, array_like=True, frozen=True):
    """A job for a worker. The image is in the arena, or in the file whose descriptor comes along."""

    number: int
    kind: Literal["thumbnail", "identify"]
    size: int
    specs: list[ThumbnailSpec]


class Order(msgspec.Struct, array_like=True, frozen=True):
    """A request and the memory that serving it may take, by the prediction of `image.cost`."""

    granted_bytes: int
    request: Request


class _Envelope(msgspec.Struct, array_like=True, frozen=True):
    """An `Order` whose request is encoded already: it may be given more than once."""

    granted_bytes: int
    request: msgspec.Raw


class Info(msgspec.Struct, array_like=True, frozen=True):
    """`ImageInfo`, checked."""

    mime_type: _MimeType
    width: _Side
    height: _Side


class Output(msgspec.Struct, array_like=True, frozen=True, tag="output"):
    """A `Thumbnail` whose data is in the arena, after that of the output before it."""

    mime_type: _MimeType
    width: _Side
    height: _Side
    size: _Count


class Failure(msgspec.Struct, array_like=True, frozen=True, tag="failure"):
    """An error of a class in `IMAGE_ERRORS`."""

    name: Annotated[str, Meta(max_length=40)]
    message: _Text
    detail: _Text | None = None

    def error(self) -> SafelightError:
        """The error itself; a class that is not on the list becomes ImageError."""
        kind = IMAGE_ERRORS.get(self.name, ImageError)
        return kind(_printable(self.message), detail=self.detail and _printable(self.detail))


class Reply(msgspec.Struct, array_like=True, frozen=True):
    """The answer to request `number`: either `failure`, or `source` and what the request asked for.

    Or neither, and `needed_bytes`: give it again when that much memory is free; nothing has been decoded.
    `rss_bytes`: private memory of the worker, by its own account.
    """

    number: int
    rss_bytes: _Count
    failure: Failure | None
    source: Info | None
    outputs: Annotated[list[Output | Failure], Meta(max_length=MAX_OUTPUTS)]
    counts: dict[CountName, _Count] = {}
    notes: Annotated[list[_Text], Meta(max_length=MAX_NOTES)] = []
    needed_bytes: _Count | None = None


class Hello(msgspec.Struct, frozen=True):
    """First message of a worker: what its jail lacks, or why it cannot work."""

    missing: Annotated[list[_Text], Meta(max_length=16)]
    failure: _Text | None = None


_encoder = msgspec.json.Encoder()
_order_decoder = msgspec.json.Decoder(Order)
_reply_decoder = msgspec.json.Decoder(Reply)
_hello_decoder = msgspec.json.Decoder(Hello)


class ProtocolError(Exception):
    """A worker said what no worker of ours says."""


def encode_request(
    number: int, kind: Literal["thumbnail", "identify"], size: int, specs: Sequence[ThumbnailSpec]
) -> bytes:
    """Raises: BadRequest for specifications too long or not encodable."""
    if len(specs) > MAX_OUTPUTS:
        raise BadRequest(f"too many specifications: {len(specs)}, at most {MAX_OUTPUTS} are allowed")
    try:
        message = _encoder.encode(Request(number, kind, size, list(specs)))
    except UnicodeEncodeError as error:  # a lone surrogate: an undecodable byte of the request
        raise BadRequest("specification is not valid Unicode") from error
    if len(message) > MAX_REQUEST_BYTES:
        raise BadRequest("specifications are too long")
    return message


def encode_order(request: bytes, granted_bytes: int) -> bytes:
    """A request as `encode_request` has made it, with what it may take."""
    return _encoder.encode(_Envelope(granted_bytes, msgspec.Raw(request)))


def decode_order(message: bytes) -> Order:
    """For the worker, which trusts the server."""
    return _order_decoder.decode(message)


def encode_need(number: int, rss_bytes: int, needed_bytes: int) -> bytes:
    """The reply to a request that takes more memory than it may have."""
    needed_bytes = min(needed_bytes, MAX_COUNT)
    return _encoder.encode(Reply(number, rss_bytes, None, None, [], needed_bytes=needed_bytes))


def encode_failure(number: int, rss_bytes: int, error: SafelightError) -> bytes:
    """The reply to a request that failed as a whole."""
    return _encoder.encode(Reply(number, rss_bytes, _failure(error), None, []))


def encode_info(number: int, rss_bytes: int, info: ImageInfo) -> bytes:
    """The reply to `identify`."""
    return _encoder.encode(Reply(number, rss_bytes, None, _info(info), []))


def encode_thumbnails(number: int, rss_bytes: int, made: Thumbnails, notes: Sequence[Note] = ()) -> bytes:
    """The reply to `thumbnail`, whose outputs are in the arena already; with warnings for the log."""
    outputs: list[Output | Failure] = [
        Output(made.mime_type, made.width, made.height, len(made.data))
        if isinstance(made, Thumbnail)
        else _failure(made)
        for made in made.outputs
    ]
    said = [_short(note.text) for note in notes[:MAX_NOTES]]
    reply = Reply(number, rss_bytes, None, _info(made.source), outputs, dict(made.counts), said)
    message = _encoder.encode(reply)
    if len(message) > MAX_REPLY_BYTES:
        return encode_failure(number, rss_bytes, ImageError("too many long errors", detail=str(len(message))))
    return message


def encode_hello(missing: Sequence[str], failure: str | None = None) -> bytes:
    """The first message of a worker."""
    return _encoder.encode(Hello([_short(line) for line in missing[:16]], failure and _short(failure)))


def decode_reply(message: memoryview) -> Reply:
    """Raises: ProtocolError."""
    try:
        return _reply_decoder.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(str(error)) from error


def decode_hello(message: memoryview) -> Hello:
    """Raises: ProtocolError."""
    try:
        return _hello_decoder.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(str(error)) from error


def thumbnails(reply: Reply, wanted: int, arena: memoryview) -> Thumbnails:
    """Copy the outputs out of the arena. Raises: ProtocolError when the reply does not fit the request."""
    if reply.source is None or len(reply.outputs) != wanted:
        raise ProtocolError("reply does not answer the request")
    made: list[Thumbnail | SafelightError] = []
    start = 0
    for output in reply.outputs:
        if isinstance(output, Failure):
            made.append(output.error())
            continue
        end = start + output.size
        if end > len(arena):
            raise ProtocolError("outputs end outside of the arena")
        made.append(Thumbnail(bytes(arena[start:end]), output.mime_type, output.width, output.height))
        start = end
    return Thumbnails(_source(reply.source), tuple(made), reply.counts)


def warnings(reply: Reply) -> list[Note]:
    """What the worker wants to be in the log."""
    return [Note(logging.WARNING, _printable(text)) for text in reply.notes]


def output_bytes(reply: Reply) -> int:
    """How much of the arena the outputs take."""
    return sum(output.size for output in reply.outputs if isinstance(output, Output))


def info(reply: Reply) -> ImageInfo:
    """The answer to `identify`. Raises: ProtocolError."""
    if reply.source is None:
        raise ProtocolError("reply does not answer the request")
    return _source(reply.source)


def _source(info: Info) -> ImageInfo:
    return ImageInfo(info.mime_type, info.width, info.height)


def _info(info: ImageInfo) -> Info:
    return Info(info.mime_type, info.width, info.height)


def _failure(error: SafelightError) -> Failure:
    return Failure(error_name(error), _short(error.message), error.detail and _short(error.detail))


def _short(text: str) -> str:
    """At most as long as the reader allows, without lone surrogates, which JSON cannot carry."""
    return text[:MAX_ERROR_CHARACTERS].encode(errors="replace").decode()


def _printable(text: str) -> str:
    """Control characters out: the text goes to logs and, as a header or body, to clients."""
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in text)
