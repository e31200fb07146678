"""A server that is asked for more than it can do: what it refuses, whom it delays, what memory it takes."""

import contextlib
import io
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from threading import Event

from PIL import Image as PillowImage
from processes import descendants
from server_support import RawClient, Response
from serving import Server, Servers

CONFIGURATION = """
path "requested" "#{path}"
put "thumbnail" {
    thumbnail "input" "small" operation="fit" width=100 height=100 format="jpeg"
    output_image "small"
}
put "expensive" {
    thumbnail "input" "large" operation="fit" width="1200" height="1200" format="avif"
    output_image "large"
}
put "stored" ":path" { store_file "input" root="images" path="requested" }
get "stored" ":path" {
    source_file "original" root="images" path="requested"
    output_image "original"
}
"""
TIMEOUT_S = 60
MEBIBYTE = 1 << 20


def encoded(width: int, height: int, format_name: str, **options: object) -> bytes:
    """A picture that is small as a file and large in memory."""
    file = io.BytesIO()
    PillowImage.linear_gradient("L").resize((width, height)).convert("RGB").save(file, format_name, **options)
    return file.getvalue()


def ask(server: Server, method: str, path: str, body: bytes = b"") -> tuple[Response, float]:
    """An answer, and how many seconds after the request it was there."""
    with RawClient(server.port, TIMEOUT_S) as client:
        client.request(f"{method} {path} HTTP/1.1\nHost: x\nContent-Length: {len(body)}", body)
        sent = time.monotonic()
        return client.response(), time.monotonic() - sent


def pss_bytes(root: int) -> int:
    """Proportional set size of a process tree: what is shared counts once."""
    total = 0
    for pid in (root, *descendants(root)):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)
    return total


# More than it can do


CONNECTIONS, OVERLOAD_S = 60, 4


def test_overload_is_refused_at_once_and_delays_nobody_else(servers: Servers) -> None:
    server = servers.start(CONFIGURATION, "--workers", "1")
    picture = encoded(1600, 1200, "JPEG", quality=90)
    until = time.monotonic() + OVERLOAD_S

    def insist(_: int) -> list[tuple[Response, float]]:
        answers: list[tuple[Response, float]] = []
        while time.monotonic() < until:
            answers.append(ask(server, "PUT", "/expensive", picture))
            if answers[-1][0].status == 503:
                time.sleep(min(2, float(answers[-1][0].headers["retry-after"])))
        return answers

    def look_around(_: int) -> list[tuple[Response, float]]:
        answers: list[tuple[Response, float]] = []
        while time.monotonic() < until:
            answers += [
                ask(server, "GET", "/health_check"),
                ask(server, "PUT", "/stored/a.jpg", picture),
                ask(server, "GET", "/stored/a.jpg"),
            ]
        return answers

    with ThreadPoolExecutor(CONNECTIONS + 1) as threads:
        others = threads.submit(look_around, 0)
        asked = [answer for answers in threads.map(insist, range(CONNECTIONS)) for answer in answers]
    statuses = Counter(answer.status for answer, _ in asked)
    assert set(statuses) == {200, 503}
    refusals = sorted(seconds for answer, seconds in asked if answer.status == 503)
    assert refusals[len(refusals) // 2] < 2
    assert max(seconds for _, seconds in asked) < 10
    assert {answer.status for answer, _ in others.result()} == {200}
    assert max(seconds for _, seconds in others.result()) < 5


# Slow clients


def test_clients_that_trickle_or_never_read_slow_nobody_down(servers: Servers) -> None:
    server = servers.start(CONFIGURATION, "--workers", "1")
    picture = encoded(800, 600, "JPEG")
    large = os.urandom(4 * MEBIBYTE)
    assert ask(server, "PUT", "/stored/large", large)[0].status == 200
    idle_bytes = pss_bytes(server.process.pid)
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            trickling = stack.enter_context(RawClient(server.port, TIMEOUT_S))
            trickling.request(
                f"PUT /thumbnail HTTP/1.1\nHost: x\nContent-Length: {8 * MEBIBYTE}", large[:50_000]
            )
        for _ in range(40):
            deaf = stack.enter_context(RawClient(server.port, TIMEOUT_S, receive_buffer=4096))
            deaf.request("GET /stored/large HTTP/1.1\nHost: x")
        answers = [ask(server, "PUT", "/thumbnail", picture) for _ in range(20)]
        assert {answer.status for answer, _ in answers} == {200}
        assert sorted(seconds for _, seconds in answers)[10] < 2
        assert pss_bytes(server.process.pid) < idle_bytes + 100 * MEBIBYTE


# Memory


LIMIT_BYTES = 512 * MEBIBYTE


@contextlib.contextmanager
def cage(server: Server) -> Iterator[Callable[[], int] | None]:
    """Hold the server in a control group of 512 MiB; gives a count of its OOM kills. None: no right to do so.

    What it has already stays charged elsewhere, so the group gets that much less.
    """
    bound = LIMIT_BYTES - pss_bytes(server.process.pid)
    for base, limit, events in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.oom_control"),
        (Path("/sys/fs/cgroup"), "memory.max", "memory.events"),
    ):
        group = base / f"safelight-test-{server.process.pid}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(bound))
            for pid in (server.process.pid, *descendants(server.process.pid)):
                (group / "cgroup.procs").write_text(str(pid))
        except OSError:
            group.rmdir()
            continue
        try:
            yield lambda group=group, events=events: oom_kills(group / events)
        finally:
            server.stop()
            deadline = time.monotonic() + TIMEOUT_S
            while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
                time.sleep(0.02)
            group.rmdir()
        return
    yield None


