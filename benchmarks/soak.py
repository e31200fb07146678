"""Soak: a server under mixed load for a long time. Does it make mistakes, slow down, or take more and more?

Each connection does one thing after the other, chosen by chance: uploads of several sizes and formats,
thumbnails, edits, conditional requests and ranges, images that are none, missing files, deletions, clients
that send or read slowly or hang up. What every answer has to be is known beforehand; 503 always may be.

Memory is the proportional set size of the whole process tree, descriptors are those that it has open. Both
are sampled, and after a warm-up a line is fitted to their averages (least squares). The exit code is 1 after
an unexpected answer or a trace in the log, or when a slope is above its bound even after three standard
errors have been taken off. A run of less than six minutes says nothing about slopes: they are not judged.
"""

import argparse
import asyncio
import math
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median, quantiles

import pyvips
from inputs import BIG, PHOTO, SMALL, make

BOOT_S, ANSWER_S, IDLE_S = 60, 60, 5
SAMPLE_S = 1.0
WARM_UP_SHARE, WARM_UP_S, JUDGED_S, WINDOWS = 0.25, 120, 235, 24
STANDARD_ERRORS = 3
MOST_MIB_PER_HOUR = 64
MOST_DESCRIPTORS_PER_HOUR = 60
BUSY = 503
SLOW_PIECES, SLOW_S = 8, 4.0
SLOW_BUFFER_BYTES = 4 << 10
MEBIBYTE = 1 << 20
HOUR_S = 3_600

CONFIGURATION = """
path {
    "photo" "#{name}"
    "small" "#{name}.small"
}
put "photos" ":name" {
    thumbnail "input" "small" operation="crop" width=200 height=200 format="webp"
    store_file "input" root="photos" path="photo"
    store_file "small" root="photos" path="small"
    output_store_path "input"
}
get "photos" ":name" {
    source_file "photo" root="photos" path="photo"
    identify "photo"
    output_image "photo" cache-control="public, max-age=60"
}
delete "photos" ":name" { delete_file root="photos" path="photo" }
get "thumbnail" ":name" ":operation" ":width" ":height" ":format" "&:edits?" {
    source_file "photo" root="photos" path="photo"
    thumbnail "photo" "made" operation="#{operation}" width="#{width}" height="#{height}" \\
        format="#{format}" edits="#{edits}"
    output_image "made"
}
"""
EDITS = ("rotate,90", "crop,0.1,0.1,0.8,0.8", "blur,0.1,0.1,0.5,0.5", "pixelate,0,0,0.5,0.5!rotate,180")


# --- the server


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its port, the process id of its master, and where its log is."""

    port: int
    master: int
    log: Path


@contextmanager
def serving(directory: Path, options: Sequence[str]) -> Generator[Server]:
    """Serve CONFIGURATION from `directory`."""
    (directory / "api.sdl").write_text(CONFIGURATION)
    log = directory / "log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "safelight", "serve", "api.sdl", "--listen", f"127.0.0.1:{port}"]
    with log.open("wb") as output:
        master = subprocess.Popen([*command, *options], cwd=directory, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + BOOT_S
        while b"\nSandbox" not in log.read_bytes():
            if master.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server does not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield Server(port, master.pid, log)
    finally:
        master.terminate()
        master.wait(60)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the processes of a tree have at a moment. `pss_bytes`: shared memory counted once."""

    at_s: float
    pss_bytes: int
    descriptors: int
    processes: int


def sample(root: int) -> Sample:
    """Look at `root` and everything below it; what ends meanwhile does not count."""
    pss_bytes = descriptors = processes = 0
    waiting = [root]
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        with suppress(OSError):
            waiting += map(int, (process / "task" / process.name / "children").read_text().split())
            lines = (process / "smaps_rollup").read_text().splitlines()
            pss_bytes += next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
            descriptors += len(list((process / "fd").iterdir()))
            processes += 1
    return Sample(time.monotonic(), pss_bytes, descriptors, processes)


@dataclass(frozen=True, slots=True)
class Slope:
    """A fitted line: how much more every hour, with its standard error."""

    per_hour: float
    error: float

    def exceeds(self, bound: float) -> bool:
        return self.per_hour - STANDARD_ERRORS * self.error > bound


