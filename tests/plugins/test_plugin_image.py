"""The image object of plugins: numbers, steps, limits, counts."""

from typing import Any

import numpy as np
import pytest
from pyvips import Image

from safelight.errors import TooLarge
from safelight.image.colour import ColourError
from safelight.image.counts import Counts
from safelight.image.method import Tools
from safelight.plugin import PluginArgumentError, PluginImage


def field(width: int = 80, height: int = 60, **options: Any) -> PluginImage:
    """Red = x, green = y."""
    y, x = np.mgrid[0:height, 0:width]
    samples = np.dstack([x, y, np.zeros_like(x)]).astype(np.uint8)
    return PluginImage(Image.new_from_array(samples, interpretation="srgb"), **options)


def samples(image: PluginImage) -> np.ndarray:
    return np.asarray(image.vips).astype(int)


def test_sizes_and_shares() -> None:
    image = field()
    assert (image.columns, image.width, image.rows, image.height) == (80, 80, 60, 60)
    assert image.diagonal == 100
    assert field(81, 60).diagonal == 101
    assert image.rel_to_diagonal(0.101) == 11
    assert image.rel_to_px_pos(0.999, 0.5) == (79, 30)
    assert image.rel_to_px_dim(0.501, 0.5) == (41, 30)
    assert image.rel_to_px_box(0.999, 0.5, 0.501, 0.5) == (79, 30, 41, 30)
    assert repr(image) == "PluginImage(80x60, 3 bands)"


def test_regions() -> None:
    assert PluginImage.normalize_region(-0.2, 0.5, 2, 0.25) == (0, 0.5, 1, 0.25)
    assert PluginImage.normalize_region(0.2, 0.2, -1, 1) == (0.2, 0.2, 2.220446049250313e-16, 0.8)
    assert PluginImage.offset_to_center(1, 2, 10, 20) == (6, 12)
    assert PluginImage.center_to_offset(6, 12, 10, 20) == (1, 2)
    assert field().float_to_offset(20, 20) == (30, 20)
    assert field().float_to_offset(20, 20, 0, 1) == (0, 40)
    assert field().float_to_offset(20, 20, -5, 9) == (0, 40)


def test_crop_cuts_at_the_edges() -> None:
    image = field()
    assert samples(image.crop(10, 20, 30, 5))[0, 0].tolist() == [10, 20, 0]
    assert samples(image.crop(10, 20, 30, 5)).shape == (5, 30, 3)
    assert samples(image.crop(70, 50, 30, 30)).shape == (10, 10, 3)
    assert samples(image.crop(0, 0, 0, 0)).shape == (1, 1, 3)
    for x, y in ((80, 0), (0, 60), (1000, 1000)):
        with pytest.raises(PluginArgumentError, match="begins outside"):
            image.crop(x, y, 1, 1)


def test_resizing() -> None:
    image = field()
    assert (image.resize_to_fit(40, 40).columns, image.resize_to_fit(40, 40).rows) == (40, 30)
    assert (image.resize_to_fill(30, 30).columns, image.resize_to_fill(30, 30).rows) == (30, 30)
    left, right = (samples(image.resize_to_fill(60, 60, share)) for share in (0, 1))
    assert (left[0, 0, 0], right[0, 0, 0]) == (0, 20)
    for width, height in ((0, 5), (5, -1)):
        with pytest.raises(PluginArgumentError, match="to be positive"):
            image.resize_to_fit(width, height)


def test_sampling_takes_pixels_as_they_are() -> None:
    image = field()
    assert samples(image.sample(8, 6))[0, :, 0].tolist() == [4, 14, 24, 34, 44, 54, 64, 74]
    assert (samples(image.sample(0.1)) == samples(image.sample(8, 6))).all()
    assert samples(image.sample(2))[:2, :4, 0].tolist() == [[0, 0, 1, 1]] * 2


def test_rotating() -> None:
    image = field()
    assert samples(image.rotate(90)).shape == (80, 60, 3)
    assert samples(image.rotate(90))[0, 0].tolist() == [0, 59, 0]
    assert (samples(image.rotate(360)) == samples(image)).all()
    assert samples(image.rotate(45))[0, 0].tolist() == [255, 255, 255]
    assert samples(image.rotate(45, "blue"))[0, 0].tolist() == [0, 0, 255]
    assert samples(field(background="lime").rotate(45))[0, 0].tolist() == [0, 255, 0]
    assert samples(image.rotate(45, "none"))[0, 0].tolist()[3] == 0


