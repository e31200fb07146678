"""Encoding: defaults are data, one small function per format. All metadata goes but the pixel density."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, cast

from pyvips import Image

from safelight.errors import BadRequest, TooLarge
from safelight.image import chroma, turbo
from safelight.image.arguments import integer_prefix
from safelight.image.colour import BLACK
from safelight.image.equality import EQUALIZED, equal_quality
from safelight.image.formats import InputFormat, OutputFormat, output_format
from safelight.image.geometry import TOO_LARGE, Size
from safelight.image.jpeg import with_jfif
from safelight.image.policy import Encoders, Policy
from safelight.image.resize import flatten
from safelight.image.settings import ImageSettings
from safelight.image.tuning import affordable_effort, tuned, whole_number

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
_GIF_EFFORT = 2
_FULL_CHROMA_QUALITY = 90  # from here on libvips keeps it of itself
_FULL_CHROMA: Mapping[str, Mapping[str, Any]] = {
    "JPEG": {"subsample_mode": "off"},
    "WEBP": {"smart_subsample": True},  # the format has no other; this keeps edges sharp
    "AVIF": {"subsample_mode": "off"},
}
_COUNTING_EFFORT = 3
_MOST_GATHERED_PIXELS = 1 << 20  # beyond that it costs as much as libvips takes, and more memory
_MIN_OPTIMIZED_PIXELS = 64 * 64  # smaller JPEGs keep the standard tables: pictures of 4x4 stay over 300 bytes
_MILLIMETRES_PER_INCH = 25.4
_KEEP: Any = "none"  # density and a few other header fields stay
_ORIENTATION = "orientation"
_UNKNOWN_DENSITY = 1.0  # libvips' value for images that do not say


@dataclass(frozen=True, slots=True)
class Encoding:
    """How to write one output. `quality` None: the format's default. `tuning`: options of the encoder.

    `is_equal`: the quality is that of a JPEG, and what looks like it is meant. `interlace` None: by size.
    """

    format: OutputFormat
    quality: int | None
    interlace: bool | None
    tuning: Mapping[str, Any] = field(default_factory=dict[str, Any])
    is_equal: bool = False
    interlaced_from: float = inf
    looks_up_to: float = 0
    credit: int = 0
    deadline_s: float = inf

    def quality_at(self, size: Size) -> int:
        """The encoder's number for a picture of `size`."""
        quality = self.quality or 0
        if not self.is_equal:
            return quality
        return equal_quality(quality, self.format.name, size, self.credit)

    def is_fine(self, size: Size) -> bool:
        """It takes more memory to write: perhaps with full chroma, or a JPEG in several passes."""
        match self.format.name:
            case "JPEG":
                return self.is_full(size) or self.looks(size) or self.is_interlaced(size)
            case "AVIF":
                return self.is_full(size) or self.looks(size)
            case "WEBP":
                return bool(self.tuning.get("smart_subsample")) or self.looks(size)
            case _:
                return False

    @property
    def is_thorough(self) -> bool:
        """A WebP for which libwebp keeps all symbols in memory to count them: its methods 3 to 6."""
        return self.format.name == "WEBP" and self.tuning["effort"] >= _COUNTING_EFFORT

    def is_full(self, size: Size) -> bool:
        """A JPEG or AVIF with full chroma, whatever the picture."""
        mode = self.tuning.get("subsample_mode")
        return mode == "off" or (mode is None and self.quality_at(size) >= _FULL_CHROMA_QUALITY)

    def is_gathered(self, size: Size) -> bool:
        """A JPEG that is better encoded from memory than line by line as it comes."""
        is_plain = self.format.name == "JPEG" and not self.tuning.get("trellis_quant")
        return is_plain and size.width * size.height <= _MOST_GATHERED_PIXELS

    def looks(self, size: Size) -> bool:
        """Whether full chroma is a matter of the picture. Better qualities have it, or are near to that."""
        return (
            self.format.name in _FULL_CHROMA
            and max(size) <= self.looks_up_to
            and "subsample_mode" not in self.tuning
            and self.quality_at(size) < _FULL_CHROMA_QUALITY
        )

    def for_picture(self, image: Image, size: Size) -> "Encoding":
        """With full chroma if this picture needs it. `image`: in memory, if it is one to look at."""
        if not self.looks(size) or not chroma.shows(image):
            return self
        return replace(self, tuning={**self.tuning, **_FULL_CHROMA[self.format.name]})

    def is_interlaced(self, size: Size) -> bool:
        """Whether it comes in several passes."""
        if self.interlace is None:
            return self.format.name == "JPEG" and size.width * size.height >= self.interlaced_from
        return self.interlace


def parse_encoding(
    name: str, options: Mapping[str, str], source: InputFormat, settings: ImageSettings, policy: Policy
) -> Encoding:
    """Check interlace name, format and the options of encoders, in this order (reference 6.5).

    Raises: BadRequest.
    """
    interlace = options.get("interlace")
    if interlace is not None and interlace not in INTERLACE_NAMES:
        raise BadRequest(f"unsupported interlace: {interlace}")
    format_ = output_format(name, source)
    encoders = policy.encoders
    quality, is_equal = _quality(options, format_, settings, encoders)
    return Encoding(
        format_,
        quality,
        None if interlace is None else interlace != _NOT_INTERLACED,
        tuned(format_.name, encoders.of(format_.name), {} if policy.is_reference else options),
        is_equal,
        encoders.interlaced_from,
        encoders.looks_up_to,
        encoders.credit.get(format_.name, 0),
        inf if policy.is_reference else settings.deadline_s,
    )