def oom_kills(events: Path) -> int:
    lines = dict(line.split() for line in events.read_text().splitlines())
    return int(lines["oom_kill"])


def test_large_pictures_together_stay_within_the_limit(servers: Servers) -> None:
    """Four workers with a progressive photograph of 24 megapixels each would take 600 MiB."""
    server = servers.start(CONFIGURATION, "--workers", "4", "--limit-total-memory", "256")
    mixture = [
        encoded(6000, 4000, "JPEG", progressive=True, subsampling=0),
        encoded(6000, 4000, "JPEG"),
        encoded(3000, 2000, "WEBP", method=0),
        encoded(6000, 4000, "JPEG", progressive=True, subsampling=2),
    ]
    done = Event()

    def watch() -> int:
        most = 0
        while not done.is_set():
            most = max(most, pss_bytes(server.process.pid))
            time.sleep(0.02)
        return most

    with cage(server) as count_kills, ThreadPoolExecutor(9) as threads:
        watching = threads.submit(watch)
        try:
            bodies = islice(cycle(mixture), 16)
            asked = list(threads.map(lambda body: ask(server, "PUT", "/thumbnail", body), bodies))
        finally:
            done.set()
        assert {answer.status for answer, _ in asked} <= {200, 503}
        assert sum(answer.status == 200 for answer, _ in asked) >= 8
        held_by = "the control group" if count_kills else "PSS only: no control group can be made here"
        print(f"held against the limit by {held_by}; most PSS {watching.result() // MEBIBYTE} MiB")
        assert watching.result() < LIMIT_BYTES
        assert count_kills is None or count_kills() == 0
    assert "image worker died" not in server.log


def test_what_needs_more_than_all_memory_is_told_so(servers: Servers) -> None:
    server = servers.start(CONFIGURATION, "--workers", "1", "--limit-total-memory", "24")
    answer, _ = ask(server, "PUT", "/thumbnail", encoded(3000, 2000, "JPEG", progressive=True))
    assert answer.status == 413
    assert re.search(rb"image too large: it takes \d+ MiB of memory to process, 24 MiB are", answer.body)
    assert ask(server, "PUT", "/thumbnail", encoded(3000, 2000, "JPEG"))[0].status == 200
