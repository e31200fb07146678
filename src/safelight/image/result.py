"""What the image core gives back. Plain values, importable without libvips."""

from dataclasses import dataclass

from safelight.errors import SafelightError


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
    """The answer to a request: one output per specification, in order, a failure in place of a result."""

    source: ImageInfo
    outputs: tuple[Thumbnail | SafelightError, ...]
