"""How much work goes into an image: the names of the policies. Plain values, importable without libvips."""

from collections.abc import Mapping
from enum import StrEnum

from safelight.errors import BadRequest

OPTION = "speed"
"""Key of the option in specifications."""


class Speed(StrEnum):
    """`reference`: pixels as the older server's. The others: see `policy`."""

    REFERENCE = "reference"
    FAST = "fast"
    BALANCED = "balanced"
    BEST = "best"


SPEEDS = tuple(speed.value for speed in Speed)


class SpeedError(BadRequest):
    """A text that names no policy."""

    def __init__(self, text: str) -> None:
        super().__init__(f"unknown speed: {text}, expected one of: {', '.join(SPEEDS)}")


def parse_speed(text: str) -> Speed:
    """The policy of that name. Raises: SpeedError."""
    try:
        return Speed(text)
    except ValueError as error:
        raise SpeedError(text) from error


def speed_of(options: Mapping[str, str], default: Speed) -> Speed:
    """The policy that the options of a specification ask for. Raises: SpeedError."""
    text = options.get(OPTION)
    return default if text is None else parse_speed(text)
