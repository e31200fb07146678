"""Qualities of formats that look the same: what 80 is for a JPEG is 85 for a WebP and 68 for an AVIF.

Medians of SSIMULACRA2 over twelve photographs at 512 pixels; between the rows it is a straight line. JPEG in
4:2:0 with the usual tables, WebP with effort 2, AVIF with effort 0 or 1, libvips 8.18, whose AVIF is tuned
for image quality.

Our JPEGs have a better quantization table, and WebP looks worse the larger the picture is: so it gets more.
Measured through the pipeline at 256 and 512 pixels, 12 and 34 photographs, JPEG 80: 77.1, 77.4 and 77.4,
77.9; WebP 84, 85: 78.3, 78.6 and 78.0, 78.0; AVIF 68: 77.9, 77.7 and 77.6, 78.1.
"""

from itertools import pairwise

from safelight.image.geometry import Size

_ROWS = (
    (0, 0, 0),
    (60, 63, 53),
    (70, 77, 59),
    (75, 80, 64),
    (80, 83, 68),
    (84, 87, 72),
    (88, 90, 77),
    (100, 100, 100),
)
"""JPEG, WebP, AVIF."""

_COLUMNS = {"WEBP": 1, "AVIF": 2}
EQUALIZED = frozenset(_COLUMNS)
_SMALL_PX, _LARGE_PX = 384, 768
_WEBP_SMALL, _WEBP_MIDDLE, _WEBP_LARGE = 1, 2, 3
_MOST = 100


def equal_quality(jpeg_quality: int, format_name: str, size: Size, credit: int = 0) -> int:
    """Quality that gives a picture of `size` in this format the looks of such a JPEG; both are 0..100.

    `credit`: steps by which the encoder looks better than the one that was measured here.
    """
    column = _COLUMNS.get(format_name)
    if column is None:
        return jpeg_quality
    quality = _between(jpeg_quality, column)
    if 0 < jpeg_quality < _MOST:
        quality += (_webp_offset(size) if format_name == "WEBP" else 0) - credit
    return min(max(round(quality), 0), _MOST)


def _between(jpeg_quality: int, column: int) -> float:
    for low, high in pairwise(_ROWS):
        if jpeg_quality <= high[0]:
            share = (jpeg_quality - low[0]) / (high[0] - low[0])
            return low[column] + share * (high[column] - low[column])
    return _MOST


def _webp_offset(size: Size) -> int:
    longest = max(size)
    if longest <= _SMALL_PX:
        return _WEBP_SMALL
    return _WEBP_MIDDLE if longest <= _LARGE_PX else _WEBP_LARGE
