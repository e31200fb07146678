"""Colours and edges of outputs, measured by independent means; every limit is one of docs/images.md.

Differences of colour are CIEDE2000: about 1 is the least that a careful observer sees side by side.
"""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import pyvips
from colour_science import converted, delta_e, delta_e_lab, profile
from image_makers import alpha_a, array, make, make_one, photo_p, pillow, pixels, png, save
from PIL import Image as PillowImage
from PIL import ImageCms
from pyvips import Image

from safelight.image.result import Thumbnail

# The 24 patches of a common test chart, as sRGB.
CHART = np.array(
    [
        (115, 82, 68), (194, 150, 130), (98, 122, 157), (87, 108, 67), (133, 128, 177), (103, 189, 170),
        (214, 126, 44), (80, 91, 166), (193, 90, 99), (94, 60, 108), (157, 188, 64), (224, 163, 46),
        (56, 61, 150), (70, 148, 73), (175, 54, 60), (231, 199, 31), (187, 86, 149), (20, 133, 161),
        (243, 243, 242), (200, 200, 200), (160, 160, 160), (122, 122, 121), (85, 85, 85), (52, 52, 52),
    ]
)  # fmt: skip
CELL = 16


def chart(patches: np.ndarray) -> np.ndarray:
    """4 rows of 6 patches, 16 pixels each."""
    return np.kron(patches.reshape(4, 6, -1), np.ones((CELL, CELL, 1)))


def patches(samples: np.ndarray) -> np.ndarray:
    """The middle pixel of every patch, at any size."""
    height, width = samples.shape[0] // 4, samples.shape[1] // 6
    return samples[height // 2 :: height, width // 2 :: width, :3].reshape(24, 3)


def differences(data: bytes, spec: str = "fit,48,32,png") -> np.ndarray:
    """CIEDE2000 of every patch of a chart."""
    return delta_e(patches(pixels(data, spec)), CHART)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1, 2), (50, 0, 0), 2.3669),
        ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_measure_itself(one: tuple[float, ...], other: tuple[float, ...], expected: float) -> None:
    """Pairs of Sharma, Wu and Dalal, table 1."""
    assert delta_e_lab(np.array(one), np.array(other)) == pytest.approx(expected, abs=1e-4)


# --- inputs


def _sixteen_bit() -> bytes:
    samples = (chart(CHART) * 257).astype(np.uint16)
    return Image.new_from_array(samples, interpretation="rgb16").pngsave_buffer(bitdepth=16)


def _plain() -> PillowImage.Image:
    return PillowImage.fromarray(chart(CHART).astype(np.uint8))


def _palette(name: str) -> bytes:
    return save(_plain().quantize(24, dither=PillowImage.Dither.NONE), name)


def _alpha(bits: int) -> bytes:
    samples = np.dstack([chart(CHART), np.full((64, 96), 255)])
    if bits == 8:
        return png(samples)
    image = Image.new_from_array((samples * 257).astype(np.uint16), interpretation="rgb16")
    return image.pngsave_buffer(bitdepth=16)


