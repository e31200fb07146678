"""Five sizes of one 12 MP photo: one request to `/thumbnails` against five to `/thumbnail`.

Rounds alternate between the two on one running `safelight thumbnailer`; each gives one ratio of CPU seconds
of the whole server. Read the ratios; milliseconds depend on who else is using the machine.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from inputs import BIG, make
from machine import Moment, tree_cpu_s
from served_vs_bare import CORES, REQUEST_S, _wait_for

from safelight.client import Thumbnailer
from safelight.errors import SafelightError

SETS = ((128, 300, 640, 1080, 2160), (64, 128, 200, 300, 400))
"""Sides in pixels: for a page on screens of all sizes, and for lists."""
GOAL = 0.45
PHOTOS = 4
"""In one turn; more than one, because the kernel counts CPU time in ticks."""


@dataclass(frozen=True, slots=True)
class Round:
    """CPU milliseconds for five sizes of one photo, made together and made one by one."""

    together_ms: float
    apart_ms: float

    @property
    def ratio(self) -> float:
        return self.together_ms / self.apart_ms


@contextmanager
def thumbnailer(directory: Path) -> Generator[tuple[int, int]]:
    """A running thumbnailer; gives its port and the master's process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from safelight.cli import main; main()", "thumbnailer"]
    with (directory / "log").open("wb") as log:
        master = subprocess.Popen(
            [*command, "--listen", f"127.0.0.1:{port}", "--workers", str(CORES)],
            cwd=directory,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_for(port, master)
        yield port, master.pid
    except BaseException:
        print((directory / "log").read_text(), file=sys.stderr)
        raise
    finally:
        master.terminate()
        master.wait(30)


def specs(sides: Sequence[int]) -> list[str]:
    return [f"fit,{side},{side},jpeg,quality:85" for side in sides]


def together(client: Thumbnailer, photo: bytes, sides: Sequence[int]) -> None:
    for output in client.thumbnails(photo, specs(sides)):
        if isinstance(output, SafelightError):
            raise output


def apart(client: Thumbnailer, photo: bytes, sides: Sequence[int]) -> None:
    for spec in specs(sides):
        client.thumbnail(photo, spec)


def measure(client: Thumbnailer, master: int, photo: bytes, sides: Sequence[int], rounds: int) -> list[Round]:
    """Alternate, after one turn of each that does not count."""

    def turn(side: Callable[[Thumbnailer, bytes, Sequence[int]], None]) -> float:
        used = tree_cpu_s(master)
        for _ in range(PHOTOS):
            side(client, photo, sides)
        return 1000 * (tree_cpu_s(master) - used) / PHOTOS

    together(client, photo, sides)
    apart(client, photo, sides)
    return [Round(turn(together), turn(apart)) for _ in range(rounds)]


def row(sides: Sequence[int], rounds: list[Round]) -> str:
    ratios = sorted(found.ratio for found in rounds)
    reached = median(ratios)
    cells = [
        ", ".join(map(str, sides)),
        f"{median(found.apart_ms for found in rounds):.0f}",
        f"{median(found.together_ms for found in rounds):.0f}",
        f"{reached:.3f}",
        f"{len(ratios)}: {ratios[0]:.3f} to {ratios[-1]:.3f}",
        f"{'met' if reached <= GOAL else 'MISSED'}: at most {GOAL:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each side; default 7")
    rounds: int = parser.parse_args().rounds
    os.environ["VIPS_CONCURRENCY"] = "1"  # for making the photo; the server decides for itself
    photo = make(BIG)
    print(f"{BIG.name}: {BIG.width}x{BIG.height}, {len(photo):,} bytes\n")
    print("| sides | five requests, CPU ms | one request, CPU ms | ratio | rounds | goal |")
    print("|---|---|---|---|---|---|", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="safelight-bench-") as directory,
        thumbnailer(Path(directory)) as (port, master),
        Thumbnailer(f"http://127.0.0.1:{port}", timeout_s=REQUEST_S) as client,
    ):
        started = Moment.now()
        for sides in SETS:
            print(row(sides, measure(client, master, photo, sides, rounds)), flush=True)
        busy = Moment.now().cores_since(started)
    print(f"\nBusy cores of {CORES} on average, all programs: {busy:.1f}.")


if __name__ == "__main__":
    main()