def fit(moments_s: Sequence[float], values: Sequence[float]) -> Slope:
    """Least squares over averages of equal windows: their errors are less dependent than those of samples."""
    size = max(1, len(values) // WINDOWS)
    starts = range(0, len(values) - size + 1, size)
    x = [fmean(moments_s[start : start + size]) / HOUR_S for start in starts]
    y = [fmean(values[start : start + size]) for start in starts]
    if len(x) < 3:
        return Slope(0, math.inf)
    middle, level = fmean(x), fmean(y)
    spread = sum((at - middle) ** 2 for at in x)
    slope = sum((at - middle) * (value - level) for at, value in zip(x, y, strict=True)) / spread
    rest = sum((value - level - slope * (at - middle)) ** 2 for at, value in zip(x, y, strict=True))
    return Slope(slope, math.sqrt(rest / (len(x) - 2) / spread))


# --- clients


@dataclass
class Tally:
    """Answers to one kind of request: those that were to be expected, and others by what they were."""

    waits_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    hung_up: int = 0


class Connection:
    """A keep-alive connection, opened when it is needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"", headers: str = "") -> int:
        """Send a request, read its answer and return the status. `headers`: lines that end in CRLF."""
        reader, writer = await self._open()
        writer.write(_head(method, path, len(body), headers) + body)
        await writer.drain()
        return await self._read(reader)

    async def ask_slowly(self, method: str, path: str, body: bytes) -> int:
        """The same, the body in pieces, over some seconds."""
        reader, writer = await self._open()
        writer.write(_head(method, path, len(body)))
        size = -(-len(body) // SLOW_PIECES)
        for start in range(0, len(body), size):
            await asyncio.sleep(SLOW_S / SLOW_PIECES)
            writer.write(body[start : start + size])
            await writer.drain()
        return await self._read(reader)

    async def hang_up(self, method: str, path: str, body: bytes) -> None:
        """Send half a request and close."""
        _, writer = await self._open()
        writer.write(_head(method, path, len(body)) + body[: len(body) // 2])
        await writer.drain()
        self.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        return self._streams

    async def _read(self, reader: asyncio.StreamReader) -> int:
        async with asyncio.timeout(ANSWER_S):
            status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in lines)}
            status = int(status_line.split()[1])
            if status != 304:
                await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.close()
        return status

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _head(method: str, path: str, size: int, headers: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: soak\r\n{headers}content-length: {size}\r\n\r\n".encode()


async def read_slowly(port: int, path: str) -> int:
    """Ask on a connection with a small buffer, and take the answer in pieces over some seconds."""
    quiet = socket.socket()
    quiet.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER_BYTES)
    quiet.setblocking(False)
    loop = asyncio.get_running_loop()
    with quiet:
        await loop.sock_connect(quiet, ("127.0.0.1", port))
        await loop.sock_sendall(quiet, _head("GET", path, 0, "connection: close\r\n"))
        first = await loop.sock_recv(quiet, SLOW_BUFFER_BYTES)
        async with asyncio.timeout(ANSWER_S):
            for _ in range(SLOW_PIECES):
                await asyncio.sleep(SLOW_S / SLOW_PIECES)
                await loop.sock_recv(quiet, SLOW_BUFFER_BYTES)
            while await loop.sock_recv(quiet, MEBIBYTE):
                pass
    return int(first.split()[1])


class Client:
    """One connection's worth of load. Its own images are `<number>-<input>`."""

    def __init__(self, number: int, port: int, inputs: dict[str, bytes]) -> None:
        self._number = number
        self._port = port
        self._inputs = inputs
        self._chance = random.Random(number)
        self._connection = Connection(port)
        self._stored: set[str] = set()

    async def run(self, until: float, tallies: dict[str, Tally]) -> None:
        """Do one thing after the other."""
        kinds = self._kinds()
        names = list(kinds)
        weights = [kinds[name][0] for name in names]
        await self._do("upload", (200,), self._upload, tallies)
        while time.monotonic() < until:
            (name,) = self._chance.choices(names, weights)
            _, statuses, act = kinds[name]
            await self._do(name, statuses, act, tallies)
        self._connection.close()

    async def _do(self, name: str, statuses: Sequence[int], act: "Act", tallies: dict[str, Tally]) -> None:
        tally = tallies.setdefault(name, Tally())
        started = time.monotonic()
        try:
            status = await act()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError, ValueError, IndexError) as error:
            self._connection.close()
            tally.unexpected[type(error).__name__] += 1
            return
        if status is None:
            tally.hung_up += 1
        elif status in statuses or status == BUSY:
            tally.statuses[status] += 1
            tally.waits_s.append(time.monotonic() - started)
            if status == BUSY:
                await asyncio.sleep(self._chance.uniform(1, 2))
        else:
            tally.unexpected[str(status)] += 1

    def _kinds(self) -> "dict[str, tuple[int, Sequence[int], Act]]":
        """Weight, statuses that are right, and what is done."""
        return {
            "upload": (15, (200,), self._upload),
            "thumbnail": (35, (200,), self._thumbnail),
            "edit": (10, (200,), self._edit),
            "fetch": (15, (200,), self._fetch),
            "part": (4, (206,), self._part),
            "not modified": (4, (304,), self._not_modified),
            "no image": (6, (415,), self._no_image),
            "missing": (4, (404,), self._missing),
            "nonsense": (4, (400,), self._nonsense),
            "delete": (3, (200,), self._delete),
            "slow upload": (1, (200,), self._slow_upload),
            "slow reader": (1, (200,), self._slow_reader),
            "hang up": (1, (), self._hang_up),
        }

    def _ask(self, method: str, path: str, body: bytes = b"", headers: str = "") -> Awaitable[int]:
        return self._connection.ask(method, path, body, headers)

    def _any(self) -> str:
        return self._chance.choice(sorted(self._stored))

    async def _upload(self) -> int:
        name = self._chance.choice(list(self._inputs))
        status = await self._ask("PUT", f"/photos/{self._number}-{name}", self._inputs[name])
        if status != BUSY or not self._stored:
            self._stored.add(f"{self._number}-{name}")
        return status

    async def _thumbnail(self, edits: str = "") -> int:
        chance = self._chance
        operation, kind = (
            chance.choice(("fit", "crop", "limit", "pad")),
            chance.choice(("jpeg", "webp", "png")),
        )
        width, height = chance.randrange(16, 900), chance.randrange(16, 900)
        return await self._ask("GET", f"/thumbnail/{self._any()}/{operation}/{width}/{height}/{kind}{edits}")

    async def _edit(self) -> int:
        return await self._thumbnail(f"?edits={self._chance.choice(EDITS)}")

    async def _fetch(self) -> int:
        return await self._ask("GET", f"/photos/{self._any()}")

    async def _part(self) -> int:
        return await self._ask("GET", f"/photos/{self._any()}", headers="range: bytes=10-99\r\n")

    async def _not_modified(self) -> int:
        return await self._ask("GET", f"/photos/{self._any()}", headers="if-none-match: *\r\n")

    async def _no_image(self) -> int:
        return await self._ask("PUT", "/photos/none", self._chance.randbytes(20_000))

    async def _missing(self) -> int:
        return await self._ask("GET", f"/thumbnail/missing-{self._number}/fit/10/10/jpeg")

    async def _nonsense(self) -> int:
        return await self._ask("GET", f"/thumbnail/{self._any()}/squeeze/10/10/jpeg")

    async def _delete(self) -> int:
        """Of an image that is uploaded for this."""
        name = f"/photos/{self._number}-short-lived"
        status = await self._ask("PUT", name, self._inputs["logo.png"])
        return status if status != 200 else await self._ask("DELETE", name)

    async def _slow_upload(self) -> int:
        return await self._connection.ask_slowly(
            "PUT", f"/photos/{self._number}-slow", self._inputs["photo.jpg"]
        )

    async def _slow_reader(self) -> int:
        return await read_slowly(self._port, f"/photos/{self._any()}")

    async def _hang_up(self) -> None:
        await self._connection.hang_up("PUT", f"/photos/{self._number}-half", self._inputs["photo.jpg"])


