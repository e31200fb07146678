"""Resizing in linear light, where mixing two colours gives what the eye sees of both from afar.

Lanczos3 as two products with banded matrices, in blocks of output rows that follow the input from top to
bottom: exact, for any fraction of a pixel, without a pre-shrink. libvips does the same in float without the
SIMD code that it has for 8 bits; products of matrices have it. Measured, 1000x750 to 300x225, CPU: 4 ms,
libvips in 8 bits without linear light 2.5 ms, libvips in float 14 ms.
"""

from collections.abc import Iterator
from functools import lru_cache
from math import ceil
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from pyvips import Image, Region

from safelight.image.geometry import Size

Samples = NDArray[np.uint8]
Light = NDArray[np.float32]

LOBES = 3
BLOCK = 16
"""Output rows or columns of one product. Fewer: more calls; more: more multiplications by zero."""

_GROUP = 4 * BLOCK
_STRIP = 16
"""Rows read at a time. All that is made on the way to light is as large as what is read at once."""
_MANY_ROWS = 256
"""What may be in memory more than there must be: for fewer rows it is faster to have them all at once."""
_CODES = 1 << 14
_TINY = np.float32(1e-6)


class _Block(NamedTuple):
    """Outputs `start` to `stop` are `weights`, a row for each, times inputs `first` to `last`."""

    start: int
    stop: int
    first: int
    last: int
    weights: Light


def resize(image: Image, have: tuple[float, float], size: Size) -> Image:
    """Resize 8-bit grey or sRGB to exactly `size`, into memory, reading rows once from top to bottom.

    `have`: how many columns and rows hold the picture, if the last of them only in part broken numbers.
    Straight alpha, the last band, is premultiplied meanwhile. Only density is kept of the header.
    Raises: pyvips.Error, when the rows cannot be had.
    """
    width, height, bands = image.width, image.height, image.bands
    has_alpha = bool(image.hasalpha())
    down = _blocks(height, have[1], size.height)
    across = _blocks(width, have[0], size.width)
    most_rows = max(block.last - block.first for block in down)
    lower = _summed if most_rows > size.height + _MANY_ROWS else _windowed
    result = np.empty((size.height, size.width, bands), np.uint8)
    for top, columns in lower(_Rows(image, bands, has_alpha), down, most_rows):
        bottom = top + columns.shape[1]
        light = _across(columns.reshape(width, -1), across, size.width)
        coded = _encoded(light.reshape(size.width, bands, bottom - top), has_alpha)
        result[top:bottom] = coded.transpose(2, 0, 1)
    made = Image.new_from_memory(cast(Any, result), *size, bands, "uchar")
    return made.copy(interpretation=image.interpretation, xres=image.xres, yres=image.yres)


def _windowed(rows: "_Rows", down: tuple[_Block, ...], most_rows: int) -> Iterator[tuple[int, Light]]:
    """Some output rows at a time, as columns, and which is the first: from all rows that a block takes."""
    window = _Window(rows, most_rows)
    half = np.empty((rows.samples, min(_GROUP, down[-1].stop)), np.float32)
    for group in _groups(down):
        top, bottom = group[0].start, group[-1].stop
        for block in group:
            light = window.rows(block.first, block.last)
            np.matmul(light.T, block.weights.T, out=half[:, block.start - top : block.stop - top])
        yield top, half[:, : bottom - top]


def _summed(rows: "_Rows", down: tuple[_Block, ...], _most_rows: int) -> Iterator[tuple[int, Light]]:
    """The same: every strip of the input is added to the outputs that it is a part of."""
    sums = np.zeros((down[-1].stop, rows.samples), np.float32)
    light = np.empty((_STRIP, rows.samples), np.float32)
    for top in range(down[0].first, down[-1].last, _STRIP):
        bottom = min(top + _STRIP, down[-1].last)
        rows.read(top, light[: bottom - top])
        for block in down:
            first, last = max(top, block.first), min(bottom, block.last)
            if first < last:
                weights = block.weights[:, first - block.first : last - block.first]
                sums[block.start : block.stop] += weights @ light[first - top : last - top]
    for group in _groups(down):
        yield group[0].start, np.ascontiguousarray(sums[group[0].start : group[-1].stop].T)


