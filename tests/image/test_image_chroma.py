"""Full chroma where half of it would show, and nowhere else."""

import numpy as np
import pytest
from image_makers import make, make_one, photo_p, pillow, save
from PIL import Image as PillowImage
from PIL import JpegImagePlugin
from pyvips import Image

from safelight.image import chroma
from safelight.image.result import Thumbnail

FULL, HALF = 0, 2  # as Pillow says it


def noise(width: int, height: int, *, coloured: bool) -> np.ndarray:
    """Each pixel another one: in colour, or grey as bright."""
    random = np.random.default_rng(5)
    shape = (height, width, 3 if coloured else 1)
    return np.broadcast_to(random.integers(0, 256, shape, np.uint8), (height, width, 3)).copy()


def letters(width: int, height: int, share: float) -> np.ndarray:
    """Red strokes of three pixels on a blue ground, on a share of the rows."""
    picture = np.full((height, width, 3), (20, 30, 160), np.uint8)
    for column in (1, 2, 3):
        picture[: int(height * share), column::7] = (230, 20, 20)
    return picture


def vips(samples: np.ndarray) -> Image:
    return Image.new_from_array(np.ascontiguousarray(samples), interpretation="srgb")


def sampling(samples: np.ndarray, spec: str) -> int:
    made = make_one(save(PillowImage.fromarray(samples), "PNG"), spec)
    return JpegImagePlugin.get_sampling(pillow(made.data))


@pytest.mark.parametrize(("width", "height"), [(64, 48), (33, 21), (301, 200), (1500, 1100)])
def test_colour_counts_and_brightness_does_not(width: int, height: int) -> None:
    assert chroma.shows(vips(noise(width, height, coloured=True)))
    assert not chroma.shows(vips(noise(width, height, coloured=False)))


def test_blocks_of_one_colour_lose_nothing() -> None:
    blocks = noise(60, 40, coloured=True).repeat(2, 0).repeat(2, 1)
    assert not chroma.shows(vips(blocks))
    assert chroma.shows(vips(np.roll(blocks, 1, axis=1))), "they are not where the encoder's are"


def test_one_block_in_a_hundred_has_to_differ() -> None:
    assert not chroma.shows(vips(letters(400, 400, 0.005)))
    assert chroma.shows(vips(letters(400, 400, 0.05)))


def test_a_large_picture_is_looked_at_all_over() -> None:
    for place in (0, 1000):
        picture = np.full((1500, 1500, 3), 128, np.uint8)
        picture[place : place + 400] = letters(1500, 400, 1)
        assert chroma.shows(vips(picture))


@pytest.mark.parametrize(("width", "height"), [(1, 50), (50, 1), (1, 1)])
def test_a_single_line_has_no_blocks(width: int, height: int) -> None:
    assert not chroma.shows(vips(noise(width, height, coloured=True)))


def test_grey_has_no_colour() -> None:
    assert not chroma.shows(Image.new_from_array(noise(40, 40, coloured=False)[..., :1].copy()))


# --- through the pipeline


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("fit,300,300,jpeg", FULL),
        ("fit,300,300,jpeg,chroma:420", HALF),
        ("fit,300,300,jpeg,speed:fast", HALF),
        ("fit,300,300,jpeg,speed:reference", HALF),
        ("fit,300,300,jpeg!rotate,90", FULL),
        ("pad,300,400,jpeg", FULL),
        ("crop,200,400,jpeg", FULL),
        ("fit,600,600,jpeg", FULL),  # as large as it is
        ("fit,900,900,jpeg", FULL),
        ("fit,1600,1600,jpeg", HALF),
    ],
)
def test_only_balanced_looks_and_only_where_nothing_is_asked_for(spec: str, found: int) -> None:
    asked = spec if "speed" in spec else spec.replace("jpeg", "jpeg,speed:balanced")
    assert sampling(letters(600, 600, 1), asked) == found


def test_an_ordinary_photograph_stays_as_it_was() -> None:
    made = make_one(photo_p(), "fit,300,300,jpeg,speed:balanced")
    assert JpegImagePlugin.get_sampling(pillow(made.data)) == HALF


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif"])
def test_it_is_nearer_to_the_picture(name: str) -> None:
    """All three keep more of what differs; 420 for comparison is that of a policy that does not look."""
    data = save(PillowImage.fromarray(letters(300, 300, 1)), "PNG")
    own = "" if name == "jpeg" else f",{name}-quality:80"
    specs = [f"fit,300,300,{name},quality:80{own},speed:{speed}" for speed in ("balanced", "fast")]
    looked, blind = (
        np.abs(np.asarray(pillow(output.data).convert("RGB")).astype(int) - letters(300, 300, 1)).mean()
        for output in make(data, *specs)
        if isinstance(output, Thumbnail)
    )
    assert looked < 0.85 * blind


def test_several_are_decided_each_for_itself() -> None:
    """What is fine in the large is mixed in the small."""
    picture = letters(1200, 1200, 1)
    specs = [f"fit,{side},{side},jpeg,speed:balanced" for side in (1200, 60)]
    large, small = make(save(PillowImage.fromarray(picture), "PNG"), *specs)
    assert isinstance(large, Thumbnail)
    assert isinstance(small, Thumbnail)
    assert JpegImagePlugin.get_sampling(pillow(large.data)) == FULL
    assert JpegImagePlugin.get_sampling(pillow(small.data)) == HALF
