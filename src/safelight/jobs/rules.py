"""What the older server refuses before it does anything, in its order and by its numbers.

Reference/imgserve sections 3 and 4.1. Nothing here touches the network.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal, cast

import msgspec

from safelight.errors import BadRequest
from safelight.jobs.record import MAX_URL, Delivery, Form, LegacyOperation

MAX_TARGET_PIXELS = 25_000_000
MAX_TARGET_SIDE = 65_500
"""Of a JPEG, the format whose sides are shortest."""
MAX_NAME = 200

Kind = Literal["resize", "rasterize"]

KEYS = {"operationType", "srcURL", "dstURL", "args"}
SOURCES: dict[Kind, tuple[str, ...]] = {"resize": ("png", "gif", "jpg", "jpeg"), "rasterize": ("svg",)}
WITH_FORM = ("http", "https")

_TAG = re.compile(r"\{\$(width|height|basename|ext|extension)\}")


class Code(IntEnum):
    """Why a job is refused. Codes from 201 on take a look at source and destination (section 4.2)."""

    KEYS = 101
    OPERATION = 102
    ARGS = 103
    SOURCE_EMPTY = 104
    DESTINATION_EMPTY = 105
    SIZE_MISSING = 106
    SIZE = 107
    SOURCE_EXTENSION = 108
    SOURCE_SCHEME = 109
    DESTINATION_SCHEME = 110
    ARGUMENT_MISSING = 111
    ARGUMENT_TYPE = 112
    DESTINATION_EXTENSION = 113
    NOT_FETCHED = 201
    NO_IMAGE = 202
    TOO_SMALL = 203
    NO_SVG = 204
    NOT_DELIVERED = 205


class Refused(BadRequest):
    """The job is not accepted; the detail says why beyond the code."""

    def __init__(self, code: Code, *, detail: str | None = None) -> None:
        super().__init__("request invalid", detail=detail)
        self.code = code


class Unreadable(BadRequest):
    """What was sent is no JSON object, or an empty one."""


@dataclass(frozen=True, slots=True)
class Schemes:
    """Beginnings of URLs, before the colon, that jobs may use."""

    sources: frozenset[str]
    destinations: frozenset[str]


@dataclass(frozen=True, slots=True)
class LegacyJob:
    """A job in the older server's words, checked. `destination`: its URL as it is told to the client."""

    operation: LegacyOperation
    source: str
    delivery: Delivery
    destination: str


def read_job(body: bytes, schemes: Schemes) -> LegacyJob:
    """Raises: Unreadable; Refused with the lowest code that applies."""
    fields = _decoded(body)
    if set(fields) != KEYS:
        raise Refused(Code.KEYS)
    kind = _kind(fields["operationType"])
    args = fields["args"]
    if not isinstance(args, dict):
        raise Refused(Code.ARGS)
    args = cast(dict[str, Any], args)
    source = _url(fields["srcURL"], Code.SOURCE_EMPTY)
    written = _url(fields["dstURL"], Code.DESTINATION_EMPTY)
    width, height = _sides(args)
    stem, extension = name_and_extension(source)
    if extension.lower() not in SOURCES[kind]:
        raise Refused(Code.SOURCE_EXTENSION)
    tags = {
        "width": str(width),
        "height": str(height),
        "basename": stem,
        "ext": extension,
        "extension": extension,
    }
    target = _Target.of(written, args).substituted(tags)
    if _scheme(source) not in schemes.sources:
        raise Refused(Code.SOURCE_SCHEME)
    if target.scheme not in schemes.destinations:
        raise Refused(Code.DESTINATION_SCHEME)
    target.check_arguments()
    format_ = _format(kind, extension, target.file_name)
    target.check_length()
    return LegacyJob(LegacyOperation(kind, width, height, format_), source, target.delivery, target.written)


def name_and_extension(url: str) -> tuple[str, str]:
    """File name in a URL without its extension, and that as it is written (section 3.1).

    Slashes are looked for first, as the older server does, even in a query. `.png` has no extension.
    """
    name = url.rpartition("/")[2].partition("#")[0].partition("?")[0]
    stem, _, extension = name.rpartition(".")
    return (stem, extension) if stem else (name, "")


