"""What edits do to a part of an image, in pixels. Lazy; the image must be in memory, 8-bit sRGB.

Every region lies inside the image; one without an area leaves it unchanged.
"""

from array import array
from math import ceil, exp

from pyvips import Image, Interpolate

from safelight.image.colour import Colour
from safelight.image.counts import Counts
from safelight.image.geometry import Box
from safelight.image.resize import solid

_BLUR_MIN_AMPLITUDE = 0.05  # 0.2, libvips' default, misses the published colours (reference 7.5)


def pixelate(image: Image, box: Box, cell: int, counts: Counts) -> Image:
    """Replace a region by squares of `cell` pixels, each of the colour of its middle."""
    cell = min(cell, max(box.width, box.height))
    if cell <= 0 or not _area(box):
        return image
    columns, rows = ceil((1 / cell) * box.width), ceil((1 / cell) * box.height)
    cells = sample(image.crop(*box), columns, rows)
    patch = cells.zoom(cell, cell).crop(0, 0, box.width, box.height)
    counts.update(created_crop=2, created_sample=2, created_composite=1)
    return image.insert(patch, box.left, box.top)


def sample(image: Image, columns: int, rows: int) -> Image:
    """Nearest-neighbour sampling: the middle of every cell, one pixel less where it lies between two."""
    across, down = _middles(image.width, columns), _middles(image.height, rows)
    x = Image.new_from_memory(across, columns, 1, 1, "int").replicate(1, rows)
    y = Image.new_from_memory(down, 1, rows, 1, "int").replicate(columns, 1)
    return image.mapim(x.bandjoin(y), interpolate=Interpolate.new("nearest"))


def _middles(length: int, count: int) -> bytes:
    """floor((i + 0.5 - tiny) * length / count) as 32-bit integers (reference 6.1)."""
    return array("i", (ceil((index + 0.5) * length / count) - 1 for index in range(count))).tobytes()


def blur(image: Image, box: Box, radius: float, sigma: float, counts: Counts) -> Image:
    """Gaussian blur of a region; a kernel of 2 * radius + 1 pixels, or one long enough when radius is 0.

    The work area has a margin on the left and top only, as the older server's: the published colours of this
    edit come out no other way (reference 7.5, verdict 14).
    """
    if not sigma or not _area(box):
        return image
    margin = ceil(max(3, radius, sigma))
    left, top = max(0, box.left - margin), max(0, box.top - margin)
    width, height = min(box.width + margin, image.width - left), min(box.height + margin, image.height - top)
    blurred = _gaussian(image.crop(left, top, width, height), ceil(radius), sigma)
    patch = blurred.crop(box.left - left, box.top - top, box.width, box.height)
    counts.update(created_crop=2, created_blur_image=1, created_composite=1)
    return image.insert(patch, box.left, box.top)


def _gaussian(image: Image, radius: int, sigma: float) -> Image:
    if image.hasalpha():
        opaque = image.premultiply().cast("uchar").copy(interpretation=image.interpretation)
        return _gaussian_bands(opaque, radius, sigma).unpremultiply().cast("uchar")
    return _gaussian_bands(image, radius, sigma)


def _gaussian_bands(image: Image, radius: int, sigma: float) -> Image:
    if not radius:
        return image.gaussblur(sigma, min_ampl=_BLUR_MIN_AMPLITUDE)
    weights = [exp(-(distance**2) / (2 * sigma**2)) for distance in range(-radius, radius + 1)]
    kernel = Image.new_from_array([weights], scale=sum(weights))
    return image.convsep(kernel, precision="float").rint().cast("uchar")


def fill(image: Image, box: Box, colour: Colour, counts: Counts) -> Image:
    """Fill a region with a colour; a translucent one blends."""
    if colour.transparent or not _area(box):
        return image
    counts["created_initialize_copy"] += 1
    if colour.opaque:
        return image.insert(_filled(image, box, colour), box.left, box.top)
    under = image.crop(*box)
    over = under.composite2(solid(box.width, box.height, colour), "over").cast("uchar")
    return image.insert(over if image.hasalpha() else over[:3], box.left, box.top)


def _filled(image: Image, box: Box, colour: Colour) -> Image:
    filled = solid(box.width, box.height, colour)
    return filled if image.hasalpha() else filled[:3]


def _area(box: Box) -> int:
    return box.width * box.height