def _quality(
    options: Mapping[str, str], format_: OutputFormat, settings: ImageSettings, encoders: Encoders
) -> tuple[int | None, bool]:
    """Quality, and whether it is that of a JPEG that the output should look like."""
    most = 99 if format_.name == "PNG" else 100
    own_name = f"{format_.name.lower()}-quality"
    own = options.get(own_name) if encoders.equalizes else None
    if own:
        return whole_number(own_name, own, most), False
    is_equal = encoders.equalizes and format_.name in EQUALIZED
    text = options.get("quality")
    if text:
        number = integer_prefix(text)
        if not number and encoders.equalizes:
            number = whole_number("quality", text, most)
        return min(max(number, 0), most), is_equal
    if format_.name == "PNG":
        return settings.png_quality, False
    if format_.name == "JPEG" and settings.jpeg_quality is not None:
        return settings.jpeg_quality, False
    default = encoders.qualities.get(format_.name)
    return (encoders.qualities["JPEG"], is_equal) if default is None and is_equal else (default, False)


def encode(image: Image, size: Size, encoding: Encoding) -> bytes:
    """Write an 8-bit image of `size`. Raises: TooLarge for sides that the format cannot state."""
    format_ = encoding.format
    check_sides(size, format_)
    if not format_.alpha:
        image = flatten(image, BLACK)
    return _ENCODERS[format_.name](image, size, encoding.for_picture(image, size))


def check_sides(size: Size, format_: OutputFormat) -> None:
    """Refuse sides that the format cannot state. Raises: TooLarge."""
    if max(size) > format_.max_side:
        raise TooLarge(TOO_LARGE, detail=f"{format_.name} ends at {format_.max_side} pixels a side")


def _jpeg(image: Image, size: Size, encoding: Encoding) -> bytes:
    """4:2:0 below quality 90, 4:4:4 from there on, libvips' automatic mode, unless told otherwise."""
    quality = max(1, encoding.quality_at(size))
    optimized = size.width * size.height >= _MIN_OPTIMIZED_PIXELS
    if encoding.is_gathered(size):
        gathered = turbo.encode(
            image,
            size,
            quality,
            encoding.tuning.get("quant_table", 0),
            full_chroma=encoding.is_full(size),
            progressive=encoding.is_interlaced(size),
            optimized=optimized,
            density=_density(image),
        )
        if gathered is not None:
            return gathered
    data: bytes = image.jpegsave_buffer(
        Q=quality,
        keep=_KEEP,
        interlace=encoding.is_interlaced(size),
        optimize_coding=optimized,
        **encoding.tuning,
    )
    return with_jfif(data, _density(image))


def _density(image: Image) -> tuple[int, int] | None:
    """Pixels per inch across and down; None if the input did not say."""
    densities = (image.xres, image.yres)
    if densities == (_UNKNOWN_DENSITY, _UNKNOWN_DENSITY):
        return None
    across, down = (round(density * _MILLIMETRES_PER_INCH) for density in densities)
    return (across, down) if 0 < across < 65_536 and 0 < down < 65_536 else None


def _png(image: Image, size: Size, encoding: Encoding) -> bytes:
    """Quality is two digits: zlib level, then filter (reference 7.2)."""
    if encoding.quality is None:
        return image.pngsave_buffer(
            compression=_PNG_COMPRESSION, interlace=encoding.is_interlaced(size), keep=_KEEP, bitdepth=8
        )
    level, filter_ = divmod(encoding.quality, 10)
    return image.pngsave_buffer(
        compression=level,
        filter=_PNG_FILTERS[min(filter_, len(_PNG_FILTERS) - 1)],
        interlace=encoding.is_interlaced(size),
        keep=_KEEP,
        bitdepth=8,
    )


def _webp(image: Image, size: Size, encoding: Encoding) -> bytes:
    return image.webpsave_buffer(Q=encoding.quality_at(size), keep=_KEEP, **encoding.tuning)


def _gif(image: Image, size: Size, encoding: Encoding) -> bytes:
    return image.gifsave_buffer(effort=_GIF_EFFORT, interlace=encoding.is_interlaced(size), keep=_KEEP)


def _tiff(image: Image, _size: Size, _encoding: Encoding) -> bytes:
    return _plain(image).tiffsave_buffer(compression="lzw", predictor="horizontal", keep=_KEEP)


def _avif(image: Image, size: Size, encoding: Encoding) -> bytes:
    effort = affordable_effort(encoding.tuning["effort"], size, encoding.deadline_s)
    options: dict[str, Any] = {**encoding.tuning, "effort": effort}
    quality = max(1, encoding.quality_at(size))
    return _plain(image).heifsave_buffer(Q=quality, compression="av1", bitdepth=8, keep=_KEEP, **options)


def _plain(image: Image) -> Image:
    """Without the orientation of the input, which has been applied or does not count.

    libvips tells it in TIFF and AVIF whatever is to be kept, and viewers would turn the picture again.
    """
    if not image.get_typeof(_ORIENTATION):
        return image
    image = image.copy()
    cast(Any, image).remove(_ORIENTATION)
    return image


_ENCODERS: dict[str, Callable[[Image, Size, Encoding], bytes]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "TIFF": _tiff,
    "AVIF": _avif,
}
