"""Pictures with known properties, made on the spot (reference section 15), and ways to look at results."""

import struct
import zlib
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageCms
from pyvips import Image

from safelight.errors import SafelightError
from safelight.image.pipeline import thumbnail
from safelight.image.result import Thumbnail
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec
from safelight.image.speed import Speed

DATA = Path(__file__).parent.parent / "data"
DEFAULTS = ImageSettings(speed=Speed.REFERENCE)


def make(data: bytes, *specs: str, settings: ImageSettings = DEFAULTS) -> list[Thumbnail | SafelightError]:
    """Run the core on specifications as text."""
    return list(thumbnail(data, [ThumbnailSpec.parse(spec) for spec in specs], settings).outputs)


def make_one(data: bytes, spec: str, settings: ImageSettings = DEFAULTS) -> Thumbnail:
    """The one output; a failure is raised."""
    (output,) = make(data, spec, settings=settings)
    if isinstance(output, SafelightError):
        raise output
    return output


def size(data: bytes, spec: str, settings: ImageSettings = DEFAULTS) -> tuple[int, int]:
    """Size of an output, as reported and as in the file."""
    output = make_one(data, spec, settings)
    assert pillow(output.data).size == (output.width, output.height)
    return output.width, output.height


def pixels(data: bytes, spec: str, settings: ImageSettings = DEFAULTS) -> np.ndarray:
    """Output as an array of rows, columns, bands (RGB or RGBA)."""
    return array(make_one(data, spec, settings).data)


def array(data: bytes) -> np.ndarray:
    """Decode with another library than ours."""
    image = pillow(data)
    samples = np.asarray(image.convert("RGBA")).astype(int)
    return samples if (samples[..., 3] < 255).any() else samples[..., :3]


def pillow(data: bytes) -> PillowImage.Image:
    """Open with Pillow."""
    return PillowImage.open(BytesIO(data))


def error_of(data: bytes, spec: str, settings: ImageSettings = DEFAULTS) -> SafelightError:
    """The failure of one specification, or of the input."""
    try:
        (output,) = make(data, spec, settings=settings)
    except SafelightError as error:
        return error
    assert isinstance(output, SafelightError), output
    return output


def png(samples: np.ndarray, **options: Any) -> bytes:
    """Rows, columns, bands to a PNG file."""
    return save(PillowImage.fromarray(samples.astype(np.uint8)), "PNG", **options)


def save(image: PillowImage.Image, name: str, **options: Any) -> bytes:
    """Encode with Pillow."""
    file = BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def flat(width: int, height: int, colour: tuple[int, ...]) -> bytes:
    """PNG of one colour."""
    return png(np.full((height, width, len(colour)), colour))


def gradient(width: int, height: int) -> bytes:
    """PNG with red = x and green = y."""
    y, x = np.mgrid[0:height, 0:width]
    return png(np.dstack([x, y, np.zeros_like(x)]))


@cache
def photo_p() -> bytes:
    """P: 509x719 baseline JPEG with detail, 200 dpi."""
    return save(_photo_p(), "JPEG", quality=90, dpi=(200, 200))


@cache
def photo_q() -> bytes:
    """Q: the same as PNG."""
    return save(_photo_p(), "PNG")


@cache
def _photo_p() -> PillowImage.Image:
    with PillowImage.open(DATA / "coffee.jpg") as image:
        return image.convert("RGB").resize((509, 719), PillowImage.Resampling.LANCZOS)


@cache
def large_l() -> bytes:
    """L: 9911x14000 JPEG, flat."""
    black = Image.black(9911, 14000, bands=3).copy(interpretation="srgb")
    return black.linear([1, 1, 1], [200, 80, 40], uchar=True).jpegsave_buffer(Q=50)


@cache
def alpha_a() -> bytes:
    """A: 128x128 RGBA PNG, opaque black disc in the middle, transparent red around."""
    y, x = np.mgrid[0:128, 0:128]
    inside = (x - 64) ** 2 + (y - 64) ** 2 < 30**2
    samples = np.zeros((128, 128, 4))
    samples[~inside] = (255, 0, 0, 0)
    samples[inside] = (0, 0, 0, 255)
    return png(samples)


def canvas_s() -> np.ndarray:
    """S: 800x600, diagonal exactly 1000, white."""
    return np.full((600, 800, 3), 255)


def oriented(orientation: int) -> bytes:
    """64x48 JPEG whose upright picture has a red left half, a blue right half and a green bottom strip."""
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:, :32], upright[:, 32:], upright[36:] = (255, 0, 0), (0, 0, 255), (0, 255, 0)
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    image = PillowImage.fromarray(np.ascontiguousarray(undo(upright)))
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    return save(image, "JPEG", quality=95, subsampling=0, exif=exif)


def png_header(width: int, height: int, *, interlace: int = 0) -> bytes:
    """A PNG that claims a size and has next to nothing inside."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlace)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def swapped_profile() -> bytes:
    """An RGB profile whose primaries are not sRGB's: red and green exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    for entry in range(132, 132 + 12 * count, 12):
        name = bytes(profile[entry : entry + 4])
        profile[entry : entry + 4] = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}.get(name, name)
    return bytes(profile)


def srgb_profile() -> bytes:
    """An sRGB profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def every_format() -> dict[str, bytes]:
    """One picture, 120x80, in every format that we read and can make."""
    with PillowImage.open(DATA / "coffee.jpg") as image:
        small = image.convert("RGB").resize((120, 80))
    names = (
        "JPEG",
        "PNG",
        "GIF",
        "WEBP",
        "TIFF",
        "BMP",
        "TGA",
        "PCX",
        "PPM",
        "DDS",
        "JPEG2000",
        "SGI",
        "QOI",
    )
    files = {name: save(small, name) for name in names}
    vips = Image.new_from_memory(small.tobytes(), 120, 80, 3, "uchar").copy(interpretation="srgb")
    files["AVIF"] = vips.heifsave_buffer(compression="av1", effort=0, Q=90)
    files["progressive JPEG"] = save(small, "JPEG", progressive=True)
    files["interlaced PNG"] = vips.pngsave_buffer(interlace=True)
    files["lossless WebP"] = save(small, "WEBP", lossless=True)
    files["LZW TIFF"] = vips.tiffsave_buffer(compression="lzw")
    files["tiled JPEG TIFF"] = vips.tiffsave_buffer(tile=True, compression="jpeg")
    return files


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference per channel, 0..255."""
    return float(np.abs(one[..., :3] - other[..., :3]).mean())
