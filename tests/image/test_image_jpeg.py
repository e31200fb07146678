"""JPEG segments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_makers import oriented, photo_p, save
from PIL import Image as PillowImage

from safelight.image.jpeg import JpegHeader, exif_orientation, read_header, with_jfif


def test_header_of_p() -> None:
    assert read_header(photo_p()) == JpegHeader(509, 719, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int) -> None:
    header = read_header(memoryview(oriented(orientation)))
    assert header is not None
    assert header.orientation == orientation


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [True, False])
def test_kinds(mode: str, progressive: bool) -> None:
    data = save(PillowImage.new(mode, (30, 20)), "JPEG", progressive=progressive)
    header = read_header(data)
    assert header is not None
    assert (header.width, header.height, header.orientation) == (30, 20, 1)
    assert (header.coefficient_bytes > 0) == progressive
    assert header.is_cmyk == (mode == "CMYK")


def test_fill_bytes_between_segments() -> None:
    data = photo_p()
    assert read_header(data[:2] + b"\xff\xff\xff" + data[2:]) == JpegHeader(509, 719, 1)


@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    read_header(b"\xff\xd8" + data)
    exif_orientation(b"II*\0" + data)
    exif_orientation(b"MM\0*" + data)
    exif_orientation(data)


@given(st.integers(2, 200))
def test_truncated_headers(length: int) -> None:
    read_header(oriented(6)[:length])


def test_jfif_marker() -> None:
    assert with_jfif(b"\xff\xd8rest", None)[2:20] == b"\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
    assert with_jfif(b"\xff\xd8rest", (200, 300))[13:18] == b"\x01\0\xc8\x01\x2c"
