"""What an image is, from its header alone."""

from safelight.image.formats import Buffer
from safelight.image.geometry import check_pixels
from safelight.image.load import Input, open_input
from safelight.image.result import ImageInfo
from safelight.image.settings import ImageSettings


def identify(data: Buffer, settings: ImageSettings) -> ImageInfo:
    """Type and size of an image; decodes nothing, so damage past the header goes unnoticed.

    Width and height are the rotated ones when the EXIF orientation is applied.
    Raises: UnsupportedMedia; TooLarge for an image that could not be decoded even at its smallest.
    """
    source = open_input(data, settings)
    check_pixels(*source.decoder.smallest, settings.max_pixels)
    return describe(source)


def describe(source: Input) -> ImageInfo:
    """Type and size of an opened input."""
    return ImageInfo(source.format.mime_type, source.size.width, source.size.height)
