"""The thumbnailer protocol as its clients see it: what to send, and what a reply means.

Protocol: reference/thumbnailer sections 3 to 5; what becomes of its errors: reference/imagestore section 5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from safelight.errors import (
    BadRequest,
    Busy,
    Forbidden,
    ImageError,
    NotFound,
    SafelightError,
    Timeout,
    TooLarge,
    UnsupportedMedia,
)
from safelight.image.result import ImageInfo, Thumbnail, Thumbnails
from safelight.image.spec import ThumbnailSpec
from safelight.multipart import Part, boundary_of, split

CONTENT_TYPE = "image/autodetect"
_SPEC_CHARACTERS = "!$&'()*+,;=:@~"
_ERRORS: Mapping[int, type[SafelightError]] = {
    400: BadRequest,
    403: Forbidden,
    404: NotFound,
    413: TooLarge,
    415: UnsupportedMedia,
    504: Timeout,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    def check(self) -> None:
        """Raises: the error that a plain text reply, or one with an error status, stands for."""
        self.check_status(failed=self.content_type.partition(";")[0] == "text/plain")

    def check_status(self, *, failed: bool = False) -> None:
        """Raises: the error that an error status stands for, or any status when the reply `failed`."""
        if failed or not 200 <= self.status <= 299:
            text = self.body.decode("utf-8", "replace").strip()
            raise _error(self.status, text, self.headers.get("retry-after", ""))


class _Identity(msgspec.Struct, rename="camel"):
    mime_type: str | None = None
    width: int | None = None
    height: int | None = None


def thumbnail_path(specs: Sequence[ThumbnailSpec]) -> str:
    """The path to PUT an image to: `/thumbnail/` for one specification, `/thumbnails/` for more.

    What could end the path segment of a specification is encoded; its own separators are not.
    """
    route = "thumbnail" if len(specs) == 1 else "thumbnails"
    return f"/{route}/" + "/".join(quote(str(spec), safe=_SPEC_CHARACTERS) for spec in specs)


def read_thumbnails(reply: Reply, expected: int) -> Thumbnails:
    """Raises: what `Reply.check` raises; ImageError for a malformed reply."""
    reply.check()
    if reply.content_type.startswith("image/"):
        return Thumbnails(
            _source(reply.headers), (_thumbnail(reply.content_type, reply.headers, reply.body),)
        )
    if reply.content_type.startswith("multipart/mixed"):
        return Thumbnails(_source(reply.headers), _outputs(reply, expected))
    raise ImageError(reply.content_type or "reply without a content type")


def read_identity(reply: Reply) -> ImageInfo:
    """Raises: as `read_thumbnails`."""
    reply.check()
    if reply.content_type.partition(";")[0] != "application/json":
        raise ImageError(reply.content_type or "reply without a content type")
    try:
        found = msgspec.json.decode(reply.body, type=_Identity)
    except msgspec.DecodeError as error:
        raise ImageError("thumbnailer identified the image in no known form", detail=str(error)) from error
    return ImageInfo(found.mime_type or "", found.width or 0, found.height or 0)


def _error(status: int, message: str, retry_after: str = "") -> SafelightError:
    if status == 503:
        return Busy(message, retry_after_s=int(retry_after) if retry_after.isdigit() else 1)
    return _ERRORS.get(status, ImageError)(message or f"thumbnailer answered with status {status}")


def _source(headers: Mapping[str, str]) -> ImageInfo:
    mime_type = headers.get("x-input-image-mime-type") or headers.get("x-input-image-content-type") or ""
    return ImageInfo(mime_type, _side(headers, "x-input-image-width"), _side(headers, "x-input-image-height"))


def _side(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name, "")
    return int(text) if text.isdigit() else 0


def _thumbnail(mime_type: str, headers: Mapping[str, str], data: bytes) -> Thumbnail:
    return Thumbnail(data, mime_type, _side(headers, "x-image-width"), _side(headers, "x-image-height"))


def _outputs(reply: Reply, expected: int) -> tuple[Thumbnail | SafelightError, ...]:
    try:
        parts = split(reply.body, boundary_of(reply.content_type))
    except ValueError as error:
        raise ImageError("thumbnailer sent a malformed reply", detail=str(error)) from error
    if len(parts) != expected:
        raise ImageError(f"thumbnailer sent {len(parts)} thumbnails instead of {expected}")
    return tuple(map(_output, parts))


def _output(part: Part) -> Thumbnail | SafelightError:
    if part.content_type.startswith("image/"):
        return _thumbnail(part.content_type, part.headers, part.body)
    status = part.headers.get("status", "")
    return _error(int(status) if status.isdigit() else 500, part.body.decode("utf-8", "replace").strip())
