"""What the batch command adds: `safelight thumbnail` of many files, against the pool of image workers alone.

The pool's side is a process that starts the same pool, hands it the open files, as many at a time as keep all
workers busy, and throws the results away. The command also lists directories, names results, checks names,
writes files and syncs them. Both sides are whole processes, start included. They take turns, and each round
gives one ratio, so that other work on the machine hits both; a ratio of 1 means that the command is as fast.
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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from inputs import SMALL, make
from machine import Moment

SPEC = "fit,300,300,jpeg,quality:85"
GOAL = 0.95
PR_SET_CHILD_SUBREAPER = 36
IN_FLIGHT_PER_WORKER = 2
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Turn:
    """One side of one round."""

    cpu_s: float
    wall_s: float


# --- the pool alone


async def drive(files: Sequence[Path], workers: int) -> None:
    """Every file through a pool, with nothing around it."""
    from safelight.blob import FileBlob
    from safelight.engine.pool import PoolEngine
    from safelight.image.settings import ImageSettings
    from safelight.image.spec import ThumbnailSpec

    engine = PoolEngine(ImageSettings(), workers=workers)
    specs = [ThumbnailSpec.parse(SPEC)]
    waiting = iter(files)

    async def feed() -> None:
        for path in waiting:
            blob = FileBlob(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path.stat().st_size)
            made = await engine.thumbnail(blob, specs)
            blob.close()
            for output in made.outputs:
                if isinstance(output, Exception):
                    raise output

    await engine.start()
    try:
        await asyncio.gather(*(feed() for _ in range(IN_FLIGHT_PER_WORKER * workers)))
    finally:
        await engine.close()


# --- measuring


def become_subreaper() -> None:
    """Whatever our children leave behind becomes ours, so that its CPU time is counted here."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def run(command: Sequence[str]) -> Turn:
    """CPU seconds of the process and all its descendants, and the time until it ended."""
    before = _children_cpu_s()
    started = time.monotonic()
    subprocess.run(command, check=True)
    wall_s = time.monotonic() - started
    _reap()
    return Turn(_children_cpu_s() - before, wall_s)


def _reap() -> None:
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def create_files(directory: Path, count: int) -> None:
    """`count` names of one photograph, so that reading costs no more than it must."""
    photo = directory / "photo.jpg"
    photo.write_bytes(make(SMALL))
    inputs = directory / "inputs"
    inputs.mkdir()
    for number in range(count):
        (inputs / f"{number:06}.jpg").hardlink_to(photo)


def compare(directory: Path, count: int, workers: int, rounds: int) -> None:
    inputs, outputs = directory / "inputs", directory / "outputs"
    alone = [sys.executable, __file__, "--drive", str(inputs), "--workers", str(workers)]
    batch = [sys.executable, "-m", "safelight", "thumbnail", SPEC, str(inputs), "-o", f"{outputs}/"]
    batch += ["--quiet", "--jobs", str(workers)]
    run(alone)  # files and modules are in memory from here on
    print(f"\n{'round':>5} {'pool':>17} {'command':>17} {'ratio':>13} {'busy':>6}")
    print(
        f"{'':>5} {'wall s':>8} {'CPU s':>8} {'wall s':>8} {'CPU s':>8} {'wall':>6} {'CPU':>6} {'cores':>6}"
    )
    wall: list[float] = []
    cpu: list[float] = []
    for number in range(1, rounds + 1):
        moment = Moment.now()
        sides = [("pool", alone), ("batch", batch)]
        turns = {name: run(command) for name, command in (sides if number % 2 else reversed(sides))}
        pool, command = turns["pool"], turns["batch"]
        made = sum(1 for _ in outputs.iterdir())
        if made != count:
            raise SystemExit(f"{made} results of {count}")
        shutil.rmtree(outputs)
        wall.append(pool.wall_s / command.wall_s)
        cpu.append(pool.cpu_s / command.cpu_s)
        print(
            f"{number:5} {pool.wall_s:8.2f} {pool.cpu_s:8.2f} {command.wall_s:8.2f} {command.cpu_s:8.2f}"
            f" {wall[-1]:6.3f} {cpu[-1]:6.3f} {Moment.now().cores_since(moment):6.1f}"
        )
    verdict = "met" if median(wall) >= GOAL else "MISSED"
    print(
        f"{'median':>40} {median(wall):6.3f} {median(cpu):6.3f}   {verdict}: {GOAL} of the pool's throughput"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", type=int, default=600, help="2 MP photographs a round; default 600")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each side; default 7")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="default: the cores")
    parser.add_argument("--directory", help="where files are made; default: the system's temporary directory")
    parser.add_argument("--drive", metavar="DIRECTORY", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        asyncio.run(drive(sorted(Path(options.drive).iterdir()), options.workers))
        return
    become_subreaper()
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    with tempfile.TemporaryDirectory(prefix="safelight-bench-", dir=options.directory) as name:
        directory = Path(name)
        create_files(directory, options.files)
        print(f"{options.files} JPEGs of {SMALL.width}x{SMALL.height} to {SPEC}, {options.workers} workers")
        compare(directory, options.files, options.workers, options.rounds)


if __name__ == "__main__":
    main()
