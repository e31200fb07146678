"""Byte ranges of an answer's body (RFC 9110, section 14)."""

import re
import uuid
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from safelight.blob import Blob, MemoryBlob

MAX_RANGES = 8
MERGED_GAP_BYTES = 128
"""What a part of a multipart body costs on top of its content: ranges nearer than that are sent as one."""

_SPEC = re.compile(r"([0-9]{0,20})-([0-9]{0,20})")


class ByteRange(NamedTuple):
    """Bytes from `start` up to, not including, `stop`."""

    start: int
    stop: int

    def content_range(self, size: int) -> str:
        """For a body of `size` bytes, as `Content-Range` says it (section 14.4)."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def requested_ranges(text: str, size: int) -> tuple[ByteRange, ...] | None:
    """The ranges that a `Range` header asks for, of a body of `size` bytes, in the order asked for.

    Overlapping and near ones come as one, then in ascending order. None: not to be heeded, being in another
    unit, malformed or too many (section 14.2). Empty: none of them can be satisfied.
    """
    unit, _, listed = text.partition("=")
    specs = [spec for spec in (item.strip(" \t") for item in listed.split(",")) if spec]
    if unit.strip(" \t").lower() != "bytes" or not 0 < len(specs) <= MAX_RANGES:
        return None
    found: list[ByteRange] = []
    for spec in specs:
        parsed = _parsed(spec, size)
        if parsed is None:
            return None
        if parsed.start < size:
            found.append(parsed)
        elif parsed.start == parsed.stop:  # the end of an empty body, which no Content-Range can express
            return None
    return _merged(found)


def _parsed(spec: str, size: int) -> ByteRange | None:
    """One range, cut off at `size`; from `size` on if it lies behind. None if malformed (section 14.1.1)."""
    match = _SPEC.fullmatch(spec)
    if match is None or spec == "-":
        return None
    first, last = match.groups()
    if not first:
        return ByteRange(max(0, size - int(last)), size) if int(last) else ByteRange(size, size + 1)
    start, stop = int(first), int(last) + 1 if last else max(size, int(first) + 1)
    if stop <= start:
        return None
    return ByteRange(start, min(stop, size)) if start < size else ByteRange(size, size + 1)


def _merged(ranges: Sequence[ByteRange]) -> tuple[ByteRange, ...]:
    merged: list[ByteRange] = []
    for found in sorted(ranges):
        if merged and found.start <= merged[-1].stop + MERGED_GAP_BYTES:
            merged[-1] = ByteRange(merged[-1].start, max(merged[-1].stop, found.stop))
        else:
            merged.append(found)
    return tuple(ranges if len(merged) == len(ranges) else merged)


class Section(NamedTuple):
    """Bytes `start` to `stop`, exclusive, of a blob."""

    blob: Blob
    start: int
    stop: int


class Excerpt(Blob):
    """Sections of other blobs, one after the other; copies nothing."""

    def __init__(self, sections: Sequence[Section]) -> None:
        self._sections = sections
        self.size = sum(section.stop - section.start for section in sections)

    def at(self, offset: int) -> Section:
        """What is left, from `offset` on, of the section that is there; of the last one behind the end."""
        for section in self._sections:
            length = section.stop - section.start
            if offset < length:
                return section._replace(start=section.start + offset)
            offset -= length
        last = self._sections[-1]
        return last._replace(start=last.stop)

    def read(self) -> bytes:
        return b"".join(blob.read_at(start, stop - start) for blob, start, stop in self._sections)

    def read_at(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes of one section."""
        blob, start, stop = self.at(offset)
        return blob.read_at(start, min(count, stop - start))

    def readinto(self, buffer: memoryview) -> int:
        data = self.read()
        buffer[: len(data)] = data
        return len(data)


class Multipart(NamedTuple):
    """Several ranges as one body, and the type that names its boundary."""

    body: Blob
    content_type: str


def multipart(body: Blob, content_type: str, ranges: Sequence[ByteRange]) -> Multipart:
    """`multipart/byteranges` (section 14.6). `content_type` goes into headers of parts: nothing in it may end
    a line."""
    boundary = uuid.uuid4().hex
    sections = tuple(_parts(body, content_type, ranges, boundary))
    return Multipart(Excerpt(sections), f'multipart/byteranges; boundary="{boundary}"')


def _parts(body: Blob, content_type: str, ranges: Sequence[ByteRange], boundary: str) -> Iterator[Section]:
    line_end = ""
    for found in ranges:
        facts = f"Content-Type: {content_type}\r\nContent-Range: {found.content_range(body.size)}\r\n\r\n"
        yield _text(f"{line_end}--{boundary}\r\n{facts}")
        yield Section(body, found.start, found.stop)
        line_end = "\r\n"
    yield _text(f"\r\n--{boundary}--\r\n")


def _text(text: str) -> Section:
    octets = text.encode()
    return Section(MemoryBlob(octets), 0, len(octets))
