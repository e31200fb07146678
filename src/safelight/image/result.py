"""What the image core gives back. Plain values, importable without libvips."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from safelight.errors import SafelightError
from safelight.image.counts import CountName


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the header of an image says: type and size in pixels (rotated by EXIF when that is applied)."""

    mime_type: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One encoded image and its size in pixels."""

    data: bytes
    mime_type: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """The answer to a request: one output per specification, in order, a failure in place of a result.

    `counts`: logical operations, for the statistics; empty when another server did the work.
    """

    source: ImageInfo
    outputs: tuple[Thumbnail | SafelightError, ...]
    counts: Mapping[CountName, int] = field(default_factory=dict["CountName", int])
