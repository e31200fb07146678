"""Colour texts: reference 7.3."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.image.colour import TRANSPARENT, Colour, ColourError, parse_colour


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("white", (255, 255, 255, 255)),
        ("White", (255, 255, 255, 255)),
        ("green", (0, 128, 0, 255)),
        ("lime", (0, 255, 0, 255)),
        ("navyblue", (0, 0, 128, 255)),
        ("gray", (0x7E, 0x7E, 0x7E, 255)),
        ("grey", (0xBE, 0xBE, 0xBE, 255)),
        ("gray50", (127, 127, 127, 255)),
        ("grey0", (0, 0, 0, 255)),
        ("gray100", (255, 255, 255, 255)),
        ("gray90", (229, 229, 229, 255)),
        ("snow4", (139, 137, 137, 255)),
        ("rebeccapurple", (0x66, 0x33, 0x99, 255)),
        ("#f00", (255, 0, 0, 255)),
        ("#F008", (255, 0, 0, 0x88)),
        ("#102030", (16, 32, 48, 255)),
        ("#10203040", (16, 32, 48, 64)),
        ("0xff0000", (255, 0, 0, 255)),
        ("0xf00", (255, 0, 0, 255)),
        ("0xf008", (255, 0, 0, 0x88)),
    ],
)
def test_colours(text: str, value: tuple[int, ...]) -> None:
    colour = parse_colour(text)
    assert (colour.red, colour.green, colour.blue, colour.alpha) == value


@pytest.mark.parametrize("text", ["none", "transparent", "NONE"])
def test_transparent(text: str) -> None:
    assert parse_colour(text) == TRANSPARENT


@pytest.mark.parametrize(
    "text", ["ff0000", "ff11", "#ff", "#fffff", "", "gray101", "grey007", "snow5", "#gggggg", "0x", "%23f00"]
)
def test_invalid_colours(text: str) -> None:
    with pytest.raises(ColourError, match=r"^invalid color name: "):
        parse_colour(text)


@given(st.tuples(*[st.integers(0, 255)] * 4))
def test_hexadecimal_forms_round_trip(value: tuple[int, int, int, int]) -> None:
    assert parse_colour("#" + bytes(value).hex()) == Colour(*value)
