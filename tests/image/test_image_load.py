"""Inputs: every format, damaged ones, bombs. One line of message, always ours."""

import struct
import subprocess
import sys
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_makers import (
    DATA,
    DEFAULTS,
    array,
    distance,
    error_of,
    every_format,
    flat,
    large_l,
    make,
    make_one,
    oriented,
    photo_p,
    pillow,
    pixels,
    png_header,
    save,
    size,
)
from PIL import Image as PillowImage
from pyvips import Image

import safelight
from safelight.errors import SafelightError, TooLarge, UnsupportedMedia
from safelight.image.formats import INPUT_FORMATS, sniff
from safelight.image.identify import identify
from safelight.image.pipeline import thumbnail
from safelight.image.result import ImageInfo, Thumbnail
from safelight.image.spec import ThumbnailSpec
from safelight.image.speed import SPEEDS

NO_DECODER = "unsupported media type: no decode delegate for this image format"
EXHAUSTED = "image too large: cache resources exhausted"
FILES = every_format()
MIME_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
    "BMP": "image/bmp",
    "TGA": "image/x-tga",
    "PCX": "image/x-pcx",
    "PPM": "image/x-portable-anymap",
    "DDS": "image/vnd.ms-dds",
    "JPEG2000": "image/jp2",
    "SGI": "image/x-sgi",
    "QOI": "image/qoi",
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_looks_like_the_original(name: str) -> None:
    result = pixels(FILES[name], "fit,60,60,png")
    expected = np.asarray(pillow(FILES["PNG"]).resize((60, 40), PillowImage.Resampling.LANCZOS)).astype(int)
    assert distance(result, expected) < 6, "mean difference per channel"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_buffer(name: str, kind: type) -> None:
    assert make_one(kind(FILES[name]), "fit,10,10,png").width == 10


@pytest.mark.covers("t015")
@pytest.mark.parametrize("name", MIME_TYPES)
def test_identify_every_format(name: str) -> None:
    assert identify(FILES[name], DEFAULTS) == ImageInfo(MIME_TYPES[name], 120, 80)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_truncated_images_fail(name: str, share: float) -> None:
    data = FILES[name]
    with pytest.raises(UnsupportedMedia) as caught:
        make(data[: int(len(data) * share)], "fit,60,60,png", "fit,10,10,png!rotate,30")
    assert caught.value.message == NO_DECODER
    single = error_of(data[: int(len(data) * share)], "fit,60,60,png")
    assert isinstance(single, UnsupportedMedia)


@pytest.mark.parametrize("name", FILES)
def test_corrupt_images_fail_cleanly_or_decode(name: str) -> None:
    rng = np.random.default_rng(7)
    for _ in range(30):
        data = bytearray(FILES[name])
        for position in rng.integers(0, len(data), 12):
            data[position] ^= int(rng.integers(1, 256))
        try:
            output = make(bytes(data), "fit,60,60,png")[0]
        except SafelightError as error:
            output = error
        if isinstance(output, SafelightError):
            assert isinstance(output, (UnsupportedMedia, TooLarge)), repr(output)
            assert output.message in (NO_DECODER, EXHAUSTED)


@settings(max_examples=300)
@given(st.sampled_from(sorted(FILES)), st.binary(max_size=40), st.integers(0, 40))
def test_any_beginning_is_refused_cleanly(name: str, junk: bytes, kept: int) -> None:
    with suppress(UnsupportedMedia, TooLarge):
        make(FILES[name][:kept] + junk, "fit,60,60,png")


@pytest.mark.covers("t019")
@pytest.mark.parametrize("data", [b"", bytearray(), memoryview(b"")])
def test_empty(data: bytes) -> None:
    with pytest.raises(UnsupportedMedia, match=r"^unsupported media type: zero-length blob not permitted"):
        identify(data, DEFAULTS)
    assert error_of(data, "fit,1,1,png").message.startswith("unsupported media type: zero-length blob")


OTHER_THINGS = (
    *(b"x", b"hello world\n", b"\0", b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"BM", b"%PDF-1.7\n"),
    *(b"<html>", b"\0" * 100, b"\x89PNG\r\n\x1a\n", b"II*\0", b"8BPS\0\x01", b"P6 1", b"\0\0\x02\0" * 9),
    *(b"#!/bin/sh\n" * 99, b"push graphic-context", b"\0\0\0\x18ftypavif", b"label:hello", b"P6 9 9 255\n"),
    b"\n\x05\x01\x08",
)


