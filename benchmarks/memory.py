"""Memory of the example API: idle, while 32 clients want 12 MP photographs, and after 2,000 mixed requests.

Everything is the proportional set size of the whole process tree: what processes share counts once, the
memory in which images are handed over included. Peaks are looked for twenty times a second; levels are those
of a server that has been left alone for a moment. The photographs are made from one of tests/data.
"""

import argparse
import asyncio
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

from inputs import BIG, PHOTO, SMALL, make, progressive
from machine import Moment
from overload import Answer, Connection

CLIENTS, REQUESTS = 32, 96
MIXED_CLIENTS, EARLY, LATE = 8, 500, 2_000
GOAL_PEAK_MIB, GOAL_GROWTH = 150, 1.25
SAMPLE_S, SETTLE_S, BOOT_S = 0.05, 2.0, 60
WARM_UP = 16
BUSY = 503
KIBIBYTE, MEBIBYTE = 1 << 10, 1 << 20

Found = TypeVar("Found")


# --- variants


@dataclass(frozen=True, slots=True)
class Variant:
    """A server that differs from ours: by its environment, or by what is run before its command."""

    prelude: str = ""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


def _with_arenas(count: int) -> Variant:
    setting = f"launcher.SET_ALWAYS['MALLOC_ARENA_MAX'] = '{count}'"
    return Variant(f"from safelight.engine import launcher; {setting}")


def _keeping(mebibytes: int) -> Variant:
    size = mebibytes * MEBIBYTE
    return Variant(f"from safelight.engine.arena import Arena; Arena.shrink.__defaults__ = ({size},)")


VARIANTS = {
    "ours": Variant(),
    "2 malloc arenas": _with_arenas(2),
    "4 malloc arenas": _with_arenas(4),
    "16 malloc arenas": _with_arenas(16),
    "keep 1 MiB": _keeping(1),
    "keep 128 MiB": _keeping(128),
}
"""By name: malloc arenas of image workers (ours: 1), memory kept for handing images over (ours: 8 MiB)."""


