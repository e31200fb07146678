"""Encoding: defaults are data, one small function per format. All metadata goes but the pixel density."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyvips import Image

from safelight.errors import BadRequest, TooLarge
from safelight.image.arguments import integer_prefix
from safelight.image.colour import BLACK
from safelight.image.formats import InputFormat, OutputFormat, output_format
from safelight.image.geometry import TOO_LARGE, Size
from safelight.image.jpeg import with_jfif
from safelight.image.resize import flatten
from safelight.image.settings import ImageSettings

INTERLACE_NAMES = (
    "UndefinedInterlace",
    "NoInterlace",
    "LineInterlace",
    "PlaneInterlace",
    "PartitionInterlace",
    "GIFInterlace",
    "JPEGInterlace",
    "PNGInterlace",
)
_NOT_INTERLACED = "NoInterlace"
_PNG_FILTERS = (0x08, 0x10, 0x20, 0x40, 0x80, 0xF8)  # none, sub, up, average, Paeth, all
_PNG_COMPRESSION = 3
_WEBP_QUALITY, _WEBP_EFFORT = 82, 2
_AVIF_QUALITY, _AVIF_EFFORT = 67, 1
_GIF_EFFORT = 2
_MIN_OPTIMIZED_PIXELS = 64 * 64  # smaller JPEGs keep the standard tables: pictures of 4x4 stay over 300 bytes
_MILLIMETRES_PER_INCH = 25.4
_KEEP: Any = "none"  # density and a few other header fields stay
_UNKNOWN_DENSITY = 1.0  # libvips' value for images that do not say


@dataclass(frozen=True, slots=True)
class Encoding:
    """How to write one output. `quality` None: the format's default."""

    format: OutputFormat
    quality: int | None
    interlace: bool


def parse_encoding(
    name: str, options: Mapping[str, str], source: InputFormat, settings: ImageSettings
) -> Encoding:
    """Check interlace name and format, in this order (reference 6.5). Raises: BadRequest."""
    interlace = options.get("interlace", _NOT_INTERLACED)
    if interlace not in INTERLACE_NAMES:
        raise BadRequest(f"unsupported interlace: {interlace}")
    format_ = output_format(name, source)
    quality = _quality(options.get("quality"), format_, settings)
    return Encoding(format_, quality, interlace != _NOT_INTERLACED)


def _quality(text: str | None, format_: OutputFormat, settings: ImageSettings) -> int | None:
    if text:
        return min(max(integer_prefix(text), 0), 99 if format_.name == "PNG" else 100)
    return {"JPEG": settings.jpeg_quality, "PNG": settings.png_quality}.get(format_.name)


def encode(image: Image, size: Size, encoding: Encoding) -> bytes:
    """Write an 8-bit image of `size`. Raises: TooLarge for sides that the format cannot state."""
    format_ = encoding.format
    check_sides(size, format_)
    if not format_.alpha:
        image = flatten(image, BLACK)
    return _ENCODERS[format_.name](image, size, encoding)


def check_sides(size: Size, format_: OutputFormat) -> None:
    """Refuse sides that the format cannot state. Raises: TooLarge."""
    if max(size) > format_.max_side:
        raise TooLarge(TOO_LARGE, detail=f"{format_.name} ends at {format_.max_side} pixels a side")


def _jpeg(image: Image, size: Size, encoding: Encoding) -> bytes:
    """4:2:0 below quality 90, 4:4:4 from there on: libvips' automatic mode."""
    data: bytes = image.jpegsave_buffer(
        Q=max(1, encoding.quality or 0),
        keep=_KEEP,
        interlace=encoding.interlace,
        optimize_coding=size.width * size.height >= _MIN_OPTIMIZED_PIXELS,
    )
    return with_jfif(data, _density(image))


def _density(image: Image) -> tuple[int, int] | None:
    """Pixels per inch across and down; None if the input did not say."""
    densities = (image.xres, image.yres)
    if densities == (_UNKNOWN_DENSITY, _UNKNOWN_DENSITY):
        return None
    across, down = (round(density * _MILLIMETRES_PER_INCH) for density in densities)
    return (across, down) if 0 < across < 65_536 and 0 < down < 65_536 else None


def _png(image: Image, _size: Size, encoding: Encoding) -> bytes:
    """Quality is two digits: zlib level, then filter (reference 7.2)."""
    if encoding.quality is None:
        return image.pngsave_buffer(
            compression=_PNG_COMPRESSION, interlace=encoding.interlace, keep=_KEEP, bitdepth=8
        )
    level, filter_ = divmod(encoding.quality, 10)
    return image.pngsave_buffer(
        compression=level,
        filter=_PNG_FILTERS[min(filter_, len(_PNG_FILTERS) - 1)],
        interlace=encoding.interlace,
        keep=_KEEP,
        bitdepth=8,
    )


def _webp(image: Image, _size: Size, encoding: Encoding) -> bytes:
    quality = _WEBP_QUALITY if encoding.quality is None else encoding.quality
    return image.webpsave_buffer(Q=quality, effort=_WEBP_EFFORT, keep=_KEEP)


def _gif(image: Image, _size: Size, encoding: Encoding) -> bytes:
    return image.gifsave_buffer(effort=_GIF_EFFORT, interlace=encoding.interlace, keep=_KEEP)


def _tiff(image: Image, _size: Size, _encoding: Encoding) -> bytes:
    return image.tiffsave_buffer(compression="lzw", predictor="horizontal", keep=_KEEP)


def _avif(image: Image, _size: Size, encoding: Encoding) -> bytes:
    quality = _AVIF_QUALITY if encoding.quality is None else max(1, encoding.quality)
    return image.heifsave_buffer(Q=quality, effort=_AVIF_EFFORT, compression="av1", bitdepth=8, keep=_KEEP)


_ENCODERS: dict[str, Callable[[Image, Size, Encoding], bytes]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "TIFF": _tiff,
    "AVIF": _avif,
}
