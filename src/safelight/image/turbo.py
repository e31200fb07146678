"""JPEG by libjpeg-turbo itself: what libvips gives, in less time, whole in memory.

libvips hands lines from thread to thread. Waking them up takes longer than encoding a small picture does: of
the CPU time there, 64 pixels a side take a quarter here, 300 about half, and from a megapixel on all of it.
"""

from functools import lru_cache
from io import BytesIO
from typing import Any, cast

import simplejpeg  # pyright: ignore[reportMissingTypeStubs]
from PIL import Image as PillowImage
from pyvips import Image

from safelight.image.formats import Buffer
from safelight.image.geometry import Size
from safelight.image.resize import samples

MOST_BYTES = 96 << 20
"""Of a decoded picture; libvips decodes larger ones line by line."""

_LEAST_SIDE = 64
_COLOURS = {1: ("GRAY", "b-w"), 3: ("RGB", "srgb")}
_MODES = {1: "L", 3: "RGB"}
_FULL_CHROMA, _HALF_CHROMA = 0, 2


def suits(size: Size, bands: int) -> bool:
    """Whether a picture may be decoded here, to `size`."""
    return bands in _COLOURS and min(size) >= _LEAST_SIDE and size.width * size.height * bands <= MOST_BYTES


def decode(data: Buffer, size: Size, bands: int) -> Image | None:
    """All pixels, shrunk by a power of two to `size`, without profile and density.

    libvips takes 8 % (at 1/4) to 50 % (whole) more time for the same.
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


def encode(
    image: Image,
    size: Size,
    quality: int,
    table: int,
    *,
    full_chroma: bool,
    progressive: bool,
    optimized: bool,
    density: tuple[int, int] | None,
) -> bytes | None:
    """A JFIF file of `image`, 8-bit grey or sRGB in memory. `quality`: 1..100. `table`: as libvips counts.

    `optimized`: with Huffman tables of its own. `density`: pixels per inch across and down. None if that
    takes more than 64 KiB and 2 bytes a pixel: Pillow's room for what comes in several passes. Only noise of
    the best qualities does.
    """
    picture = PillowImage.frombuffer(_MODES[image.bands], size, samples(image, size), "raw")
    file = BytesIO()
    try:
        picture.save(
            file,
            "JPEG",
            qtables=_quantization(quality, table),
            subsampling=_FULL_CHROMA if full_chroma else _HALF_CHROMA,
            progressive=progressive,
            optimize=optimized,
            **({} if density is None else {"dpi": density}),
        )
    except OSError:
        return None
    return file.getvalue()


@lru_cache(maxsize=256)
def _quantization(quality: int, table: int) -> list[list[int]]:
    """The tables that libvips writes, for brightness and colour."""
    sample = Image.black(8, 8, bands=3).copy(interpretation="srgb")
    data: bytes = sample.jpegsave_buffer(Q=quality, quant_table=table)
    with PillowImage.open(BytesIO(data)) as image:
        tables: dict[int, list[int]] = cast(Any, image).quantization
    return [tables[0], tables[1]]
