"""Overload: what 200 connections leave of the throughput that a few can have, and whom they delay.

1. Saturation: a few connections ask for an expensive thumbnail, one request after the other.
2. Overload: 200 do; who is answered 503 waits as long as `Retry-After` says, and up to a half longer. The
   two take turns, so that other work on the machine hits both.
3. Calm and crowd: a few connections store, fetch and ask for thumbnails; then they do so again while 400
   uploads trickle in and 40 clients never read what they have asked for.

Health checks run through all of it. Answers are timed from the last byte of the request to the last of the
answer; memory is the proportional set size of the whole process tree. One thread plays all clients, on the
cores that the server has, too.
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
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from inputs import BIG, SMALL, make
from machine import tree_cpu_s

CONNECTIONS, TRICKLING, DEAF = 200, 400, 40
TURNS = 3
FEW = 2 * len(os.sched_getaffinity(0))
BOOT_S, ANSWER_S, ROUND_S = 30, 60, 0.25
TRICKLE_BYTES, TRICKLE_S = 2_000, 1.0
DEAF_BUFFER_BYTES = 4_096
STORED_BYTES = 200_000
MEBIBYTE = 1 << 20

CONFIGURATION = """
path "requested" "#{path}"
get "expensive" ":path" {
    source_file "original" root="images" path="requested"
    thumbnail "original" "large" operation="fit" width=1600 height=1600 format="webp"
    output_image "large"
}
get "thumbnail" ":path" {
    source_file "original" root="images" path="requested"
    thumbnail "original" "small" operation="fit" width=300 height=300 format="jpeg"
    output_image "small"
}
put "upload" {
    thumbnail "input" "small" operation="fit" width=300 height=300 format="jpeg"
    output_image "small"
}
put "stored" ":path" { store_file "input" root="images" path="requested" }
get "stored" ":path" {
    source_file "original" root="images" path="requested"
    output_image "original"
}
"""


# --- the server


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its port and the process id of its master."""

    port: int
    master: int


@contextmanager
def serving(directory: Path, options: Sequence[str]) -> Generator[Server]:
    """Serve CONFIGURATION from `directory`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (directory / "api.sdl").write_text(CONFIGURATION)
    command = [sys.executable, "-m", "safelight", "serve", "api.sdl", "--listen", f"127.0.0.1:{port}"]
    log = directory / "log"
    with log.open("wb") as output:
        master = subprocess.Popen([*command, *options], cwd=directory, stdout=output, stderr=output)
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


def tree_pss_bytes(root: int) -> int:
    """Proportional set size of a process and all below it, shared memory counted once; 0 for the dead."""
    total, waiting = 0, [root]
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        with suppress(OSError):
            waiting += map(int, (process / "task" / process.name / "children").read_text().split())
            lines = (process / "smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return total


# --- clients


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, how long after the request, and what `Retry-After` says, in seconds."""

    status: int
    wait_s: float
    retry_after_s: float


class Connection:
    """A keep-alive connection, opened when it is needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        """Send a request and read its answer. Raises: OSError, EOFError, TimeoutError."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode())
        writer.write(body)
        await writer.drain()
        sent = time.monotonic()
        async with asyncio.timeout(ANSWER_S):
            status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in lines)}
            await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.close()
        wait_s = time.monotonic() - sent
        return Answer(int(status_line.split()[1]), wait_s, float(headers.get("retry-after", "0")))

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass
class Tally:
    """The answers to one kind of request, and the time and the server's CPU time that they took."""

    seconds: float = 0
    cpu_s: float = 0
    answers: list[Answer] = field(default_factory=list)
    broken: Counter[str] = field(default_factory=Counter)

    def with_status(self, status: int) -> list[float]:
        """How long those answers took, sorted, in seconds."""
        return sorted(answer.wait_s for answer in self.answers if answer.status == status)

    @property
    def goodput(self) -> float:
        return len(self.with_status(200)) / self.seconds

    @property
    def goodput_per_cpu_s(self) -> float:
        """Does not depend on what else the machine has to do."""
        return len(self.with_status(200)) / self.cpu_s

    def add(self, other: "Tally") -> None:
        self.seconds += other.seconds
        self.cpu_s += other.cpu_s
        self.answers += other.answers
        self.broken += other.broken

    @property
    def slowest_s(self) -> float:
        return max((answer.wait_s for answer in self.answers), default=0)

    def __str__(self) -> str:
        counts = dict(sorted(Counter(answer.status for answer in self.answers).items()))
        waits = self.with_status(200) or [0]
        text = (
            f"{self.goodput:7.1f}/s  median {1000 * median(waits):6.0f} ms  slowest {self.slowest_s:5.2f} s"
        )
        return f"{text}  {counts}{f'  broken: {dict(self.broken)}' if self.broken else ''}"