@pytest.mark.parametrize(
    "make_input",
    [
        lambda: png(chart(CHART)),
        _sixteen_bit,
        lambda: _palette("PNG"),
        lambda: _palette("GIF"),
        lambda: _alpha(8),
        lambda: _alpha(16),
        lambda: save(_plain(), "TIFF"),
        lambda: save(_plain(), "WEBP", lossless=True),
        lambda: save(_plain(), "BMP"),
    ],
    ids=["png", "png16", "palette", "gif", "rgba", "rgba16", "tiff", "webp", "bmp"],
)
def test_srgb_inputs_keep_their_colours_exactly(make_input: Callable[[], bytes]) -> None:
    data = make_input()
    for spec in ("fit,48,32,png", "fit,96,64,png", "fit,48,32,png!rotate,180!rotate,180"):
        assert (patches(pixels(data, spec)) == CHART).all(), spec


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("alpha", [False, True])
def test_greys_stay_exact_and_half_transparent_ones_mix_with_the_background(bits: int, alpha: bool) -> None:
    levels = np.linspace(0, 255, 24).round()
    field = chart(levels[:, None])
    opacity = np.full_like(field, 128)
    samples = np.dstack([field, opacity]) if alpha else field
    if bits == 16:
        image = Image.new_from_array((samples * 257).astype(np.uint16), interpretation="grey16")
    else:
        image = Image.new_from_array(samples.astype(np.uint8), interpretation="b-w")
    data = image.pngsave_buffer(bitdepth=bits)
    expected = levels * 128 / 255 + 255 * 127 / 255 if alpha else levels
    for spec in ("fit,96,64,png", "fit,48,32,png"):
        found = patches(pixels(data, spec))
        assert np.abs(found - expected[:, None]).max() <= (1 if alpha else 0)
    assert pillow(make_one(data, "fit,48,32,png,background-color:none").data).mode == (
        "RGBA" if alpha else "L"
    )


SPACES = pytest.mark.parametrize("space", ["Adobe RGB", "Display P3"])


@SPACES
@pytest.mark.parametrize("name", ["PNG", "TIFF", "JPEG", "WEBP"])
@pytest.mark.parametrize("spec", ["fit,48,32,png", "fit,96,64,png", "fit,48,32,png!rotate,0"])
def test_other_rgb_spaces_come_out_right(space: str, name: str, spec: str) -> None:
    samples = np.rint(converted(CHART, "sRGB", space))
    image = PillowImage.fromarray(chart(samples).astype(np.uint8))
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(name, {})
    data = save(image, name, icc_profile=profile(space), **options)
    found = differences(data, spec)
    assert found.max() < 1.0
    assert found.mean() < 0.4
    unconverted = delta_e(samples, CHART)
    assert unconverted.max() > 3, "the test would notice a profile that is ignored"


@SPACES
def test_colours_outside_of_srgb_end_at_its_border(space: str) -> None:
    data = save(PillowImage.new("RGB", (32, 32), (0, 255, 0)), "PNG", icc_profile=profile(space))
    assert pixels(data, "fit,16,16,png")[8, 8].tolist() == [0, 255, 0]


def test_the_profiles_of_this_test_are_what_they_say() -> None:
    """Another colour engine than libvips' and another formula than that of the profile agree."""
    for space in ("sRGB", "Adobe RGB", "Display P3"):
        samples = np.rint(converted(CHART, "sRGB", space)).astype(np.uint8)
        image = PillowImage.fromarray(samples.reshape(4, 6, 3))
        source = ImageCms.ImageCmsProfile(BytesIO(profile(space)))
        through = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
        assert delta_e(np.asarray(through).reshape(24, 3), CHART).max() < 1.0


def _press() -> bytes:
    """A profile of a printing press; libvips has one."""
    return pyvips.Operation.call("profile_load", "cmyk")


def _printed(samples: np.ndarray) -> PillowImage.Image:
    """sRGB to the inks of that press."""
    source = PillowImage.fromarray(samples.astype(np.uint8))
    press = ImageCms.ImageCmsProfile(BytesIO(_press()))
    made = ImageCms.profileToProfile(
        source, ImageCms.createProfile("sRGB"), press, outputMode="CMYK",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC, flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )  # fmt: skip
    assert made is not None
    return made


def _without_adobe_marker(data: bytes) -> bytes:
    start = data.index(b"\xff\xee\x00\x0eAdobe")
    return data[:start] + data[start + 16 :]


INKS = ("tiff", "jpeg", "plain jpeg")  # Adobe's marker or not: all CMYK JPEGs hold inverted inks


