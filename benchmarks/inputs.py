"""Photographs of a given size and weight, made of a small one: enlarged, with as much noise as that takes."""

from dataclasses import dataclass
from pathlib import Path

import pyvips

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