Ask = Callable[[Connection], Awaitable[Answer]]
Kinds = dict[str, tuple[int, Ask]]
Tallies = dict[str, Tally]


async def run_phase(server: Server, seconds: float, kinds: Kinds) -> Tallies:
    """Let so many connections ask each kind of request in turn, for so long; the last answers count, too."""
    until = time.monotonic() + seconds
    tallies = {name: Tally() for name in kinds}

    async def client(tally: Tally, ask: Ask) -> None:
        connection = Connection(server.port)
        while time.monotonic() < until:
            try:
                answer = await ask(connection)
            except (OSError, EOFError) as error:
                tally.broken[type(error).__name__] += 1
                connection.close()
                continue
            tally.answers.append(answer)
            if answer.status == 503:
                pause_s = answer.retry_after_s * random.uniform(1, 1.5)
                await asyncio.sleep(min(pause_s, max(0, until - time.monotonic())))
        connection.close()

    started, used_s = time.monotonic(), tree_cpu_s(server.master)
    await asyncio.gather(
        *(client(tallies[name], ask) for name, (count, ask) in kinds.items() for _ in range(count))
    )
    for tally in tallies.values():
        tally.seconds = time.monotonic() - started
        tally.cpu_s = tree_cpu_s(server.master) - used_s
    return tallies


async def check_health(connection: Connection) -> Answer:
    answer = await connection.ask("GET", "/health_check")
    await asyncio.sleep(0.1)
    return answer


def asking(method: str, path: str, body: bytes = b"") -> Ask:
    return lambda connection: connection.ask(method, path, body)


