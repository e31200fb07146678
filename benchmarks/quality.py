"""How good thumbnails look, and what they cost: the policies of `speed`, and plain thumbnails of libraries.

Every picture is scored against a reference that is made without haste and without our code, see `scoring.py`;
CPU time is that of the image core alone, as a ratio to a plain libvips thumbnail of the same photograph, the
ways taking turns. Photographs of cameras are wanted, of two megapixels and more, in directories of yours:
without any, those of the tests are enlarged, which flatters shrinking while decoding, and proves nothing.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from io import BytesIO
from itertools import product
from math import inf
from multiprocessing import get_context
from operator import truediv
from pathlib import Path
from statistics import median
from typing import cast
from unittest.mock import patch

import pyvips
from photographs import Photograph, gather
from PIL import Image as PillowImage
from scoring import decode, judge, resize

from safelight.engine.launcher import SET_ALWAYS
from safelight.image import pipeline
from safelight.image.policy import POLICIES, Policy
from safelight.image.result import Thumbnail
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec
from safelight.image.speed import SPEEDS, Speed

SIDES = (256, 512, 1024)
QUALITY = 80
ENCODED = ("jpeg", "webp", "avif")
FORMATS = ("png", *ENCODED)
"""PNG shows the resize alone."""

KIBIBYTE = 1 << 10

Make = Callable[[bytes, int], bytes]
"""A thumbnail of a photograph that fits into a square of so many pixels."""


# --- ways to make a thumbnail


@dataclass(frozen=True, slots=True)
class Way:
    """Who makes it, and in which format."""

    name: str
    format: str
    make: Make

    def __str__(self) -> str:
        return f"{self.name}, {self.format}"


def by_libvips(data: bytes, side: int) -> bytes:
    """The thumbnail as anybody would write it."""
    image = pyvips.Image.thumbnail_buffer(data, side, height=side)
    return image.jpegsave_buffer(Q=QUALITY, keep="none")


def by_pillow(data: bytes, side: int) -> bytes:
    """Pillow's own way, which has the decoder shrink, too."""
    file = BytesIO()
    with PillowImage.open(BytesIO(data)) as image:
        image.thumbnail((side, side))
        image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def by_policy(policy: str, format_name: str, data: bytes, side: int, options: str = "") -> bytes:
    """Ours. The quality asked for is that of a JPEG, whatever the format."""
    spec = ThumbnailSpec.parse(f"fit,{side},{side},{format_name},quality:{QUALITY},speed:{policy}{options}")
    if format_name == "png":
        spec = ThumbnailSpec.parse(f"fit,{side},{side},png,speed:{policy}")
    made = pipeline.thumbnail(data, [spec], ImageSettings()).outputs[0]
    if not isinstance(made, Thumbnail):
        raise made
    return made.data


PLAIN = Way("libvips thumbnail", "jpeg", by_libvips)
HALVED = Way("balanced, 4:2:0 always", "jpeg", partial(by_policy, "balanced", "jpeg", options=",chroma:420"))
WAYS = (
    PLAIN,
    Way("Pillow thumbnail", "jpeg", by_pillow),
    *(Way(policy, name, partial(by_policy, policy, name)) for policy, name in product(SPEEDS, FORMATS)),
    HALVED,
)


# --- scores


@dataclass(frozen=True, slots=True)
class Sample:
    """One thumbnail: how good and how large it is."""

    way: str
    side: int
    photo: str
    score: float
    size: int


def image_workers(count: int) -> ProcessPoolExecutor:
    """Processes whose libraries are set up as those of the server's image workers: without threads."""
    os.environ.update(SET_ALWAYS)
    return ProcessPoolExecutor(
        count, get_context("spawn"), initializer=pipeline.warm_up, initargs=(ImageSettings(),)
    )


def score(photo: Photograph, side: int, program: Path | None) -> list[Sample]:
    """Make and judge every thumbnail of one photograph at one size."""
    source, compare = decode(photo.data), judge(program)

    @cache
    def reference(height: int, width: int):
        return resize(source, width, height)

    samples: list[Sample] = []
    for way in WAYS:
        made = way.make(photo.data, side)
        pixels = decode(made)
        found = compare(reference(*pixels.shape[:2]), pixels)
        samples.append(Sample(str(way), side, photo.name, found, len(made)))
    return samples


def score_all(
    photos: Sequence[Photograph], sides: Sequence[int], program: Path | None, workers: Executor
) -> list[Sample]:
    tasks = [workers.submit(score, photo, side, program) for photo, side in product(photos, sides)]
    return [sample for task in tasks for sample in task.result()]


# --- CPU time

Ratios = Mapping[tuple[str, int], Sequence[float]]
"""By way and side: for each photograph, CPU time over that of a plain thumbnail."""


def time_all(photos: Sequence[Photograph], sides: Sequence[int], rounds: int) -> Ratios:
    """All ways take turns on each photograph; of their rounds the median counts."""
    ways = {str(way): way.make for way in WAYS if way.format != "png"}
    found: dict[tuple[str, int], list[float]] = {}
    for side, photo in product(sides, photos):
        for name, ratio in take_turns(ways, str(PLAIN), photo.data, side, rounds).items():
            found.setdefault((name, side), []).append(ratio)
    return found


