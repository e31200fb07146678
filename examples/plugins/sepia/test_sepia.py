# ruff: noqa: S101
"""The test of a plugin: its functions can be called like any others. Run it with `pytest test_sepia.py`."""

import pytest
from pyvips import Image
from sepia import sepia

from safelight.plugin import PluginArgumentError, PluginImage

BLUE = [0, 0, 200]


def picture(colour):
    return PluginImage((Image.black(8, 8, bands=3) + colour).cast("uchar").copy(interpretation="srgb"))


def colour_of(image):
    return [round(level) for level in image(4, 4)]


def test_blue_becomes_brown():
    assert colour_of(sepia(picture(BLUE), None, {}, None)) == [38, 34, 26]


def test_half_of_it():
    assert colour_of(sepia(picture(BLUE), "0.5", {}, None)) == [19, 17, 113]


@pytest.mark.parametrize("strength", ["much", "-1", "2"])
def test_bad_strengths(strength):
    with pytest.raises(PluginArgumentError, match="strength"):
        sepia(picture(BLUE), strength, {}, None)
