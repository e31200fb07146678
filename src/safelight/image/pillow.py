"""Formats that libvips does not read, by Pillow: few, named, checked from the header before pixels."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from io import BytesIO
from threading import Lock
from typing import Any

from PIL import (
    BmpImagePlugin,
    DdsImagePlugin,
    IcnsImagePlugin,
    IcoImagePlugin,
    Jpeg2KImagePlugin,
    PcxImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    PsdImagePlugin,
    QoiImagePlugin,
    SgiImagePlugin,
    TgaImagePlugin,
)
from PIL import Image as PillowImage
from pyvips import Image

from safelight.errors import SafelightError, TooLarge, UnsupportedMedia
from safelight.image.formats import NO_DECODER, Buffer, InputFormat
from safelight.image.geometry import TOO_LARGE, Size, check_pixels
from safelight.image.profile import attach_profile

PLUGINS = (
    BmpImagePlugin,
    DdsImagePlugin,
    IcnsImagePlugin,
    IcoImagePlugin,
    Jpeg2KImagePlugin,
    PcxImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    PsdImagePlugin,
    QoiImagePlugin,
    SgiImagePlugin,
    TgaImagePlugin,
)
_LOCK = Lock()
_MILLIMETRES_PER_INCH = 25.4
_INTERPRETATIONS = {"L": "b-w", "LA": "b-w", "RGB": "srgb", "RGBA": "srgb", "CMYK": "cmyk"}


@contextmanager
def translated() -> Generator[None]:
    """Turn whatever Pillow raises about an input into our errors. Raises: TooLarge, UnsupportedMedia."""
    try:
        yield
    except SafelightError:
        raise
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning, MemoryError) as error:
        raise TooLarge(TOO_LARGE, detail=str(error)) from error
    except Exception as error:  # a damaged file makes its plugins raise nearly anything
        raise UnsupportedMedia(NO_DECODER, detail=f"{type(error).__name__}: {error}") from error


class PillowSource:
    """One input opened by Pillow; nothing decoded yet."""

    def __init__(self, data: Buffer, format_: InputFormat, max_pixels: int) -> None:
        """Read the header. Raises: TooLarge, UnsupportedMedia."""
        self._max_pixels = max_pixels
        with translated(), _alone(max_pixels):
            self._image = PillowImage.open(BytesIO(data), formats=[format_.loader])
        self.size = Size(*self._image.size)
        self.has_alpha = "A" in self._image.getbands() or "transparency" in self._image.info

    def decode(self) -> Image:
        """All pixels as a libvips image in memory: 8 bit, grey, sRGB or CMYK, perhaps alpha, profile kept.

        Raises: TooLarge, UnsupportedMedia.
        """
        check_pixels(*self.size, self._max_pixels)
        with translated(), _alone(self._max_pixels):
            self._image.load()
            check_pixels(*self._image.size, self._max_pixels)
            plain = _plain(self._image)
            return self._to_vips(plain)

    def _to_vips(self, plain: PillowImage.Image) -> Image:
        width, height = plain.size
        image = Image.new_from_memory(plain.tobytes(), width, height, len(plain.getbands()), "uchar")
        image = image.copy(
            interpretation=_INTERPRETATIONS[plain.mode], **_density(self._image.info.get("dpi"))
        )
        profile = self._image.info.get("icc_profile")
        if isinstance(profile, bytes):
            attach_profile(image, profile)
        return image


@contextmanager
def _alone(max_pixels: int) -> Generator[None]:
    """One thread at a time, because what is set here is global.

    Pictures inside ICO and ICNS files are opened by Pillow itself: it raises beyond twice its own limit.
    Warnings about oddities of an input interest nobody.
    """
    with _LOCK, warnings.catch_warnings():
        PillowImage.MAX_IMAGE_PIXELS = max_pixels // 2
        warnings.simplefilter("ignore")
        yield


def _plain(image: PillowImage.Image) -> PillowImage.Image:
    """Any mode of Pillow to one of `_INTERPRETATIONS`."""
    if image.mode in _INTERPRETATIONS:
        return image
    if image.mode.startswith("I"):
        return image.convert("I").point(lambda level: level * (1 / 256) + 0).convert("L")
    if image.mode == "F":
        return image.point(lambda level: level * 255 + 0).convert("L")
    if "transparency" in image.info or image.mode in ("PA", "RGBa", "La"):
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def _density(dpi: object) -> dict[str, Any]:
    """`xres` and `yres` in pixels per millimetre of Pillow's pixels per inch."""
    match dpi:
        case (int() | float() as across, int() | float() as down) if across > 0 and down > 0:
            return {"xres": across / _MILLIMETRES_PER_INCH, "yres": down / _MILLIMETRES_PER_INCH}
        case _:
            return {}


def import_all() -> None:
    """Import what Pillow would import at the first use; TIFF's is that of EXIF data, too."""
    PillowImage.preinit()
    import_module("PIL.TiffImagePlugin")