def test_background_of_a_block() -> None:
    image = field()
    with image.with_background_color("red") as same:
        assert same is image
        assert samples(image.rotate(45))[0, 0].tolist() == [255, 0, 0]
    assert samples(image.rotate(45))[0, 0].tolist() == [255, 255, 255]


def test_canvas() -> None:
    image = field(20, 10)
    assert image.render_on_background("red") is image
    wide = samples(image.render_on_background("red", 40, 5))
    assert wide.shape == (10, 40, 3)
    assert wide[0, [0, 9, 10, 29, 30]].tolist() == [[255, 0, 0]] * 2 + [[0, 0, 0], [19, 0, 0], [255, 0, 0]]
    assert samples(image.render_on_background("red", 40, float_x=0))[0, 0].tolist() == [0, 0, 0]
    clear = image.new_8bit(4, 4, "none")
    assert samples(clear).tolist() == np.zeros((4, 4, 4)).tolist()
    assert samples(clear.render_on_background("#0f0")).tolist() == np.full((4, 4, 3), (0, 255, 0)).tolist()
    assert samples(image.new_8bit(2, 2, "#12345678"))[0, 0].tolist() == [0x12, 0x34, 0x56, 0x78]
    assert samples(image.new_8bit(2, 2, "white")).shape == (2, 2, 3)


def test_regions_of_pixels() -> None:
    image = field()
    filled = samples(image.render_rectangle(10, 20, 5, 6, "blue"))
    assert filled[20:26, 10:15].tolist() == np.full((6, 5, 3), (0, 0, 255)).tolist()
    assert filled[19, 10].tolist() == [10, 19, 0]
    assert filled[26, 14].tolist() == [14, 26, 0]
    cells = samples(image.pixelate_region(0, 0, 20, 20, 10))
    assert len(np.unique(cells[:20, :20].reshape(-1, 3), axis=0)) == 4
    assert (cells[20:] == samples(image)[20:]).all()
    blurred = samples(image.blur_region(20, 20, 20, 20, sigma=2))
    assert (blurred[:, :20] == samples(image)[:, :20]).all()
    for size in (0, -3):
        assert (samples(image.pixelate_region(0, 0, 20, 20, size)) == samples(image)).all()
    assert (samples(image.blur_region(0, 0, 0, 9, sigma=2)) == samples(image)).all()
    assert (samples(image.render_rectangle(-5, -5, 1000, 1000, "red")) == (255, 0, 0)).all()
    with pytest.raises(PluginArgumentError):
        image.blur_region(0, 0, 5, 5, sigma=-1)


def test_getting_and_copying() -> None:
    image = field()
    assert image.get() is image
    assert image.get(lambda seen: None) is image
    assert image.get(lambda seen: seen.crop(0, 0, 3, 3)).columns == 3
    assert image.borrow(lambda seen: seen.vips.crop(0, 0, 3, 3)).columns == 3
    assert image.copy() is not image
    assert (samples(image.copy()) == samples(image)).all()


def test_images_do_not_change() -> None:
    image = field()
    before = samples(image)
    image.render_rectangle(0, 0, 80, 60, "red")
    image.rotate(30)
    assert (samples(image) == before).all()


def test_limits() -> None:
    image = field(tools=Tools(10_000, Counts()))
    makers = (
        lambda: image.new_8bit(101, 100),
        lambda: image.resize_to_fit(200, 200),
        lambda: image.resize_to_fill(200, 200),
        lambda: image.sample(101, 100),
        lambda: image.sample(1000.0),
        lambda: image.rotate(45).rotate(45).rotate(45),
        lambda: image.render_on_background("red", 101, 100),
    )
    for make in makers:
        with pytest.raises(TooLarge):
            make()


def test_bad_colours() -> None:
    image = field()
    for use in (image.rotate, image.render_rectangle, image.new_8bit):
        with pytest.raises(ColourError, match="invalid color name: nope"):
            use(*{"rotate": (30, "nope"), "new_8bit": (1, 1, "nope")}.get(use.__name__, (0, 0, 1, 1, "nope")))


def test_counts() -> None:
    counts = Counts()
    image = field(tools=Tools(1_000_000, counts))
    image.resize_to_fit(40, 40).resize_to_fill(20, 20).crop(0, 0, 10, 10).rotate(30)
    image.blur_region(0, 0, 9, 9, sigma=1)
    image.resize_to_fit(80, 60)
    assert counts == {
        "created_resize": 2,
        "created_crop": 4,
        "created_rotate": 1,
        "created_blur_image": 1,
        "created_composite": 1,
    }
