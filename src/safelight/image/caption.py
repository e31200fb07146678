"""Text on images, in the font that Pillow brings along: it is there on machines without any font.

Text through libvips is blank on these, and looks for fonts in files, which image workers may not open.
"""

from functools import lru_cache
from math import floor

from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from pyvips import Image

from safelight.image.resize import size_of

MAX_CHARACTERS = 200
_SMALLEST_PX = 6
_OPAQUE = 255


def draw_caption(image: Image, text: str, height_px: int, ink: list[float]) -> Image:
    """`text` on one line in the middle of `image`, in letters of `height_px`, smaller if it is too wide.

    `ink` has as many bands as `image`. What is too wide even in the smallest letters is cut on both sides.
    """
    have = size_of(image)
    mask = _fitting_mask(text, height_px, have.width)
    left, top = floor((have.width - mask.width) / 2), floor((have.height - mask.height) / 2)
    return mask.embed(left, top, *have).ifthenelse(ink, image, blend=True)


def _fitting_mask(text: str, height_px: int, width: int) -> Image:
    """One band, 0 to 255, as large as the text: as high as wanted, or as wide as fits."""
    mask = _mask(text, height_px)
    if mask.width <= width:
        return mask
    return _mask(text, max(_SMALLEST_PX, height_px * width // mask.width))


def _mask(text: str, height_px: int) -> Image:
    font = _font(height_px)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
    drawn = PillowImage.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(drawn).text((-left, -top), text, fill=_OPAQUE, font=font)
    return Image.new_from_memory(drawn.tobytes(), drawn.width, drawn.height, 1, "uchar")


@lru_cache(8)
def _font(height_px: int) -> ImageFont.FreeTypeFont:
    """With Pillow's own layout: the other one loads a library when it is used first."""
    font = ImageFont.load_default(height_px)
    assert isinstance(font, ImageFont.FreeTypeFont)  # noqa: S101 (all of Pillow's wheels have FreeType)
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)
