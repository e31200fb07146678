"""Colour: any input to 8-bit sRGB or grey, profiles and CMYK included."""

from functools import cache, lru_cache
from hashlib import blake2b
from io import BytesIO
from typing import Any, cast

import pyvips
from PIL import Image as PillowImage
from PIL import ImageCms
from pyvips import Image

_SPACES = {"b-w": b"GRAY", "srgb": b"RGB ", "cmyk": b"CMYK"}  # ICC.1:2010, 7.2.6
_SRGB_TOLERANCE = 2  # levels of 255; profiles of cameras and editors that claim to be sRGB stay below
_VERDICTS: dict[bytes, bool] = {}
_MAX_VERDICTS = 1_000
_FIELD = "icc-profile-data"
_COLOUR_BANDS = {"b-w": 1, "srgb": 3, "cmyk": 4}
_GREYS = ("b-w", "grey16")
_OTHER_SPACES = ("lab", "labq", "labs", "xyz", "yxy", "lch", "cmc", "hsv", "oklab", "oklch")
_INTEGER_FORMATS = ("ushort", "uint")
_OFFSETS = {"char": (1.0, 128.0), "short": (1 / 256, 128.0), "int": (1 / (1 << 24), 128.0)}


def _space(image: Image) -> str:
    return str(image.interpretation)


def to_8_bit(image: Image) -> Image:
    """Bring samples to 0..255 and the interpretation to one of grey, sRGB, CMYK; alpha stays the last band.

    Floating point samples are taken as 0..1, as the older server did. Lazy.
    """
    space, samples = _space(image), str(image.format)
    if space in _COLOUR_BANDS and samples == "uchar" and image.bands - _COLOUR_BANDS[space] in (0, 1):
        return image
    if space in _OTHER_SPACES:
        return image.colourspace("srgb")
    if samples in _INTEGER_FORMATS:
        image = image.cast("uchar", shift=True)
    elif samples in _OFFSETS:
        factor, shift = _OFFSETS[samples]
        image = image.linear([factor], [shift], uchar=True)
    elif samples != "uchar":
        real = image.real() if "complex" in samples else image
        image = real.linear([255.0], [0.5], uchar=True)
    return _named(image)


def _named(image: Image) -> Image:
    """State what the bands are; drop bands that no output can hold."""
    if image.interpretation == "cmyk" and image.bands >= 4:
        return image[:5] if image.bands > 5 else image
    if image.interpretation in _GREYS and image.bands > 2:
        image = image[:2]
    elif image.bands > 4:
        image = image[:4] if image.hasalpha() else image[:3]
    return image.copy(interpretation="b-w" if image.bands < 3 else "srgb")


def needs_conversion(image: Image) -> bool:
    """Whether colours must be transformed: CMYK, or a usable profile that is not sRGB."""
    return image.interpretation == "cmyk" or _foreign_profile(image)


def to_srgb(image: Image) -> Image:
    """Transform to sRGB if that is needed; lazy but for CMYK. A profile that cannot be used is ignored."""
    if image.interpretation == "cmyk":
        return _from_cmyk(image)
    return _by_profile(image) if _foreign_profile(image) else image


def to_rgb(image: Image) -> Image:
    """Grey to three equal bands, alpha kept; for everything that draws in colour. Lazy."""
    return image.colourspace("srgb") if image.interpretation == "b-w" else image


def _from_cmyk(image: Image) -> Image:
    """Into memory, by Pillow: libvips would compute the tables of a profile for every image (50 ms)."""
    profile = embedded_profile(image) if _compatible(image) else None
    transform = (profile and _cmyk_transform(profile)) or _cmyk_transform(_built_in_cmyk())
    image = image.copy_memory()
    size = (image.width, image.height)
    inks = image.extract_band(0, n=4).write_to_memory()
    colours = PillowImage.frombuffer("CMYK", size, inks, "raw", "CMYK", 0, 1)
    assert transform is not None  # noqa: S101 (libvips' own profile is sound)
    samples = transform.apply(colours).tobytes()
    made = Image.new_from_memory(samples, *size, 3, "uchar")
    made = made.copy(interpretation="srgb", xres=image.xres, yres=image.yres)
    return made.bandjoin(image[4]) if image.bands > 4 else made


@lru_cache(maxsize=4)  # a megabyte or two each
def _cmyk_transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """Relative colorimetric with black point compensation, to sRGB; None for a broken profile."""
    try:
        return ImageCms.buildTransform(
            BytesIO(profile),
            cast(Any, ImageCms).createProfile("sRGB"),
            "CMYK",
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except ImageCms.PyCMSError:
        return None


@cache
def _built_in_cmyk() -> bytes:
    """libvips' own profile, for images without a usable one."""
    return cast(bytes, cast(Any, pyvips.Operation).call("profile_load", "cmyk"))


def _by_profile(image: Image) -> Image:
    try:
        return _transform(image)
    except pyvips.Error:
        return image


def attach_profile(image: Image, profile: bytes) -> None:
    """Give an image of our own an ICC profile."""
    cast(Any, image).set_type(pyvips.GValue.blob_type, _FIELD, profile)


def _transform(image: Image, **options: Any) -> Image:
    """Relative colorimetric with black point compensation, alpha carried along."""
    return image.icc_transform(
        "srgb", embedded=True, intent="relative", black_point_compensation=True, **options
    )


def embedded_profile(image: Image) -> bytes | None:
    """The ICC profile, if there is one."""
    value: Any = image.get(_FIELD) if image.get_typeof(_FIELD) else None
    return value if isinstance(value, bytes) else None


def _compatible(image: Image) -> bool:
    """The embedded profile is for this kind of image."""
    profile = embedded_profile(image)
    return profile is not None and profile[16:20] == _SPACES.get(_space(image))


def _foreign_profile(image: Image) -> bool:
    profile = embedded_profile(image)
    if profile is None or profile[16:20] != _SPACES.get(_space(image)):
        return False
    key = blake2b(profile, digest_size=16).digest()
    if key not in _VERDICTS:
        if len(_VERDICTS) >= _MAX_VERDICTS:
            _VERDICTS.clear()
        _VERDICTS[key] = _changes_colours(profile, 1 if image.interpretation == "b-w" else 3)
    return _VERDICTS[key]


def _changes_colours(profile: bytes, bands: int) -> bool:
    """Send a chart through the profile and see whether it comes back as it was. A broken one is ignored."""
    chart = _chart(bands)
    attach_profile(chart, profile)
    try:
        result = _transform(chart)
        before = chart.colourspace("srgb") if bands == 1 else chart
        return float(cast(Any, result - before).abs().max()) > _SRGB_TOLERANCE
    except pyvips.Error:
        return False


def _chart(bands: int) -> Image:
    """5x5x5 colours, or 125 greys, as one row."""
    levels = (0, 64, 128, 191, 255)
    colours = (
        bytes(level for red in levels for green in levels for blue in levels for level in (red, green, blue))
        if bands == 3
        else bytes(range(0, 250, 2))
    )
    chart = Image.new_from_memory(colours, 125, 1, bands, "uchar")
    return chart.copy(interpretation="srgb" if bands == 3 else "b-w")
