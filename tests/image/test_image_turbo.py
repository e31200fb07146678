"""JPEG encoding by libjpeg-turbo itself: nobody may see that it is not libvips."""

from typing import Any

import numpy as np
import pytest
from image_makers import DATA, make_one, png
from pyvips import Image

from safelight.image import turbo
from safelight.image.geometry import Size
from safelight.image.jpeg import with_jfif


def picture(width: int, height: int, *, grey: bool = False) -> Image:
    image = Image.thumbnail(str(DATA / "coffee.jpg"), width, height=height, size="force").copy_memory()
    return image.colourspace("b-w").copy_memory() if grey else image


def by_libvips(image: Image, density: tuple[int, int] | None = None, **options: Any) -> bytes:
    return with_jfif(image.jpegsave_buffer(keep="none", **options), density)


@pytest.mark.parametrize("quality", [1, 24, 50, 80, 89, 100])
@pytest.mark.parametrize("table", [0, 2, 8])
def test_same_bytes(quality: int, table: int) -> None:
    image = picture(301, 199)
    made = turbo.encode(
        image,
        Size(301, 199),
        quality,
        table,
        full_chroma=quality >= 90,
        progressive=False,
        optimized=True,
        density=None,
    )
    assert made == by_libvips(image, Q=quality, quant_table=table, optimize_coding=True)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("full_chroma", [False, True])
@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("size", [Size(1, 1), Size(17, 3), Size(8, 640), Size(640, 480)])
def test_same_pixels_whatever_the_form(size: Size, grey: bool, full_chroma: bool, optimized: bool) -> None:
    image = picture(*size, grey=grey)
    made = turbo.encode(
        image, size, 80, 2, full_chroma=full_chroma, progressive=False, optimized=optimized, density=None
    )
    mode = "off" if full_chroma else "on"
    told = by_libvips(image, Q=80, quant_table=2, optimize_coding=optimized, subsample_mode=mode)
    assert pixels(made).shape == (size.height, size.width, 1 if grey else 3)
    assert (pixels(made) == pixels(told)).all()
    assert abs(len(made) - len(told)) < 30


@pytest.mark.parametrize("full_chroma", [False, True])
def test_progressive_has_the_same_pixels(full_chroma: bool) -> None:
    image, size = picture(320, 240), Size(320, 240)
    made = turbo.encode(
        image, size, 80, 2, full_chroma=full_chroma, progressive=True, optimized=True, density=None
    )
    mode = "off" if full_chroma else "on"
    told = by_libvips(image, Q=80, quant_table=2, interlace=True, subsample_mode=mode)
    assert b"\xff\xc2" in made
    assert (pixels(made) == pixels(told)).all()
    assert len(made) < 1.02 * len(told)


def test_density_is_that_of_the_file() -> None:
    image, size = picture(32, 24), Size(32, 24)
    made = turbo.encode(
        image, size, 80, 0, full_chroma=False, progressive=False, optimized=False, density=(300, 72)
    )
    assert made == by_libvips(image, (300, 72), Q=80)


@pytest.mark.parametrize("speed", ["reference", "fast", "balanced"])
def test_small_and_large_are_the_same_file_format(speed: str) -> None:
    """Small ones are encoded here, large ones by libvips."""
    data = (DATA / "coffee.jpg").read_bytes()
    small, large = (
        make_one(data, f"pad,{side},{side},jpeg,quality:80,chroma:420,speed:{speed}").data
        for side in (300, 1700)
    )
    assert small[:20] == large[:20]
    assert small[6:18] == b"JFIF\0\x01\x01\x01\0\x48\0\x48"


def pixels(data: bytes) -> np.ndarray:
    found = Image.new_from_buffer(data, "")
    return found.numpy().reshape(found.height, found.width, found.bands)


@pytest.mark.parametrize("speed", ["reference", "fast", "balanced", "best"])
@pytest.mark.parametrize("options", ["", ",interlace:JPEGInterlace", ",chroma:444"])
@pytest.mark.parametrize("quality", [90, 100])
def test_noise_is_encoded_too(speed: str, options: str, quality: int) -> None:
    """It takes 3 bytes a pixel, more than the room that Pillow has for it."""
    noise = 255 * np.random.default_rng(1).integers(0, 2, (301, 299, 3))
    made = make_one(png(noise), f"fit,299,301,jpeg,quality:{quality},speed:{speed}{options}")
    assert (made.width, made.height) == (299, 301)
    assert np.abs(pixels(made.data).astype(int) - noise).mean() < (3 if quality == 100 else 10)
    assert made.data[6:11] == b"JFIF\0"