def _groups(blocks: tuple[_Block, ...]) -> Iterator[tuple[_Block, ...]]:
    for start in range(0, len(blocks), _GROUP // BLOCK):
        yield blocks[start : start + _GROUP // BLOCK]


def _across(columns: Light, blocks: tuple[_Block, ...], width: int) -> Light:
    light = np.empty((width, columns.shape[1]), np.float32)
    for block in blocks:
        np.matmul(block.weights, columns[block.first : block.last], out=light[block.start : block.stop])
    return light


class _Rows:
    """The rows of the input, from top to bottom. `samples`: of each."""

    def __init__(self, image: Image, bands: int, has_alpha: bool) -> None:
        self._region = cast(Any, Region).new(image)
        self._width, self._bands, self._has_alpha = image.width, bands, has_alpha
        self.samples = image.width * bands

    def read(self, top: int, light: Light) -> None:
        """As linear light, as many as there is room for."""
        fetched = self._region.fetch(0, top, self._width, len(light))
        _decode(np.frombuffer(fetched, np.uint8).reshape(-1, self._bands), light, self._has_alpha)


class _Window:
    """Some rows of the input as linear light; those wanted next overlap those wanted last."""

    def __init__(self, rows: _Rows, most_rows: int) -> None:
        self._rows = rows
        self._light: Light = np.empty((most_rows, rows.samples), np.float32)
        self._first = self._last = 0

    def rows(self, first: int, last: int) -> Light:
        """Rows `first` to `last`, neither before those of the last call; valid until the next one."""
        kept = max(0, self._last - first)
        if kept:
            offset = first - self._first
            self._light[:kept] = self._light[offset : offset + kept]
        for top in range(max(first, self._last), last, _STRIP):
            bottom = min(top + _STRIP, last)
            self._rows.read(top, self._light[top - first : bottom - first])
        self._first, self._last = first, last
        return self._light[: last - first]


# --- weights


@lru_cache(maxsize=32)  # up to some hundred KiB each; the same sizes come again
def _blocks(have: int, length: float, count: int) -> tuple[_Block, ...]:
    """How `count` outputs are made of `have` inputs, of which `length` hold the picture."""
    step = length / count
    reach = LOBES * max(step, 1.0)
    centres = (np.arange(count) + 0.5) * step
    first = np.clip(np.floor(centres - reach).astype(int), 0, have - 1)
    last = np.clip(np.ceil(centres + reach).astype(int), first + 1, have)
    blocks: list[_Block] = []
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        begin, end = int(first[start]), int(last[stop - 1])
        offsets = np.arange(begin, end) + 0.5 - centres[start:stop, None]
        weights = _lanczos(offsets / max(step, 1.0))
        weights /= weights.sum(1, keepdims=True)
        blocks.append(_Block(start, stop, begin, end, weights.astype(np.float32)))
    return tuple(blocks)


def _lanczos(offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(offsets) < LOBES, np.sinc(offsets) * np.sinc(offsets / LOBES), 0.0)


def rows_in_memory(have: int, count: int) -> int:
    """Rows of linear light that are in memory at a time, to make `count` of `have`."""
    step = max(have / max(count, 1), 1.0)
    rows = min(have, ceil((BLOCK + 2 * LOBES) * step) + 2)
    return min(rows, count + _MANY_ROWS)


# --- between samples and light


def _transfer(level: NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB to linear light, both 0..1 (IEC 61966-2-1)."""
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)


def _inverse(light: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def _alpha_factors(bands: int) -> Light:
    """By the sample of alpha: factors of the light of a pixel, which has alpha through the transfer, too."""
    factors = np.repeat(np.arange(256, dtype=np.float32)[:, None] / np.float32(255), bands, axis=1)
    factors[1:, -1] /= _LIGHT[1:]
    return factors


_LIGHT: Light = _transfer(np.arange(256) / 255).astype(np.float32)
_PAIRS = _LIGHT[np.arange(1 << 16, dtype=np.uint16).view(np.uint8)].view(np.uint64)
"""Light of two neighbouring samples by both of them: half the look-ups, 0.5 ns a sample instead of 0.9."""
_FACTORS = {2: _alpha_factors(2).view(np.complex64)[:, 0], 4: _alpha_factors(4).view(np.complex128)[:, 0]}
"""By bands: what alpha makes of the light of a pixel, all bands as one number to look up. A tenth of the
time that multiplying band by band takes.
"""
_LEVELS: Samples = np.round(_inverse(np.arange(_CODES + 1) / _CODES) * 255).astype(np.uint8)


def _decode(samples: Samples, light: Light, has_alpha: bool) -> None:
    """Light of pixels, a row each, to be written to `light`; premultiplied."""
    flat, out = samples.reshape(-1), light.reshape(-1)
    even = len(flat) & ~1
    pairs = flat[:even].view(np.uint16)
    np.take(_PAIRS, pairs, out=out[:even].view(np.uint64), mode="clip")
    if even < len(flat):
        out[even] = _LIGHT[flat[even]]
    if has_alpha:
        out *= _FACTORS[samples.shape[1]][samples[:, -1]].view(np.float32)


def _encoded(light: Light, has_alpha: bool) -> Samples:
    """Samples of light with bands in the middle axis, which is overwritten."""
    if not has_alpha:
        return _levels(light)
    alpha = np.clip(light[:, -1:], 0, 1)
    light[:, :-1] /= np.maximum(alpha, _TINY)
    coded = np.empty(light.shape, np.uint8)
    coded[:, :-1] = _levels(light[:, :-1])
    coded[:, -1:] = np.round(alpha * np.float32(255))
    return coded


def _levels(light: Light) -> Samples:
    codes = light * np.float32(_CODES)
    codes += np.float32(0.5)
    np.clip(codes, 0, _CODES, out=codes)
    return np.take(_LEVELS, codes.astype(np.uint16), mode="clip")
