"""Colours measured independently of the code under test: CIEDE2000, and RGB spaces from their primaries."""

import struct

import numpy as np
from image_makers import srgb_profile

D65, D50 = np.array([0.95047, 1.0, 1.08883]), np.array([0.96422, 1.0, 0.82521])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
PRIMARIES = {
    "sRGB": [(0.64, 0.33), (0.30, 0.60), (0.15, 0.06)],
    "Adobe RGB": [(0.64, 0.33), (0.21, 0.71), (0.15, 0.06)],
    "Display P3": [(0.680, 0.320), (0.265, 0.690), (0.150, 0.060)],
}
ADOBE_GAMMA = 563 / 256  # Adobe RGB (1998) Color Image Encoding, 4.3.4.2


def matrix(space: str) -> np.ndarray:
    """Linear RGB to XYZ under D65, from the chromaticities of the primaries."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in PRIMARIES[space]]).T
    return columns * np.linalg.solve(columns, D65)


def linear(samples: np.ndarray, space: str) -> np.ndarray:
    """Samples 0..255 to light 0..1."""
    shares = np.asarray(samples, float) / 255
    if space == "Adobe RGB":
        return shares**ADOBE_GAMMA
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def encoded(light: np.ndarray, space: str) -> np.ndarray:
    """Light 0..1, clipped, to samples 0..255, not rounded."""
    light = np.clip(light, 0, 1)
    if space == "Adobe RGB":
        return 255 * light ** (1 / ADOBE_GAMMA)
    return 255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def converted(samples: np.ndarray, source: str, target: str) -> np.ndarray:
    """The same colours in another space, not rounded."""
    across = np.linalg.solve(matrix(target), matrix(source))
    return encoded(linear(samples, source) @ across.T, target)


def profile(space: str) -> bytes:
    """An ICC profile: that of sRGB with other primaries, adapted to D50, and another curve for Adobe RGB."""
    cone = (BRADFORD @ D50) / (BRADFORD @ D65)
    adapted = np.linalg.solve(BRADFORD, cone[:, None] * (BRADFORD @ matrix(space)))
    made = bytearray(srgb_profile())
    for entry in range(132, 132 + 12 * struct.unpack_from(">I", made, 128)[0], 12):
        name, start = bytes(made[entry : entry + 4]), struct.unpack_from(">I", made, entry + 4)[0]
        if name in (b"rXYZ", b"gXYZ", b"bXYZ"):
            column = adapted[:, b"rgb".index(name[:1])]
            struct.pack_into(">3i", made, start + 8, *(round(value * 65536) for value in column))
        elif name in (b"rTRC", b"gTRC", b"bTRC") and space == "Adobe RGB":
            assert made[start : start + 4] == b"para"
            struct.pack_into(">HHi", made, start + 8, 0, 0, round(ADOBE_GAMMA * 65536))
    return bytes(made)


def lab(samples: np.ndarray) -> np.ndarray:
    """sRGB samples to CIELAB under D65."""
    shares = linear(samples, "sRGB") @ matrix("sRGB").T / D65
    roots = np.where(shares > (6 / 29) ** 3, np.cbrt(shares), shares * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(roots, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def delta_e(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """CIEDE2000 between sRGB samples 0..255, pixel by pixel."""
    return delta_e_lab(lab(one), lab(other))


def delta_e_lab(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """CIEDE2000 (CIE 142-2001; Sharma, Wu and Dalal 2005) between CIELAB values."""
    lightness, a, b = np.moveaxis(np.stack([one, other]).astype(float), -1, 0)
    mean_seventh = np.hypot(a, b).mean(0) ** 7
    a = a * (1.5 - 0.5 * np.sqrt(mean_seventh / (mean_seventh + 25**7)))
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360
    grey = chroma.prod(0) == 0
    turn = np.where(grey, 0, (hue[1] - hue[0] + 180) % 360 - 180)
    middle = np.where(grey, hue.sum(0), (hue[0] + turn / 2) % 360)
    mean_lightness, mean_chroma = lightness.mean(0), chroma.mean(0)
    weight = 1 + sum(
        factor * np.cos(np.radians(times * middle + shift))
        for factor, times, shift in ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.20, 4, -63))
    )
    off = (mean_lightness - 50) ** 2
    parts = (
        (lightness[1] - lightness[0]) / (1 + 0.015 * off / np.sqrt(20 + off)),
        (chroma[1] - chroma[0]) / (1 + 0.045 * mean_chroma),
        2 * np.sqrt(chroma.prod(0)) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * mean_chroma * weight),
    )
    seventh = mean_chroma**7
    rotation = -2 * np.sqrt(seventh / (seventh + 25**7))
    rotation = rotation * np.sin(np.radians(60 * np.exp(-(((middle - 275) / 25) ** 2))))
    return np.sqrt(sum(part**2 for part in parts) + rotation * parts[1] * parts[2])
