"""What the batch command adds to the image workers.

Pool: open files handed to the pool, as many at a time as keep all workers busy, results thrown away.
Batch: what `safelight thumbnail` does: list a directory, name and check names, make, write, sync, count.

Throughput: both on one running pool, in short turns, so that other work on the machine hits both alike.
Whole: the command as a process, against a process that starts a pool, feeds it and ends. Every round gives
one ratio, pool / batch; 1 means that the batch costs nothing.
"""

import argparse
import asyncio
import ctypes
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from inputs import SMALL, make
from machine import Moment, tree_cpu_s

from safelight.batch.inputs import Listing
from safelight.batch.naming import Naming
from safelight.batch.run import Batch, create_engine, slots
from safelight.batch.session import Stop
from safelight.batch.survey import Survey, survey
from safelight.batch.writing import Existing
from safelight.blob import FileBlob
from safelight.engine.base import Engine
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec

SPEC = "fit,300,300,jpeg,quality:85"
GOAL = 0.95
MAX_BYTES = 128 << 20
TIMEOUT_S = 120
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Turn:
    """One side of one round."""

    cpu_s: float
    wall_s: float


# --- the two sides


async def feed(engine: Engine, files: Iterable[Path], in_flight: int) -> None:
    """Every file through the engine, with nothing around it."""
    specs = [ThumbnailSpec.parse(SPEC)]
    waiting = iter(files)

    async def one_after_the_other() -> None:
        for path in waiting:
            blob = FileBlob(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path.stat().st_size)
            made = await engine.thumbnail(blob, specs)
            blob.close()
            for output in made.outputs:
                if isinstance(output, Exception):
                    raise output

    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))


async def batch(engine: Engine, inputs: Path, outputs: Path, in_flight: int) -> None:
    """What the command does with a pool that runs."""
    naming = Naming(f"{outputs}/", [ThumbnailSpec.parse(SPEC)])
    listing = Listing([str(inputs)], naming.holds_results, naming.is_result)
    found = Survey()
    await asyncio.to_thread(survey, listing, naming, found)
    run = Batch(engine, naming, Existing.REFUSE, MAX_BYTES, found, Stop())
    await run.run(listing, in_flight)
    if run.tally.done != found.inputs:
        raise SystemExit("\n".join(run.tally.take_failures()))


def new_engine(workers: int) -> Engine:
    return create_engine(workers, ImageSettings(), max_bytes=MAX_BYTES, transform_timeout_s=TIMEOUT_S)


# --- in turns on one pool


async def throughput(directory: Path, workers: int, rounds: int) -> list[tuple[Turn, Turn]]:
    inputs, outputs = directory / "inputs", directory / "outputs"
    engine = new_engine(workers)
    await engine.start()
    try:
        files = sorted(inputs.iterdir())
        await feed(engine, files, slots(workers))
        results: list[tuple[Turn, Turn]] = []
        for number in range(rounds):
            sides = [
                lambda: feed(engine, files, slots(workers)),
                lambda: batch(engine, inputs, outputs, slots(workers)),
            ]
            turns = {side: await measured(sides[side]) for side in ((0, 1) if number % 2 else (1, 0))}
            shutil.rmtree(outputs)
            results.append((turns[0], turns[1]))
        return results
    finally:
        await engine.close()


async def measured(work: Callable[[], Awaitable[None]]) -> Turn:
    cpu_s, started = tree_cpu_s(os.getpid()), time.monotonic()
    await work()
    wall_s = time.monotonic() - started
    return Turn(tree_cpu_s(os.getpid()) - cpu_s, wall_s)


# --- as whole processes


def whole(directory: Path, workers: int, rounds: int) -> list[tuple[Turn, Turn]]:
    outputs = directory / "outputs"
    pool = [sys.executable, __file__, "--drive", str(directory / "inputs"), "--workers", str(workers)]
    command = [sys.executable, "-m", "safelight", "thumbnail", SPEC, str(directory / "inputs"), "--quiet"]
    command += ["-o", f"{outputs}/", "--jobs", str(workers)]
    results: list[tuple[Turn, Turn]] = []
    for number in range(rounds):
        sides = [pool, command]
        turns = {side: run(sides[side]) for side in ((0, 1) if number % 2 else (1, 0))}
        shutil.rmtree(outputs)
        results.append((turns[0], turns[1]))
    return results


