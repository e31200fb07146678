"""What a hit of the result cache costs: CPU of a server, against a bare ASGI application on it.

The bare application sends the same bytes from memory, and a 304 to a client that has them. Both are processes
of their own, made by the same code; rounds alternate, and each gives one ratio. The signed hit checks an HMAC
and takes all steps of a request, which has no goal. `--profile FILE` writes where
the time of an HTTP worker goes, as the standard library's profiler sees it.
"""

import argparse
import cProfile
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from machine import Moment, tree_cpu_s
from wire import received_head

BODY_BYTES = 20_000
CONNECTIONS = 8
REQUESTS = 8_000
BOOT_S = 30
GOALS = {"hit": 2.5, "304": 2.0, "signed hit": None}
PATH, SIGNED_PATH = "/thumbnail/photo", "/signed/photo"
SECRET = "a secret of this benchmark"
TAG = '"0123456789abcdef0123456789abcdef"'
CONFIGURATION = f"""
path "requested" "#{{path}}"
get "thumbnail" {{
    cache root="cache" max-size="1GiB" max-age="30d"
    source_file "original" root="images" path="requested"
    output_image "original"
}}
get "signed" {{
    validate_uri_hmac "hmac" secret="{SECRET}" digest="sha256"
    cache root="cache" max-size="1GiB" max-age="30d"
    source_file "original" root="images" path="requested"
    output_image "original"
}}
"""


async def bare(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The application to compare with."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    known = any(name == b"if-none-match" for name, _ in scope["headers"])
    body = b"" if known else BARE_BODY
    headers = [(b"etag", TAG.encode()), (b"content-type", b"image/jpeg")]
    headers += [] if known else [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 304 if known else 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


BARE_BODY = os.urandom(BODY_BYTES)


def serve_bare(listener: str) -> None:
    """Run `bare` as our own applications are run."""
    from safelight.server.process import ProcessSettings, serve
    from safelight.server.stats import Statistics

    serve(ProcessSettings(listeners=(listener,)), lambda: lambda _seat: bare, Statistics())


def serve_cached(listener: str, profile: str | None) -> None:
    """Run `safelight serve`, with one HTTP worker."""
    from safelight.cli import main
    from safelight.server.worker import HttpWorker

    if profile is not None:
        run = HttpWorker.run

        def profiled(worker: HttpWorker) -> None:
            profiler = cProfile.Profile()
            try:
                profiler.runcall(run, worker)
            finally:
                profiler.dump_stats(profile)

        HttpWorker.run = profiled
    main(["serve", "api.sdl", "--listen", listener, "--workers", "1", "--http-workers", "1"])


@contextmanager
def server(kind: str, directory: Path, *more: str) -> Generator[tuple[int, int]]:
    """Start this file as a server; gives the port and the master's process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(Path(__file__).absolute()), "--serve", kind, f"127.0.0.1:{port}", *more]
    master = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + BOOT_S
        while time.monotonic() < deadline and master.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield port, master.pid
    finally:
        master.terminate()
        master.wait(30)


def ask(port: int, target: str, headers: str, status: bytes, count: int) -> str:
    """`count` requests over keep-alive connections, all of them busy at once; the entity tag."""
    request = f"GET {target} HTTP/1.1\r\nHost: bench\r\n{headers}\r\n".encode()
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(CONNECTIONS)]
    tag = ""
    for _ in range(count // CONNECTIONS):
        for connection in sockets:
            connection.sendall(request)
        for connection in sockets:
            tag = _answer(connection, status)
    for connection in sockets:
        connection.close()
    return tag


def _answer(connection: socket.socket, status: bytes) -> str:
    head = received_head(connection, status)
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    return fields[b"etag"].decode()


def _client(commands: Connection) -> None:
    """A process: its CPU time is nobody's."""
    with suppress(EOFError):
        while order := commands.recv():
            commands.send(ask(*order))


def signed_target() -> str:
    """A URL that the signed endpoint accepts."""
    from safelight.signing import signature

    return f"{SIGNED_PATH}?hmac={signature(SIGNED_PATH, SECRET, 'sha256')}"


@dataclass(frozen=True, slots=True)
class Side:
    """A running server, asked by a client in a process of its own."""

    commands: Any
    port: int
    master: int

    def cpu_us(self, target: str, headers: str, status: bytes, count: int) -> float:
        """Microseconds of CPU for a request."""
        used = tree_cpu_s(self.master)
        self.commands.send((self.port, target, headers, status, count))
        self.commands.recv()
        return 1e6 * (tree_cpu_s(self.master) - used) / count


def compare(bare_side: Side, cached: Side, what: str, rounds: int, count: int) -> None:
    """Take turns and print the ratios."""
    status = b"304" if what == "304" else b"200"
    target = signed_target() if what == "signed hit" else PATH
    tag = ask(cached.port, target, "", b"200", CONNECTIONS)
    headers = (f"If-None-Match: {TAG}\r\n", f"If-None-Match: {tag}\r\n") if what == "304" else ("", "")
    for side, own in zip((bare_side, cached), headers, strict=True):
        side.cpu_us(target, own, status, count // 4)
    started = Moment.now()
    pairs = [
        (
            bare_side.cpu_us(target, headers[0], status, count),
            cached.cpu_us(target, headers[1], status, count),
        )
        for _ in range(rounds)
    ]
    ratios = sorted(mine / other for other, mine in pairs)
    reached, goal = median(ratios), GOALS[what]
    verdict = "" if goal is None else f", goal at most {goal}: {'met' if reached <= goal else 'MISSED'}"
    print(
        f"{what:10} bare {median(pair[0] for pair in pairs):5.1f} us, "
        f"cached {median(pair[1] for pair in pairs):5.1f} us, "
        f"cached/bare {reached:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f} in {rounds} rounds){verdict}; "
        f"busy cores {Moment.now().cores_since(started):.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each side; default 7")
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"in a turn; default {REQUESTS}")
    parser.add_argument("--profile", metavar="FILE", help="profile the HTTP worker of the cached side")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        kind, listener = options.serve
        serve_bare(listener) if kind == "bare" else serve_cached(listener, options.profile)
        return
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="safelight-bench-")))
        (directory / "images").mkdir()
        (directory / "images" / "photo").write_bytes(BARE_BODY)
        (directory / "api.sdl").write_text(CONFIGURATION)
        profile = ["--profile", str(Path(options.profile).absolute())] if options.profile else []
        servers = (server("bare", directory), server("cached", directory, *profile))
        running = [stack.enter_context(one) for one in servers]
        spawn = get_context("spawn")
        commands, theirs = spawn.Pipe()
        spawn.Process(target=_client, args=(theirs,), daemon=True).start()
        sides = [Side(commands, port, master) for port, master in running]
        for what in GOALS:
            compare(sides[0], sides[1], what, options.rounds, options.requests)
        commands.send(None)


if __name__ == "__main__":
    main()
