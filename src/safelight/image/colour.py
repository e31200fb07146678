"""Colour texts: names, `#` and `0x` hexadecimal forms (reference 7.3)."""

import re
from dataclasses import dataclass

from safelight.errors import BadRequest
from safelight.image.colour_names import NUMBERED, PLAIN

_HEX = re.compile(r"#(?:[0-9a-f]{3,4}|[0-9a-f]{6}|[0-9a-f]{8})")
_GREY = re.compile(r"gr[ae]y([0-9]|[1-9][0-9]|100)")
_GREY_EXCEPTIONS = {50: 127, 90: 229}  # the X11 table rounds these two down


@dataclass(frozen=True, slots=True)
class Colour:
    """An sRGB colour, 0..255 each, alpha straight: 0 transparent, 255 opaque."""

    red: int
    green: int
    blue: int
    alpha: int = 255

    @property
    def rgb(self) -> list[float]:
        """Red, green, blue."""
        return [self.red, self.green, self.blue]

    @property
    def rgba(self) -> list[float]:
        """Red, green, blue, alpha."""
        return [self.red, self.green, self.blue, self.alpha]

    @property
    def opaque(self) -> bool:
        """Covers what is behind it completely."""
        return self.alpha == 255

    @property
    def transparent(self) -> bool:
        """Covers nothing."""
        return self.alpha == 0


WHITE = Colour(255, 255, 255)
BLACK = Colour(0, 0, 0)
TRANSPARENT = Colour(0, 0, 0, 0)


class ColourError(BadRequest):
    """A text that names no colour."""

    def __init__(self, text: str) -> None:
        super().__init__(f"invalid color name: {text}")
        self.text = text


def parse_colour(text: str) -> Colour:
    """Colour of a name, `#rgb`, `#rgba`, `#rrggbb`, `#rrggbbaa`, or these with `0x` for `#`.

    Raises: ColourError.
    """
    hash_form = "#" + text[2:] if text.startswith("0x") else text
    lower = hash_form.lower()
    found = _hexadecimal(lower) if _HEX.fullmatch(lower) else _named(lower)
    if found is None:
        raise ColourError(hash_form)
    return found


def _hexadecimal(text: str) -> Colour:
    digits = text[1:]
    if len(digits) < 6:
        digits = "".join(digit * 2 for digit in digits)
    return Colour(*bytes.fromhex(digits))


def _named(name: str) -> Colour | None:
    if name in ("none", "transparent"):
        return TRANSPARENT
    grey = _GREY.fullmatch(name)
    if grey:
        percent = int(grey[1])
        level = _GREY_EXCEPTIONS.get(percent, int(percent * 255 / 100 + 0.5))
        return Colour(level, level, level)
    return NAMES.get(name)


def _table() -> dict[str, Colour]:
    names = {name: _hexadecimal("#" + value) for name, value in (item.split("=") for item in PLAIN.split())}
    for name, values in (item.split("=") for item in NUMBERED.split()):
        for number, value in enumerate(values.split(","), 1):
            names[f"{name}{number}"] = _hexadecimal("#" + value)
    return names


NAMES = _table()
