"""The image that plugins see: an immutable picture in memory, and the steps of the built-in edits as methods.

Every method that makes an image returns a new one and does the work at once, so what fails fails in its own
line. Nothing here computes pixels: that is done by the functions that the built-in methods and edits use.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from math import floor

from pyvips import Image

from safelight.image import region
from safelight.image.arguments import ArgumentError
from safelight.image.colour import Colour, parse_colour
from safelight.image.counts import Counts
from safelight.image.edit import capped_blur
from safelight.image.geometry import (
    Box,
    Plan,
    Size,
    check_pixels,
    diagonal,
    fill,
    fit,
    normalize_region,
    offset,
    relative_dimensions,
    relative_position,
    relative_to_diagonal,
)
from safelight.image.method import DEFAULT_BACKGROUND, Tools
from safelight.image.profile import needs_conversion, to_8_bit, to_rgb, to_srgb
from safelight.image.resize import count_plan, finish, flatten, place, scale, size_of, solid, turn
from safelight.image.settings import ImageSettings

Region = tuple[float, float, float, float]
Use = Callable[["PluginImage"], "PluginImage | Image | None"]
_SRGB_BANDS = (3, 4)


class PluginImage:
    """An image of 8-bit sRGB samples, three bands, or four with straight alpha.

    Sizes and positions are in pixels from the left and top, regions are x, y, width, height, angles are in
    degrees clockwise, colours are texts as in specifications. Values that no image can have raise
    `PluginArgumentError` (400 for the client), too many pixels raise `TooLarge` (413).
    """

    __slots__ = ("_background", "_size", "_tools", "_vips")

    def __init__(
        self, vips: Image, *, background: str = DEFAULT_BACKGROUND, tools: Tools | None = None
    ) -> None:
        """Wrap any image of libvips; other sample formats and colour spaces are converted first.

        `background`: what `rotate` and `render_on_background` use when they are not told.
        """
        self._vips = normal(vips).copy_memory()
        self._size = size_of(self._vips)
        self._background = background
        self._tools = tools or Tools(ImageSettings().max_pixels, Counts())

    @property
    def vips(self) -> Image:
        """The `pyvips.Image`; in memory, so it may be read any number of times."""
        return self._vips

    @property
    def columns(self) -> int:
        """Width in pixels."""
        return self._size.width

    @property
    def rows(self) -> int:
        """Height in pixels."""
        return self._size.height

    width = columns
    height = rows

    # Numbers

    @property
    def diagonal(self) -> int:
        """Length of the diagonal in pixels, rounded up."""
        return diagonal(self._size)

    def rel_to_diagonal(self, share: float) -> int:
        """A share of the diagonal in pixels, rounded up."""
        return relative_to_diagonal(self._size, share)

    def rel_to_px_pos(self, x: float, y: float) -> tuple[int, int]:
        """Shares of the sides as a position in pixels, rounded down."""
        return relative_position(self._size, x, y)

    def rel_to_px_dim(self, width: float, height: float) -> tuple[int, int]:
        """Shares of the sides as lengths in pixels, rounded up."""
        return relative_dimensions(self._size, width, height)

    def rel_to_px_box(self, x: float, y: float, width: float, height: float) -> tuple[int, int, int, int]:
        """A region in shares of the sides as pixels: position rounded down, lengths up."""
        return (*self.rel_to_px_pos(x, y), *self.rel_to_px_dim(width, height))

    @staticmethod
    def normalize_region(x: float, y: float, width: float, height: float) -> Region:
        """A region in shares, pulled into the image; a negative length becomes the smallest positive one."""
        return normalize_region(x, y, width, height)

    @staticmethod
    def offset_to_center(x: float, y: float, width: float, height: float) -> tuple[float, float]:
        """The middle of a region."""
        return x + width / 2, y + height / 2

    @staticmethod
    def center_to_offset(
        center_x: float, center_y: float, width: float, height: float
    ) -> tuple[float, float]:
        """Left and top of a region around a middle."""
        return center_x - width / 2, center_y - height / 2

    def float_to_offset(
        self, width: float, height: float, float_x: float = 0.5, float_y: float = 0.5
    ) -> tuple[int, int]:
        """Where something of that size starts on this image: at 0 left and top, at 1 right and bottom."""
        return offset(width, self.columns, float_x), offset(height, self.rows, float_y)

    # New images

    def new_8bit(self, width: int, height: int, color: str = "none") -> "PluginImage":
        """An image of one colour; with alpha only if the colour is not opaque."""
        _check_positive(width, height)
        check_pixels(width, height, self._tools.max_pixels)
        ink = parse_colour(color)
        canvas = solid(width, height, ink)
        self._tools.counts["created_initialize"] += 1
        return self._derived(canvas[:3] if ink.opaque else canvas)

    def render_on_background(
        self,
        color: str | None = None,
        width: int | None = None,
        height: int | None = None,
        float_x: float = 0.5,
        float_y: float = 0.5,
    ) -> "PluginImage":
        """Put the image on a colour, on a canvas of that size where it is larger than the image."""
        colour = self._colour(color)
        canvas = Size(max(self.columns, width or 0), max(self.rows, height or 0))
        check_pixels(*canvas, self._tools.max_pixels)
        if canvas == self._size and not self._vips.hasalpha():
            return self
        self._tools.counts.update(created_initialize=1, created_composite=1)
        flat = flatten(self._vips, colour)
        if canvas == self._size:
            return self._derived(flat)
        left, top = offset(self.columns, canvas.width, float_x), offset(self.rows, canvas.height, float_y)
        return self._derived(place(flat, Box(left, top, *canvas), colour))

    def resize_to_fit(self, width: float, height: float) -> "PluginImage":
        """The largest size of the same shape inside width x height; enlarges too."""
        _check_positive(width, height)
        same = self._size == (width, height)
        return self._planned(Plan(self._size if same else fit(self._size, width, height)))

    def resize_to_fill(
        self, width: float, height: float, float_x: float = 0.5, float_y: float = 0.5
    ) -> "PluginImage":
        """Cover width x height and cut off what is over."""
        _check_positive(width, height)
        return self._planned(fill(self._size, width, height, float_x, float_y))

    def _planned(self, plan: Plan) -> "PluginImage":
        check_pixels(*plan.size, self._tools.max_pixels)
        count_plan(plan, self._size, self._tools.counts)
        scaled = scale(self._vips, plan.size, is_linear=self._tools.is_linear)
        return self._derived(finish(scaled, plan, None))

    def sample(self, width: float, height: float | None = None) -> "PluginImage":
        """Nearest-neighbour sampling to width x height pixels; one number is a share of both sides."""
        if height is None:
            width, height = (max(1, floor(width * side + 0.5)) for side in self._size)
        _check_positive(width, height)
        check_pixels(width, height, self._tools.max_pixels)
        self._tools.counts["created_sample"] += 1
        return self._derived(region.sample(self._vips, int(width), int(height)))

    def crop(self, x: float, y: float, width: float, height: float) -> "PluginImage":
        """Keep a region, at least one pixel; what reaches over the edges is cut off."""
        box = self._box(x, y, max(1, width), max(1, height))
        self._tools.counts["created_crop"] += 1
        return self._derived(self._vips.crop(*box))

    def rotate(self, angle: float, background: str | None = None) -> "PluginImage":
        """Turn clockwise; the canvas grows, its corners get the background colour."""
        colour = self._colour(background)
        return self._derived(turn(self._vips, angle, colour, self._tools.max_pixels, self._tools.counts))

    def pixelate_region(self, x: float, y: float, width: float, height: float, size: float) -> "PluginImage":
        """Replace a region by squares of `size` pixels."""
        box = self._box(x, y, width, height)
        return self._derived(region.pixelate(self._vips, box, int(size), self._tools.counts))

    def blur_region(
        self, x: float, y: float, width: float, height: float, radius: float = 0, sigma: float = 1
    ) -> "PluginImage":
        """Gaussian blur of a region; radius 0 means as long as needed. Both end at 50 pixels."""
        if radius < 0 or sigma < 0:
            raise ArgumentError(f"expected radius and sigma to be positive, got: {radius:g}, {sigma:g}")
        box = self._box(x, y, width, height)
        radius, sigma = capped_blur("radius", radius), capped_blur("sigma", sigma)
        return self._derived(region.blur(self._vips, box, radius, sigma, self._tools.counts))

    def render_rectangle(
        self, x: float, y: float, width: float, height: float, color: str = "black"
    ) -> "PluginImage":
        """Fill a region with a colour; a translucent one blends."""
        box = self._box(x, y, width, height)
        return self._derived(region.fill(self._vips, box, parse_colour(color), self._tools.counts))

    # Ways of writing things

    @contextmanager
    def with_background_color(self, color: str) -> Generator["PluginImage"]:
        """Within the block `rotate` and `render_on_background` of this image use that colour."""
        before, self._background = self._background, color
        try:
            yield self
        finally:
            self._background = before

    def get(self, use: Use | None = None) -> "PluginImage":
        """What `use` makes of the image, or the image itself if that is None."""
        made = None if use is None else use(self)
        if made is None:
            return self
        return made if isinstance(made, PluginImage) else self._derived(made)

    borrow = get

    def copy(self) -> "PluginImage":
        """Another object for the same picture."""
        return self._derived(self._vips)

    def __repr__(self) -> str:
        return f"PluginImage({self.columns}x{self.rows}, {self._vips.bands} bands)"

    def _derived(self, vips: Image) -> "PluginImage":
        return PluginImage(vips, background=self._background, tools=self._tools)

    def _colour(self, text: str | None) -> Colour:
        return parse_colour(self._background if text is None else text)

    def _box(self, x: float, y: float, width: float, height: float) -> Box:
        """A region cut at the edges of the image. Raises: ArgumentError if it begins beyond them."""
        if x >= self.columns or y >= self.rows:
            raise ArgumentError(f"region begins outside of the image: x {x:g}, y {y:g}")
        left, top = max(0, int(x)), max(0, int(y))
        columns, rows = min(int(width), self.columns - left), min(int(height), self.rows - top)
        return Box(left, top, max(0, columns), max(0, rows))


def normal(image: Image) -> Image:
    """Any image of libvips as 8-bit sRGB with or without alpha; lazy.

    Samples of other formats are taken as 0..255, rounded and clipped, where the colour space is sRGB or grey:
    that is what arithmetic on 8-bit samples gives.
    """
    space, samples = str(image.interpretation), str(image.format)
    if space == "srgb" and samples == "uchar" and image.bands in _SRGB_BANDS:
        return image
    if space in ("srgb", "b-w", "multiband") and samples != "uchar":
        image = image.rint().cast("uchar") if samples in ("float", "double") else image.cast("uchar")
    image = image.colourspace("srgb") if space == "scrgb" else to_8_bit(image)
    return to_rgb(to_srgb(image) if needs_conversion(image) else image)


def _check_positive(width: float, height: float) -> None:
    if width < 1 or height < 1:
        raise ArgumentError(f"expected width and height to be positive, got: {width:g}x{height:g}")
