"""The benchmark against other servers: its clients, its arithmetic, its adapters."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path

import pytest
from inputs import PHOTO, cut_out, progressive
from load import closed_loop, open_loop, percentile
from machine import tree_cpu_s
from peers import INSTALL, installed
from peers.base import Input, running
from peers.nginx import Nginx
from peers.own import POLICIES, Own
from peers_vs_safelight import BARE, BASELINE, FAST, Goal, Turn, check, memory, ratios, verdict

ROOT = Path(__file__).parent.parent.parent
STALL_S = 0.6
PNG = Input("alpha", "alpha.png", 640, 480, "png")
JPEG = Input("photo", "photo.jpg", 640, 480, "jpeg")


def turn(cpu_s: float, answers: int = 10) -> Turn:
    return Turn([0.1] * answers, 1.0, cpu_s, 1000, 0.0)


# --- arithmetic


@pytest.mark.parametrize(
    ("values", "per_cent", "expected"),
    [
        ([3.0], 50, 3.0),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 51, 3.0),
        ([float(number) for number in range(1, 201)], 99, 198.0),
        ([float(number) for number in range(1, 201)], 100, 200.0),
    ],
)
def test_a_percentile_is_a_value_that_was_measured(
    values: list[float], per_cent: float, expected: float
) -> None:
    assert percentile(values, per_cent) == expected


def test_a_ratio_compares_what_an_answer_costs_within_a_round() -> None:
    """A busy machine makes the second round twice as dear for both."""
    turns = {FAST: [turn(0.9), turn(0.9, 5)], BARE: [turn(1.0), turn(4.0, 20)]}
    assert ratios(turns, FAST, BARE) == pytest.approx([0.9, 0.9])


@pytest.mark.parametrize(
    ("cpu_s", "expected"),
    [
        (0.90, "met: 12 MP JPEG: Safelight, fast / bare libvips 0.90 (0.90 to 0.90), at most 0.90"),
        (0.91, "MISSED: 12 MP JPEG: Safelight, fast / bare libvips 0.91 (0.91 to 0.91), at most 0.90"),
    ],
)
def test_a_goal_is_met_up_to_its_bound(cpu_s: float, expected: str) -> None:
    assert verdict(Goal(BASELINE, FAST, BARE, 0.9), {FAST: [turn(cpu_s)], BARE: [turn(1.0)]}) == expected


def test_a_goal_against_a_missing_server_is_neither_met_nor_missed() -> None:
    line = verdict(Goal(BASELINE, FAST, "thumbor", 1.0), {FAST: [turn(1.0)]})
    assert line == "not measured: 12 MP JPEG: Safelight, fast / thumbor, at most 1.00"


# --- clients


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None], server_type: type[HTTPServer]) -> Iterator[int]:
    """A small server in a thread; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *args: object) -> None:
            pass

    class Server(server_type):
        request_queue_size = 128
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def send(handler: BaseHTTPRequestHandler, status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", "5")
    handler.end_headers()
    handler.wfile.write(b"hello")


def test_an_open_loop_counts_how_long_requests_wait_for_a_server_that_stalls() -> None:
    """One answer at a time, the first late: a client that waits to send would see one slow answer only."""
    answered: list[float] = []

    def late(handler: BaseHTTPRequestHandler) -> None:
        if not answered:
            time.sleep(STALL_S)
        answered.append(time.monotonic())
        send(handler)
        handler.close_connection = True

    with serving(late, HTTPServer) as port:
        load = open_loop(port, "/", per_s=20, seconds=STALL_S)
    assert len(load.waits_s) == len(answered) == 12
    least = [STALL_S - number / 20 for number in range(12)]
    assert all(wait > bound for wait, bound in zip(sorted(load.waits_s, reverse=True), least, strict=True))


def test_an_open_loop_does_not_ask_before_a_request_is_due() -> None:
    asked: list[float] = []

    def note(handler: BaseHTTPRequestHandler) -> None:
        asked.append(time.monotonic())
        send(handler)

    with serving(note, ThreadingHTTPServer) as port:
        started = time.monotonic()
        load = open_loop(port, "/", per_s=40, seconds=0.5)
    assert len(load.waits_s) == 20
    assert all(moment >= started + number / 40 for number, moment in enumerate(sorted(asked)))


def test_a_closed_loop_has_as_many_requests_under_way_as_connections() -> None:
    lock, under_way, most, answers = threading.Lock(), 0, 0, 0

    def count(handler: BaseHTTPRequestHandler) -> None:
        nonlocal under_way, most, answers
        with lock:
            under_way, answers = under_way + 1, answers + 1
            most = max(most, under_way)
        time.sleep(0.02)
        with lock:
            under_way -= 1
        send(handler)

    with serving(count, ThreadingHTTPServer) as port:
        load = closed_loop(port, "/", connections=4, seconds=0.5)
    assert len(load.waits_s) == answers
    assert load.size == 5
    assert most == 4
    assert min(load.waits_s) > 0.02


def test_a_connection_that_was_closed_while_idle_costs_no_answer() -> None:
    def close(handler: BaseHTTPRequestHandler) -> None:
        send(handler)
        handler.close_connection = True

    with serving(close, ThreadingHTTPServer) as port:
        assert len(open_loop(port, "/", per_s=40, seconds=0.5).waits_s) == 20


def test_an_error_is_no_answer() -> None:
    with (
        serving(lambda handler: send(handler, 500), ThreadingHTTPServer) as port,
        pytest.raises(RuntimeError, match="/thumbnail: 500 hello"),
    ):
        closed_loop(port, "/thumbnail", connections=1, seconds=0.1)


def test_a_refused_request_is_asked_again_and_timed_until_it_is_answered() -> None:
    asked: list[float] = []

    def refuse_first(handler: BaseHTTPRequestHandler) -> None:
        asked.append(time.monotonic())
        send(handler, 503 if len(asked) == 1 else 200)

    with serving(refuse_first, ThreadingHTTPServer) as port:
        load = closed_loop(port, "/", connections=1, seconds=0.1)
    assert len(load.waits_s) == 1
    assert load.waits_s[0] > 0.4


# --- adapters


def test_missing_servers_are_named_with_what_brings_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert installed(tmp_path) == []
    told = capsys.readouterr().out
    assert "node + sharp, ipx, thumbor, nginx image_filter" in told
    assert f"{INSTALL} {tmp_path}" in told
    assert os.access(ROOT / INSTALL, os.X_OK)


def test_the_installer_goes_on_without_what_the_machine_lacks(tmp_path: Path) -> None:
    bare, mkdir = tmp_path / "bin", shutil.which("mkdir")
    assert mkdir is not None
    bare.mkdir()
    (bare / "mkdir").symlink_to(mkdir)
    ended = subprocess.run(
        ["/bin/sh", ROOT / INSTALL, tmp_path / "peers"],
        env={"PATH": str(bare), "PYTHON": "no-python"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert [line.strip() for line in ended.stderr.splitlines()] == [
        "Missing:",
        "thumbor: needs no-python",
        "sharp and ipx: needs npm",
        "nginx image_filter: needs apt-get",
    ]


def test_nginx_is_not_asked_for_another_format_than_the_file_has(tmp_path: Path) -> None:
    nginx = Nginx(tmp_path)
    assert nginx.path(Input("", "a.webp", 10, 10, "jpeg")) is None
    assert nginx.path(JPEG) == "/photo.jpg"


@pytest.mark.parametrize(("width", "height", "expected"), [(4000, 3000, (300, 225)), (50, 100, (150, 300))])
def test_a_thumbnail_fits_the_square(width: int, height: int, expected: tuple[int, int]) -> None:
    assert Input("", "", width, height, "jpeg").fitted == expected


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pictures")
    (directory / PNG.file).write_bytes(cut_out(PNG.width, PNG.height))
    shutil.copy(PHOTO, directory / "coffee.jpg")
    return directory


def test_safelight_answers_what_every_server_is_asked_for(pictures: Path, tmp_path: Path) -> None:
    photo = Input("photo", "coffee.jpg", 600, 400, "jpeg")
    with running(Own(POLICIES[0]), pictures, tmp_path / "server") as started:
        for picture in (photo, PNG):
            check(started, picture)
        with pytest.raises(RuntimeError, match="is not"):
            check(started, Input("photo", "coffee.jpg", 400, 600, "jpeg"))
        assert tree_cpu_s(started.pid) > 0


def test_memory_of_a_server_is_that_of_all_its_processes(pictures: Path, tmp_path: Path) -> None:
    most = memory(Own(POLICIES[-1]), PNG, pictures, tmp_path / "server", 0.2)
    assert most is not None
    assert 40e6 < most < 1e9


def test_a_progressive_photo_has_several_scans_of_the_same_picture() -> None:
    photo = PHOTO.read_bytes()
    assert progressive(photo).count(b"\xff\xda") > photo.count(b"\xff\xda")