def take_turns(
    ways: Mapping[str, Make], base: str, data: bytes, side: int, rounds: int
) -> Mapping[str, float]:
    """Medians over the rounds of each way's CPU time, as ratios to that of `base` in the same round."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, make in ways.items():
            started = time.process_time()
            make(data, side)
            spent[name].append(time.process_time() - started)
    return {name: median(map(truediv, own, spent[base])) for name, own in spent.items()}


# --- progressive JPEG

SHRINK = 4
"""How much smaller a thumbnail is at least, for scans of its photograph to be left out."""

PROGRESSIVE_QUALITY = 90
TRIMMING = Speed.BALANCED


def by_libjpeg(photo: Photograph) -> bytes:
    """With the scans of `jpegtran -progressive`."""
    file = BytesIO()
    with PillowImage.open(BytesIO(photo.data)) as image:
        image.save(file, "JPEG", quality=PROGRESSIVE_QUALITY, subsampling="4:2:0", progressive=True)
    return file.getvalue()


def by_mozjpeg(photo: Photograph) -> bytes:
    """With the scans that mozjpeg finds best for this photograph."""
    image = pyvips.Image.new_from_buffer(photo.data, "")
    return image.jpegsave_buffer(
        Q=PROGRESSIVE_QUALITY, subsample_mode="on", interlace=True, optimize_scans=True
    )


SCRIPTS: Mapping[str, Callable[[Photograph], bytes]] = {"libjpeg": by_libjpeg, "mozjpeg": by_mozjpeg}


def trimmed(data: bytes, side: int) -> bytes:
    """In full chroma: what looking at the picture chooses may be another thing without some scans."""
    return by_policy(TRIMMING, "jpeg", data, side, ",chroma:444")


def untrimmed(data: bytes, side: int) -> bytes:
    """The same from all scans."""
    whole = replace(POLICIES[TRIMMING], trims_from=inf)
    with patch.dict(cast(dict[Speed, Policy], POLICIES), {TRIMMING: whole}):
        return trimmed(data, side)


@dataclass(frozen=True, slots=True)
class Trimming:
    """What leaving scans out costs of the score; CPU time over that of leaving none out, and of plain."""

    script: str
    side: int
    photo: str
    loss: float
    cpu: float
    cpu_of_plain: float


def trim(
    photo: Photograph, script: str, sides: Sequence[int], program: Path | None, rounds: int
) -> list[Trimming]:
    data, compare = SCRIPTS[script](photo), judge(program)
    ways = {"untrimmed": untrimmed, "trimmed": trimmed, "plain": by_libvips}
    source = decode(data)
    found: list[Trimming] = []
    for side in sides:
        whole, cut = decode(untrimmed(data, side)), decode(trimmed(data, side))
        reference = resize(source, whole.shape[1], whole.shape[0])
        loss = compare(reference, whole) - compare(reference, cut)
        cpu = take_turns(ways, "untrimmed", data, side, rounds)["trimmed"]
        plain = take_turns(ways, "plain", data, side, rounds)["trimmed"]
        found.append(Trimming(script, side, photo.name, loss, cpu, plain))
    return found


def trim_all(
    photos: Sequence[Photograph], sides: Sequence[int], program: Path | None, rounds: int
) -> list[Trimming]:
    """Of photographs that are shrunk enough."""
    return [
        found
        for script, photo in product(SCRIPTS, photos)
        if (small := [side for side in sides if photo.longest >= SHRINK * side])
        for found in trim(photo, script, small, program, rounds)
    ]


# --- the report


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure that was reached, and how far it should go."""

    what: str
    reached: float
    bound: float
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        return self.reached >= self.bound if self.at_least else self.reached <= self.bound

    def row(self) -> list[str]:
        bound = f"{'at least' if self.at_least else 'at most'} {self.bound:g}"
        return [self.what, f"{self.reached:.2f}", bound, "met" if self.is_met else "MISSED"]


