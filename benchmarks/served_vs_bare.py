"""What serving adds: CPU per thumbnail of the whole server, against a plain libvips loop on the same photo.

Rounds alternate between the two, and each gives one ratio, so that other work on the machine, which comes in
waves, hits both. Read the ratios; answers per second depend on who else is using the cores. The policy of
speed is `reference`, whose work is that of the plain loop.
"""

import argparse
import http.client
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from inputs import BIG, SMALL, Photo, make
from machine import Moment, tree_cpu_s

SIDE = 300
QUALITY = 85
CONNECTIONS = 8
CORES = os.cpu_count() or 1
BOOT_S = 30
REQUEST_S = 60
LEAST_ROUNDS, COMPARISON_S = 3, 30
"""On a busy machine a comparison ends after so many seconds, if it has so many rounds."""

CONFIGURATION = f"""
path "requested" "#{{path}}"
get "thumbnail" ":path" {{
    source_file "original" root="images" path="requested"
    thumbnail "original" "small" width={SIDE} height={SIDE} format="jpeg" quality={QUALITY} speed="reference"
    output_image "small"
}}
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One photograph, how many thumbnails of it a round makes, and the ratio to reach."""

    photo: Photo
    served_count: int
    core_count: int
    goal: float
    aim: float


CASES = (Case(BIG, 64, 16, 0.95, 0.95), Case(SMALL, 320, 80, 0.75, 0.90))


@dataclass(frozen=True, slots=True)
class Turn:
    """One side of one round."""

    count: int
    cpu_s: float
    wall_s: float

    @property
    def cpu_ms(self) -> float:
        return 1000 * self.cpu_s / self.count

    @property
    def per_s(self) -> float:
        return self.count / self.wall_s


Side = Callable[[int], Turn]


# --- the bare loop


def bare(data: bytes) -> bytes:
    """The thumbnail as anybody would write it."""
    import pyvips

    image = pyvips.Image.thumbnail_buffer(data, SIDE, height=SIDE)
    return image.jpegsave_buffer(Q=QUALITY, keep="none")


def core(data: bytes) -> bytes:
    """The same thumbnail by the image core, without a server."""
    from safelight.image.pipeline import thumbnail
    from safelight.image.settings import ImageSettings
    from safelight.image.spec import ThumbnailSpec

    spec = ThumbnailSpec.parse(f"fit,{SIDE},{SIDE},jpeg,quality:{QUALITY},speed:reference")
    made = thumbnail(data, [spec], ImageSettings()).outputs[0]
    if isinstance(made, Exception):
        raise made
    return made.data


def _loop(commands: Connection, data: bytes) -> None:
    """A process: for every (function, count) received, call it so often and send back the CPU seconds."""
    import pyvips

    pyvips.cache_set_max(0)
    with suppress(EOFError):
        while order := commands.recv():
            function, count = order
            started = time.process_time()
            for _ in range(count):
                function(data)
            commands.send(time.process_time() - started)


