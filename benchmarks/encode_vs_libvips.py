"""What encoding a JPEG costs by libjpeg-turbo in the thread that asks, against libvips; the bytes are equal.

The two take turns on the same picture in memory, many times a turn; each round gives one ratio of CPU time of
the process, threads included. Read the ratios. Besides: what it takes to look whether 4:2:0 would show.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import pyvips
from inputs import PHOTO

from safelight.image import chroma, pipeline, turbo
from safelight.image.geometry import Size
from safelight.image.jpeg import with_jfif
from safelight.image.settings import ImageSettings

SIDES = (64, 300, 640, 1080)
QUALITY, TABLE = 80, 2
TURN_PIXELS = 4_000_000

Call = Callable[[], object]


def picture(side: int) -> pyvips.Image:
    return pyvips.Image.thumbnail(str(PHOTO), side, height=side, size="both").copy_memory()


def by_us(image: pyvips.Image, *, full_chroma: bool) -> bytes | None:
    return turbo.encode(
        image,
        Size(image.width, image.height),
        QUALITY,
        TABLE,
        full_chroma=full_chroma,
        progressive=False,
        optimized=True,
        density=None,
    )


def by_libvips(image: pyvips.Image, *, full_chroma: bool) -> bytes:
    mode = "off" if full_chroma else "on"
    made = image.jpegsave_buffer(
        Q=QUALITY, quant_table=TABLE, subsample_mode=mode, optimize_coding=True, keep="none"
    )
    return with_jfif(made, None)


def cpu_ms(call: Call, times: int) -> float:
    """Of one call."""
    started = time.process_time()
    for _ in range(times):
        call()
    return 1000 * (time.process_time() - started) / times


def row(image: pyvips.Image, full_chroma: bool, rounds: int) -> str:
    if by_us(image, full_chroma=full_chroma) != by_libvips(image, full_chroma=full_chroma):
        raise RuntimeError("the files differ")
    times = max(4, TURN_PIXELS // (image.width * image.height * 10))
    turns = [
        (
            cpu_ms(lambda: by_us(image, full_chroma=full_chroma), times),
            cpu_ms(lambda: by_libvips(image, full_chroma=full_chroma), times),
            cpu_ms(lambda: chroma.shows(image), times),
        )
        for _ in range(rounds)
    ]
    ratios = sorted(ours / theirs for ours, theirs, _ in turns)
    ours, theirs, looking = (median(column) for column in zip(*turns, strict=True))
    cells = [
        f"{image.width}x{image.height}, {'4:4:4' if full_chroma else '4:2:0'}",
        f"{theirs:.2f}",
        f"{ours:.2f}",
        f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        f"{looking:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each; default 9")
    rounds: int = parser.parse_args().rounds
    pipeline.warm_up(ImageSettings())
    print("| picture | libvips, CPU ms | ours, CPU ms | ours / libvips | looking, CPU ms |")
    print("|---|---|---|---|---|", flush=True)
    for side in SIDES:
        image = picture(side)
        for full_chroma in (False, True):
            print(row(image, full_chroma, rounds), flush=True)


if __name__ == "__main__":
    main()