class Report:
    """Everything that was found, and what is to be read from it."""

    def __init__(self, samples: Iterable[Sample], ratios: Ratios, sides: Sequence[int]) -> None:
        self._samples: dict[tuple[str, int], list[Sample]] = {}
        for sample in samples:
            self._samples.setdefault((sample.way, sample.side), []).append(sample)
        self._ratios = ratios
        self._sides = sides

    def median_score(self, way: str, side: int) -> float:
        return median(sample.score for sample in self._samples[way, side])

    def worst(self, way: str, side: int) -> Sample:
        return min(self._samples[way, side], key=lambda sample: sample.score)

    def cpu(self, way: str, side: int) -> float:
        """Median over the photographs; NaN for what is not timed."""
        return median(self._ratios.get((way, side), [float("nan")]))

    def show(self) -> None:
        head = [f"{side}: {what}" for side in self._sides for what in ("median / worst", "KiB", "CPU")]
        show_table(["way", *head], [[str(way), *self._cells(str(way))] for way in WAYS])

        for side in self._sides:
            print(self.chroma(side))

    def chroma(self, side: int) -> str:
        """In how many pictures `balanced` keeps full chroma, and the bytes that takes."""
        chosen, halved = self._samples["balanced, jpeg", side], self._samples[str(HALVED), side]
        pairs = [(ours.size, other.size) for ours, other in zip(chosen, halved, strict=True)]
        full = sum(ours != other for ours, other in pairs)
        ours_bytes, other_bytes = map(sum, zip(*pairs, strict=True))
        growth = ours_bytes / other_bytes
        return f"{side}: {full} of {len(pairs)} in full chroma, {growth:.2f} times the bytes of all in 4:2:0."

    def _cells(self, way: str) -> list[str]:
        cells: list[str] = []
        for side in self._sides:
            worst = self.worst(way, side)
            size = median(sample.size for sample in self._samples[way, side]) / KIBIBYTE
            cpu = self.cpu(way, side)
            cells.append(f"{self.median_score(way, side):.1f} / {worst.score:.1f} ({worst.photo})")
            cells += [f"{size:.1f}", "" if cpu != cpu else f"{cpu:.2f}"]
        return cells

    def spread(self, policy: str, side: int) -> float:
        """How far the medians of one request as JPEG, WebP and AVIF are apart."""
        medians = [self.median_score(f"{policy}, {name}", side) for name in ENCODED]
        return max(medians) - min(medians)

    def goals(self) -> list[Goal]:
        sides = [side for side in self._sides if side in CPU_GOALS]
        found: list[Goal] = []
        for side in sides:
            way = "balanced, jpeg"
            found += [
                Goal(f"{way}, {side}: median", self.median_score(way, side), 77, at_least=True),
                Goal(f"{way}, {side}: worst", self.worst(way, side).score, 68, at_least=True),
                Goal(f"{way}, {side}: CPU", self.cpu(way, side), CPU_GOALS[side]),
                Goal(f"fast, jpeg, {side}: CPU", self.cpu("fast, jpeg", side), 0.9),
            ]
        return found + [
            Goal(f"{policy}, {side}: formats apart", self.spread(policy, side), 2)
            for policy, side in product(("fast", "balanced", "best"), self._sides)
        ]


CPU_GOALS = {256: 1.15, 512: 1.25}
"""Of `balanced`, by side."""


def show_trimmings(trimmings: Sequence[Trimming]) -> list[Goal]:
    """Print a row for each script and side; the goals of each script."""
    rows: list[list[str]] = []
    for script, side in sorted({(found.script, found.side) for found in trimmings}):
        some = [found for found in trimmings if (found.script, found.side) == (script, side)]
        worst = max(some, key=lambda found: found.loss)
        rows.append(
            [
                script,
                str(side),
                str(len(some)),
                f"{median(found.loss for found in some):.2f} / {worst.loss:.2f} ({worst.photo})",
                f"{median(found.cpu for found in some):.2f} / {max(found.cpu for found in some):.2f}",
                f"{median(found.cpu_of_plain for found in some):.2f}",
            ]
        )
    head = ["script", "side", "photographs", "loss: median / worst", "CPU: median / worst", "of plain"]
    show_table(head, rows)
    goals: list[Goal] = []
    for script in dict.fromkeys(found.script for found in trimmings):
        some = [found for found in trimmings if found.script == script]
        goals += [
            Goal(f"progressive, {script}: CPU", median(found.cpu for found in some), 0.5),
            Goal(f"progressive, {script}: median loss", median(found.loss for found in some), 0.2),
            Goal(f"progressive, {script}: worst loss", max(found.loss for found in some), 1.5),
        ]
    return goals


def show_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
    print(flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path, help="directories with JPEG photographs")
    parser.add_argument("--rounds", type=int, default=5, help="of taking turns, for CPU time; default 5")
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="in pixels; default 256 512 1024")
    parser.add_argument("--program", type=Path, help="the authors' ssimulacra2, instead of the library")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    photos = gather(given.photos)
    print(*photos, sep="\n", end="\n\n")
    with image_workers(1) as alone:
        ratios = alone.submit(time_all, photos, given.sides, given.rounds).result()
        trimmings = alone.submit(trim_all, photos, given.sides, given.program, given.rounds).result()
    with image_workers(len(os.sched_getaffinity(0))) as workers:
        samples = score_all(photos, given.sides, given.program, workers)
    report = Report(samples, ratios, given.sides)
    print(f"Scores by SSIMULACRA2; quality {QUALITY}; CPU time as a ratio to {PLAIN}.\n")
    report.show()
    print(f"\nProgressive files whose sides are {SHRINK} times as long and more, {TRIMMING}.\n")
    goals = report.goals() + show_trimmings(trimmings)
    show_table(["goal", "reached", "bound", ""], [goal.row() for goal in goals])
    if any(photo.is_enlarged for photo in photos):
        print("The photographs are ENLARGED: goals are set for those of cameras.")


if __name__ == "__main__":
    main()
