"""Steps that move pixels without knowing about methods: scale, turn, cut, put on a background.

All lazy but resizing in linear light, which ends in memory.
"""

from math import ceil, cos, radians, sin
from typing import Any, NamedTuple, cast

from pyvips import Image, Interpolate, Region

from safelight.image import linear
from safelight.image.colour import Colour
from safelight.image.counts import Counts
from safelight.image.geometry import Box, Plan, Size, check_pixels, rotated_bounds
from safelight.image.profile import to_rgb

_LEAST_REDUCTION = 0.75
_STRIP = 16


def size_of(image: Image) -> Size:
    """Width and height; each costs 10 us, so ask once."""
    return Size(image.width, image.height)


def scale(
    image: Image, size: Size, have: tuple[float, float] | None = None, *, is_linear: bool = False
) -> Image:
    """Resize to exactly `size`, Lanczos3 on the samples as they are; bicubic for enlarging.

    `have`: how many columns and rows hold the picture, if that is not all of them. `is_linear`: in linear
    light, at once and into memory, unless it is only enlarged.
    Straight alpha is premultiplied meanwhile, so that hidden colours do not bleed.
    """
    have = have or size_of(image)
    if have == size:
        return image
    if is_linear and (size.width < have[0] or size.height < have[1]):
        return linear.resize(image, have, size)
    if not image.hasalpha():
        return _scale_bands(image, have, size)
    premultiplied = image.premultiply().cast("uchar").copy(interpretation=image.interpretation)
    return _scale_bands(premultiplied, have, size).unpremultiply().cast("uchar")


def _scale_bands(image: Image, have: tuple[float, float], size: Size) -> Image:
    horizontal, vertical = size.width / have[0], size.height / have[1]
    if horizontal >= 1 and vertical >= 1:
        return _enlarge_bands(image, horizontal, vertical, size)
    scaled = image.resize(horizontal, vscale=vertical, kernel="lanczos3")
    return _exactly(scaled, size)


def _enlarge_bands(image: Image, horizontal: float, vertical: float, size: Size) -> Image:
    """Bicubic, pixel centres on pixel centres: `resize` of libvips 8.18 shifts by half an output pixel."""
    return image.affine(
        [horizontal, 0, 0, vertical],
        interpolate=Interpolate.new("bicubic"),
        oarea=[0, 0, *size],
        idx=0.5,
        idy=0.5,
        odx=-0.5,
        ody=-0.5,
        extend="copy",
        premultiplied=True,
    )


def _exactly(image: Image, size: Size) -> Image:
    """Cut or repeat the last line if libvips rounded another way than we."""
    return image if size_of(image) == size else image.embed(0, 0, *size, extend="copy")


def samples(image: Image, size: Size) -> bytes:
    """All samples of an image of `size` that is in memory, or made of one that is.

    Without the threads of libvips, which take longer to wake than this; in strips that caches can hold.
    """
    region = cast(Any, Region).new(image)
    tops = range(0, size.height, _STRIP)
    return b"".join(region.fetch(0, top, size.width, min(_STRIP, size.height - top)) for top in tops)


class Level(NamedTuple):
    """An image; the whole picture is on `width x height` of its pixels, perhaps broken numbers.

    `in_memory`: it is, or is made of one that is: it may be read more than once, and in any order.
    """

    width: float
    height: float
    image: Image
    in_memory: bool = False

    def covers(self, need: Size) -> bool:
        """Has at least `need` on both sides."""
        return self.width >= need.width and self.height >= need.height

    def scaled(self, size: Size, *, is_linear: bool = False) -> Image:
        """The picture at exactly `size`."""
        return scale(self.image, size, (self.width, self.height), is_linear=is_linear)


def whole(image: Image) -> Level:
    """An image all of whose pixels hold the picture."""
    return Level(*size_of(image), image)