def _inks(kind: str) -> bytes:
    image = _printed(chart(CHART))
    embedded = {"icc_profile": _press()} if "profile" in kind else {}
    if kind.startswith("tiff"):
        return save(image, "TIFF", **embedded)
    options = {"quality": 100, "subsampling": 0, **embedded}
    data = save(image, "JPEG", **options)
    return _without_adobe_marker(data) if "plain" in kind else data


@pytest.mark.covers("t104")
@pytest.mark.parametrize(
    "kind", ["tiff", "tiff profile", "jpeg", "jpeg profile", "plain jpeg", "plain jpeg profile"]
)
@pytest.mark.parametrize("spec", ["fit,48,32,png", "fit,96,64,png", "fit,48,32,png!rotate,0"])
def test_inks_come_out_right(kind: str, spec: str) -> None:
    """A chart printed and seen again: a press cannot reach all of its colours."""
    data = _inks(kind)
    assert pillow(data).mode == "CMYK"
    printed = _printed(chart(CHART))
    seen = Image.new_from_memory(printed.tobytes(), *printed.size, 4, "uchar").copy(interpretation="cmyk")
    seen = seen.icc_transform(
        "srgb", embedded=True, input_profile="cmyk", intent="relative", black_point_compensation=True
    )
    found = patches(pixels(data, spec))
    assert delta_e(found, patches(np.asarray(seen))).max() < 0.5, "as libvips sees these inks"
    again = delta_e(found, CHART)
    assert np.median(again) < 1.5, "as the chart was"
    assert again.max() < 5, "what a press cannot print"


def test_an_output_of_inks_with_alpha() -> None:
    inks = np.dstack([np.asarray(_printed(chart(CHART))), np.full((64, 96), 255, np.uint8)])
    image = Image.new_from_array(np.ascontiguousarray(inks), interpretation="cmyk")
    data = image.tiffsave_buffer()
    assert np.median(differences(data)) < 1.5


# --- outputs


LIMITS = {  # largest difference of a sample, of a flat colour
    "png": 0,
    "tiff": 0,
    "gif": 1,
    "jpeg,quality:100": 1,
    "jpeg": 2,
    "webp": 5,
    "webp,quality:100": 2,
    "avif": 3,
}


@pytest.mark.parametrize("output", LIMITS)
def test_flat_colours(output: str) -> None:
    worst = 0
    for colour in [*CHART, (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255)]:
        data = png(np.full((48, 64, 3), colour))
        for sides in ("64,48", "32,24", "100,75"):
            worst = max(worst, int(np.abs(pixels(data, f"fit,{sides},{output}") - colour).max()))
    assert worst <= LIMITS[output]


