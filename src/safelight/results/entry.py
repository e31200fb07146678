"""One kept answer, and the file that it is in.

A file is `SLR1`, the length of its head and the checksum of that (4 bytes each, little-endian), the head as
JSON, then the body up to the end of the file.
"""

import os
import struct
from dataclasses import dataclass, field
from zlib import crc32

import msgspec

from safelight.blob import Blob, FileBlob, MemoryBlob
from safelight.results.epochs import SLOTS

IN_MEMORY_BYTES = 1 << 16
"""Bodies up to this size are read at once, and checked; larger ones stay in their file."""

Facts = tuple[tuple[str, str], ...]

_MAGIC = b"SLR1"
_START = struct.Struct("<4sII")
_HEAD_MAX_BYTES = 1 << 16
_READ_AT_ONCE = IN_MEMORY_BYTES + (1 << 12)
_FIRST_S, _END_S = -62_135_596_800, 253_402_300_800
"""Unix times of the years 1 to 9999: what `Last-Modified` can say."""


class Damaged(Exception):
    """A file that nobody has written in this format, or not to its end."""


class Read(msgspec.Struct, frozen=True, array_like=True):
    """Something stored that was read: the name of its storage among those of the endpoint, its key there, and
    the version that it had, as `Storage.version` has it.
    """

    origin: str
    key: str
    version: str | None


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an answer besides its body.

    `name`: of the file. `epochs`, `made`: the identity of the logical times, and the one at which its
    computation began. `slots`: what it depends on. `kept_at`: Unix time. `checksum`: of a body that is
    read into memory, else 0. `is_makeshift`: see `Reading`. `reads`: what it was made of. `marks`: for
    answers that machines share, slots and the versions of their marks before anything was read; None
    where these are not known.
    """

    name: str
    epochs: str
    made: int
    slots: tuple[int, ...]
    kept_at: float
    content_type: str
    cache_control: str | None
    facts: Facts
    etag: str
    modified: float | None
    size: int
    checksum: int
    is_makeshift: bool = False
    reads: tuple[Read, ...] = ()
    marks: tuple[tuple[int, str], ...] | None = None


_decoder = msgspec.json.Decoder(Head)


@dataclass(slots=True, eq=False)
class Entry:
    """A kept answer. `read_at`: when it was read from its file, by `time.monotonic`."""

    head: Head
    body: Blob
    read_at: float = field(default=0.0)


def checksum(body: Blob) -> int:
    """What `Head.checksum` is for `body`."""
    return crc32(body.read()) if body.size <= IN_MEMORY_BYTES else 0


def written(entry: Entry) -> list[Blob]:
    """The parts of the file of `entry`."""
    head = msgspec.json.encode(entry.head)
    return [MemoryBlob(_START.pack(_MAGIC, len(head), crc32(head)) + head), entry.body]


def read(descriptor: int, name: str) -> Entry:
    """What the file called `name` holds. Takes over `descriptor`. Raises: Damaged; OSError."""
    file = FileBlob(descriptor, os.fstat(descriptor).st_size)
    try:
        return unpacked(file, name)
    finally:
        file.close()


def unpacked(content: Blob, name: str) -> Entry:
    """What is written under `name`. A large body stays in the file of `content`. Raises: Damaged; OSError."""
    begin = content.read_at(0, _READ_AT_ONCE)
    head, start = _head(begin, name)
    if content.size != start + head.size:
        raise Damaged("the body has not the size that the head says")
    if head.size > IN_MEMORY_BYTES:
        return Entry(head, _part(content, start, head.size))
    data = begin[start:]
    if len(data) < head.size:
        data += content.read_at(len(begin), head.size - len(data))
    if crc32(data) != head.checksum:
        raise Damaged("the body has another checksum than the head says")
    return Entry(head, MemoryBlob(data))


def _part(content: Blob, start: int, size: int) -> Blob:
    """A part of `content`, which may be closed. Raises: OSError."""
    descriptor = content.fileno()
    if descriptor is None:
        return MemoryBlob(content.read_at(start, size))
    return FileBlob(os.dup(descriptor), size, start)


def _head(content: bytes, name: str) -> tuple[Head, int]:
    """The head, and where the body begins. Raises: Damaged."""
    if len(content) < _START.size:
        raise Damaged("the file is shorter than its first fields")
    magic, length, expected = _START.unpack_from(content)
    if magic != _MAGIC or length > _HEAD_MAX_BYTES:
        raise Damaged("the file has another format")
    octets = content[_START.size : _START.size + length]
    if len(octets) < length or crc32(octets) != expected:
        raise Damaged("the head is not as it was written")
    try:
        head = _decoder.decode(octets)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"the head is another one: {error}") from error
    if head.name != name:
        raise Damaged("the file was written under another name")
    if not all(0 <= slot < SLOTS for slot in (*head.slots, *(slot for slot, _ in head.marks or ()))):
        raise Damaged("the head names a slot that there is not")
    if not all(_FIRST_S <= at < _END_S for at in (head.kept_at, head.modified or 0)):
        raise Damaged("the head says a time that no calendar has")
    return head, _START.size + length
