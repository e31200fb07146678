"""Photographs of a given size and weight, made of a small one: enlarged, with as much noise as that takes."""

import io
from dataclasses import dataclass
from pathlib import Path

import pyvips
from PIL import Image

PHOTO = Path(__file__).parent.parent / "tests" / "data" / "coffee.jpg"
QUALITY = 92
STEPS = 9
TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Photo:
    """A baseline JPEG to be made: sides in pixels, weight in bits per pixel."""

    name: str
    width: int
    height: int
    bits_per_pixel: float

    @property
    def wanted_bytes(self) -> int:
        return int(self.width * self.height * self.bits_per_pixel / 8)


BIG = Photo("12 MP", 4000, 3000, 2.7)
SMALL = Photo("2 MP", 1600, 1200, 4.5)


def make(photo: Photo) -> bytes:
    """Encode `photo` as 4:2:0 JPEG, searching the amount of noise that gives its weight, to one per cent."""
    enlarged = pyvips.Image.thumbnail(
        str(PHOTO), photo.width, height=photo.height, crop="centre"
    ).copy_memory()
    low, high = 0.0, 60.0
    data = b""
    for _ in range(STEPS):
        sigma = (low + high) / 2
        data = _with_noise(enlarged, sigma)
        error = len(data) / photo.wanted_bytes - 1
        if abs(error) < TOLERANCE:
            break
        low, high = (low, sigma) if error > 0 else (sigma, high)
    return data


def _with_noise(image: pyvips.Image, sigma: float) -> bytes:
    noise = pyvips.Image.gaussnoise(image.width, image.height, mean=0, sigma=sigma, seed=1)
    return (image + noise).cast("uchar").jpegsave_buffer(Q=QUALITY, subsample_mode="on", keep="none")


def progressive(photo: bytes) -> bytes:
    """The same JPEG in the scans that most encoders write, with the tables that it has."""
    with io.BytesIO() as made, Image.open(io.BytesIO(photo)) as image:
        image.save(made, "JPEG", quality="keep", progressive=True)
        return made.getvalue()


def webp(photo: bytes) -> bytes:
    """The same picture as lossy WebP."""
    return pyvips.Image.new_from_buffer(photo, "").webpsave_buffer(Q=85, keep="none")


def cut_out(width: int, height: int) -> bytes:
    """A PNG with alpha: a photograph in an ellipse with a soft edge, transparent around it."""
    enlarged = pyvips.Image.thumbnail(str(PHOTO), width, height=height, crop="centre").copy_memory()
    places = pyvips.Image.xyz(width, height)
    across, down = 2 * places[0] / width - 1, 2 * places[1] / height - 1
    alpha = (5000 * (1 - across**2 - down**2)).cast("uchar")
    return (alpha > 0).ifthenelse(enlarged, 0).bandjoin(alpha).pngsave_buffer(keep="none")
