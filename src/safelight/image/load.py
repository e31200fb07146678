"""Opening inputs: recognise, read the header, check limits; later decode, shrinking on the way."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol, cast

import pyvips
from pyvips import Image, Source

from safelight.errors import TooLarge, UnsupportedMedia
from safelight.image import cost, svg, turbo
from safelight.image.cost import Decoding
from safelight.image.formats import AVIF, EMPTY, JPEG, NO_DECODER, TIFF, WEBP, Buffer, InputFormat, sniff
from safelight.image.geometry import TOO_LARGE, Size, check_pixels
from safelight.image.jpeg import MOST_COMPONENTS, has_many_scans, read_header
from safelight.image.pillow import PillowSource
from safelight.image.policy import Demand
from safelight.image.profile import attach_profile, embedded_profile, needs_conversion
from safelight.image.resize import Level, size_of, whole
from safelight.image.scans import trimmed
from safelight.image.settings import ImageSettings

# Stop at missing data; forgive JPEGs oddities like stray bytes between segments, as every viewer does.
_FAIL_ON = {"JPEG": "truncated"}
_FAIL_ON_DEFAULT = "error"
_COLOURS = 3
_SAMPLE_BYTES = {"uchar": 1, "char": 1, "ushort": 2, "short": 2, "uint": 4, "int": 4, "float": 4}


def secure() -> None:
    """Block every libvips operation that its authors do not trust with hostile input, but SVG: see `svg`.

    Its warnings go to standard error. pyvips would have them call Python, from any thread; if that collects
    garbage, and what is freed warns in its turn, GLib ends the process.
    """
    pyvips.block_untrusted_set(True)
    pyvips.operation_block_set("VipsForeignLoadSvg", False)
    cast(Any, pyvips)._remove_log_handler()


secure()


@contextmanager
def decoding() -> Generator[None]:
    """Around libvips work on untrusted bytes, whose texts become details.

    Raises: TooLarge, UnsupportedMedia.
    """
    try:
        yield
    except pyvips.Error as error:
        text = str(error)
        if "out of memory" in text.lower():
            raise TooLarge(TOO_LARGE, detail=text) from error
        raise UnsupportedMedia(NO_DECODER, detail=text) from error


class Decoder(Protocol):
    """An opened input. Sizes are as stored, before any rotation."""

    size: Size
    orientation: int
    has_alpha: bool
    clearance: int  # decode this many times the size that a resize will give, unless the policy knows better

    @property
    def smallest(self) -> Size:
        """The least that decoding can give; more pixels than are allowed make the input useless."""
        ...

    def weigh(self, demand: Demand) -> Decoding:
        """What `decode(demand)` would take, from the header and the figures measured in `cost`."""
        ...

    def decode(self, demand: Demand) -> Level:
        """A lazy image, as large as is needed on both sides unless the input is smaller; use it once.

        Raises: TooLarge, UnsupportedMedia.
        """
        ...


@dataclass(slots=True)
class Input:
    """A recognised input: what it is and how to get its pixels."""

    format: InputFormat
    decoder: Decoder
    auto_orient: bool

    @property
    def orientation(self) -> int:
        """EXIF orientation to apply, 1..8; 1 when it is not wanted."""
        return self.decoder.orientation if self.auto_orient else 1

    @property
    def turned(self) -> bool:
        """Width and height change places."""
        return self.orientation >= 5

    @property
    def size(self) -> Size:
        """Size as reported: rotated if the orientation is applied."""
        return self.decoder.size.swapped if self.turned else self.decoder.size


def open_input(data: Buffer, settings: ImageSettings) -> Input:
    """Recognise `data` and read its header; decodes nothing and copies nothing (Pillow's formats: one copy).

    `data` must stay alive and unchanged as long as the result is used.
    Raises: UnsupportedMedia, TooLarge.
    """
    if not len(data):
        raise UnsupportedMedia(EMPTY)
    format_ = sniff(data)
    if format_.decoder == "pillow":
        decoder: Decoder = _PillowDecoder(data, format_, settings)
    elif format_.decoder == "svg":
        decoder = _SvgDecoder(data, settings)
    elif format_ is JPEG:
        decoder = _JpegDecoder(data, settings)
    elif format_ is WEBP:
        decoder = _WebpDecoder(data, settings)
    else:
        decoder = _VipsDecoder(data, format_, settings)
    return Input(format_, decoder, settings.auto_orient)


class _VipsDecoder:
    """PNG, GIF, TIFF, AVIF: no shrinking on load, first page only."""

    clearance = 2

    def __init__(self, data: Buffer, format_: InputFormat, settings: ImageSettings) -> None:
        self._format = format_
        self._source = Source.new_from_memory(data)
        self._input_bytes = len(data)
        self._max_pixels = settings.max_pixels
        with decoding():
            self._image = self._open()
            self._check_header(self._image)
            self.size = size_of(self._image)
            self.orientation = _orientation(self._image)
            self.has_alpha = bool(self._image.hasalpha())

    @property
    def smallest(self) -> Size:
        return self.size

    def weigh(self, demand: Demand) -> Decoding:
        is_deep = self._image.format != "uchar"
        whole_bytes: float = 0
        if self._image.get_typeof("interlaced"):
            whole_bytes = self._image.bands * (1 + is_deep)
        elif self._format is TIFF:
            whole_bytes = cost.tiff_whole_bytes(self._unpacked_bytes(), self._input_bytes, self.size)
        return cost.of_decoding(self._format.name, self.size, self.size, whole_bytes, is_deep=is_deep)

    def decode(self, demand: Demand) -> Level:
        return whole(self._checked(self._image))

    def _unpacked_bytes(self) -> float:
        """Per pixel, of a TIFF: it may be one strip; of tiles there is a row, and a copy of it."""
        copies = 1.0
        if self._image.get_typeof("tile-height"):
            copies = 2 * min(1, cast(int, self._image.get("tile-height")) / self._image.height)
        return copies * self._image.bands * _SAMPLE_BYTES.get(str(self._image.format), 8)

    def _open(self, **options: Any) -> Image:
        fail_on = _FAIL_ON.get(self._format.name, _FAIL_ON_DEFAULT)
        loader = self._format.loader
        return pyvips.Operation.call(loader, self._source, access="sequential", fail_on=fail_on, **options)

    def _check_header(self, image: Image) -> None:
        if self._format is AVIF and image.get("heif-compression") != "av1":
            raise UnsupportedMedia(NO_DECODER, detail="a HEIF file that is not AVIF")

    def _checked(self, image: Image) -> Image:
        check_pixels(*size_of(image), self._max_pixels)
        return image


class _ShrinkingDecoder(_VipsDecoder):
    """A loader that can be opened again to give a smaller image for less work."""

    shrinks: Sequence[int] = ()
    rounds_up = False  # whether a side of 101 counts as 51 when halved

    def __init__(self, data: Buffer, format_: InputFormat, settings: ImageSettings) -> None:
        self._shrink_on_load = settings.shrink_on_load
        super().__init__(data, format_, settings)

    def _factor(self, need: Size) -> int:
        """Largest factor that leaves at least `need`."""
        if not self._shrink_on_load:
            return 1
        width, height = self.size
        spare = self.rounds_up
        fitting = (
            factor
            for factor in self.shrinks
            if factor <= min(self.size)  # libvips leaves nothing of a single pixel
            and (width + spare * (factor - 1)) // factor >= need.width
            and (height + spare * (factor - 1)) // factor >= need.height
        )
        return max(fitting, default=1)

    def _shrunk_size(self, factor: int) -> Size:
        return Size(-(-self.size.width // factor), -(-self.size.height // factor))


class _JpegDecoder(_ShrinkingDecoder):
    """libjpeg decodes at 1/2, 1/4 and 1/8; our own header parser saves opening the file twice.

    What lies between these, 3/8 to 7/8, takes longer than the next larger one.
    """

    shrinks = (2, 4, 8)
    rounds_up = True  # `resize.complete` gives back what libvips cuts off

    def __init__(self, data: Buffer, settings: ImageSettings) -> None:
        header = read_header(data)
        self._data = data
        if header is None:
            super().__init__(data, JPEG, settings)
            self._coefficient_bytes = cost.coefficient_bytes(self.size, [(1, 1)] * MOST_COMPONENTS)
            self._is_cmyk = True  # for all we know
            self._is_progressive = False
            return
        self._format = JPEG
        self._source = Source.new_from_memory(data)
        self._max_pixels = settings.max_pixels
        self._shrink_on_load = settings.shrink_on_load
        self.size = Size(header.width, header.height)
        self.orientation = header.orientation
        self.has_alpha = False
        self._coefficient_bytes = header.coefficient_bytes
        self._is_cmyk = header.is_cmyk
        self._is_progressive = header.is_progressive

    @property
    def smallest(self) -> Size:
        return self._shrunk_size(self.shrinks[-1] if self._shrink_on_load else 1)

    def decode(self, demand: Demand) -> Level:
        factor = self._allowed_factor(demand)
        with decoding():
            # Checked again as opened: that parser and libjpeg may disagree about a malicious file.
            image = self._checked(self._open(shrink=factor))
            if self._trims(demand) and not needs_conversion(image):
                image = self._trimmed(image, factor, demand)
            if demand.policy.is_reference:
                return whole(image)
            pixels = self._by_turbo(image, self._shrunk_size(factor))
        width, height = self.size.width / factor, self.size.height / factor
        return Level(width, height, image) if pixels is None else Level(width, height, pixels, in_memory=True)

    def weigh(self, demand: Demand) -> Decoding:
        size = self._shrunk_size(self._allowed_factor(demand))
        copied_bytes = len(self._data) if self._trims(demand) else 0
        streamed = Decoding(size, held_bytes=self._coefficient_bytes + copied_bytes, is_cmyk=self._is_cmyk)
        is_whole = not demand.policy.is_reference and turbo.suits(size, _COLOURS)
        return streamed.whole(_COLOURS * cost.pixels(size)) if is_whole else streamed

    def _allowed_factor(self, demand: Demand) -> int:
        """What leaves all that is wanted; if that is more than may be decoded, what leaves the result."""
        wanted, most = self._factor(demand.need), self._factor(demand.target)
        factors = (factor for factor in (1, *self.shrinks) if wanted <= factor <= most)
        allowed = (f for f in factors if cost.pixels(self._shrunk_size(f)) <= self._max_pixels)
        return next(allowed, wanted)

    def _trims(self, demand: Demand) -> bool:
        """Whether scans that the largest output cannot show may be left out."""
        return self._is_progressive and self._shrink(demand) >= demand.policy.trims_from

    def _shrink(self, demand: Demand) -> float:
        return min(side / wanted for side, wanted in zip(self.size, demand.target, strict=True))

    def _trimmed(self, image: Image, factor: int, demand: Demand) -> Image:
        data = trimmed(self._data, demand.policy.trims_from / self._shrink(demand))
        if data is None:
            return image
        self._data, self._source = data, Source.new_from_memory(data)
        return self._open(shrink=factor)

    def _by_turbo(self, opened: Image, size: Size) -> Image | None:
        """What libvips has opened, decoded without it; density and profile are the same."""
        bands = opened.bands
        if opened.interpretation == "cmyk" or not turbo.suits(size, bands):
            return None
        if self._coefficient_bytes and has_many_scans(self._data):  # libvips gives up after some faults
            return None
        image = turbo.decode(self._data, size, bands)
        if image is None:
            return None
        image = image.copy(xres=opened.xres, yres=opened.yres)
        profile = embedded_profile(opened)
        if profile is not None:
            attach_profile(image, profile)
        return image


class _WebpDecoder(_ShrinkingDecoder):
    """libwebp scales while it decodes, to any size: a tenth of the time for small ones."""

    shrinks = tuple(range(2, 65))  # as the older server does it

    def __init__(self, data: Buffer, settings: ImageSettings) -> None:
        super().__init__(data, WEBP, settings)
        self._whole_bytes = cost.webp_whole_bytes(bytes(data[:21]))

    def weigh(self, demand: Demand) -> Decoding:
        scale = self._scale(demand)
        size = Size(ceil(self.size.width * scale), ceil(self.size.height * scale))
        return cost.of_decoding(WEBP.name, size, self.size, self._whole_bytes)

    def decode(self, demand: Demand) -> Level:
        check_pixels(*self.size, self._max_pixels)  # lossless files are decoded whole before they are scaled
        scale = self._scale(demand)
        if scale == 1:
            return whole(self._image)
        with decoding():
            return whole(self._open(scale=scale))

    def _scale(self, demand: Demand) -> float:
        if demand.policy.is_reference:
            return 1 / self._factor(demand.need)
        need, size = demand.need, self.size
        return min(1, max(need.width / size.width, need.height / size.height)) if self._shrink_on_load else 1


class _SvgDecoder:
    """Rendered by librsvg behind the guard, at the size needed."""

    orientation = 1
    has_alpha = True
    clearance = 1

    def __init__(self, data: Buffer, settings: ImageSettings) -> None:
        def check_image(embedded: bytes) -> None:
            inner = sniff(embedded)
            if inner.decoder == "svg":
                raise UnsupportedMedia(NO_DECODER, detail="SVG inside SVG")
            size = open_input(embedded, settings).decoder.size
            check_pixels(*size, settings.max_pixels)
            self._embedded_pixels += cost.pixels(size)

        self._settings = settings
        self._embedded_pixels = 0
        self._document = svg.read_document(data, settings, check_image)
        self._source = Source.new_from_memory(self._document)
        with decoding():
            self._image = self._open(1.0)
        self.size = size_of(self._image)

    @property
    def smallest(self) -> Size:
        return Size(1, 1)

    def weigh(self, demand: Demand) -> Decoding:
        scale = self._scale(demand.need)
        size = Size(int(self.size.width * scale) + 1, int(self.size.height * scale) + 1)
        return cost.of_drawing(size, len(self._document), self._embedded_pixels)

    def decode(self, demand: Demand) -> Level:
        scale = self._scale(demand.need)
        check_pixels(self.size.width * scale, self.size.height * scale, self._settings.max_pixels)
        with decoding():
            return whole(self._open(scale))

    def _scale(self, need: Size) -> float:
        return max(need.width / self.size.width, need.height / self.size.height)

    def _open(self, scale: float) -> Image:
        return pyvips.Operation.call("svgload_source", self._source, scale=scale, fail_on="error")


class _PillowDecoder:
    """Decoded by Pillow, whole."""

    orientation = 1
    clearance = 2

    def __init__(self, data: Buffer, format_: InputFormat, settings: ImageSettings) -> None:
        self._source = PillowSource(data, format_, settings.max_pixels)
        self._format = format_
        self._input_bytes = len(data)
        self.size = self._source.size
        self.has_alpha = self._source.has_alpha

    @property
    def smallest(self) -> Size:
        return self.size

    def weigh(self, demand: Demand) -> Decoding:
        return cost.of_decoding_by_pillow(self._format.name, self.size, self._input_bytes)

    def decode(self, demand: Demand) -> Level:
        return whole(self._source.decode())


def _orientation(image: Image) -> int:
    value = image.get("orientation") if image.get_typeof("orientation") else 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
