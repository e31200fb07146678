"""Tiny images that make libvips and Pillow do now whatever they put off until the first use."""

from collections.abc import Iterator
from io import BytesIO

from PIL import Image as PillowImage

from safelight.image.formats import OUTPUT_FORMATS
from safelight.image.spec import ThumbnailSpec
from safelight.image.speed import SPEEDS

_SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16"><text y="9">a</text></svg>"""
_PILLOW_FORMATS = ("BMP", "ICO", "TGA", "PCX", "PPM", "DDS", "JPEG2000", "SGI")
_EDITS = "!blur,0,0,1,1!pixelate,0,0,1,1!rotate,30!rectangle,0,0,0.5,0.5,color:#ff000080!caption,a"
_SMALL = ThumbnailSpec.parse("crop,4,4,jpeg")


def samples() -> Iterator[tuple[bytes, list[ThumbnailSpec]]]:
    """Inputs of all kinds, with specifications that use every saver and every sort of edit."""
    every_format = [ThumbnailSpec.parse(f"pad,8,9,{name}") for name in OUTPUT_FORMATS]
    yield _SVG, [*every_format, ThumbnailSpec.parse("crop,4,4,png" + _EDITS)]
    for name in _PILLOW_FORMATS:
        file = BytesIO()
        PillowImage.new("RGB", (16, 16)).save(file, name)
        yield file.getvalue(), [_SMALL]
    file = BytesIO()
    PillowImage.new("RGB", (128, 128)).save(file, "JPEG", progressive=True)
    yield file.getvalue(), [ThumbnailSpec.parse(f"fit,16,16,webp,speed:{speed}") for speed in SPEEDS]
