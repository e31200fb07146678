"""The thumbnailer protocol as its clients see it: what to send, and what a reply means.

Protocol: reference/thumbnailer sections 3 to 5; what becomes of its errors: reference/imagestore section 5.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote

import msgspec

from safelight.errors import (
    BadRequest,
    Busy,
    ImageError,
    NotFound,
    SafelightError,
    Timeout,
    TooLarge,
    UnsupportedMedia,
)
from safelight.image.result import ImageInfo, Thumbnail, Thumbnails
from safelight.image.spec import Edit, ThumbnailSpec
from safelight.multipart import Part, boundary_of, split

CONTENT_TYPE = "image/autodetect"
MAX_MESSAGE_BYTES = 8 << 10
_WORD_CHARACTERS = "$&'()*+;=@~"
_MIME_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)
_SIDE_DIGITS = 9
_HASH_COLOUR = re.compile(r"#([0-9A-Fa-f]{3,4}|[0-9A-Fa-f]{6}|[0-9A-Fa-f]{8})")


@dataclass(frozen=True, slots=True)
class Meaning:
    """The errors that statuses stand for; `other` for those without an entry."""

    errors: Mapping[int, type[SafelightError]]
    other: type[SafelightError]

    def error(self, status: int, message: str, retry_after: str = "") -> SafelightError:
        """The error of one status."""
        message = message or f"server answered with status {status}"
        if status == 503:
            return Busy(message, retry_after_s=_number(retry_after) or 1)
        return self.errors.get(status, self.other)(message)


THUMBNAILER = Meaning(
    {400: BadRequest, 404: NotFound, 413: TooLarge, 415: UnsupportedMedia, 504: Timeout}, ImageError
)
"""What the answers of a thumbnailer mean to an image store (reference/imagestore 5.5)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    meaning: Meaning = field(default=THUMBNAILER)

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    @property
    def mime_type(self) -> str:
        """The content type in lower case, without parameters."""
        return self.content_type.partition(";")[0].strip().lower()

    @property
    def is_good(self) -> bool:
        return 200 <= self.status <= 299

    def has_images(self) -> bool:
        """Whether the body should be images."""
        return self.is_good and (self.mime_type.startswith("image/") or self.mime_type == "multipart/mixed")

    def check(self) -> None:
        """Raises: the error that a plain text reply, or one with an error status, stands for."""
        if self.mime_type == "text/plain":
            raise self._error()
        self.check_status()

    def check_status(self) -> None:
        """Raises: the error that a status other than 2xx stands for."""
        if not self.is_good:
            raise self._error()

    def _error(self) -> SafelightError:
        """Only plain text is a message: other servers on the way send whole pages."""
        text = _text(self.body) if self.mime_type == "text/plain" else ""
        return self.meaning.error(self.status, text, self.headers.get("retry-after", ""))


class _Identity(msgspec.Struct, rename="camel"):
    mime_type: str | None = None
    width: int | None = None
    height: int | None = None


def thumbnail_path(specs: Sequence[ThumbnailSpec]) -> str:
    """The path to PUT an image to: `/thumbnail/` for one specification, `/thumbnails/` for more.

    What could end the path segment, or a word within it, is encoded; the separators of the specification are
    not: what a client writes stays the option that it was taken for. No server decodes it, so a colour that
    begins with `#` is sent in its other form (reference/thumbnailer 1, 7.3).
    """
    route = "thumbnail" if len(specs) == 1 else "thumbnails"
    return f"/{route}/" + "/".join(str(_encoded(spec)) for spec in specs)


def _encoded(spec: ThumbnailSpec) -> ThumbnailSpec:
    edits = tuple(
        Edit(_word(edit.name), tuple(map(_word, edit.args)), _options(edit.options)) for edit in spec.edits
    )
    method, image_format = _word(spec.method), _word(spec.format)
    return replace(spec, method=method, format=image_format, options=_options(spec.options), edits=edits)


def _options(options: Mapping[str, str]) -> dict[str, str]:
    return {_word(key): _word(text, ":") for key, text in options.items()}


def _word(text: str, separators: str = "") -> str:
    colour = _HASH_COLOUR.fullmatch(text)
    return f"0x{colour[1]}" if colour else quote(text, safe=_WORD_CHARACTERS + separators)


def read_thumbnails(reply: Reply, expected: int) -> Thumbnails:
    """Raises: what `Reply.check` raises; ImageError for a malformed reply."""
    reply.check()
    if reply.mime_type.startswith("image/") and expected == 1:
        return Thumbnails(_source(reply.headers), (_thumbnail(reply.mime_type, reply.headers, reply.body),))
    if reply.mime_type == "multipart/mixed":
        return Thumbnails(_source(reply.headers), _outputs(reply, expected))
    raise ImageError(reply.content_type or "reply without a content type")


def read_identity(reply: Reply) -> ImageInfo:
    """Raises: as `read_thumbnails`."""
    reply.check()
    if reply.mime_type != "application/json":
        raise ImageError(reply.content_type or "reply without a content type")
    try:
        found = msgspec.json.decode(reply.body, type=_Identity)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ImageError("thumbnailer identified the image in no known form", detail=str(error)) from error
    return ImageInfo(_mime_type(found.mime_type or ""), found.width or 0, found.height or 0)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _SIDE_DIGITS else None


def _text(body: bytes) -> str:
    return body[:MAX_MESSAGE_BYTES].decode("utf-8", "replace").strip()


def _mime_type(text: str) -> str:
    """`text` if it can be sent on as a header, else nothing."""
    return text if _MIME_TYPE.fullmatch(text) else ""


def _source(headers: Mapping[str, str]) -> ImageInfo:
    mime_type = headers.get("x-input-image-mime-type") or headers.get("x-input-image-content-type") or ""
    return ImageInfo(
        _mime_type(mime_type), _side(headers, "x-input-image-width"), _side(headers, "x-input-image-height")
    )


def _side(headers: Mapping[str, str], name: str) -> int:
    return _number(headers.get(name, "")) or 0


def _thumbnail(mime_type: str, headers: Mapping[str, str], data: bytes) -> Thumbnail:
    """Raises: ImageError when it is of no type, or empty."""
    if not _mime_type(mime_type) or not data:
        raise ImageError("thumbnailer sent an image without a type or without data")
    return Thumbnail(data, mime_type, _side(headers, "x-image-width"), _side(headers, "x-image-height"))


def _outputs(reply: Reply, expected: int) -> tuple[Thumbnail | SafelightError, ...]:
    try:
        parts = split(reply.body, boundary_of(reply.content_type))
    except ValueError as error:
        raise ImageError("thumbnailer sent a malformed reply", detail=str(error)) from error
    if len(parts) != expected:
        raise ImageError(f"thumbnailer sent {len(parts)} thumbnails instead of {expected}")
    return tuple(_output(part, reply.meaning) for part in parts)


def _output(part: Part, meaning: Meaning) -> Thumbnail | SafelightError:
    """One part. Raises: ImageError when it is neither an image nor a text with a status."""
    mime_type = part.content_type.partition(";")[0].strip().lower()
    if mime_type.startswith("image/"):
        return _thumbnail(mime_type, part.headers, part.body)
    status = _number(part.headers.get("status", ""))
    if mime_type != "text/plain" or status is None:
        raise ImageError("thumbnailer sent a part that is neither an image nor an error")
    return meaning.error(status, _text(part.body))
