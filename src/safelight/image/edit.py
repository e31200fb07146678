"""Edits by name: what happens to an image before its thumbnailing method (reference 7.4, 7.5).

Every edit gets an image in memory, 8-bit sRGB with or without alpha, and returns a lazy one.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import floor

from pyvips import Image

from safelight.errors import BadRequest
from safelight.image import region
from safelight.image.arguments import Argument, ArgumentError, Kind, Values, parse_values
from safelight.image.caption import MAX_CHARACTERS, draw_caption
from safelight.image.colour import Colour, ColourError, parse_colour
from safelight.image.geometry import (
    Box,
    check_pixels,
    normalize_region,
    relative_box,
    relative_to_diagonal,
)
from safelight.image.method import BACKGROUND, DEFAULT_BACKGROUND, Tools
from safelight.image.resize import count_plan, finish, inked, scale, size_of, turn
from safelight.image.resizing import RESIZES
from safelight.image.spec import Edit, ThumbnailSpec

_LOG = logging.getLogger("safelight.image")
_MAX_BLUR_PX = 50
_MAX_CAPTION_PX = 500


@dataclass(frozen=True, slots=True)
class Context:
    """What an edit may look at besides its own arguments."""

    spec: ThumbnailSpec
    edit: Edit
    tools: Tools

    @property
    def background(self) -> Colour:
        """The edit's own background colour, else the thumbnail's, else white. Raises: ColourError."""
        inherited = self.spec.options.get(BACKGROUND, DEFAULT_BACKGROUND)
        return parse_colour(self.edit.options.get(BACKGROUND, inherited))


Apply = Callable[[Image, Values, Context], Image | None]


@dataclass(frozen=True, slots=True)
class Operation:
    """An edit that exists: its declared arguments in order, its options, and what it does.

    `variadic`: takes any number of further arguments.
    """

    name: str
    apply: Apply
    arguments: tuple[Argument, ...] = ()
    options: tuple[Argument, ...] = ()
    variadic: bool = False


def apply_edit(image: Image, context: Context, edits: Mapping[str, Operation]) -> Image:
    """Run one edit, looked up in `edits`. Raises: BadRequest, TooLarge; ImageError from a plugin."""
    edit = context.edit
    operation = edits.get(edit.name)
    if operation is None:
        raise BadRequest(f"no edit with name '{edit.name}' is supported")
    extra = edit.args[len(operation.arguments) :]
    if extra and not operation.variadic:
        _LOG.warning("extra arguments to edit '%s': %s", edit.name, ", ".join(extra))
    try:
        result = operation.apply(image, _values(operation, edit), context)
    except ArgumentError as error:
        message = f"error while applying edit '{edit.name}': {error.message}"
        raise BadRequest(message, detail=error.detail) from error
    return image if result is None else result


def _values(operation: Operation, edit: Edit) -> Values:
    args = [*edit.args, *[None] * len(operation.arguments)]
    texts = [*zip(operation.arguments, args, strict=False)]
    return parse_values([*texts, *((option, edit.options.get(option.name)) for option in operation.options)])


# --- sizes in pixels


def _resizing(name: str, *options: str) -> Apply:
    """The edit `name`, to the size that `RESIZES` says of width, height and `options`."""
    plan_of = RESIZES[name]

    def apply(image: Image, values: Values, context: Context) -> Image:
        size = size_of(image)
        plan = plan_of(size, *values.numbers("width", "height", *options))
        check_pixels(*plan.size, context.tools.max_pixels)
        count_plan(plan, size, context.tools.counts)
        return finish(scale(image, plan.size, is_linear=context.tools.is_linear), plan, None)

    return apply


# --- rotate


def rotate(image: Image, values: Values, context: Context) -> Image:
    """Turn clockwise; the canvas grows, its corners get the background colour."""
    angle = values.number("angle")
    if angle % 360 in (0, 360):
        return image
    return turn(image, angle, context.background, context.tools.max_pixels, context.tools.counts)


# --- regions in shares of the sides


def crop(image: Image, values: Values, context: Context) -> Image:
    """Keep a region, at least one pixel."""
    shares = normalize_region(*values.numbers("x", "y", "width", "height"))
    if shares == (0, 0, 1, 1):
        return image
    left, top, width, height = _box(image, shares)
    context.tools.counts["created_crop"] += 1
    return image.crop(left, top, max(1, width), max(1, height))


def pixelate(image: Image, values: Values, context: Context) -> Image:
    """Replace a region by square cells, each of the colour of its middle."""
    box = _region(image, values)
    cell = relative_to_diagonal(size_of(image), values.number("size"))
    return region.pixelate(image, box, cell, context.tools.counts)


def blur(image: Image, values: Values, context: Context) -> Image:
    """Gaussian blur of a region."""
    box = _region(image, values)
    radius, sigma = (
        capped_blur(name, relative_to_diagonal(size_of(image), values.number(name)))
        for name in ("radius", "sigma")
    )
    return region.blur(image, box, radius, sigma, context.tools.counts)


def capped_blur(name: str, pixels: float) -> float:
    """A radius or sigma that does not take forever; says so in the log."""
    if pixels > _MAX_BLUR_PX:
        _LOG.warning("limiting effective %s from %.0f down to %d", name, pixels, _MAX_BLUR_PX)
    return min(pixels, _MAX_BLUR_PX)


def rectangle(image: Image, values: Values, context: Context) -> Image:
    """Fill a region with a colour."""
    box = _region(image, values)
    try:
        colour = parse_colour(values.text("color") or "black")
    except ColourError as error:
        raise BadRequest(f"invalid color name {error.text}") from error
    return region.fill(image, box, colour, context.tools.counts)


def _region(image: Image, values: Values) -> Box:
    """Pixels of the four box arguments. Raises: ArgumentError."""
    names = ("box_x", "box_y", "box_width", "box_height")
    return _box(image, normalize_region(*values.numbers(*names)))


def _box(image: Image, shares: tuple[float, float, float, float]) -> Box:
    x, y = shares[:2]
    if x >= 1 or y >= 1:
        raise ArgumentError(f"region begins outside of the image: x {x:g}, y {y:g}")
    return relative_box(size_of(image), *shares)


def caption(image: Image, values: Values, context: Context) -> Image:
    """Write one line of text in the middle, in smaller letters if it is too wide; line ends become blanks."""
    text, height_px = " ".join((values.text("text") or "").splitlines()), values.number("size")
    if not text or len(text) > MAX_CHARACTERS:
        raise ArgumentError(f"expected argument 'text' to have 1 to {MAX_CHARACTERS} characters")
    if not 1 <= height_px <= _MAX_CAPTION_PX:
        raise ArgumentError(f"expected option 'size' to be 1 to {_MAX_CAPTION_PX}, got: {height_px:g}")
    try:
        image, ink = inked(image, parse_colour(values.text("color") or "black"))
    except ColourError as error:
        raise BadRequest(f"invalid color name {error.text}") from error
    context.tools.counts.update(created_initialize=1, created_composite=1)
    return draw_caption(image, text, floor(height_px), ink)


_SIDES = (Argument("width", help="pixels"), Argument("height", help="pixels"))
_FLOATS = (Argument("float-x", Kind.UFLOAT, 0.5), Argument("float-y", Kind.UFLOAT, 0.5))
_REGION = tuple(Argument(name, help="share of the side") for name in ("x", "y", "width", "height"))
_BOX = tuple(Argument(f"box_{region.name}", help=region.help) for region in _REGION)
_DIAGONAL = "share of the diagonal"

EDITS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("resize_crop", _resizing("resize_crop", "float-x", "float-y"), _SIDES, _FLOATS),
        Operation("resize_fit", _resizing("resize_fit"), _SIDES),
        Operation("resize_limit", _resizing("resize_limit"), _SIDES),
        Operation(
            "rotate",
            rotate,
            (Argument("angle", help="degrees clockwise"),),
            (Argument(BACKGROUND, Kind.COLOUR),),
        ),
        Operation("crop", crop, _REGION),
        Operation("pixelate", pixelate, _BOX, (Argument("size", Kind.UFLOAT, 0.01, _DIAGONAL),)),
        Operation(
            "blur",
            blur,
            _BOX,
            (
                Argument("radius", Kind.UFLOAT, 0.0, _DIAGONAL),
                Argument("sigma", Kind.UFLOAT, 0.01, _DIAGONAL),
            ),
        ),
        Operation("rectangle", rectangle, _BOX, (Argument("color", Kind.COLOUR, "black"),)),
        Operation("resize_stretch", _resizing("resize_stretch"), _SIDES),
        Operation(
            "caption",
            caption,
            (Argument("text", Kind.TEXT),),
            (Argument("color", Kind.COLOUR, "black"), Argument("size", Kind.UFLOAT, 16.0, "pixels")),
        ),
    )
}