class Loops:
    """Processes that call a function on one photograph."""

    def __init__(self, data: bytes, processes: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        pairs = [spawn.Pipe() for _ in range(processes)]
        self._commands = [ours for ours, _ in pairs]
        self._processes = [
            spawn.Process(target=_loop, args=(theirs, data), daemon=True) for _, theirs in pairs
        ]
        for process in self._processes:
            process.start()

    def run(self, function: Callable[[bytes], bytes], count: int) -> Turn:
        """`count` calls, shared out evenly."""
        share = -(-count // len(self._commands))
        started = time.monotonic()
        for commands in self._commands:
            commands.send((function, share))
        cpu_s = sum(commands.recv() for commands in self._commands)
        return Turn(share * len(self._commands), cpu_s, time.monotonic() - started)

    def close(self) -> None:
        for commands in self._commands:
            with suppress(OSError):
                commands.send(None)
        for process in self._processes:
            process.join(5)


# --- the server and its client


@contextmanager
def server(directory: Path) -> Generator[tuple[int, int]]:
    """Serve CONFIGURATION from `directory`; gives the port and the master's process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (directory / "api.sdl").write_text(CONFIGURATION)
    command = [sys.executable, "-c", "from safelight.cli import main; main()", "serve", "api.sdl"]
    log = directory / "log"
    with log.open("wb") as output:
        master = subprocess.Popen(
            [*command, "--listen", f"127.0.0.1:{port}", "--workers", str(CORES)],
            cwd=directory,
            stdout=output,
            stderr=output,
        )
    try:
        _wait_for(port, master)
        yield port, master.pid
    except BaseException:
        print(log.read_text(), file=sys.stderr)
        raise
    finally:
        master.terminate()
        master.wait(30)


def _wait_for(port: int, master: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + BOOT_S
    while time.monotonic() < deadline and master.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit("the server does not start: try `safelight serve`")


def get(port: int, name: str, count: int) -> int:
    """`count` GET requests over keep-alive connections; the size of the last answer."""

    def some(requests: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_S)
        size = 0
        for _ in range(requests):
            connection.request("GET", f"/thumbnail/{name}")
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"answered {answer.status}: {body.decode(errors='replace')}")
            size = len(body)
        connection.close()
        return size

    shares = [count // CONNECTIONS] * CONNECTIONS
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        return max(threads.map(some, shares))


def _client(commands: Connection, port: int) -> None:
    """A process: its CPU time is nobody's."""
    with suppress(EOFError):
        while order := commands.recv():
            commands.send(get(port, *order))


class Served:
    """A photograph behind a running server, asked for from another process."""

    def __init__(self, port: int, master: int, name: str) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._commands, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_client, args=(theirs, port), daemon=True)
        self._process.start()
        theirs.close()
        self._master, self._name = master, name

    def run(self, count: int) -> Turn:
        started, used = time.monotonic(), tree_cpu_s(self._master)
        self._commands.send((self._name, count))
        self._commands.recv()
        return Turn(count, tree_cpu_s(self._master) - used, time.monotonic() - started)

    def close(self) -> None:
        self._commands.send(None)
        self._process.join(5)


# --- rounds and tables


@dataclass(frozen=True, slots=True)
class Result:
    """Rounds of bare and other, and the cores that anybody used on average meanwhile."""

    case: Case
    bare: list[Turn]
    other: list[Turn]
    busy_cores: float

    @property
    def ratios(self) -> list[float]:
        return sorted(bare.cpu_ms / other.cpu_ms for bare, other in zip(self.bare, self.other, strict=True))


def compare(case: Case, bare_side: Side, other_side: Side, count: int, rounds: int) -> Result:
    """Alternate `rounds` times, or until time is up, after one turn of each that does not count."""
    bare_side(max(count // 4, CONNECTIONS))
    other_side(max(count // 4, CONNECTIONS))
    started = Moment.now()
    pairs: list[tuple[Turn, Turn]] = []
    while len(pairs) < min(rounds, LEAST_ROUNDS) or (
        len(pairs) < rounds and time.monotonic() < started.at_s + COMPARISON_S
    ):
        pairs.append((bare_side(count), other_side(count)))
    busy = Moment.now().cores_since(started)
    return Result(case, [pair[0] for pair in pairs], [pair[1] for pair in pairs], busy)


def show(title: str, other: str, results: list[Result], *, goals: bool) -> None:
    print(f"\n{title}\n")
    head = ["photo", "bare CPU ms", f"{other} CPU ms", f"bare/{other}", "rounds", "bare/s", f"{other}/s"]
    rows = [_row(result) for result in results]
    if goals:
        head.append("goal")
        for row, result in zip(rows, results, strict=True):
            row.append(_verdict(result))
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
    busy = ", ".join(f"{result.busy_cores:.1f}" for result in results)
    print(f"\nBusy cores of {CORES} on average, all programs: {busy}.", flush=True)


def _row(result: Result) -> list[str]:
    ratios = result.ratios
    return [
        result.case.photo.name,
        f"{median(turn.cpu_ms for turn in result.bare):.2f}",
        f"{median(turn.cpu_ms for turn in result.other):.2f}",
        f"{median(ratios):.3f}",
        f"{len(ratios)}: {ratios[0]:.2f} to {ratios[-1]:.2f}",
        f"{median(turn.per_s for turn in result.bare):.0f}",
        f"{median(turn.per_s for turn in result.other):.0f}",
    ]


def _verdict(result: Result) -> str:
    case, reached = result.case, median(result.ratios)
    aim = f", aim {case.aim:.2f}" if case.aim > case.goal else ""
    return f"{'met' if reached >= case.goal else 'MISSED'}: {case.goal:.2f}{aim}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=7, help="rounds of each side, fewer on a busy machine; default 7"
    )
    rounds: int = parser.parse_args().rounds
    os.environ["VIPS_CONCURRENCY"] = "1"  # for the loops; the server decides for itself
    photos: dict[str, Any] = {case.photo.name: make(case.photo) for case in CASES}
    for case in CASES:
        data = photos[case.photo.name]
        bits = 8 * len(data) / (case.photo.width * case.photo.height)
        size = f"{case.photo.width}x{case.photo.height}"
        print(f"{case.photo.name}: {size}, {len(data):,} bytes, {bits:.1f} bit/px")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="safelight-bench-")))
        served = [_served(case, photos[case.photo.name], directory, rounds) for case in CASES]
    show(
        f"Served: GET of a {SIDE} pixel thumbnail, {CONNECTIONS} connections; CPU of the whole server.\n"
        f"Bare: thumbnail_buffer and jpegsave_buffer in a loop, one process per core.",
        "served",
        served,
        goals=True,
    )
    cores = [_core(case, photos[case.photo.name], rounds) for case in CASES]
    show("The image core without a server, one process.", "core", cores, goals=False)


def _served(case: Case, data: bytes, directory: Path, rounds: int) -> Result:
    images = directory / "images"
    images.mkdir(exist_ok=True)
    name = f"{case.photo.width}.jpg"
    (images / name).write_bytes(data)
    with server(directory) as (port, master):
        loops, client = Loops(data, CORES), Served(port, master, name)
        result = compare(case, partial(loops.run, bare), client.run, case.served_count, rounds)
        client.close()
        loops.close()
    return result


def _core(case: Case, data: bytes, rounds: int) -> Result:
    loops = Loops(data, 1)
    result = compare(
        case,
        lambda count: loops.run(bare, count),
        lambda count: loops.run(core, count),
        case.core_count,
        rounds,
    )
    loops.close()
    return result


if __name__ == "__main__":
    main()