async def drive(files: Sequence[Path], workers: int) -> None:
    """The pool's side as a process of its own."""
    engine = new_engine(workers)
    await engine.start()
    await feed(engine, files, slots(workers))
    await engine.close()


def become_subreaper() -> None:
    """Whatever our children leave behind becomes ours, so that its CPU time is counted here."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def run(command: Sequence[str]) -> Turn:
    """CPU seconds of the process and all its descendants, and the time until it ended."""
    before, started = _children_cpu_s(), time.monotonic()
    subprocess.run(command, check=True)
    wall_s = time.monotonic() - started
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        return Turn(_children_cpu_s() - before, wall_s)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- files and tables


def create_files(directory: Path, count: int) -> None:
    """`count` names of one photograph, so that reading costs no more than it must."""
    photo = directory / "photo.jpg"
    photo.write_bytes(make(SMALL))
    (directory / "inputs").mkdir()
    for number in range(count):
        (directory / "inputs" / f"{number:06}.jpg").hardlink_to(photo)


def show(title: str, count: int, rounds: list[tuple[Turn, Turn]], cores: float) -> None:
    wall = sorted(pool.wall_s / batch.wall_s for pool, batch in rounds)
    cpu = sorted(pool.cpu_s / batch.cpu_s for pool, batch in rounds)
    extra_ms = 1000 * median(batch.cpu_s - pool.cpu_s for pool, batch in rounds) / count
    per_s = [count / median(turn.wall_s for turn in side) for side in zip(*rounds, strict=True)]
    quarter = len(rounds) // 4
    print(
        f"{title:12} {len(rounds):6} {count:6} {per_s[0]:9.1f} {per_s[1]:9.1f}"
        f"   {median(wall):5.3f} ({wall[quarter]:.2f}..{wall[-1 - quarter]:.2f})"
        f"   {median(cpu):5.3f} ({cpu[quarter]:.2f}..{cpu[-1 - quarter]:.2f}) {extra_ms:8.2f} {cores:6.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", type=int, default=80, help="2 MP photographs a turn; default 80")
    parser.add_argument("--rounds", type=int, default=31, help="turns of each side; default 31")
    parser.add_argument("--whole", type=int, default=3, help="rounds of whole processes, 5 times the files")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="default: the cores")
    parser.add_argument("--directory", help="where files are made; default: the system's temporary directory")
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        asyncio.run(drive(sorted(options.drive.iterdir()), options.workers))
        return
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    print(
        f"JPEGs of {SMALL.width}x{SMALL.height} to {SPEC}, {options.workers} workers; ratios: pool / batch,"
    )
    print("median and middle half; extra: CPU per file that the batch adds; busy: cores, by all programs.\n")
    columns = f"{'':12} {'rounds':>6} {'files':>6} {'pool/s':>9} {'batch/s':>9}"
    print(f"{columns}   {'wall':18}   {'CPU':18} {'extra ms':>8} {'busy':>6}")
    with tempfile.TemporaryDirectory(prefix="safelight-bench-", dir=options.directory) as name:
        few, many = Path(name) / "few", Path(name) / "many"
        few.mkdir()
        create_files(few, options.files)
        before = Moment.now()
        turns = asyncio.run(throughput(few, options.workers, options.rounds))
        show("throughput", options.files, turns, Moment.now().cores_since(before))
        if options.whole:
            become_subreaper()
            many.mkdir()
            create_files(many, 5 * options.files)
            before = Moment.now()
            processes = whole(many, options.workers, options.whole)
            show("whole", 5 * options.files, processes, Moment.now().cores_since(before))
    reached = median(pool.wall_s / batch.wall_s for pool, batch in turns)
    print(f"\n{'met' if reached >= GOAL else 'MISSED'}: {GOAL} of the pool's throughput")


if __name__ == "__main__":
    main()