Act = Callable[[], Awaitable[int | None]]


def make_inputs() -> dict[str, bytes]:
    """Images to upload, by name: 12 and 2 megapixels, small ones, and other formats."""
    small = pyvips.Image.thumbnail(str(PHOTO), 500).copy_memory()
    circles = "".join(f'<circle cx="{x}" cy="{x}" r="40" fill="#{x:03d}"/>' for x in range(100, 900, 9))
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="1000" height="1000">{circles}</svg>'
    return {
        "camera.jpg": make(BIG),
        "photo.jpg": make(SMALL),
        "page.jpg": small.jpegsave_buffer(Q=80, interlace=True),
        "logo.png": small.pngsave_buffer(),
        "page.webp": small.webpsave_buffer(),
        "page.avif": small.heifsave_buffer(compression="av1", effort=0),
        "page.gif": small.gifsave_buffer(),
        "page.tif": small.tiffsave_buffer(compression="lzw"),
        "logo.svg": svg.encode(),
    }


# --- the report


async def watch(root: int, samples: list[Sample]) -> None:
    while True:
        samples.append(await asyncio.to_thread(sample, root))
        await asyncio.sleep(SAMPLE_S)


async def soak(server: Server, seconds: float, connections: int, inputs: dict[str, bytes]) -> bool:
    """Run the load, print what came of it, and return whether all was well."""
    before = sample(server.master)
    tallies: dict[str, Tally] = {}
    samples: list[Sample] = []
    watching = asyncio.create_task(watch(server.master, samples))
    started = time.monotonic()
    clients = [Client(number, server.port, inputs) for number in range(connections)]
    await asyncio.gather(*(client.run(started + seconds, tallies) for client in clients))
    took_s = time.monotonic() - started
    watching.cancel()
    await asyncio.sleep(IDLE_S)
    after = sample(server.master)
    print(f"{took_s / 60:.1f} minutes, {connections} connections\n")
    unexpected = report_answers(tallies, took_s)
    warm_s = started + max(WARM_UP_S, WARM_UP_SHARE * took_s)
    too_steep = report_slopes(samples, [found for found in samples if found.at_s > warm_s])
    for name, moment in (("before", before), ("after", after)):
        print(
            f"idle, {name}: {moment.pss_bytes / MEBIBYTE:.0f} MiB, {moment.descriptors} descriptors, "
            f"{moment.processes} processes"
        )
    traces = server.log.read_text("utf-8", "replace").count("Traceback")
    print(f"traces in the log: {traces}")
    return not (unexpected or too_steep or traces)


