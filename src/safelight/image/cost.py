"""How much memory a request will take, from headers and specifications alone, before the first pixel.

Measured: most private memory beyond an idle worker's, libvips 8.18.7, one thread, noisy photographs of 6 and
24 megapixels, 8 bits, made into a JPEG of 300 pixels; bytes per pixel of the input unless said otherwise.

    JPEG, baseline            0    streams; shrunk while it is decoded
    JPEG, progressive         3.1  4:4:4: 6.1, CMYK: 8.4; all coefficients, 2 bytes each, at full size
    PNG, TIFF                 0    streams, apart from lines; TIFF in one strip 5.7: samples and file
    PNG, interlaced           3.7  8.9 for 16 bit RGBA: the whole picture
    GIF                       5.2
    WebP, lossy               0.2  scaled while it is decoded; 2.2 with alpha; 4.1 lossless
    WebP, not scaled          7.3
    AVIF                     16.4  19.9 for 10 bits, 24.5 for 12 bits with alpha in full chroma
    JPEG 2000                20.0  22.0 with alpha
    BMP, TGA, PPM            10.2  Pillow; its copy of the input included
    lines of any of these     4.4 to 7.7 KiB per column of what is decoded

    Outputs, per pixel of the output: JPEG 7.0, from quality 90 on 13.3, PNG 6.7, GIF 14.7, TIFF 5.1; AVIF
    24, in full chroma 35, noise 40; WebP 7.5, with sharp chroma 16, from effort 3 on 23, noise 37. Turned
    upright 2.8 more, from CMYK 12 more; edits 5.3 of what is edited.

The constants below are these, rounded up. An encoder also counts for two more copies of its data, in the
memory shared with the server and in the server.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from safelight.image.geometry import Size

BASE_BYTES = 8 << 20
"""For every request: buffers, and what the allocator loses."""

PIXEL_BYTES = 4
_PEAK_BYTES = {"AVIF": 20, "JP2": 24}
_HELD_BYTES = {"AVIF": 8, "GIF": 6, "TIFF": 6, "WEBP": 7.5}
_PILLOW_PEAK_BYTES, _PILLOW_HELD_BYTES = 11, 7
_WEBP_WHOLE_BYTES = {b"VP8 ": 0.3, b"VP8L": 4.2, b"VP8X": 4.2}
_WEBP_CANVAS_BYTES = 8
_WEBP_IS_ANIMATED = 0x02
_SVG_TREE_BYTES = 20  # per byte of the document
_EMBEDDED_BYTES = 8  # per pixel of pictures in SVG
_DEEP_FACTOR = 1.3

_LINE_BYTES = 6 << 10  # per column and for up to 4 bytes per pixel
_MAX_LINES_BYTES = 8  # per pixel
_COEFFICIENT_BYTES = 2
_CMYK_BYTES = 12
_ENCODING_BYTES = {"JPEG": 8, "PNG": 12, "WEBP": 8, "GIF": 16, "TIFF": 9, "AVIF": 25}
_FINE_BYTES = {"JPEG": 15, "WEBP": 17, "AVIF": 41}
_THOROUGH_WEBP_BYTES = 38
_LIGHT_BYTES = 4  # of a sample
_LIGHT_ROWS, _LIGHT_COPIES = 64, 3  # of the output, and of each of its samples
_READ_ROWS = 32  # of the input: what is read at a time, and what alpha makes of it


class NotGranted(Exception):
    """A request takes more memory than it may have; `needed_bytes` would do. Nothing has been decoded yet."""

    def __init__(self, needed_bytes: int) -> None:
        super().__init__(f"{needed_bytes} bytes are needed")
        self.needed_bytes = needed_bytes


@dataclass(frozen=True, slots=True)
class Decoding:
    """What decoding takes. `size`: what comes out, in pixels, as stored.

    `peak_bytes`: at the worst moment before the first pixel. `held_bytes`: from then on until the last one.
    `line_factor`: of the lines in flight, above 1 for samples of more than 8 bits.
    `is_cmyk`: four inks, which take more to convert.
    """

    size: Size
    peak_bytes: int = 0
    held_bytes: int = 0
    line_factor: float = 1
    is_cmyk: bool = False

    def whole(self, picture_bytes: int) -> "Decoding":
        """The same, but all of the picture at once, unless in the end it has to come in lines."""
        held_bytes = self.held_bytes + max(picture_bytes, self.line_bytes)
        return replace(self, held_bytes=held_bytes, line_factor=0)

    @property
    def line_bytes(self) -> int:
        """Lines on their way through the resizer: a bounded number, of the width decoded."""
        lines = _LINE_BYTES * self.size.width * self.line_factor
        return int(min(lines, _MAX_LINES_BYTES * pixels(self.size)))


@dataclass(frozen=True, slots=True)
class Making:
    """What is to be made of a decoded picture: it is resized to `target`, edited, and becomes `final`.

    `format_name` None: it will not be encoded. `is_fine`: with all of its colour, or a progressive JPEG.
    `is_thorough`: a WebP whose encoder notes what it might write before it does.
    `edit_bytes`: what the edits take, 0 without any. `light_bytes`: what resizing takes in linear light.
    `is_streamed`: pixels are encoded as they come. `is_turned`: it is put upright. `converted`: the size at
    which inks become colours.
    """

    target: Size
    final: Size
    format_name: str | None
    is_fine: bool
    is_thorough: bool
    edit_bytes: int
    light_bytes: int
    is_streamed: bool
    is_turned: bool
    converted: Size


def pixels(size: Size) -> int:
    """How many there are."""
    return size.width * size.height


def of_decoding(
    format_name: str, size: Size, stored: Size, whole_bytes: float, *, is_deep: bool = False
) -> Decoding:
    """By libvips, to `size`; `whole_bytes`: besides, for every pixel that is `stored`. `is_deep`: 16 bits."""
    count, whole, factor = pixels(size), whole_bytes * pixels(stored), _DEEP_FACTOR if is_deep else 1
    return Decoding(
        size,
        peak_bytes=int(_PEAK_BYTES.get(format_name, 0) * count * factor),
        held_bytes=int(_HELD_BYTES.get(format_name, 0) * count + whole),
        line_factor=factor,
    )


def tiff_whole_bytes(unpacked_bytes: float, input_bytes: int, size: Size) -> float:
    """Per pixel, beyond what is usual: one strip is all of the file, and all that it unpacks to."""
    return max(0, unpacked_bytes + input_bytes / pixels(size) - _HELD_BYTES["TIFF"])


def of_decoding_by_pillow(format_name: str, size: Size, input_bytes: int) -> Decoding:
    """Whole, after a copy of the input; `peak_bytes` holds two copies of the pixels."""
    count = pixels(size)
    peak_bytes = _PEAK_BYTES.get(format_name, _PILLOW_PEAK_BYTES) * count + input_bytes
    return Decoding(size, peak_bytes, _PILLOW_HELD_BYTES * count + input_bytes)


def webp_whole_bytes(header: bytes) -> float:
    """Per pixel of the file, however small it is decoded; by its first 21 bytes (RFC 9649, 2.4 to 2.7)."""
    kind = header[12:16]
    if kind == b"VP8X" and header[20:] and header[20] & _WEBP_IS_ANIMATED:
        return _WEBP_CANVAS_BYTES
    return _WEBP_WHOLE_BYTES.get(kind, _WEBP_CANVAS_BYTES)


def of_drawing(size: Size, document_bytes: int, embedded_pixels: int) -> Decoding:
    """SVG, drawn at `size`: its tree and the pictures in it."""
    tree_bytes = _SVG_TREE_BYTES * document_bytes + _EMBEDDED_BYTES * embedded_pixels
    return Decoding(size, held_bytes=tree_bytes + PIXEL_BYTES * pixels(size))


def coefficient_bytes(size: Size, sampling: Sequence[tuple[int, int]]) -> int:
    """All coefficients of a JPEG whose components have these sampling factors, across and down.

    Raises: ValueError for factors that no JPEG has.
    """
    across, down = (max(factors, default=0) for factors in zip(*sampling, strict=True))
    if not across or not down:
        raise ValueError("sampling factors must not be zero")
    share = sum(x * y for x, y in sampling) / (across * down)
    padded = Size(size.width + 8 * across, size.height + 8 * down)
    return int(_COEFFICIENT_BYTES * share * pixels(padded))


def of_request(input_bytes: int, decoding: Decoding, makings: Sequence[Making]) -> int:
    """Bytes for the whole request, the input in shared memory included; outputs are made one by one."""
    kept = 0 if len(makings) == 1 else _kept_bytes(decoding, makings)
    most = max(_making_bytes(making, decoding) for making in makings)
    while_encoding = decoding.held_bytes + decoding.line_bytes + kept + most
    return BASE_BYTES + input_bytes + max(decoding.peak_bytes, while_encoding)


def _kept_bytes(decoding: Decoding, makings: Sequence[Making]) -> int:
    """Several outputs: the picture that all are made from, and those that smaller ones are made from."""
    targets = sum(pixels(making.target) for making in makings)
    return PIXEL_BYTES * (pixels(decoding.size) + targets)


def _making_bytes(making: Making, decoding: Decoding) -> int:
    target = pixels(making.target)
    return (
        (making.edit_bytes or (0 if making.is_streamed else PIXEL_BYTES * target))
        + (PIXEL_BYTES * target if making.is_turned else 0)
        + (_CMYK_BYTES * pixels(making.converted) if decoding.is_cmyk else 0)
        + making.light_bytes
        + _encoding_bytes(making) * pixels(making.final)
    )


def _encoding_bytes(making: Making) -> int:
    """Per pixel of the output."""
    if making.format_name is None:
        return 0
    if making.is_thorough:
        return _THOROUGH_WEBP_BYTES
    return (_FINE_BYTES if making.is_fine else _ENCODING_BYTES)[making.format_name]


def of_light(decoded: Size, target: Size, rows: int) -> int:
    """Resizing in linear light: `rows` of the input at a time, narrowed some rows of the output at a time."""
    read = (rows + _READ_ROWS) * decoded.width
    samples = read + _LIGHT_ROWS * (decoded.width + _LIGHT_COPIES * target.width)
    return PIXEL_BYTES * _LIGHT_BYTES * samples


def of_edit(before: Size, after: Size) -> int:
    """The pictures before and after an edit are in memory."""
    return PIXEL_BYTES * (pixels(before) + pixels(after))
