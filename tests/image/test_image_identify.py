"""Identifying: the header is enough, but not for what could never be decoded."""

import struct
import zlib

import pytest

from safelight.errors import TooLarge
from safelight.image.identify import identify
from safelight.image.result import ImageInfo
from safelight.image.settings import ImageSettings

SETTINGS = ImageSettings()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int) -> bytes:
    """The header of a picture of any size, and too few pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    """The header of a grey baseline JPEG (ITU T.81, annex B)."""
    frame = struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)
    return (
        b"\xff\xd8\xff\xc0"
        + struct.pack(">H", len(frame) + 2)
        + frame
        + b"\xff\xda\0\x08\1\1\0\0\x3f\0"
        + bytes(64)
    )


def test_the_limit_is_what_decoding_needs() -> None:
    assert identify(png(11_000, 12_000), SETTINGS) == ImageInfo("image/png", 11_000, 12_000)
    with pytest.raises(TooLarge, match=r"^image too large: cache resources exhausted$"):
        identify(png(60_000, 60_000), SETTINGS)


@pytest.mark.covers("t016")
def test_a_jpeg_may_be_larger_because_it_shrinks_on_load() -> None:
    assert identify(jpeg(60_000, 60_000), SETTINGS) == ImageInfo("image/jpeg", 60_000, 60_000)
    with pytest.raises(TooLarge):
        identify(jpeg(60_000, 60_000), ImageSettings(shrink_on_load=False))