def box_shrink(image: Image, need: Size) -> Level:
    """Average whole blocks of pixels into memory, leaving at least `need`; alpha images stay as they are."""
    have = size_of(image)
    factor = min(have.width // need.width, have.height // need.height)
    if factor < 2 or image.hasalpha():
        return Level(*have, image.copy_memory())
    small = image.shrink(factor, factor, ceil=True).copy_memory()
    return Level(have.width / factor, have.height / factor, small)


def reduce(level: Level, need: Size) -> Level:
    """As `box_shrink`, in linear light and by any factor; not if that would save little memory."""
    factor = max(need.width / level.width, need.height / level.height)
    if factor > _LEAST_REDUCTION:
        return level._replace(image=level.image.copy_memory())
    size = Size(ceil(level.width * factor), ceil(level.height * factor))
    return Level(*size, level.scaled(size, is_linear=True))


def complete(image: Image, size: Size) -> Image:
    """Give back the partial last column and row that libvips cuts off when shrinking a JPEG on load."""
    have = size_of(image)
    lacking = (size.width - have.width, size.height - have.height)
    if lacking not in ((0, 1), (1, 0), (1, 1)):
        return image
    return image.embed(0, 0, *size, extend="copy")


def orient(image: Image, orientation: int) -> Image:
    """Undo an EXIF orientation 1..8 (EXIF 2.32, 4.6.4 A). Needs an image in memory."""
    match orientation:
        case 2:
            return image.fliphor()
        case 3:
            return image.rot180()
        case 4:
            return image.flipver()
        case 5:
            return image.rot90().fliphor()
        case 6:
            return image.rot90()
        case 7:
            return image.rot270().fliphor()
        case 8:
            return image.rot270()
        case _:
            return image


def turn(image: Image, angle_deg: float, background: Colour, max_pixels: int, counts: Counts) -> Image:
    """Turn clockwise by any angle; the canvas grows, its corners get the background colour.

    Exact for multiples of 90 degrees. Needs an image in memory. Raises: TooLarge.
    """
    angle = angle_deg % 360
    if angle in (0, 360):  # 360: what a tiny negative angle is rounded to
        return image
    counts["created_rotate"] += 1
    if angle % 90 == 0:
        return {90: image.rot90, 180: image.rot180, 270: image.rot270}[int(angle)]()
    arc = radians(angle)
    check_pixels(*rotated_bounds(size_of(image), sin(arc), cos(arc)), max_pixels)
    image, ink = inked(image, background)
    return image.rotate(angle, background=ink, interpolate=Interpolate.new("bicubic")).cast("uchar")


def flatten(image: Image, background: Colour) -> Image:
    """Put an image on a background: once, and opaque if the background is. Grey becomes sRGB."""
    if not image.hasalpha():
        return image
    image = to_rgb(image)
    if background.opaque:
        return image.flatten(background=background.rgb)
    if background.transparent:
        return image
    canvas = solid(image.width, image.height, background)
    return canvas.composite2(image, "over").cast("uchar")


def solid(width: int, height: int, colour: Colour) -> Image:
    """An RGBA image of one colour."""
    one = Image.black(1, 1) + colour.rgba
    return one.cast("uchar").copy(interpretation="srgb").embed(0, 0, width, height, extend="copy")


def inked(image: Image, colour: Colour) -> tuple[Image, list[float]]:
    """The image in sRGB, with alpha if the colour needs it, and the colour as its bands."""
    image = to_rgb(image)
    if not image.hasalpha() and colour.opaque:
        return image, colour.rgb
    return (image if image.hasalpha() else image.addalpha()), colour.rgba


def place(image: Image, canvas: Box, background: Colour) -> Image:
    """Put an image on a larger canvas at `canvas.left`, `canvas.top`."""
    image, ink = inked(image, background)
    return image.embed(*canvas, extend="background", background=ink)


def finish(image: Image, plan: Plan, background: Colour | None) -> Image:
    """What is left of a plan once the image has its size."""
    if plan.crop is not None:
        return image.crop(*plan.crop)
    if plan.canvas is not None and background is not None:
        return place(image, plan.canvas, background)
    return image


def count_plan(plan: Plan, have: Size, counts: Counts) -> None:
    """Note the operations that a plan stands for, on an image of `have` pixels (reference 9)."""
    if plan.size != have:
        counts["created_resize"] += 1
    if plan.crop is not None:
        counts["created_crop"] += 1
    if plan.canvas is not None:
        counts.update(created_initialize=1, created_composite=1)
