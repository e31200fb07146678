"""JPEG files as segments: what the header says, and the JFIF marker that libvips leaves out. No pixels."""

import re
from dataclasses import dataclass
from itertools import islice
from struct import pack, unpack_from

from safelight.image.cost import coefficient_bytes
from safelight.image.formats import Buffer
from safelight.image.geometry import Size

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF markers: ITU-T T.81, table B.1
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_SCAN = 0xDA
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_EXIF = b"Exif\0\0"
_ORIENTATION_TAG = 0x0112
_SHORT = 3
MOST_COMPONENTS = _INKS = 4
_MAX_SEGMENTS = 2_000
_SCAN_MARKERS = re.compile(rb"\xff\xda")
_USUAL_SCANS = 64
"""No encoder's script has so many."""


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """Stored size in pixels and EXIF orientation 1..8.

    `coefficient_bytes`: for all coefficients, if they must be there before the first pixel: in progressive
    files, and where not all components are in the first scan; else 0. `is_cmyk`: four components.
    `is_progressive`: told in several scans, each a little better.
    """

    width: int
    height: int
    orientation: int
    coefficient_bytes: int = 0
    is_cmyk: bool = False
    is_progressive: bool = False


def read_header(data: Buffer) -> JpegHeader | None:
    """Walk the segments up to the first scan. None when this is not a JPEG that we understand.

    Reads a few dozen bytes per segment, copies at most the EXIF one.
    """
    view = memoryview(data)
    position, orientation = 2, 1
    frame: tuple[int, memoryview] | None = None
    for _ in range(_MAX_SEGMENTS):
        while position + 1 < len(view) and view[position] == 0xFF and view[position + 1] == 0xFF:
            position += 1  # fill bytes, T.81 B.1.1.2
        if position + 4 > len(view) or view[position] != 0xFF:
            break
        marker = view[position + 1]
        if marker in _STANDALONE:
            position += 2
            continue
        length = int.from_bytes(view[position + 2 : position + 4], "big")
        if length < 2:
            break
        body = view[position + 4 : position + 2 + length]
        if marker in _FRAMES:
            frame = frame or (marker, body)
        elif marker == _SCAN:
            return frame and _header(*frame, orientation, body[0] if body else 0)
        elif marker == 0xE1 and bytes(body[:6]) == _EXIF:
            orientation = exif_orientation(bytes(body[6:])) or orientation
        position += 2 + length
    return frame and _header(*frame, orientation, 0)


def _header(marker: int, frame: memoryview, orientation: int, scanned: int) -> JpegHeader | None:
    """What a frame header says (T.81 B.2.2); `scanned`: how many of its components are in the first scan."""
    if len(frame) < 6:
        return None
    height, width = unpack_from(">HH", frame, 1)
    if not width or not height:
        return None
    factors = [divmod(frame[start], 16) for start in range(7, min(len(frame), 6 + 3 * frame[5]), 3)]
    is_whole = marker not in _PROGRESSIVE and scanned >= frame[5]
    try:
        kept = 0 if is_whole else coefficient_bytes(Size(width, height), factors)
    except ValueError:
        return None
    is_cmyk, is_progressive = frame[5] == _INKS, marker in _PROGRESSIVE
    return JpegHeader(width, height, orientation, kept, is_cmyk, is_progressive)


def has_many_scans(data: Buffer) -> bool:
    """Whether there are more scans than any encoder makes; a picture in the metadata counts as well.

    Each takes a pass over all coefficients, however short it is: 48 megapixels and 10,000 scans of 12 bytes
    are a minute of work. Looking for them takes 1 ms a megabyte.
    """
    found = islice(_SCAN_MARKERS.finditer(data), _USUAL_SCANS + 1)
    return sum(1 for _ in found) > _USUAL_SCANS


def exif_orientation(block: bytes) -> int | None:
    """Orientation 1..8 in the first directory of an EXIF block (TIFF 6.0, section 2), or None."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return None
    (start,) = unpack_from(order + "I", block, 4)
    if start + 2 > len(block):
        return None
    (count,) = unpack_from(order + "H", block, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, kind = unpack_from(order + "HH", block, entry)
        if tag == _ORIENTATION_TAG:
            (value,) = unpack_from(order + "H", block, entry + 8)
            return value if kind == _SHORT and 1 <= value <= 8 else None
    return None


def with_jfif(data: bytes, density: tuple[int, int] | None) -> bytes:
    """Put a JFIF marker after the first two bytes (JFIF 1.02). `density`: pixels per inch across and down."""
    unit, (across, down) = (1, density) if density else (0, (1, 1))
    marker = pack(">2sH5sHBHHBB", b"\xff\xe0", 16, b"JFIF\0", 0x0101, unit, across, down, 0, 0)
    return data[:2] + marker + data[2:]