def _edges() -> np.ndarray:
    """Black and white, in wedges and in bars of 12 to 3 pixels."""
    y, x = np.mgrid[0:480, 0:640]
    wedges = (np.floor(np.degrees(np.arctan2(y - 240.3, x - 160.7)) / 15) % 2).astype(bool)
    bars = ((x - 320) // np.maximum(3, 12 - y // 50)) % 2 == 0
    return np.where(np.where(x < 320, wedges, bars), 255, 0)[..., None].repeat(3, 2)


@pytest.mark.parametrize(
    ("side", "mean", "most"), [(64, 1.5, 12), (100, 1, 6), (160, 1, 6), (213, 0.5, 6), (320, 0.5, 6)]
)
def test_edges_are_those_of_lanczos(side: int, mean: float, most: float) -> None:
    data = png(_edges())
    found = pixels(data, f"fit,{side},{side},png")
    full = PillowImage.fromarray(_edges().astype(np.uint8))
    expected = np.asarray(full.resize(found.shape[1::-1], PillowImage.Resampling.LANCZOS)).astype(int)
    off = delta_e(found, expected)
    assert off.mean() < mean
    assert np.percentile(off, 99) < most


@pytest.mark.parametrize("side", [64, 100, 160])
def test_edges_of_jpegs_too(side: int) -> None:
    """Here most of the shrinking happens while the file is decoded."""
    data = save(PillowImage.fromarray(_edges().astype(np.uint8)), "JPEG", quality=95)
    found = pixels(data, f"fit,{side},{side},png")
    full = pillow(data).resize(found.shape[1::-1], PillowImage.Resampling.LANCZOS)
    off = delta_e(found, np.asarray(full).astype(int))
    assert off.mean() < 1.0
    assert np.percentile(off, 99) < 6.0


def test_edges_do_not_move() -> None:
    """An edge at three eighths of the width is there at any size, to a twentieth of a pixel."""
    field = np.zeros((80, 800, 3))
    field[:, 300:] = 255
    for width in (40, 100, 160, 400, 1200):
        row = pixels(png(field), f"fit,{width},1000,png")[:, :, 0].mean(0) / 255
        assert width - row.sum() == pytest.approx(width * 300 / 800, abs=0.05)


# --- orientation


def _stored(upright: np.ndarray, orientation: int) -> bytes:
    """A TIFF whose EXIF orientation gives `upright`."""
    undo: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2), 8: lambda a: np.rot90(a, -1),
    }  # fmt: skip
    image = Image.new_from_array(
        np.ascontiguousarray(undo[orientation](upright)), interpretation="srgb"
    ).copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    return image.tiffsave_buffer()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_every_orientation_gives_what_the_upright_picture_gives(orientation: int) -> None:
    upright = np.asarray(pillow(photo_p()).convert("RGB").crop((0, 0, 300, 200)))
    specs = [
        "crop,100,100,png", "crop,90,41,png,float-x:0.1,float-y:0.3", "crop,41,90,png,float-x:0.9",
        "fit,77,77,png", "pad,150,50,png,float-x:0.2,background-color:red", "limit,120,1000,png",
        "crop,70,input,png",
        "fit,120,120,png!crop,0.1,0.2,0.5,0.3", "fit,120,120,png!rotate,30!rectangle,0.1,0.1,0.2,0.1",
        "fit,120,120,png!pixelate,0.1,0.2,0.5,0.3,size:0.05", "fit,120,120,png!resize_crop,50,90,float-x:0",
        "fit,120,120,png!blur,0.5,0,0.5,1,sigma:0.02",
    ]  # fmt: skip
    for spec in specs:
        found, expected = (pixels(_stored(upright, one), spec) for one in (orientation, 1))
        assert found.shape == expected.shape
        assert delta_e(found[..., :3], expected[..., :3]).mean() < 0.5, spec
    together = make(_stored(upright, orientation), *specs)
    for output, single in zip(together, make(_stored(upright, 1), *specs), strict=True):
        assert isinstance(output, Thumbnail)
        assert isinstance(single, Thumbnail)
        assert delta_e(array(output.data), array(single.data)).mean() < 0.5


# --- the published facts that no other file tests (reference section 15)


def test_published_facts_of_transparency() -> None:
    assert pixels(alpha_a(), "fit,128,128,jpeg")[5, 5].min() >= 250
    assert pixels(alpha_a(), "fit,128,128,jpeg")[64, 64].max() <= 5


def test_published_facts_of_padding() -> None:
    assert pixels(photo_p(), "pad,128,128,png")[2, 2].tolist() == [255, 255, 255]
    green = pixels(photo_p(), "pad,128,128,png,background-color:green")
    outside = (green == (0, 128, 0)).all(2).all(0)
    assert np.flatnonzero(~outside).tolist() == list(range(19, 110))


@pytest.mark.parametrize("name", ["blue", "red"])
def test_published_facts_of_rotation(name: str) -> None:
    colour = {"blue": [0, 0, 255], "red": [255, 0, 0]}[name]
    for spec in (
        f"fit,128,128,png!rotate,30,background-color:{name}",
        f"fit,128,128,png,background-color:{name}!rotate,30",
    ):
        assert pixels(photo_p(), spec)[4, 4].tolist() == colour