def report_answers(tallies: dict[str, Tally], seconds: float) -> int:
    """Print a row for each kind of request; the number of unexpected answers.

    Times of all are without those of clients that are slow on purpose.
    """
    print("| request | answers | p50 ms | p99 ms | status | unexpected |\n|---|---|---|---|---|---|")
    total = Tally()
    for name, tally in sorted(tallies.items()):
        print(_row(name, tally))
        total.waits_s += () if name.startswith("slow") else tally.waits_s
        total.statuses += tally.statuses
        total.unexpected += tally.unexpected
        total.hung_up += tally.hung_up
    print(_row("all", total))
    print(f"\n{total.statuses.total() / seconds:.0f} requests a second, {total.hung_up} clients hung up")
    return total.unexpected.total()


def _row(name: str, tally: Tally) -> str:
    waits_s = tally.waits_s or [0]
    p99_s = quantiles(waits_s, n=100)[-1] if len(waits_s) > 1 else waits_s[0]
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(tally.statuses.items()))
    unexpected = ", ".join(f"{what}: {count}" for what, count in sorted(tally.unexpected.items())) or "-"
    times = f"{1000 * median(waits_s):.0f} | {1000 * p99_s:.0f}"
    return f"| {name} | {tally.statuses.total()} | {times} | {statuses} | {unexpected} |"


def report_slopes(samples: Sequence[Sample], warm: Sequence[Sample]) -> bool:
    """Print memory and descriptors, and their slopes in `warm`; whether one of these is above its bound."""
    minutes: dict[int, list[float]] = {}
    for found in samples:
        minutes.setdefault(int((found.at_s - samples[0].at_s) / 60), []).append(found.pss_bytes / MEBIBYTE)
    print("memory, MiB, minute by minute:", *(f"{fmean(levels):.0f}" for levels in minutes.values()))
    if not warm or warm[-1].at_s - warm[0].at_s < JUDGED_S:
        print("slopes are not judged: the run was too short")
        return False
    moments_s = [found.at_s for found in warm]
    judged = [
        _judge("memory, MiB", moments_s, [found.pss_bytes / MEBIBYTE for found in warm], MOST_MIB_PER_HOUR),
        _judge("descriptors", moments_s, [found.descriptors for found in warm], MOST_DESCRIPTORS_PER_HOUR),
    ]
    return any(judged)


def _judge(name: str, moments_s: Sequence[float], values: Sequence[float], bound: float) -> bool:
    slope = fit(moments_s, values)
    verdict = "TOO STEEP" if slope.exceeds(bound) else "fine"
    print(
        f"{name}: {fmean(values):.0f} on average, {max(values):.0f} at most, "
        f"{slope.per_hour:+.0f} ± {slope.error:.0f} an hour (at most {bound:.0f}): {verdict}"
    )
    return slope.exceeds(bound)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="default 10")
    parser.add_argument("--connections", type=int, default=12, help="default 12")
    parser.add_argument("options", nargs="*", help="options for `safelight serve`, after --")
    given = parser.parse_args()
    os.environ["VIPS_CONCURRENCY"] = "1"  # for making the inputs; the server decides for itself
    inputs = make_inputs()
    with (
        tempfile.TemporaryDirectory(prefix="safelight-soak-") as name,
        serving(Path(name), given.options) as server,
    ):
        well = asyncio.run(soak(server, 60 * given.minutes, given.connections, inputs))
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