@pytest.mark.covers("t018")
@pytest.mark.parametrize("data", OTHER_THINGS)
def test_other_things(data: bytes) -> None:
    error = error_of(data, "fit,1,1,png")
    assert isinstance(error, UnsupportedMedia)
    assert error.message == NO_DECODER


def test_heic_is_refused() -> None:
    brand = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    assert isinstance(error_of(brand + b"\0" * 200, "fit,1,1,png"), UnsupportedMedia)


def tiff_header(width: int, height: int) -> bytes:
    """A TIFF that claims a size and has one strip of nothing."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(200)


BOMBS = {
    "PNG": png_header(60_000, 60_000),
    "interlaced PNG": png_header(30_000, 30_000, interlace=1),
    "GIF": b"GIF89a"
    + b"\x60\xea\x60\xea"
    + b"\x80\0\0"
    + b"\0" * 6
    + b",\0\0\0\0\x60\xea\x60\xea\0\x02\x02L\x01\0;",
    "BMP": save(PillowImage.new("RGB", (4, 4)), "BMP").replace(
        b"\x04\0\0\0\x04\0\0\0", b"\x60\xea\0\0\x60\xea\0\0"
    ),
    "PPM": b"P6 60000 60000 255\n" + b"\0" * 100,
    "SGI": b"\x01\xda\x01\x01\0\x03\xea\x60\xea\x60\0\x03" + b"\0" * 600,
    "TGA": b"\0\0\x02" + b"\0" * 9 + b"\x60\xea\x60\xea\x18\0" + b"\0" * 100,
    "QOI": b"qoif\0\0\xea\x60\0\0\xea\x60\x03\0" + b"\0" * 100,
    "TIFF": tiff_header(60_000, 60_000),
    "JPEG": save(PillowImage.new("L", (4, 4)), "JPEG").replace(b"\x08\0\x04\0\x04", b"\x08\xea\x60\xea\x60"),
    "JPEG 2000": save(PillowImage.new("RGB", (4, 4)), "JPEG2000").replace(
        b"\0\0\0\x04\0\0\0\x04", b"\0\0\xea\x60" * 2
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_from_the_header(name: str) -> None:
    for specs in (
        ["crop,60000,60000,png"],
        ["fit,9000,9000,png!rotate,3"],
        ["fit,9000,9000,png", "fit,1,1,png"],
    ):
        outputs: list[object]
        try:
            outputs = list(make(BOMBS[name], *specs))
        except SafelightError as error:
            outputs = [error]
        failures = [output for output in outputs if isinstance(output, SafelightError)]
        assert failures
        assert all(isinstance(failure, (TooLarge, UnsupportedMedia)) for failure in failures)
        assert all(failure.message in (EXHAUSTED, NO_DECODER) for failure in failures)


@pytest.mark.parametrize("name", ["PNG", "interlaced PNG", "PPM", "TGA", "QOI", "BMP", "TIFF", "GIF"])
def test_bombs_are_too_large_not_unsupported(name: str) -> None:
    assert isinstance(error_of(BOMBS[name], "fit,10,10,png"), TooLarge)


def test_pictures_in_icons_obey_the_limit() -> None:
    icon = bytearray(save(PillowImage.new("RGB", (32, 32)), "ICO", sizes=[(32, 32)]))
    start = int.from_bytes(icon[18:22], "little")
    icon[start:] = png_header(30_000, 30_000)
    icon[14:18] = (len(icon) - start).to_bytes(4, "little")
    assert isinstance(error_of(bytes(icon), "fit,10,10,png"), (TooLarge, UnsupportedMedia))


@pytest.mark.covers("t094")
@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_only(name: str) -> None:
    frames = [PillowImage.new("RGB", (20, 20), colour) for colour in ("red", "lime", "blue")]
    data = save(
        frames[0],
        name,
        save_all=True,
        append_images=frames[1:],
        **({"lossless": True} if name == "WEBP" else {}),
    )
    result = pixels(data, "fit,10,10,png")
    assert result.shape == (10, 10, 3)
    assert (result == (255, 0, 0)).all()


@pytest.mark.covers("t016")
def test_identify_a_huge_jpeg() -> None:
    assert identify(large_l(), DEFAULTS) == ImageInfo("image/jpeg", 9911, 14000)


@pytest.mark.covers("t115", "t116")
def test_shrink_on_load_lets_large_inputs_in() -> None:
    assert size(large_l(), "crop,16,16,png") == (16, 16)
    assert isinstance(error_of(large_l(), "crop,7000,7000,png"), TooLarge)
    edited = size(large_l(), "crop,16,16,png!rotate,90")
    assert edited == (16, 16)


@pytest.mark.covers("t118", "t119")
def test_without_optimization_the_large_input_is_refused() -> None:
    full = replace(DEFAULTS, shrink_on_load=False)
    assert error_of(large_l(), "crop,16,16,png", full).message == EXHAUSTED
    spec = "fit,128,128,png!rectangle,0,0,0.5,0.5"
    for changed in (full, replace(DEFAULTS, downsample=False)):
        assert size(photo_p(), spec, changed) == size(photo_p(), spec)


@pytest.mark.covers("t114")
def test_outputs_beyond_the_limit() -> None:
    specs = [ThumbnailSpec.parse(spec) for spec in ("crop,16,16,png", "crop,16000,16000,png", "fit,9,9,png")]
    good, bad, also_good = thumbnail(photo_p(), specs, DEFAULTS).outputs
    assert isinstance(bad, TooLarge)
    assert bad.message == EXHAUSTED
    assert not isinstance(good, SafelightError)
    assert not isinstance(also_good, SafelightError)
    assert error_of(photo_p(), "pad,16000,16000,png").message == EXHAUSTED
    assert error_of(photo_p(), "fit,16,16,png!resize_fit,99999,99999").message == EXHAUSTED
    assert (
        error_of(flat(9000, 2, (1, 1, 1)), "limit,9999,9999,png!resize_crop,12000,12000").message == EXHAUSTED
    )
    assert error_of(photo_p(), "fit,999999999,999999999,png").message == EXHAUSTED


def test_sides_that_the_format_cannot_state() -> None:
    line = flat(40_000, 1, (1, 2, 3))
    assert error_of(line, "limit,40000,9,webp").message == EXHAUSTED
    assert size(line, "limit,40000,9,png") == (40_000, 1)


def test_the_limit_counts_what_is_decoded() -> None:
    small = replace(DEFAULTS, max_pixels=60_000)
    assert isinstance(error_of(photo_p(), "fit,400,400,png", small), TooLarge)
    assert size(photo_p(), "fit,64,64,png", small) == (45, 64)


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("more", [(), ("fit,40,40,png", "crop,30,90,jpeg")])
def test_a_policy_that_wants_too_many_pixels_gets_less(speed: str, more: tuple[str, ...]) -> None:
    """400x300 may not be decoded, the half of it may, and is enough for the result."""
    data = save(PillowImage.linear_gradient("L").resize((400, 300)), "JPEG", quality=95)
    small = replace(DEFAULTS, max_pixels=40_000)
    wide, *others = make(data, f"fit,150,150,png,speed:{speed}", *more, settings=small)
    assert isinstance(wide, Thumbnail)
    assert all(isinstance(other, Thumbnail) for other in others)
    assert distance(array(wide.data), pixels(data, f"fit,150,150,png,speed:{speed}")) < 1
    assert isinstance(error_of(data, f"fit,201,201,png,speed:{speed}", small), TooLarge)
    tiny = replace(DEFAULTS, max_pixels=100)
    assert isinstance(error_of(data, f"fit,40,40,png,speed:{speed}", tiny), TooLarge)


def test_sniffing_knows_every_input_format() -> None:
    found = {sniff(data).name for data in FILES.values()} | {"SVG", "ICO", "PSD", "ICNS"}
    assert found == set(INPUT_FORMATS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK"])
@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_modes(mode: str, name: str) -> None:
    if (mode, name) == ("CMYK", "PNG"):
        return
    grey = PillowImage.new("L", (40, 30), 200 if mode != "1" else 255)
    image = grey.convert("RGBA").convert("CMYK") if mode == "CMYK" else grey.convert(mode)
    if mode == "I;16":
        image = PillowImage.fromarray(np.full((30, 40), 200 * 257, np.uint16))
    for spec in ("fit,20,20,jpeg", "fit,20,20,png!rotate,90", "pad,30,30,webp,background-color:red"):
        result = pixels(save(image, name), spec)
        middle = result[result.shape[0] // 2, result.shape[1] // 2]
        assert np.abs(middle[:3] - (255 if mode == "1" else 200)).max() <= (30 if mode == "CMYK" else 4)


def test_float_tiff() -> None:
    image = PillowImage.fromarray(np.full((30, 40), 0.5, np.float32))
    assert np.abs(pixels(save(image, "TIFF"), "fit,20,20,png") - 128).max() <= 1


@pytest.mark.parametrize("depth", ["uchar", "ushort"])
def test_grey_tiff_with_more_bands_than_alpha(depth: str) -> None:
    grey = Image.black(8, 8).linear(1, [200, 255, 7, 90])
    data = (grey if depth == "uchar" else grey * 257).cast(depth).copy(interpretation="b-w")
    for bands in (3, 4):
        assert (pixels(data[:bands].tiffsave_buffer(), "fit,8,8,png") == 200).all()


def test_16_bit_ppm() -> None:
    data = b"P5 4 4 65535\n" + b"\x80\x00" * 16
    assert np.abs(pixels(data, "fit,4,4,png") - 128).max() <= 1


def test_psd() -> None:
    header = b"8BPS\0\x01" + b"\0" * 6 + b"\0\x03" + b"\0\0\0\x04" + b"\0\0\0\x05" + b"\0\x08\0\x03"
    planes = b"\x10" * 20 + b"\x20" * 20 + b"\x30" * 20
    data = header + b"\0" * 12 + b"\0\0" + planes
    assert identify(data, DEFAULTS) == ImageInfo("image/vnd.adobe.photoshop", 5, 4)
    assert (pixels(data, "limit,9,9,input") == (0x10, 0x20, 0x30)).all()


def test_ico_with_alpha() -> None:
    data = save(PillowImage.new("RGBA", (32, 32), (255, 0, 0, 0)), "ICO", sizes=[(32, 32)])
    assert (pixels(data, "fit,16,16,png") == 255).all()


def test_inputs_raise_no_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in FILES.values():
            make_one(data, "fit,30,30,png")


def test_large_outputs_stream_in_order() -> None:
    data = Image.new_from_file(str(DATA / "coffee.jpg")).resize(4).jpegsave_buffer()
    reference = pixels(data, "fit,1500,1500,png")
    for spec in ("fit,1500,1500,png,interlace:PNGInterlace", "fit,1500,1500,tiff", "fit,1500,1500,avif"):
        output = make_one(data, spec)
        assert (output.width, output.height) == (1500, 1000)
        assert distance(array(output.data), reference) < 4
    assert pixels(data, "crop,1500,200,png,float-y:1").shape == (200, 1500, 3)
    assert pixels(data, "pad,1500,1500,gif").shape == (1500, 1500, 3)


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_the_callers_buffer_may_be_reused_afterwards(name: str) -> None:
    buffer = bytearray(FILES[name])
    output = make_one(buffer, "fit,10,10,png")
    buffer[:] = b"\0" * len(buffer)
    assert array(output.data).shape == (7, 10, 3)
    buffer.extend(b"x")


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 9), (3, 2)])
def test_the_smallest_jpegs_can_be_edited(size: tuple[int, int], speed: str) -> None:
    data = save(PillowImage.new("RGB", size, (200, 100, 50)), "JPEG", quality=95)
    found = pixels(data, f"stretch,9,9,png,speed:{speed}!rotate,90")
    assert found.shape == (9, 9, 3)
    assert np.abs(found - (200, 100, 50)).max() < 5


def test_orientation_in_broken_exif_is_ignored() -> None:
    data = oriented(6)
    position = data.index(b"Exif\0\0")
    for offset in range(6, 32):
        broken = bytearray(data)
        broken[position + offset] ^= 0xFF
        assert sorted(size(bytes(broken), "limit,99,99,png")) == [48, 64]


def test_warnings_of_libvips_do_not_call_python() -> None:
    """A warning while garbage is collected during a warning would end the process."""
    code = """
import logging, sys, pyvips
import safelight.image.load
logging.basicConfig(stream=sys.stdout)
image = pyvips.Image.black(8, 8, bands=3).copy(interpretation="srgb")
image.set_type(pyvips.GValue.blob_type, "icc-profile-data", bytes(200))
image.icc_transform("srgb", embedded=True).copy_memory()
"""
    environment = {"PYTHONPATH": str(Path(safelight.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True
    )
    assert done.stdout == ""
    assert "VIPS-WARNING **: " in done.stderr
    assert "corrupt profile" in done.stderr
