"""Sizes and offsets in pixels, all in plain doubles: the reference's formulas, without any pixels.

The odd looking `ceil` of double products is kept on purpose: sizes and offsets of existing URLs depend on it
(reference 6.2, verdict 15).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, hypot
from typing import NamedTuple

from safelight.errors import TooLarge

TOO_LARGE = "image too large: cache resources exhausted"
MAX_SIDE = 10_000_000  # libvips refuses sides over 100 million; no format of ours stores more than this


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    @property
    def swapped(self) -> "Size":
        """The size after a quarter turn."""
        return Size(self.height, self.width)


class Box(NamedTuple):
    """A rectangle of pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a method does to an image: resize to `size`; then cut `crop` out of it; or put it on a `canvas`.

    `canvas` is the canvas seen from the image: left and top are where the image goes on it.
    """

    size: Size
    crop: Box | None = None
    canvas: Box | None = None

    @property
    def final(self) -> Size:
        """Size of the result."""
        box = self.crop or self.canvas
        return Size(box.width, box.height) if box else self.size


def check_pixels(width: float, height: float, max_pixels: int) -> None:
    """Refuse an image before it exists. Raises: TooLarge."""
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise TooLarge(TOO_LARGE, detail=f"{width:.0f}x{height:.0f} pixels, {max_pixels} are allowed")


def load_hint(size: Size, largest: Size) -> Size:
    """Size of a JPEG decoded for a target: the smallest n/8, sides rounded up, of at least twice the target.

    `largest`: the maxima of the requested sides (reference 6.1, hint).
    """
    denominator = floor(min(size.width / (2 * largest.width), size.height / (2 * largest.height)))
    if denominator <= 1:
        return size
    eighths = ceil(8 / denominator)
    return Size(ceil(size.width * eighths / 8), ceil(size.height * eighths / 8))


def downsampled(size: Size, largest: Size) -> Size:
    """Size after the power-of-two downsampling, still over twice the target (reference 6.1)."""
    factor = 1
    while size.width // (2 * factor) > 2 * largest.width and size.height // (2 * factor) > 2 * largest.height:
        factor *= 2
    return Size(size.width // factor, size.height // factor)


def fit(size: Size, width: float, height: float) -> Size:
    """Largest size of the same shape inside `width x height`, enlarging too, at least 1x1 (reference 6.2)."""
    scale = min(width / size.width, height / size.height)
    columns, rows = scale * size.width, scale * size.height
    guard(columns, rows)
    return Size(max(1, floor(columns + 0.5)), max(1, floor(rows + 0.5)))


def fill(size: Size, width: float, height: float, float_x: float, float_y: float) -> Plan:
    """Smallest size of the same shape that covers `width x height`, and the part to keep (reference 6.2)."""
    if size == (width, height):
        return Plan(size)
    scale = max(width / size.width, height / size.height)
    columns, rows = scale * size.width, scale * size.height
    guard(columns, rows)
    covering = Size(max(1, ceil(columns)), max(1, ceil(rows)))
    if covering == (width, height):
        return Plan(covering)
    left = offset(width, covering.width, float_x)
    top = offset(height, covering.height, float_y)
    kept = (min(max(1, int(width)), covering.width), min(max(1, int(height)), covering.height))
    return Plan(covering, crop=Box(left, top, *kept))


def pad(size: Size, width: int, height: int, float_x: float, float_y: float) -> Plan:
    """Fit, then centre (or float) on a canvas of exactly `width x height` (reference 7.1)."""
    inner = fit(size, width, height)
    canvas = Size(max(width, inner.width), max(height, inner.height))
    if canvas == inner:
        return Plan(inner)
    left = offset(inner.width, canvas.width, float_x)
    top = offset(inner.height, canvas.height, float_y)
    return Plan(inner, canvas=Box(left, top, *canvas))


def offset(front: float, base: int, share: float) -> int:
    """Where a `front` wide thing starts on a `base` wide one: `share` of the space before it, clamped."""
    room = base - front
    start = min(max(room * share, 0.0), room)
    return max(0, min(ceil(start), int(room)))


def guard(columns: float, rows: float) -> None:
    """Stop absurd sizes while they still are floats. Raises: TooLarge."""
    if not (columns <= MAX_SIDE and rows <= MAX_SIDE):
        raise TooLarge(TOO_LARGE, detail=f"{columns:.0f}x{rows:.0f} pixels")


def rotated_bounds(size: Size, sine: float, cosine: float) -> tuple[float, float]:
    """Width and height of the box around a rotated image."""
    sine, cosine = abs(sine), abs(cosine)
    return size.width * cosine + size.height * sine, size.width * sine + size.height * cosine


def diagonal(size: Size) -> int:
    """Length of the diagonal, rounded up (reference 7.4)."""
    return ceil(hypot(size.width, size.height))


def relative_to_diagonal(size: Size, share: float) -> int:
    """A share of the diagonal in pixels, rounded up; absurd shares are capped (reference 7.4)."""
    return ceil(min(share * diagonal(size), float(MAX_SIDE)))


def normalize_region(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    """Pull a relative region into the image, in the reference's order (7.4). An exact 0 stays 0."""
    tiny = 2.220446049250313e-16
    x, y = max(x, 0.0), max(y, 0.0)
    if width + x > 1:
        width = 1 - x
    if height + y > 1:
        height = 1 - y
    return x, y, tiny if width < 0 else width, tiny if height < 0 else height


def relative_box(size: Size, x: float, y: float, width: float, height: float) -> Box:
    """Pixels of a normalized region: floor of the corner, ceil of the sides, cut at the edges (7.4)."""
    left, top = relative_position(size, x, y)
    columns, rows = relative_dimensions(size, width, height)
    return Box(left, top, min(columns, size.width - left), min(rows, size.height - top))


def relative_position(size: Size, x: float, y: float) -> tuple[int, int]:
    """Shares of the sides as the pixel they fall on (7.4)."""
    return floor(x * size.width), floor(y * size.height)


def relative_dimensions(size: Size, width: float, height: float) -> tuple[int, int]:
    """Shares of the sides as pixels, rounded up (7.4)."""
    return ceil(width * size.width), ceil(height * size.height)


def largest(sizes: Sequence[Size]) -> Size:
    """The maxima of both sides."""
    return Size(max(size.width for size in sizes), max(size.height for size in sizes))