async def trickle(port: int, body: bytes) -> None:
    """Upload a little every second, for ever."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"PUT /upload HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode())
    for start in range(0, len(body), TRICKLE_BYTES):
        writer.write(body[start : start + TRICKLE_BYTES])
        await writer.drain()
        await asyncio.sleep(TRICKLE_S * random.uniform(0.5, 1.5))


async def ask_deaf(port: int, name: str) -> None:
    """Ask for a whole photograph on one connection after the other, each of which is left unread."""
    quiet = socket.socket()
    quiet.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DEAF_BUFFER_BYTES)
    quiet.setblocking(False)
    with quiet:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(quiet, ("127.0.0.1", port))
        await loop.sock_sendall(quiet, f"GET /stored/{name} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        await asyncio.sleep(3_600)


@asynccontextmanager
async def crowd(port: int, body: bytes) -> AsyncGenerator[None]:
    """Everybody who is slow."""
    slow = [asyncio.ensure_future(trickle(port, body)) for _ in range(TRICKLING)]
    slow += [asyncio.ensure_future(ask_deaf(port, "big.jpg")) for _ in range(DEAF)]
    await asyncio.sleep(2 * TRICKLE_S)
    try:
        yield
    finally:
        print(f"slow clients that were cut off: {sum(task.done() for task in slow)} of {len(slow)}")
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


# --- phases


class Memory:
    """The most and the last that a process tree has taken, looked at four times a second."""

    def __init__(self, root: int) -> None:
        self._root = root
        self.most_bytes = self.last_bytes = 0

    async def watch(self) -> None:
        while True:
            self.last_bytes = await asyncio.to_thread(tree_pss_bytes, self._root)
            self.most_bytes = max(self.most_bytes, self.last_bytes)
            await asyncio.sleep(ROUND_S)


async def measured(title: str, server: Server, seconds: float, kinds: Kinds) -> Tallies:
    """Run a phase and print what it gave, and what it took of memory."""
    memory = Memory(server.master)
    watching = asyncio.ensure_future(memory.watch())
    tallies = await run_phase(server, seconds, kinds)
    watching.cancel()
    print(f"\n{title}: memory at most {memory.most_bytes / MEBIBYTE:.0f} MiB")
    for name, tally in tallies.items():
        print(f"  {name:10} {tally}", flush=True)
    return tallies


async def measure(server: Server, seconds: float, photo: bytes) -> None:
    health = {"health": (1, check_health)}
    expensive = asking("GET", "/expensive/big.jpg")
    await measure_overload(server, seconds, expensive, health)
    few = {
        "thumbnail": (FEW, asking("GET", "/thumbnail/small.jpg")),
        "store": (1, asking("PUT", "/stored/new.jpg", random.randbytes(STORED_BYTES))),
        "fetch": (1, asking("GET", "/stored/small.jpg")),
        **health,
    }
    calm = await measured("Calm", server, seconds, few)
    async with crowd(server.port, photo):
        title = f"Crowd, {TRICKLING} trickling uploads, {DEAF} that never read"
        crowded = await measured(title, server, seconds, few)
    for name in ("thumbnail", "store", "fetch"):
        print(f"  {name}: {crowded[name].goodput / calm[name].goodput:.2f} of calm")
    flooded: Kinds = {**few, "thumbnail": (CONNECTIONS, expensive)}
    await measured("Storing and fetching under overload", server, seconds, flooded)


async def measure_overload(server: Server, seconds: float, expensive: Ask, health: Kinds) -> None:
    await run_phase(server, 2, {"expensive": (FEW, expensive)})
    few: Kinds = {"expensive": (FEW, expensive), **health}
    many: Kinds = {"expensive": (CONNECTIONS, expensive), **health}
    idle_bytes = tree_pss_bytes(server.master)
    calm, over, checks = Tally(), Tally(), Tally()
    for turn in range(1, TURNS + 1):
        calm.add((await measured(f"Saturation, turn {turn}", server, seconds, few))["expensive"])
        crowded = await measured(f"Overload, {CONNECTIONS} connections, turn {turn}", server, seconds, many)
        over.add(crowded["expensive"])
        checks.add(crowded["health"])
    refused = over.with_status(503) or [0]
    growth_bytes = tree_pss_bytes(server.master) - idle_bytes
    print(f"\nOverload against saturation, {TURNS} turns")
    print(f"  goodput {over.goodput / calm.goodput:.2f} of saturation (goal 0.90),", end=" ")
    print(f"per CPU second of the server {over.goodput_per_cpu_s / calm.goodput_per_cpu_s:.2f}")
    print(f"  answered 503: {len(refused) / len(over.answers):.0%},", end=" ")
    print(f"after a median of {1000 * median(refused):.0f} ms,", end=" ")
    print(f"99 of 100 within {refused[int(0.99 * len(refused))]:.2f} s")
    print(f"  slowest answer {over.slowest_s:.2f} s (goal 10), health check {checks.slowest_s:.2f} s")
    print(f"  memory afterwards {growth_bytes / MEBIBYTE:+.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="length of a phase; default 20")
    parser.add_argument("options", nargs="*", help="options for `safelight serve`, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="safelight-bench-") as name:
        directory = Path(name)
        (directory / "images").mkdir()
        photo = make(BIG)
        (directory / "images" / "big.jpg").write_bytes(photo)
        (directory / "images" / "small.jpg").write_bytes(make(SMALL))
        with serving(directory, given.options) as server:
            asyncio.run(measure(server, given.seconds, photo))


if __name__ == "__main__":
    main()
