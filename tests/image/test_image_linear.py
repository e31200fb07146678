"""Resizing in linear light: against another library's Lanczos in floating point, and what must stay exact."""

import tracemalloc
from io import BytesIO

import numpy as np
import pytest
from colour_science import delta_e
from image_makers import (
    DATA,
    alpha_a,
    array,
    every_format,
    gradient,
    make,
    make_one,
    oriented,
    photo_p,
    pillow,
    pixels,
    png,
    save,
    size,
    swapped_profile,
)
from PIL import Image as PillowImage
from pyvips import Image

from safelight.errors import UnsupportedMedia
from safelight.image import linear
from safelight.image.geometry import Size
from safelight.image.resize import scale
from safelight.image.result import Thumbnail

LINEAR = ("balanced", "best")
NOT_REFERENCE = ("fast", *LINEAR)


def light(levels: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, of 0..255."""
    level = levels / 255
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)


def levels(light: np.ndarray) -> np.ndarray:
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def expected(samples: np.ndarray, width: int, height: int) -> np.ndarray:
    """By Pillow, each band in 32-bit floating point."""
    bands = [
        np.asarray(PillowImage.fromarray(band).resize((width, height), PillowImage.Resampling.LANCZOS))
        for band in light(samples).astype(np.float32).transpose(2, 0, 1)
    ]
    return np.round(levels(np.dstack(bands)))


def photograph() -> np.ndarray:
    with PillowImage.open(DATA / "coffee.jpg") as image:
        return np.asarray(image.convert("RGB"))


def vips(samples: np.ndarray) -> Image:
    return Image.new_from_array(np.ascontiguousarray(samples.astype(np.uint8)), interpretation="srgb")


@pytest.mark.parametrize(
    ("width", "height"), [(300, 200), (299, 201), (61, 41), (7, 5), (1, 1), (1, 300), (500, 2), (590, 390)]
)
def test_as_lanczos_of_another_library(width: int, height: int) -> None:
    source = photograph()
    made = linear.resize(vips(source), source.shape[1::-1], Size(width, height))
    found = made.numpy().astype(int)
    assert found.shape == (height, width, 3)
    off = np.abs(found - expected(source, width, height))
    assert off.max() <= 1
    assert off.mean() < 0.05


def test_what_becomes_tiny_is_never_in_memory_as_a_whole() -> None:
    width, height = 2000, 3000
    image = Image.black(width, height, bands=3).copy(interpretation="srgb")
    tracemalloc.start()
    linear.resize(image, (width, height), Size(8, 12))
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < width * height


def test_one_side_may_grow() -> None:
    source = photograph()[:120, :200]
    found = linear.resize(vips(source), (200, 120), Size(50, 300)).numpy().astype(int)
    assert np.abs(found - expected(source, 50, 300)).max() <= 1


def test_every_level_comes_back() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 33, 1).repeat(8, 0)
    image = Image.new_from_array(np.ascontiguousarray(ramp), interpretation="b-w")
    made = linear.resize(image, (33, 2048), Size(7, 2048))
    assert (made.numpy() == np.arange(256).repeat(8)[:, None]).all()


@pytest.mark.parametrize("speed", LINEAR)
def test_black_and_white_mix_to_what_the_eye_sees(speed: str) -> None:
    y, x = np.mgrid[0:200, 0:200]
    board = png(np.where((x + y) % 2, 255, 0)[..., None].repeat(3, 2))
    middle = pixels(board, f"fit,50,50,png,speed:{speed}")[20:30, 20:30]
    assert np.abs(middle - 188).max() <= 1
    assert np.abs(pixels(board, "fit,50,50,png,speed:fast")[20:30, 20:30] - 128).max() <= 2


@pytest.mark.parametrize("speed", NOT_REFERENCE)
def test_grey_stays_grey(speed: str) -> None:
    grey = PillowImage.fromarray(photograph()).convert("L")
    for name in ("JPEG", "PNG"):
        for target in ("png", "jpeg"):
            assert pillow(make_one(save(grey, name), f"fit,60,60,{target},speed:{speed}").data).mode == "L"


@pytest.mark.parametrize("speed", LINEAR)
def test_hidden_colours_do_not_bleed(speed: str) -> None:
    result = pixels(alpha_a(), f"fit,33,33,png,background-color:none,speed:{speed}")
    visible = result[result[..., 3] > 8]
    assert visible[:, 0].max() <= 30, "the transparent red of A shows"
    assert result[16, 16].tolist() == [0, 0, 0, 255]
    assert result[1, 1, 3] == 0


def test_alpha_is_no_light() -> None:
    """Half covered is half, not what the eye sees of half the light."""
    field = np.zeros((100, 100, 4))
    field[:, ::2] = (200, 100, 50, 255)
    result = pixels(png(field), "fit,25,25,png,background-color:none,speed:balanced")[5:20, 5:20]
    assert np.abs(result[..., 3] - 127.5).max() <= 1.5
    assert np.abs(result[..., :3] - (200, 100, 50)).max() <= 1


@pytest.mark.parametrize("speed", NOT_REFERENCE)
def test_alpha_on_a_background(speed: str) -> None:
    result = pixels(alpha_a(), f"fit,60,60,png,background-color:blue,speed:{speed}")
    assert tuple(result[2, 2]) == (0, 0, 255)
    assert tuple(result[30, 30]) == (0, 0, 0)


@pytest.mark.parametrize("speed", NOT_REFERENCE)
@pytest.mark.parametrize("format_name", ["JPEG", "PNG"])
@pytest.mark.parametrize("width", [1601, 1603, 1607, 1613])
def test_edges_do_not_move(speed: str, format_name: str, width: int) -> None:
    """Also where the decoder gives a pixel that is only partly there: to a twentieth of a pixel.

    libvips, which `fast` resizes with, then moves all by up to half of a source pixel.
    """
    field = np.zeros((160, width, 3), np.uint8)
    field[:, 600:] = 255
    options = {"quality": 95} if format_name == "JPEG" else {}
    data = save(PillowImage.fromarray(field), format_name, **options)
    for side in (100, 150, 301):
        result = pixels(data, f"fit,{side},1000,png,speed:{speed}")[:, :, 0].mean(0)
        share = (light(result) if speed != "fast" else result / 255).sum()
        tolerance = 0.07 if speed != "fast" or format_name == "PNG" else 0.35
        assert side - share == pytest.approx(side * 600 / width, abs=tolerance)


ONE_STEP = (
    *("fit,77,77,png", "crop,90,41,png", "limit,120,1000,png", "pad,150,50,png", "crop,70,input,png"),
    *("fit,600,900,png", "stretch,31,400,png"),
)
EDITED = ("fit,120,120,png!rotate,30", "fit,64,64,png!crop,0.1,0.2,0.5,0.3")


@pytest.mark.parametrize("speed", NOT_REFERENCE)
def test_sizes_follow_the_reference(speed: str) -> None:
    for spec in (*ONE_STEP, *EDITED):
        head, *edits = spec.split("!")
        other = "!".join([f"{head},speed:{speed}", *edits])
        assert size(photo_p(), other) == size(photo_p(), spec)


@pytest.mark.parametrize("name", every_format())
@pytest.mark.parametrize("speed", NOT_REFERENCE)
def test_every_format_is_near_the_reference(name: str, speed: str) -> None:
    data = every_format()[name]
    for spec in ("fit,30,30,png", "crop,40,20,png", "fit,200,200,png"):
        found, before = pixels(data, f"{spec},speed:{speed}"), pixels(data, spec)
        assert found.shape == before.shape
        assert delta_e(found[..., :3], before[..., :3]).mean() < 4


@pytest.mark.parametrize("speed", NOT_REFERENCE)
def test_one_photograph_in_two_decoders(speed: str) -> None:
    """A PNG of its pixels goes through libvips, the JPEG does not."""
    data = save(PillowImage.fromarray(photograph()), "JPEG", quality=95)
    same = save(pillow(data), "PNG")
    for side in (40, 90, 180, 400):
        one, other = (pixels(source, f"fit,{side},{side},png,speed:{speed}") for source in (data, same))
        assert delta_e(one, other).mean() < 1.2


@pytest.mark.parametrize("speed", NOT_REFERENCE)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(speed: str, orientation: int) -> None:
    result = pixels(oriented(orientation), f"fit,32,24,png,speed:{speed}")
    for where, colour in (((5, 5), (255, 0, 0)), ((5, 26), (0, 0, 255)), ((22, 16), (0, 255, 0))):
        assert np.abs(result[where] - colour).max() < 12


@pytest.mark.parametrize("speed", NOT_REFERENCE)
def test_profiles_come_before_light(speed: str) -> None:
    for format_name in ("JPEG", "PNG"):
        file = BytesIO()
        swapped = swapped_profile()
        PillowImage.fromarray(photograph()).save(file, format_name, icc_profile=swapped)
        found, before = (
            pixels(file.getvalue(), spec) for spec in (f"fit,80,80,png,speed:{speed}", "fit,80,80,png")
        )
        assert delta_e(found, before).mean() < 3


@pytest.mark.parametrize("speed", NOT_REFERENCE)
def test_four_inks(speed: str) -> None:
    data = save(PillowImage.fromarray(photograph()).convert("CMYK"), "JPEG", quality=95)
    assert delta_e(pixels(data, f"fit,80,80,png,speed:{speed}"), pixels(data, "fit,80,80,png")).mean() < 3


@pytest.mark.parametrize("speed", NOT_REFERENCE)
@pytest.mark.parametrize("progressive", [False, True])
def test_density_stays_and_nothing_else(speed: str, progressive: bool) -> None:
    file = BytesIO()
    exif = PillowImage.Exif()
    exif[0x010E] = "secret"
    image = PillowImage.fromarray(photograph())
    image.save(file, "JPEG", dpi=(200, 200), exif=exif, progressive=progressive, comment=b"secret")
    made = make_one(file.getvalue(), f"fit,90,90,jpeg,speed:{speed}").data
    assert pillow(made).info["dpi"] == (200, 200)
    assert b"secret" not in made


@pytest.mark.parametrize("speed", NOT_REFERENCE)
@pytest.mark.parametrize("progressive", [False, True])
def test_broken_jpegs_are_refused(speed: str, progressive: bool) -> None:
    data = save(PillowImage.fromarray(photograph()), "JPEG", quality=90, progressive=progressive)
    for specs in (["fit,60,60,jpeg"], ["fit,60,60,jpeg", "fit,200,200,jpeg"]):
        with pytest.raises(UnsupportedMedia):
            make(data[: len(data) * 2 // 3], *(f"{spec},speed:{speed}" for spec in specs))


@pytest.mark.parametrize("speed", NOT_REFERENCE)
def test_oddities_that_viewers_forgive(speed: str) -> None:
    """Stray bytes between segments and after the end."""
    data = photo_p()
    second = 4 + int.from_bytes(data[4:6], "big")
    stray = data[:second] + b"\x00\x00\x00" + data[second:] + b"junk"
    found = pixels(stray, f"fit,60,60,png,speed:{speed}")
    off = delta_e(found, pixels(data, f"fit,60,60,png,speed:{speed}"))
    assert off.mean() < (0.5 if speed != "fast" else 2.5), "half a source pixel, see above"


SIZES = ("fit,400,400,png", "fit,300,300,png", "crop,128,128,png", "fit,64,64,png", "crop,30,50,png")


@pytest.mark.parametrize("speed", NOT_REFERENCE)
@pytest.mark.parametrize("format_name", ["JPEG", "PNG"])
def test_several_at_once_are_as_each_alone(speed: str, format_name: str) -> None:
    data = save(PillowImage.fromarray(photograph()), format_name)
    for specs in (SIZES, SIZES[1:], SIZES[3:], (*SIZES, "fit,90,90,png!rotate,90")):
        asked = [
            "!".join([f"{head},speed:{speed}", *edits])
            for head, *edits in (spec.split("!") for spec in specs)
        ]
        for output, alone in zip(make(data, *asked), asked, strict=True):
            assert isinstance(output, Thumbnail)
            assert delta_e(array(output.data), pixels(data, alone)).mean() < 1.5


def test_policies_side_by_side() -> None:
    """Each has a decode of its own."""
    specs = [f"fit,{side},{side},png,speed:{speed}" for speed in NOT_REFERENCE for side in (90, 60)]
    specs = [*specs, "fit,60,60,png", "fit,60,60,bad", "fit,60,60,png,speed:warp"]
    for data in (photo_p(), gradient(200, 150), alpha_a()):
        *good, bad, warp = make(data, *specs)
        for output, spec in zip(good, specs, strict=False):
            assert isinstance(output, Thumbnail)
            assert delta_e(array(output.data)[..., :3], pixels(data, spec)[..., :3]).mean() < 1.5
        assert str(bad) == "unknown format: BAD"
        assert str(warp) == "unknown speed: warp, expected one of: reference, fast, balanced, best"


def test_enlarging_is_not_done_in_light() -> None:
    image = vips(photograph()[:50, :80])
    found, plain = (scale(image, Size(200, 120), is_linear=linear_) for linear_ in (True, False))
    assert (found.numpy() == plain.numpy()).all()


def test_rows_are_read_once_and_in_order() -> None:
    """So that decoders may stream, even where outputs are far apart."""
    source = photograph()
    data = save(PillowImage.fromarray(source), "PNG")
    for width, height in ((3, 2), (10, 390), (590, 3)):
        image = Image.new_from_buffer(data, "", access="sequential")
        found = linear.resize(image, source.shape[1::-1], Size(width, height)).numpy().astype(int)
        assert np.abs(found - expected(source, width, height)).max() <= 1
