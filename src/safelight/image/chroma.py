"""Which pictures show it when an encoder keeps colour for every second row and column only (4:2:0).

Most do not. Where neighbouring pixels differ in colour, as at the edges of saturated letters, it costs up to
8 points of SSIMULACRA2, more than going from quality 80 to 70. All pictures in full chroma would be a third
larger. Kept where this says so, in JPEGs of quality 80 of 34 photographs (benchmarks/quality.py): at
256 pixels the median rises from 75.9 to 77.4, the worst from 69.1 to 70.2, and a sixth of the bytes is added;
at 512 pixels from 76.5 to 77.9, 70.1 to 72.0, a tenth. Of all pixels that takes 5 ns each.
"""

import numpy as np
from numpy.typing import NDArray
from pyvips import Image

from safelight.image.resize import samples, size_of

_VISIBLE = 70
"""How much red or blue, less green, may differ within a block of two by two pixels, in 8 bits."""

_SHARE = 0.01
"""Of the blocks that have to differ by more; single ones do not show."""

_MOST_BLOCKS = 1 << 14

Channel = NDArray[np.int16]


def shows(image: Image) -> bool:
    """Whether 4:2:0 would show. `image`: 8 bits, in memory."""
    if image.bands < 3 or image.width < 2 or image.height < 2:
        return False
    upper, lower = _rows(image)
    green = upper[..., 1], lower[..., 1]
    red = _ranges(upper[..., 0] - green[0], lower[..., 0] - green[1])
    blue = _ranges(upper[..., 2] - green[0], lower[..., 2] - green[1])
    ranges = np.maximum(red, blue)
    return bool(np.count_nonzero(ranges > _VISIBLE) > _SHARE * ranges.size)


def _rows(image: Image) -> tuple[Channel, Channel]:
    """First and second rows of the blocks, of a large image only every so many of them."""
    size = size_of(image)
    pixels = np.frombuffer(samples(image, size), np.uint8).reshape(size.height, size.width, image.bands)
    blocks_down, blocks_across = size.height // 2, size.width // 2
    step = 2 * max(1, blocks_down * blocks_across // _MOST_BLOCKS)
    upper, lower = (pixels[first : 2 * blocks_down : step, : 2 * blocks_across, :3] for first in (0, 1))
    return upper.astype(np.int16), lower.astype(np.int16)


def _ranges(upper: Channel, lower: Channel) -> Channel:
    """How much each block's pixels differ."""
    most, least = np.maximum(upper, lower), np.minimum(upper, lower)
    return np.maximum(most[:, ::2], most[:, 1::2]) - np.minimum(least[:, ::2], least[:, 1::2])
