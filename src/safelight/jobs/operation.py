"""The older server's operations and pictures as specifications for our engine (reference/imgserve 7, 8)."""

from safelight.blob import MemoryBlob
from safelight.image.geometry import Box
from safelight.image.result import ImageInfo
from safelight.image.spec import Edit, ThumbnailSpec
from safelight.image.speed import OPTION, Speed
from safelight.jobs.record import LegacyOperation

PROCESSING = "Image being processed"
FAILED = "Image Processing failed"

BLANK = MemoryBlob(b"P6 1 1 255\n\xff\xff\xff")
"""One white pixel; what placeholders are made of."""

JPEG_QUALITY = 75
EXACT_PIXELS = 32_000_000
"""Larger sources may be shrunk first: the crop box is exact to half a pixel of the result then."""

_REFERENCE = {OPTION: Speed.REFERENCE.value}
_TRANSPARENT = {"background-color": "none", **_REFERENCE}


def picture_spec(operation: LegacyOperation, text: str) -> ThumbnailSpec:
    """What to make of `BLANK`: a white picture of the final size with `text` in the middle."""
    edits = (_stretched(operation), Edit("caption", (text,)))
    width, height = operation.width, operation.height
    return ThumbnailSpec("limit", width, height, operation.format, _quality(operation), edits)


def operation_spec(operation: LegacyOperation, source: ImageInfo) -> ThumbnailSpec:
    """What to make of a source of that size.

    The method only lets pass what the edits have made: `input` for its sides keeps the engine from shrinking
    the source before.
    """
    width, height = operation.width, operation.height
    if operation.kind == "rasterize":
        return ThumbnailSpec("stretch", width, height, operation.format, _TRANSPARENT)
    is_larger = width <= source.width and height <= source.height
    is_exact = is_larger and source.width * source.height <= EXACT_PIXELS
    options = _quality(operation) if operation.format == "jpeg" else _TRANSPARENT
    return ThumbnailSpec(
        "limit",
        None if is_exact else width,
        None if is_exact else height,
        operation.format,
        options,
        (_cut(source, crop_box(source, width, height)), _stretched(operation)),
    )


def crop_box(source: ImageInfo, width: int, height: int) -> Box:
    """The part of the source that has the target's ratio.

    Cut off equally on both sides, or one third above and two thirds below (reference/imgserve 8.1); the
    integers are those of its formulas in doubles, but at least one pixel is kept.
    """
    columns, rows = source.width, source.height
    wanted = width / height
    if wanted < columns / rows:
        kept = min(columns, max(1, int(rows * wanted)))
        return Box(int((columns - rows * wanted) / 2), 0, kept, rows)
    kept = min(rows, max(1, int(columns / wanted)))
    return Box(0, int((rows - columns / wanted) / 3), columns, kept)


def _cut(source: ImageInfo, box: Box) -> Edit:
    """The `crop` edit wants shares of the sides; parts of pixels keep its rounding from changing the box."""
    shares = (
        (box.left + 0.25) / source.width,
        (box.top + 0.25) / source.height,
        (box.width - 0.5) / source.width,
        (box.height - 0.5) / source.height,
    )
    return Edit("crop", tuple(f"{share:.12f}" for share in shares))


def _stretched(operation: LegacyOperation) -> Edit:
    return Edit("resize_stretch", (str(operation.width), str(operation.height)))


def _quality(operation: LegacyOperation) -> dict[str, str]:
    """Only JPEG has the quality of the older server; for PNG the number would be a compression level."""
    return {"quality": str(JPEG_QUALITY), **_REFERENCE} if operation.format == "jpeg" else _REFERENCE
