"""What the policies of `speed` do, as data; nearly every figure is one of docs/performance.md.

How much is decoded for a pixel of the output: JPEGs can be had at 1/2, 1/4 and 1/8, for less work each. At
1.67 source pixels nearly nothing is lost as long as resizing is in gamma; in linear light small pictures need
more, because the decoder averages in gamma, and big ones cost more than they gain (SSIMULACRA2 of the worst
of twelve photographs at 256 pixels: 72 with 2, 86 with 2.5). What is longer than 1536 pixels is not shrunk
much after decoding, so light has little to do there, and would double the CPU time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from safelight.image.geometry import Size
from safelight.image.speed import Speed

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Encoders:
    """Defaults of the encoders. Options: as libvips calls them.

    `qualities`: for formats without a quality of their own; the others get what looks like that of JPEG.
    `equalizes`: a quality that is given means JPEG's. `interlaced_from`: JPEGs of so many pixels are
    progressive, which makes them smaller from about 10 KB on. `looks_up_to`: pictures with no side longer
    than that keep full chroma where half of it would show. `credit`: steps of quality by which a format, with
    these options, looks better than `equality` says.
    """

    qualities: Mapping[str, int]
    equalizes: bool = True
    jpeg: Options = field(default_factory=dict[str, Any])
    webp: Options = field(default_factory=dict[str, Any])
    avif: Options = field(default_factory=dict[str, Any])
    interlaced_from: float = inf
    looks_up_to: float = 0
    credit: Mapping[str, int] = field(default_factory=dict[str, int])

    def of(self, format_name: str) -> Options:
        """The options of one of them."""
        return {"JPEG": self.jpeg, "WEBP": self.webp, "AVIF": self.avif}.get(format_name, {})


@dataclass(frozen=True, slots=True)
class Policy:
    """How inputs are decoded and resized.

    `clearances`: for outputs up to a longest side, in pixels, how many source pixels to decode for each of
    theirs; () for what the decoder thinks right. `linear_up_to`: resize in linear light what becomes no
    longer than this. `trims_from`: cut progressive JPEGs that are shrunk so many times. `level_clearance`:
    how much larger an output must be for another to be made of it.
    """

    speed: Speed
    encoders: Encoders
    clearances: tuple[tuple[float, float], ...] = ()
    linear_up_to: float = 0
    trims_from: float = 4
    level_clearance: float = 1.6

    @property
    def is_reference(self) -> bool:
        """Pixels as the older server's."""
        return self.speed is Speed.REFERENCE

    @property
    def is_linear(self) -> bool:
        """Anything is resized in linear light."""
        return self.linear_up_to > 0

    def mixes_light(self, target: Size) -> bool:
        """An output of that size is resized in linear light."""
        return max(target) <= self.linear_up_to

    def clearance(self, target: Size, by_decoder: float) -> float:
        """Source pixels to decode for each pixel of the output; drawings are drawn at its size."""
        if by_decoder == 1:
            return 1
        longest = max(target)
        return next((factor for most, factor in self.clearances if longest <= most), by_decoder)


@dataclass(frozen=True, slots=True)
class Demand:
    """What is wanted of a decoder: `need` pixels at least, to be made into `target` at most."""

    need: Size
    target: Size
    policy: Policy


_REFERENCE = Encoders(
    {"JPEG": 85, "WEBP": 82, "AVIF": 67}, equalizes=False, webp={"effort": 2}, avif={"effort": 1}
)
_FRUGAL = Encoders({"JPEG": 80}, jpeg={"quant_table": 2}, webp={"effort": 2}, avif={"effort": 0})
"""Quantization table 2 is free: 6 % of the bytes at the same score."""

_EVEN = replace(_FRUGAL, looks_up_to=1536)
_THOROUGH = Encoders(
    {"JPEG": 82, "WEBP": 86, "AVIF": 72},
    jpeg={"quant_table": 2, "trellis_quant": True, "subsample_mode": "off"},
    webp={"effort": 4, "smart_subsample": True},
    avif={"effort": 2, "subsample_mode": "off"},
    interlaced_from=40_000,
    credit={"WEBP": 2, "AVIF": 2},
)
"""Full chroma: the worst photograph, saturated red, gains 4 points. Trellis: 8 % of the bytes for 8 ms."""

POLICIES: Mapping[Speed, Policy] = {
    policy.speed: policy
    for policy in (
        Policy(Speed.REFERENCE, _REFERENCE, trims_from=inf),
        Policy(Speed.FAST, _FRUGAL, ((inf, 5 / 3),)),
        Policy(Speed.BALANCED, _EVEN, ((384, 2.5), (768, 2), (inf, 1.5)), linear_up_to=1536),
        Policy(Speed.BEST, _THOROUGH, ((inf, 4),), linear_up_to=inf, trims_from=8, level_clearance=2),
    )
}
