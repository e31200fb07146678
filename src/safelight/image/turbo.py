"""JPEG decoding by libjpeg-turbo itself: the pixels that libvips gives, in less time, whole in memory."""

from typing import Any, cast

import simplejpeg  # pyright: ignore[reportMissingTypeStubs]
from pyvips import Image

from safelight.image.formats import Buffer
from safelight.image.geometry import Size

MOST_BYTES = 96 << 20
"""Of a decoded picture; libvips decodes larger ones line by line."""

_LEAST_SIDE = 64
_COLOURS = {1: ("GRAY", "b-w"), 3: ("RGB", "srgb")}


def suits(size: Size, bands: int) -> bool:
    """Whether a picture may be decoded here, to `size`."""
    return bands in _COLOURS and min(size) >= _LEAST_SIDE and size.width * size.height * bands <= MOST_BYTES


def decode(data: Buffer, size: Size, bands: int) -> Image | None:
    """All pixels, shrunk by a power of two to `size`, without profile and density.

    None for what this library does not read, and for whatever it finds fault with: libvips may know better,
    and knows what to say.
    """
    colours, interpretation = _COLOURS[bands]
    try:
        pixels: Any = simplejpeg.decode_jpeg(
            cast(Any, data), colours, min_width=size.width, min_height=size.height
        )
    except ValueError:
        return None
    if pixels.shape != (size.height, size.width, bands):
        return None
    return Image.new_from_memory(pixels, *size, bands, "uchar").copy(interpretation=interpretation)
