"""What the edits that resize make of a size, without any pixels (reference 7.5).

Numbers are of pixels, 0 and more, as broken as clients write them.
"""

from collections.abc import Callable, Mapping
from math import floor, inf

from safelight.image.arguments import ArgumentError
from safelight.image.geometry import Plan, Size, fill, fit


def crop(size: Size, width: float, height: float, float_x: float = 0.5, float_y: float = 0.5) -> Plan:
    """Cover width x height, cut off what is over. Raises: ArgumentError, TooLarge."""
    _check(width, height)
    if width == 0 or height == 0:
        raise ArgumentError(f"expected width and height to be positive, got: {width:g}x{height:g}")
    return fill(size, width, height, float_x, float_y)


def inside(size: Size, width: float, height: float) -> Plan:
    """Fit into width x height; one 0 leaves that side free. Raises: ArgumentError, TooLarge.

    Sides are written with two decimals, then rounded half up.
    """
    _check(width, height)
    columns, rows = (floor(float(f"{side:.2f}") + 0.5) for side in (width, height))
    if not columns and not rows:
        raise ArgumentError("expected width or height to be positive, got: 0x0")
    return Plan(size if size == (columns, rows) else fit(size, columns or inf, rows or inf))


def limit(size: Size, width: float, height: float) -> Plan:
    """As `inside`, but only what is wider or higher. Raises: ArgumentError, TooLarge."""
    plan = inside(size, width, height)
    return plan if size.width > width or size.height > height else Plan(size)


def stretch(_size: Size, width: float, height: float) -> Plan:
    """Exactly width x height: the ratio is not kept. Raises: ArgumentError."""
    _check(width, height)
    columns, rows = floor(width + 0.5), floor(height + 0.5)
    if not columns or not rows:
        raise ArgumentError(f"expected width and height to be positive, got: {columns}x{rows}")
    return Plan(Size(columns, rows))


def _check(width: float, height: float) -> None:
    if width < 0 or height < 0:
        raise ArgumentError(f"expected width and height to be positive, got: {width:g}x{height:g}")


RESIZES: Mapping[str, Callable[..., Plan]] = {
    "resize_crop": crop,
    "resize_fit": inside,
    "resize_limit": limit,
    "resize_stretch": stretch,
}
"""By the name of the edit. Each takes the size of the picture, a width and a height."""
