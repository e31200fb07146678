"""Options of specifications that tune an encoder, checked, as arguments of libvips."""

from collections.abc import Callable, Mapping
from typing import Any

from safelight.errors import BadRequest
from safelight.image.arguments import parse_int
from safelight.image.geometry import Size

_AVIF_MS_PER_MEGAPIXEL = (200, 350, 700, 1_200, 5_000, 7_000, 14_000, 22_000, 27_000, 50_000)
"""By effort; CPU time of one thread, libvips 8.18, between a photograph of quality 68 and the same
with noise, which takes twice as much. From effort 4 on it buys hardly any bytes.
"""

_ENCODING_SHARE = 0.25
"""Of the time that a transform may take."""


def affordable_effort(effort: int, size: Size, deadline_s: float) -> int:
    """The effort, or what is left of it if a picture of `size` would take too much of the time there is."""
    megapixels = size.width * size.height / 1e6
    affordable_ms = 1000 * _ENCODING_SHARE * deadline_s / megapixels
    cheap = (least for least in range(effort, 0, -1) if _AVIF_MS_PER_MEGAPIXEL[least] <= affordable_ms)
    return next(cheap, 0)


def whole_number(name: str, text: str, most: int) -> int:
    """The number from 0 to `most` that an option says. Raises: BadRequest."""
    number = parse_int(text)
    if number is None or not 0 <= number <= most:
        raise BadRequest(f"expected option '{name}' to be a whole number from 0 to {most}, got: {text}")
    return number


def _switch(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise BadRequest(f"expected option '{name}' to be true or false, got: {text}")
    return text == "true"


def _chroma(name: str, text: str) -> str:
    """libvips' `subsample_mode`: `420` for every second line and column of colour, `444` for all of them."""
    modes = {"420": "on", "444": "off"}
    if text not in modes:
        raise BadRequest(f"expected option '{name}' to be 420 or 444, got: {text}")
    return modes[text]


_EFFORT, _TABLE, _TRELLIS, _CHROMA = "effort", "quant-table", "trellis", "chroma"
_PARSERS: Mapping[str, Mapping[str, tuple[str, Callable[[str, str], Any]]]] = {
    "JPEG": {
        _TABLE: ("quant_table", lambda name, text: whole_number(name, text, 8)),
        _TRELLIS: ("trellis_quant", _switch),
        _CHROMA: ("subsample_mode", _chroma),
    },
    "WEBP": {_EFFORT: ("effort", lambda name, text: whole_number(name, text, 6))},
    "AVIF": {
        _EFFORT: ("effort", lambda name, text: whole_number(name, text, 9)),
        _CHROMA: ("subsample_mode", _chroma),
    },
}
"""By format: options and the arguments that they stand for. Options of other formats are left alone."""

OPTIONS = sorted({name for parsers in _PARSERS.values() for name in parsers})


def tuned(format_name: str, defaults: Mapping[str, Any], options: Mapping[str, str]) -> Mapping[str, Any]:
    """The defaults, but what the options say. Raises: BadRequest."""
    parsers = _PARSERS.get(format_name, {})
    own = {
        argument: parse(name, options[name]) for name, (argument, parse) in parsers.items() if name in options
    }
    return {**defaults, **own}
