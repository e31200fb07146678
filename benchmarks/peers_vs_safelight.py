"""Safelight, other image servers, and libvips in a loop: what a thumbnail of the same file costs each.

Every server runs on a port of its own, with as many workers as there are cores and without caches. Turns of
some seconds go round all of them, for each picture, so that other work on the machine hits all alike; each
round gives one ratio of CPU time. Read the ratios. CPU time is that of a server's whole process tree;
memory, the proportional set size of that tree, is measured before, with no other server running.

bare: read the file, `thumbnail_buffer`, save, in one process per core. `benchmarks/peers/install` brings the
other servers; without them this runs for those that are there.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import pyvips
from inputs import BIG, SMALL, cut_out, make, progressive, webp
from load import Client, percentile
from machine import Moment, description, tree_cpu_s
from overload import tree_pss_bytes
from peers import installed, own, scratch
from peers.base import CORES, QUALITY, SIDE, Input, Running, Server, fetch, running

CONNECTIONS = 8
TURN_S = 2.0
SAMPLE_S = 0.05
MEBIBYTE = 1 << 20

BASELINE = Input("12 MP JPEG", "baseline.jpg", BIG.width, BIG.height, "jpeg")
PROGRESSIVE = Input("12 MP JPEG, progressive", "progressive.jpg", BIG.width, BIG.height, "jpeg")
MEDIUM = Input("2 MP JPEG", "medium.jpg", SMALL.width, SMALL.height, "jpeg")
ALPHA = Input("3 MP PNG with alpha", "alpha.png", 2048, 1536, "png")
WEBP = Input("2 MP WebP, to JPEG", "medium.webp", SMALL.width, SMALL.height, "jpeg")
INPUTS = (BASELINE, PROGRESSIVE, MEDIUM, ALPHA, WEBP)

BARE = "bare libvips"
FAST, BALANCED = "Safelight, fast", "Safelight, balanced"
OTHERS = (BARE, "node + sharp", "ipx", "thumbor", "nginx image_filter")


@dataclass(frozen=True, slots=True)
class Goal:
    """At most so much of the other's CPU time per answer."""

    picture: Input
    ours: str
    other: str
    most: float