@dataclass(frozen=True, slots=True)
class _Target:
    """`dstURL`: a `head` without tags and a `tail` with them; for forms page and file name, a colon between.

    `method`: what `args.http_method` says, POST by default, None for nonsense. `field`: of the form.
    """

    scheme: str
    head: str
    tail: str
    method: str | None
    field: object

    @classmethod
    def of(cls, written: str, args: Mapping[str, Any]) -> "_Target":
        scheme = _scheme(written)
        method = _method(args)
        if method == "PUT" and scheme in WITH_FORM:
            start = written.find("/", len(scheme) + len("://"))
            head, tail = (written[:start], written[start:]) if start >= 0 else (written, "")
        else:
            before, colon, tail = written.rpartition(":")
            head = before + colon
        return cls(scheme, head, tail, method, args.get("field_file", args.get("field_name")))

    def substituted(self, tags: Mapping[str, str]) -> "_Target":
        """In one pass, so that a name that looks like a tag stays what it is."""
        tail = _TAG.sub(lambda found: tags[found[1]], self.tail)
        return _Target(self.scheme, self.head, tail, self.method, self.field)

    @property
    def written(self) -> str:
        return self.head + self.tail

    @property
    def is_form(self) -> bool:
        return self.scheme in WITH_FORM and self.method != "PUT"

    @property
    def file_name(self) -> str:
        """Where the extension is looked for."""
        return self.tail if self.is_form else self.written

    @property
    def delivery(self) -> Delivery:
        if self.is_form:
            return Delivery(self.head.removesuffix(":"), Form(str(self.field), self.tail))
        return Delivery(self.written)

    def check_arguments(self) -> None:
        """Raises: Refused."""
        if self.scheme not in WITH_FORM or self.method == "PUT":
            return
        if self.method is None:
            raise Refused(Code.ARGUMENT_TYPE, detail="http_method is neither POST nor PUT")
        if self.field in (None, ""):
            raise Refused(Code.ARGUMENT_MISSING)
        if not isinstance(self.field, str) or len(self.field) > MAX_NAME:
            raise Refused(Code.ARGUMENT_TYPE)

    def check_length(self) -> None:
        """What tags have made too long for a record could not be read again. Raises: Refused."""
        if len(self.written) > MAX_URL or (self.is_form and len(self.tail) > MAX_NAME):
            raise Refused(Code.DESTINATION_EMPTY, detail="the destination is too long")


def _decoded(body: bytes) -> Mapping[str, Any]:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable("request parse error", detail=str(error)) from error
    if not isinstance(decoded, dict) or not decoded:
        raise Unreadable("request parse error", detail="no JSON object, or an empty one")
    return cast(dict[str, Any], decoded)


def _kind(written: object) -> Kind:
    for kind in SOURCES:
        if written == kind:
            return kind
    raise Refused(Code.OPERATION)


def _url(written: object, code: Code) -> str:
    if not isinstance(written, str) or not 0 < len(written) <= MAX_URL:
        raise Refused(code)
    return written


def _sides(args: Mapping[str, Any]) -> tuple[int, int]:
    if "width" not in args or "height" not in args:
        raise Refused(Code.SIZE_MISSING)
    width, height = args["width"], args["height"]
    if type(width) is not int or type(height) is not int:  # a boolean is an `int`, too
        raise Refused(Code.SIZE)
    if not (0 < width <= MAX_TARGET_SIDE and 0 < height <= MAX_TARGET_SIDE):
        raise Refused(Code.SIZE)
    if width * height > MAX_TARGET_PIXELS:
        raise Refused(Code.SIZE, detail=f"more than {MAX_TARGET_PIXELS} pixels")
    return width, height


def _scheme(url: str) -> str:
    """What stands before the first colon, as it is written; empty without one."""
    scheme, colon, _ = url.partition(":")
    return scheme if colon else ""


def _method(args: Mapping[str, Any]) -> str | None:
    written = args.get("http_method", "POST")
    method = written.upper() if isinstance(written, str) else ""
    return method if method in ("POST", "PUT") else None


def _format(kind: Kind, source_extension: str, file_name: str) -> str:
    """Our name of the format that is wanted. Raises: Refused when the destination's extension differs."""
    wanted = "png" if kind == "rasterize" else _same(source_extension)
    if _same(name_and_extension(file_name)[1]) != wanted:
        raise Refused(Code.DESTINATION_EXTENSION)
    return wanted


def _same(extension: str) -> str:
    """One name for both extensions of JPEG."""
    lower = extension.lower()
    return "jpeg" if lower == "jpg" else lower
