"""How good a small picture is: how near to what a resize in linear light from every pixel would have given.

Nothing here is Safelight's. Pillow decodes, with the accurate inverse DCT and all pixels; numpy resizes, in
64-bit floating point; SSIMULACRA2 judges: from 70 on a difference is hard to notice, from 80 on it cannot be
seen side by side, from 90 on not even in a flicker test.
"""

import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

Pixels = NDArray[np.uint8]
"""Height x width x 3, sRGB."""

Floats = NDArray[np.float64]
Score = Callable[[Pixels, Pixels], float]
"""Of the reference and the picture."""

LOBES = 3
ROWS = 32
LEAST_SIDE = 256
"""SSIMULACRA2 looks at six scales; in smaller pictures it has fewer, and weighs them wrongly."""


def decode(data: bytes) -> Pixels:
    """Pixels of any format that Pillow knows."""
    with PillowImage.open(BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


# --- the reference


def resize(source: Pixels, width: int, height: int) -> Pixels:
    """Lanczos with three lobes, in linear light, each side for itself."""
    samples = source.shape[2]
    linear = _resize_rows(source.reshape(len(source), -1), height, partial(np.take, _TO_LINEAR))
    columns = linear.reshape(height, -1, samples).swapaxes(0, 1).reshape(-1, height * samples)
    small = _resize_rows(columns, width, np.asarray).reshape(width, height, samples).swapaxes(0, 1)
    return _to_srgb(small)


def _resize_rows(rows: NDArray[np.generic], count: int, convert: Callable[..., Floats]) -> Floats:
    """`count` rows made of all; `convert` sees only those that a band of them needs."""
    weights = lanczos_weights(len(rows), count)
    bands: list[Floats] = []
    for start in range(0, count, ROWS):
        band = weights[start : start + ROWS]
        used = np.flatnonzero(band.any(axis=0))
        needed = slice(used[0], used[-1] + 1)
        bands.append(band[:, needed] @ convert(rows[needed]))
    return np.concatenate(bands)


def lanczos_weights(source: int, target: int) -> Floats:
    """What each of `source` samples adds to each of `target`: target x source, rows that sum to 1."""
    ratio = source / target
    centres = (np.arange(target) + 0.5) * ratio
    distances = (np.arange(source) + 0.5 - centres[:, None]) / max(ratio, 1)
    weights = np.sinc(distances) * np.sinc(distances / LOBES) * (np.abs(distances) < LOBES)
    return weights / weights.sum(axis=1, keepdims=True)


def _to_linear(srgb: Floats) -> Floats:
    """IEC 61966-2-1, both ways 0..1."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _to_srgb(linear: Floats) -> Pixels:
    light = np.clip(linear, 0, 1)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * srgb).astype(np.uint8)


_TO_LINEAR = _to_linear(np.arange(256) / 255)


# --- the judge


def judge(program: Path | None) -> Score:
    """The authors' own program, or the library from PyPI, which reads up to a point lower and is slower."""
    return _by_library if program is None else partial(_by_program, program)


def _by_library(reference: Pixels, picture: Pixels) -> float:
    from ssimulacra2 import compute_ssimulacra2

    files = [BytesIO(), BytesIO()]
    for pixels, file in zip((reference, picture), files, strict=True):
        PillowImage.fromarray(mirrored(pixels)).save(file, "PPM")
    return float(compute_ssimulacra2(*files))


def _by_program(program: Path, reference: Pixels, picture: Pixels) -> float:
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory) / "reference.png", Path(directory) / "picture.png"]
        for pixels, path in zip((reference, picture), paths, strict=True):
            PillowImage.fromarray(mirrored(pixels)).save(path, compress_level=1)
        done = subprocess.run([program, *paths], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[0])


def mirrored(pixels: Pixels) -> Pixels:
    """The picture, repeated as its mirror image until no side is too short for the judge."""
    while pixels.shape[0] < LEAST_SIDE:
        pixels = np.concatenate([pixels, pixels[::-1]])
    while pixels.shape[1] < LEAST_SIDE:
        pixels = np.concatenate([pixels, pixels[:, ::-1]], axis=1)
    return pixels