GOALS = (
    Goal(BASELINE, FAST, BARE, 0.90),
    Goal(BASELINE, FAST, "node + sharp", 1.0),
    Goal(BASELINE, FAST, "thumbor", 1.0),
    Goal(BASELINE, BALANCED, BARE, 1.15),
    *(Goal(PROGRESSIVE, ours, other, 0.50) for ours in (FAST, BALANCED) for other in OTHERS),
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One side of one round: seconds of each answer, in all, and of CPU; bytes of an answer.

    `foreign_cores` is what other programs than server and client used meanwhile.
    """

    waits_s: Sequence[float]
    wall_s: float
    cpu_s: float
    size: int
    foreign_cores: float

    @property
    def cpu_ms(self) -> float:
        return 1000 * self.cpu_s / len(self.waits_s)

    @property
    def per_s(self) -> float:
        return len(self.waits_s) / self.wall_s


Turns = dict[str, list[Turn]]
"""By the name of the side, one for each round."""
Side = Callable[[Input, float], Turn | None]
"""One turn of so many seconds; None for what cannot be made."""


# --- libvips in a loop


def thumbnail(file: Path, output: str) -> bytes:
    """The thumbnail as anybody would write it."""
    image = pyvips.Image.thumbnail_buffer(file.read_bytes(), SIDE, height=SIDE)
    if output == "png":
        return image.pngsave_buffer(keep="none")
    return image.jpegsave_buffer(Q=QUALITY, keep="none")


def _loop(orders: Connection) -> None:
    """A process: for each (file, format, seconds), send the seconds of each thumbnail, of CPU, and a size."""
    pyvips.cache_set_max(0)
    with suppress(EOFError):
        while True:
            file, output, seconds = orders.recv()
            used, size = time.process_time(), 0
            waits_s: list[float] = []
            until = time.monotonic() + seconds
            while (started := time.monotonic()) < until:
                size = len(thumbnail(file, output))
                waits_s.append(time.monotonic() - started)
            orders.send((waits_s, time.process_time() - used, size))


class Bare:
    """A process for each core."""

    def __init__(self, pictures: Path) -> None:
        spawn = multiprocessing.get_context("spawn")
        pairs = [spawn.Pipe() for _ in range(CORES)]
        self._orders = [ours for ours, _ in pairs]
        self._pictures = pictures
        os.environ["VIPS_CONCURRENCY"] = "1"  # read by libvips when it is loaded
        for _, theirs in pairs:
            spawn.Process(target=_loop, args=(theirs,), daemon=True).start()
            theirs.close()
        del os.environ["VIPS_CONCURRENCY"]

    def turn(self, picture: Input, seconds: float) -> Turn:
        before = Moment.now()
        for orders in self._orders:
            orders.send((self._pictures / picture.file, picture.output, seconds))
        told = [orders.recv() for orders in self._orders]
        waits_s = [wait_s for waits, _, _ in told for wait_s in waits]
        cpu_s = sum(used for _, used, _ in told)
        after = Moment.now()
        wall_s = after.at_s - before.at_s
        return Turn(waits_s, wall_s, cpu_s, told[0][2], after.cores_since(before) - cpu_s / wall_s)

    def close(self) -> None:
        for orders in self._orders:
            orders.close()


# --- servers


class Served:
    """A running server, asked by a client process."""

    def __init__(self, started: Running, client: Client) -> None:
        self._started, self._client = started, client

    def turn(self, picture: Input, seconds: float) -> Turn | None:
        path = self._started.server.path(picture)
        if path is None:
            return None
        before, used = Moment.now(), tree_cpu_s(self._started.pid)
        load = self._client.closed(self._started.port, path, CONNECTIONS, seconds)
        cpu_s, after = tree_cpu_s(self._started.pid) - used, Moment.now()
        ours = (cpu_s + load.client_cpu_s) / (after.at_s - before.at_s)
        return Turn(load.waits_s, load.wall_s, cpu_s, load.size, after.cores_since(before) - ours)


def check(started: Running, picture: Input) -> None:
    """Raises: RuntimeError, if the thumbnail has another format, size or number of bands than all have."""
    path = started.server.path(picture)
    if path is None:
        return
    image = pyvips.Image.new_from_buffer(fetch(started.port, path), "")
    found = (
        image.width,
        image.height,
        str(image.get("vips-loader")).split("load")[0],
        bool(image.hasalpha()),
    )
    width, height = picture.fitted
    wanted = (width, height, picture.output, picture.output == "png")
    if max(abs(found[0] - width), abs(found[1] - height)) > 1 or found[2:] != wanted[2:]:
        raise RuntimeError(f"{started.server.name}, {picture.title}: {found} is not {wanted}")


def memory(server: Server, picture: Input, pictures: Path, directory: Path, seconds: float) -> int | None:
    """Bytes, at most, of a server that runs alone, so that it shares nothing, and is asked for one thumbnail.

    Checks that, too. None for what cannot be made.
    """
    with Client() as client, running(server, pictures, directory) as started:
        check(started, picture)
        with watching(started.pid) as samples:
            made = Served(started, client).turn(picture, seconds)
    return None if made is None else max(samples)


@contextmanager
def watching(pid: int) -> Generator[list[int]]:
    """Samples of the memory of a process tree, in bytes, while the block runs."""
    samples = [tree_pss_bytes(pid)]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            samples.append(tree_pss_bytes(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


# --- rounds


def go_round(sides: dict[str, Side], rounds: int, seconds: float) -> dict[str, Turns]:
    """By title of the picture: every side in turn, `rounds` times, after a short turn that does not count."""
    found: dict[str, Turns] = {picture.title: {} for picture in INPUTS}
    for number in range(rounds + 1):
        print(f"round {number} of {rounds} ...", file=sys.stderr)
        for picture in INPUTS:
            for name, side in sides.items():
                turn = side(picture, seconds if number else seconds / 4)
                if turn is not None and number:
                    found[picture.title].setdefault(name, []).append(turn)
    return found


def ratios(turns: Turns, ours: str, other: str) -> list[float]:
    """CPU time per answer of one side as parts of the other's, a round each, in order of size."""
    return sorted(one.cpu_ms / another.cpu_ms for one, another in zip(turns[ours], turns[other], strict=True))


def verdict(goal: Goal, turns: Turns) -> str:
    """One line for a goal."""
    what = f"{goal.picture.title}: {goal.ours} / {goal.other}"
    if goal.ours not in turns or goal.other not in turns:
        return f"not measured: {what}, at most {goal.most:.2f}"
    found = ratios(turns, goal.ours, goal.other)
    reached = median(found)
    word = "met" if reached <= goal.most else "MISSED"
    return f"{word}: {what} {reached:.2f} ({found[0]:.2f} to {found[-1]:.2f}), at most {goal.most:.2f}"


# --- tables


def table(picture: Input, turns: Turns, most_bytes: dict[str, int | None]) -> None:
    print(f"\n### {picture.title}\n")
    print("| | CPU ms | fast / it | balanced / it | answers/s | p50 ms | p99 ms | MiB at most | bytes |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, taken in turns.items():
        waits_ms = [1000 * wait_s for turn in taken for wait_s in turn.waits_s]
        peak = most_bytes.get(name)
        cells = [
            name,
            f"{median(turn.cpu_ms for turn in taken):.1f}",
            *(f"{median(ratios(turns, ours, name)):.2f}" for ours in (FAST, BALANCED)),
            f"{median(turn.per_s for turn in taken):.1f}",
            *([f"{percentile(waits_ms, share):.0f}" for share in (50, 99)] if name != BARE else ["-", "-"]),
            "-" if peak is None else f"{peak / MEBIBYTE:.0f}",
            f"{taken[0].size:,}",
        ]
        print(f"| {' | '.join(cells)} |")
    foreign = [turn.foreign_cores for taken in turns.values() for turn in taken]
    rounds = max(map(len, turns.values()))
    print(
        f"\n{rounds} rounds; foreign load, cores: median {median(foreign):.2f}, at most {max(foreign):.2f}."
    )


def make_pictures(directory: Path) -> None:
    baseline, medium = make(BIG), make(SMALL)
    (directory / BASELINE.file).write_bytes(baseline)
    (directory / PROGRESSIVE.file).write_bytes(progressive(baseline))
    (directory / MEDIUM.file).write_bytes(medium)
    (directory / ALPHA.file).write_bytes(cut_out(ALPHA.width, ALPHA.height))
    (directory / WEBP.file).write_bytes(webp(medium))


def introduce(servers: Sequence[Server], pictures: Path) -> None:
    """Print what is measured, and where."""
    print(f"{description()}; libvips {pyvips.version(0)}.{pyvips.version(1)}.{pyvips.version(2)}")
    print("; ".join(f"{server.name} {server.version()}" for server in servers))
    for picture in INPUTS:
        size = (pictures / picture.file).stat().st_size
        bits = 8 * size / picture.width / picture.height
        print(f"{picture.title}: {picture.width}x{picture.height}, {size:,} bytes, {bits:.1f} bit/px")


def read_options(description: str | None, rounds: int, seconds: float) -> argparse.Namespace:
    """Those of the command line, with these defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"turns of each side; default {rounds}")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"of a turn; default {seconds:g}")
    parser.add_argument(
        "--peers", type=Path, default=scratch(), help="where benchmarks/peers/install put them"
    )
    return parser.parse_args()


@contextmanager
def contest(peers: Path) -> Generator[tuple[list[Server], Path, Path]]:
    """All servers, introduced; a directory to work in, and the one of the pictures in it."""
    servers = [*own(), *installed(peers.absolute())]
    with tempfile.TemporaryDirectory(prefix="safelight-bench-") as directory:
        pictures = Path(directory) / "pictures"
        pictures.mkdir()
        make_pictures(pictures)
        introduce(servers, pictures)
        yield servers, Path(directory), pictures


def main() -> None:
    options = read_options(__doc__, 5, TURN_S)
    with ExitStack() as stack:
        servers, directory, pictures = stack.enter_context(contest(options.peers))
        print("memory of each server alone ...", file=sys.stderr)
        most_bytes: dict[str, dict[str, int | None]] = {}
        for picture in INPUTS:
            held = most_bytes[picture.title] = dict[str, int | None]()
            for server in servers:
                alone = directory / f"alone-{len(held)}-{picture.file}"
                held[server.name] = memory(server, picture, pictures, alone, options.seconds)
        bare = Bare(pictures)
        stack.callback(bare.close)
        client = stack.enter_context(Client())
        sides: dict[str, Side] = {BARE: bare.turn}
        for number, server in enumerate(servers):
            started = stack.enter_context(running(server, pictures, directory / f"server-{number}"))
            sides[server.name] = Served(started, client).turn
        found = go_round(sides, options.rounds, options.seconds)
    for picture in INPUTS:
        table(picture, found[picture.title], most_bytes[picture.title])
    print()
    for goal in GOALS:
        print(verdict(goal, found[goal.picture.title]))


if __name__ == "__main__":
    main()
