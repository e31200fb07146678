"""Which formats exist: how their content begins, their names, types and what their encoders can do."""

import re
from dataclasses import dataclass
from typing import Literal

from safelight.errors import BadRequest, UnsupportedMedia

NO_DECODER = "unsupported media type: no decode delegate for this image format"
EMPTY = "unsupported media type: zero-length blob not permitted"

Decoder = Literal["vips", "svg", "pillow"]
Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class InputFormat:
    """A format that we read. `loader`: libvips operation or Pillow format name."""

    name: str
    mime_type: str
    decoder: Decoder
    loader: str


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """A format that we write. `max_side`: the longest side its files can state."""

    name: str
    mime_type: str
    max_side: int
    alpha: bool


JPEG = InputFormat("JPEG", "image/jpeg", "vips", "jpegload_source")
PNG = InputFormat("PNG", "image/png", "vips", "pngload_source")
WEBP = InputFormat("WEBP", "image/webp", "vips", "webpload_source")
GIF = InputFormat("GIF", "image/gif", "vips", "gifload_source")
TIFF = InputFormat("TIFF", "image/tiff", "vips", "tiffload_source")
AVIF = InputFormat("AVIF", "image/avif", "vips", "heifload_source")
SVG = InputFormat("SVG", "image/svg+xml", "svg", "svgload_source")
TGA = InputFormat("TGA", "image/x-tga", "pillow", "TGA")

INPUT_FORMATS = {
    format_.name: format_
    for format_ in (
        JPEG,
        PNG,
        WEBP,
        GIF,
        TIFF,
        AVIF,
        SVG,
        TGA,
        InputFormat("BMP", "image/bmp", "pillow", "BMP"),
        InputFormat("ICO", "image/vnd.microsoft.icon", "pillow", "ICO"),
        InputFormat("PCX", "image/x-pcx", "pillow", "PCX"),
        InputFormat("PPM", "image/x-portable-anymap", "pillow", "PPM"),
        InputFormat("PSD", "image/vnd.adobe.photoshop", "pillow", "PSD"),
        InputFormat("DDS", "image/vnd.ms-dds", "pillow", "DDS"),
        InputFormat("JP2", "image/jp2", "pillow", "JPEG2000"),
        InputFormat("ICNS", "image/x-icns", "pillow", "ICNS"),
        InputFormat("SGI", "image/x-sgi", "pillow", "SGI"),
        InputFormat("QOI", "image/qoi", "pillow", "QOI"),
    )
}

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"\0\0\x01\0", "ICO"),
    (b"8BPS\0\x01", "PSD"),
    (b"DDS ", "DDS"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JP2"),
    (b"\xff\x4f\xff\x51", "JP2"),
    (b"icns", "ICNS"),
    (b"\x01\xda", "SGI"),
    (b"qoif", "QOI"),
    (b"\x1f\x8b\x08", "SVG"),
)
_PPM = re.compile(rb"P[1-7fF][\s#]")
_PCX = re.compile(rb"\x0a[\0\x02-\x05]\x01[\x01\x02\x04\x08]", re.DOTALL)
_SVG = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:[?!]|(?:[A-Za-z_][\w.-]*:)?svg\b)")
_AVIF_BRANDS = {b"avif", b"avis"}
# colour map type 0 or 1 and an image type that goes with it (TGA 2.0 specification, fields 2 and 3)
_TGA = re.compile(rb".(?:\0[\x02\x03\x0a\x0b]|\x01[\x01\x09])", re.DOTALL)
_HEAD = 4096


def sniff(data: Buffer) -> InputFormat:
    """Recognise an image by how it begins. Raises: UnsupportedMedia."""
    if not len(data):
        raise UnsupportedMedia(EMPTY)
    head = bytes(data[:_HEAD])
    name = next((name for magic, name in _MAGIC if head.startswith(magic)), None) or _sniff_structured(head)
    if name is None:
        raise UnsupportedMedia(NO_DECODER, detail=f"content begins with {head[:16].hex(' ')}")
    return INPUT_FORMATS[name]


def _sniff_structured(head: bytes) -> str | None:
    """Formats that take more than a prefix to recognise; TGA, which has no magic number, comes last."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return "AVIF" if _brands(head) & _AVIF_BRANDS else None
    patterns = (("PPM", _PPM), ("PCX", _PCX), ("SVG", _SVG), ("TGA", _TGA))
    return next((name for name, pattern in patterns if pattern.match(head)), None)


def _brands(head: bytes) -> set[bytes]:
    """Major and compatible brands of an ISO base media file (ISO 14496-12, 4.3)."""
    end = min(int.from_bytes(head[:4], "big"), 256)
    return {head[8:12], *(head[start : start + 4] for start in range(16, end, 4))}


OUTPUT_FORMATS = {
    "JPEG": OutputFormat("JPEG", "image/jpeg", 65_500, alpha=False),
    "PNG": OutputFormat("PNG", "image/png", 10_000_000, alpha=True),
    "WEBP": OutputFormat("WEBP", "image/webp", 16_383, alpha=True),
    "GIF": OutputFormat("GIF", "image/gif", 65_535, alpha=True),
    "TIFF": OutputFormat("TIFF", "image/tiff", 10_000_000, alpha=True),
    "AVIF": OutputFormat("AVIF", "image/avif", 16_384, alpha=True),
}
_ALIASES = {"JPG": "JPEG", "TIF": "TIFF"}
OUTPUT_NAMES = (*OUTPUT_FORMATS, *_ALIASES)


def output_format(name: str, source: InputFormat) -> OutputFormat:
    """Encoder for a name in a specification; `input` is that of the input, or PNG if we cannot write it.

    Raises: BadRequest.
    """
    if name == "input":
        return OUTPUT_FORMATS.get(source.name, OUTPUT_FORMATS["PNG"])
    upper = name.upper()
    found = OUTPUT_FORMATS.get(_ALIASES.get(upper, upper))
    if found is None:
        raise BadRequest(f"unknown format: {upper}")
    return found