# --- the server


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its port and the process id of its master."""

    port: int
    master: int


@contextmanager
def serving(directory: Path, variant: Variant, options: Sequence[str]) -> Generator[Server]:
    """Serve the example API, with its images in `directory`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = f"{variant.prelude}\nfrom safelight.cli import main; main()"
    listen = ["--listen", f"127.0.0.1:{port}", "--data", str(directory / "data")]
    log = directory / "log"
    with log.open("wb") as output:
        master = subprocess.Popen(
            [sys.executable, "-c", program, "serve", *listen, *options],
            env={**os.environ, **variant.environment},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + BOOT_S
        while b"Safelight" not in log.read_bytes():
            if master.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server does not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield Server(port, master.pid)
    finally:
        master.terminate()
        master.wait(60)


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a tree: the name that the kernel knows it by, and its memory in KiB."""

    name: str
    pss_kib: int


def look(root: int) -> list[Process]:
    """`root` and everything below it; what ends meanwhile is left out."""
    found: list[Process] = []
    waiting = [root]
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        with suppress(OSError):
            waiting += map(int, (process / "task" / process.name / "children").read_text().split())
            name = (process / "comm").read_text().strip()
            found.append(Process(name, pss_kib((process / "smaps_rollup").read_text())))
    return found


def pss_kib(rollup: str) -> int:
    """From the text of /proc/PID/smaps_rollup."""
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))


def total_mib(processes: Sequence[Process]) -> float:
    return sum(process.pss_kib for process in processes) / KIBIBYTE


# --- clients

Ask = Callable[[Connection], Awaitable[Answer]]


def getting(path: str) -> Ask:
    return lambda connection: connection.ask("GET", path)


def putting(body: bytes) -> Ask:
    return lambda connection: connection.ask("PUT", "/images", body)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for, and the status that is right."""

    ask: Ask
    status: int = 200


async def play(port: int, clients: int, requests: Sequence[Request]) -> None:
    """Send all, so many at a time; who is told that the server is busy comes again. Raises: RuntimeError."""
    waiting = list(reversed(requests))

    async def client() -> None:
        with closing(Connection(port)) as connection:
            while waiting:
                request = waiting.pop()
                answer = await request.ask(connection)
                while answer.status == BUSY:
                    await asyncio.sleep(answer.retry_after_s)
                    answer = await request.ask(connection)
                if answer.status != request.status:
                    raise RuntimeError(f"answered {answer.status} instead of {request.status}")

    await asyncio.gather(*(client() for _ in range(clients)))


def mixture(names: Mapping[str, str], bodies: Mapping[str, bytes], count: int) -> list[Request]:
    """Requests of every kind that the example API has, drawn by a chance that is always the same."""
    chance = random.Random(1)

    def thumbnail() -> Request:
        operation = chance.choice(("fit", "crop", "limit", "pad"))
        format_name = chance.choices(("jpeg", "webp", "png", "avif"), (6, 3, 2, 1))[0]
        size = f"{chance.randrange(16, 900)}/{chance.randrange(16, 900)}"
        name = names[chance.choices(("small", "big", "progressive"), (6, 2, 1))[0]]
        return Request(getting(f"/thumbnail/{name}/{operation}/{size}?format={format_name}"))

    kinds: list[tuple[int, Callable[[], Request]]] = [
        (50, thumbnail),
        (15, lambda: Request(putting(chance.choice(list(bodies.values()))))),
        (15, lambda: Request(getting(f"/images/{names['small']}"))),
        (10, lambda: Request(getting(f"/info/{names['big']}"))),
        (5, lambda: Request(getting("/images/missing.jpg"), 404)),
        (5, lambda: Request(putting(chance.randbytes(20_000)), 415)),
    ]
    weights = [weight for weight, _ in kinds]
    return [kind() for _, kind in chance.choices(kinds, weights, k=count)]


# --- measuring


class Peak:
    """The most that a process tree has taken, in MiB."""

    def __init__(self, root: int) -> None:
        self._root = root
        self.mib = 0.0

    async def watch(self) -> None:
        while True:
            self.mib = max(self.mib, total_mib(await asyncio.to_thread(look, self._root)))
            await asyncio.sleep(SAMPLE_S)


@asynccontextmanager
async def watching(root: int) -> AsyncGenerator[Peak]:
    peak = Peak(root)
    watch = asyncio.ensure_future(peak.watch())
    try:
        yield peak
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def settled(server: Server) -> list[Process]:
    """The processes when everything has been answered and closed."""
    await asyncio.sleep(SETTLE_S)
    return look(server.master)


@dataclass(frozen=True, slots=True)
class Crowd:
    """What a server took before many clients came, at most meanwhile, and when they had gone, in MiB."""

    idle: list[Process]
    peak: float
    left: float

    @property
    def above_idle(self) -> float:
        return self.peak - total_mib(self.idle)


@dataclass(frozen=True, slots=True)
class Growth:
    """Levels after 500 and 2,000 requests, in MiB."""

    early: float
    late: float

    @property
    def ratio(self) -> float:
        return self.late / self.early


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one variant: by what the clients want, and of mixed requests."""

    crowds: Mapping[str, Crowd]
    growth: Growth


CROWDS: Mapping[str, Callable[[Mapping[str, str], Mapping[str, bytes]], Ask]] = {
    "thumbnails": lambda names, _: getting(f"/thumbnail/{names['big']}/fit/300/300"),
    "of progressive JPEG": lambda names, _: getting(f"/thumbnail/{names['progressive']}/fit/300/300"),
    "large thumbnails": lambda names, _: getting(f"/thumbnail/{names['big']}/fit/2000/2000"),
    "uploads": lambda _, bodies: putting(bodies["big"]),
}
"""What each of the 32 clients does with a photograph of 12 MP."""


async def crowd(server: Server, bodies: Mapping[str, bytes], wish: str) -> Crowd:
    names = await prepare(server, bodies)
    idle = await settled(server)
    async with watching(server.master) as peak:
        await play(server.port, CLIENTS, [Request(CROWDS[wish](names, bodies))] * REQUESTS)
    return Crowd(idle, peak.mib, total_mib(await settled(server)))


async def grow(server: Server, bodies: Mapping[str, bytes]) -> Growth:
    requests = mixture(await prepare(server, bodies), bodies, LATE)
    await play(server.port, MIXED_CLIENTS, requests[:EARLY])
    early = total_mib(await settled(server))
    await play(server.port, MIXED_CLIENTS, requests[EARLY:])
    return Growth(early, total_mib(await settled(server)))


async def prepare(server: Server, bodies: Mapping[str, bytes]) -> dict[str, str]:
    """Store the images and let every process do some work; the names in the store."""
    names = {name: await store(server.port, body) for name, body in bodies.items()}
    warm_up = Request(getting(f"/thumbnail/{names['tiny']}/fit/100/100"))
    await play(server.port, WARM_UP, [warm_up] * WARM_UP)
    return names


async def store(port: int, body: bytes) -> str:
    """Put an image; its name in the store."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"PUT /images HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    if b" 200 " not in answer.partition(b"\r\n")[0]:
        raise RuntimeError(f"cannot store: {answer.decode('utf-8', 'replace')}")
    return answer.partition(b"\r\n\r\n")[2].decode().strip()


# --- the report


def run(variant: Variant, bodies: Mapping[str, bytes], options: Sequence[str]) -> Figures:
    """A new server for each figure: what one leaves behind is not blamed on the next."""

    def with_server(measure: Callable[[Server], Coroutine[None, None, Found]]) -> Found:
        with (
            tempfile.TemporaryDirectory(prefix="safelight-bench-") as directory,
            serving(Path(directory), variant, options) as server,
        ):
            return asyncio.run(measure(server))

    crowds = {wish: with_server(partial(crowd, bodies=bodies, wish=wish)) for wish in CROWDS}
    return Figures(crowds, with_server(partial(grow, bodies=bodies)))


def row(name: str, runs: Sequence[Figures]) -> list[str]:
    """Of a table: medians over the runs."""
    idle = median(total_mib(found.idle) for run in runs for found in run.crowds.values())
    crowds = [[run.crowds[wish] for run in runs] for wish in CROWDS]
    return [
        name,
        f"{idle:.0f}",
        *(f"+{above_idle(found):.0f}, {median(one.left for one in found) - idle:+.0f}" for found in crowds),
        f"{median(run.growth.early for run in runs):.0f}, {median(run.growth.late for run in runs):.0f}",
        f"{growth(runs):.2f}",
    ]


def above_idle(found: Sequence[Crowd]) -> float:
    return median(one.above_idle for one in found)


def growth(runs: Sequence[Figures]) -> float:
    return median(run.growth.ratio for run in runs)


def verdicts(runs: Sequence[Figures]) -> list[str]:
    """Each goal, and whether it is met."""
    return [
        *(
            _verdict(
                f"{CLIENTS} clients, {wish}", above_idle([run.crowds[wish] for run in runs]), GOAL_PEAK_MIB
            )
            for wish in CROWDS
        ),
        _verdict("growth", growth(runs), GOAL_GROWTH),
    ]


def _verdict(what: str, reached: float, most: float) -> str:
    return f"{'met' if reached <= most else 'MISSED'}: {what}: {reached:.2f}, at most {most:g}"


def show_processes(processes: Sequence[Process]) -> None:
    """What each of an idle server takes."""
    for name in dict.fromkeys(process.name for process in processes):
        sizes = ", ".join(
            f"{process.pss_kib / KIBIBYTE:.0f}" for process in processes if process.name == name
        )
        print(f"  {name}: {sizes} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="runs of each variant; default 1")
    parser.add_argument(
        "--variants", nargs="*", choices=VARIANTS, default=["ours"], help="servers to compare"
    )
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="for `safelight serve`")
    given = parser.parse_args()
    big = make(BIG)
    bodies = {"tiny": PHOTO.read_bytes(), "small": make(SMALL), "big": big, "progressive": progressive(big)}
    started = Moment.now()
    runs: dict[str, list[Figures]] = {name: [] for name in given.variants}
    for _ in range(given.rounds):
        for name, figures in runs.items():
            figures.append(run(VARIANTS[name], bodies, given.options))
    print(f"MiB of all processes; {CLIENTS} clients: at most, and left when they had gone, above idle.\n")
    print(f"| server | idle | {' | '.join(CROWDS)} | after {EARLY}, {LATE} requests | growth |")
    print("|---" * (len(CROWDS) + 4) + "|")
    for name, figures in runs.items():
        print(f"| {' | '.join(row(name, figures))} |")
    first = next(iter(runs.values()))
    print("\nIdle:")
    show_processes(first[0].crowds["thumbnails"].idle)
    print("", *verdicts(first), "", sep="\n")
    print(f"Busy cores on average, all programs: {Moment.now().cores_since(started):.1f}.")


if __name__ == "__main__":
    main()
