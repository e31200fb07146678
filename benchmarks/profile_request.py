"""Where the CPU time of a request goes: by process, and within the HTTP worker by part of the program.

Each kind of request is made twice by 8 connections: of a server as it is, which gives the microseconds of
each process, and of one whose HTTP worker runs under the standard library's profiler on the clock of its
thread. A profiler makes calls dearer, so of that one only the shares are taken.
"""

import argparse
import cProfile
import os
import pstats
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inputs import SMALL, make
from machine import TICK_S, Moment
from wire import received_head

CONNECTIONS = 8
BOOT_S = 60
FILE_BYTES = 20_000
CONFIGURATION = """
path "requested" "#{path}"
get "file" ":path" {
    source_file "original" root="images" path="requested"
    output_image "original"
}
get "thumbnail" ":path" {
    source_file "original" root="images" path="requested"
    thumbnail "original" "small" width=300 height=300 format="jpeg" quality=85 speed="reference"
    output_image "small"
}
"""

PARTS = (
    ("HTTP: parsing, heads, sending", r"uvicorn|httptools|server/(protocol|asgi)"),
    ("event loop: waiting, reading, timers", r"uvloop|asyncio|selectors|run_until_complete"),
    ("taking in and answering", r"server/(app|exchange|answer|body|watch|image_store|ranges|xid)"),
    ("times, counters, metrics", r"safelight/timing|server/(metrics|stats|tallies)|contextlib"),
    ("entity tag, conditions", r"server/conditional|safelight/etag"),
    ("matching, paths", r"statements/(match|paths|regexp)|safelight/(model|template|variables|uri)"),
    ("opening and reading the file", r"safelight/(storage|blob)|statements/source"),
    ("hand-over to an image worker and back", r"safelight/(engine|image)|statements/process|msgspec|socket"),
)
"""Of an HTTP worker, by the files of the code; C functions count for whoever calls them."""

OTHER = "everything else"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request, and how many are made."""

    name: str
    path: str
    count: int


KINDS = (Kind("20 KB file", "/file/20.bin", 8_000), Kind("2 MP thumbnail", "/thumbnail/photo.jpg", 480))


def serve(listener: str, profile: str) -> None:
    """Run `safelight serve` with one HTTP worker; with its profile in a file, unless that has no name."""
    from safelight.cli import main
    from safelight.server.worker import HttpWorker

    run = HttpWorker.run

    def profiled(self: HttpWorker) -> None:
        profiler = cProfile.Profile(time.thread_time)
        try:
            profiler.runcall(run, self)
        finally:
            profiler.dump_stats(profile)

    if profile:
        HttpWorker.run = profiled
    workers = str(os.cpu_count() or 1)
    main(["serve", "api.sdl", "--listen", listener, "--workers", workers, "--http-workers", "1"])


@contextmanager
def server(directory: Path, profile: str = "") -> Generator[tuple[int, int]]:
    """Gives the port and the master's process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(Path(__file__).absolute()), "--serve", f"127.0.0.1:{port}", profile]
    master = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + BOOT_S
        while master.poll() is None and time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield port, master.pid
    finally:
        master.terminate()
        master.wait(BOOT_S)


def ask(port: int, path: str, count: int) -> None:
    """`count` requests over keep-alive connections, all of them busy at once."""
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(CONNECTIONS)]
    for connection in sockets:
        connection.sendall(request)
    for left in range(count - 1, -1, -1):
        connection = sockets[left % CONNECTIONS]
        received_head(connection, b"200")
        if left >= CONNECTIONS:
            connection.sendall(request)
    for connection in sockets:
        connection.close()


def cpu_s_by_process(master: int) -> dict[str, float]:
    """CPU seconds, user and system, of the master, the HTTP worker below it, and what is below that."""
    used: dict[str, float] = defaultdict(float)
    names = {0: "master", 1: "HTTP worker"}
    below = [(master, 0)]
    while below:
        pid, depth = below.pop()
        name, fields = _stat(pid)
        used[names.get(depth, "image workers" if name == "safelight-image" else "template")] += (
            int(fields[11]) + int(fields[12])
        ) * TICK_S
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        below += [(int(child), depth + 1) for child in children]
    return used


def _stat(pid: int) -> tuple[str, list[str]]:
    text = Path(f"/proc/{pid}/stat").read_text()
    return text[text.index("(") + 1 : text.rindex(")")], text.rpartition(")")[2].split()


def by_process(directory: Path, kind: Kind) -> dict[str, float]:
    """Microseconds of a request."""
    with server(directory) as (port, master):
        ask(port, kind.path, kind.count // 4)
        before = cpu_s_by_process(master)
        ask(port, kind.path, kind.count)
        after = cpu_s_by_process(master)
    return {name: 1e6 * (after[name] - before[name]) / kind.count for name in after}


def by_part(directory: Path, kind: Kind) -> dict[str, float]:
    """Shares of the HTTP worker's time; what a server does before its first request is taken off."""
    idle, busy = directory / "idle.prof", directory / "busy.prof"
    with server(directory, str(idle)) as (port, _):
        ask(port, kind.path, CONNECTIONS)
    with server(directory, str(busy)) as (port, _):
        ask(port, kind.path, kind.count)
    before, seconds = _seconds(idle), _seconds(busy)
    spent = {part: max(0.0, seconds[part] - before[part]) for part in seconds}
    return {part: found / sum(spent.values()) for part, found in spent.items()}


def _seconds(profile: Path) -> dict[str, float]:
    """Own seconds by part."""
    seconds: dict[str, float] = defaultdict(float)
    measured: dict[Any, Any] = vars(pstats.Stats(str(profile)))["stats"]
    for (file, _, name), (_, _, own_s, _, callers) in measured.items():
        if file == "~" and "run_until_complete" not in name:
            for (caller, _, _), (_, _, called_s, _) in callers.items():
                seconds[_part(caller)] += called_s
        else:
            seconds[_part(name if file == "~" else file)] += own_s
    return seconds


def _part(place: str) -> str:
    return next((part for part, pattern in PARTS if re.search(pattern, place)), OTHER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    started = Moment.now()
    with tempfile.TemporaryDirectory(prefix="safelight-bench-") as name:
        directory = Path(name)
        (directory / "images").mkdir()
        (directory / "images" / "20.bin").write_bytes(os.urandom(FILE_BYTES))
        (directory / "images" / "photo.jpg").write_bytes(make(SMALL))
        (directory / "api.sdl").write_text(CONFIGURATION)
        processes = [by_process(directory, kind) for kind in KINDS]
        parts = [by_part(directory, kind) for kind in KINDS]
    print(f"| CPU, microseconds | {' | '.join(kind.name for kind in KINDS)} |")
    print(f"|---|{'---|' * len(KINDS)}")
    for process in processes[0]:
        print(f"| **{process}** | {' | '.join(f'{found[process]:.0f}' for found in processes)} |")
    for part in (*(part for part, _ in PARTS), OTHER):
        cells = [
            f"{shares.get(part, 0) * found['HTTP worker']:.0f}"
            for shares, found in zip(parts, processes, strict=True)
        ]
        print(f"| {part} | {' | '.join(cells)} |")
    print(f"\nBusy cores on average, all programs: {Moment.now().cores_since(started):.1f}.")


if __name__ == "__main__":
    main()
