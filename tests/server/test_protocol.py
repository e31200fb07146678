"""What a hostile, slow or clumsy client can do on a real connection. Time limits are short here."""

import asyncio
import socket
import time
from collections.abc import Callable

import pytest
from server_support import FakeEngine, RawClient, echo, endpoint, make_app, ok, running, text

from safelight.blob import MemoryBlob
from safelight.model import Answer, RequestState
from safelight.server.app import AppSettings
from safelight.server.stats import Statistics

LIMIT = 100_000
BIG = 4 << 20


async def big(state: RequestState) -> Answer:
    return Answer(MemoryBlob(bytes(BIG)), "image/png")


async def slow(state: RequestState) -> Answer:
    await asyncio.sleep(0.5)
    return text("slow")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def port() -> object:
    app = make_app(
        endpoint("get", "/ok", ok),
        endpoint("get", "/big", big),
        endpoint("get", "/slow", slow),
        endpoint("put", "/echo", echo),
        endpoint("post", "/echo", echo),
        settings=AppSettings(max_bytes=LIMIT),
    )
    with running(
        app, head_timeout_s=0.4, progress_timeout_s=1, max_discard_bytes=LIMIT, keep_alive_s=3
    ) as found:
        yield found


def test_connections_are_kept_alive_and_dated(port: int) -> None:
    with RawClient(port) as client:
        for _ in range(3):
            client.request("GET /ok HTTP/1.1\nHost: x")
            response = client.response()
            assert (response.status, response.body) == (200, b"OK\r\n")
            assert "date" in response.headers
            assert not {"server", "connection", "transfer-encoding"} & set(response.headers)


def test_http_1_0_and_connection_close_are_closed(port: int) -> None:
    for head in ("GET /ok HTTP/1.0", "GET /ok HTTP/1.1\nHost: x\nConnection: close"):
        with RawClient(port) as client:
            client.request(head)
            assert client.response().headers["connection"] == "close"
            assert client.is_closed()


def test_head_has_the_length_and_no_body(port: int) -> None:
    with RawClient(port) as client:
        client.request("HEAD /big HTTP/1.1\nHost: x")
        assert client.response(head_only=True).headers["content-length"] == str(BIG)
        client.request("GET /ok HTTP/1.1\nHost: x")
        assert client.response().body == b"OK\r\n"


def test_an_absolute_target_is_its_path(port: int) -> None:
    with RawClient(port) as client:
        client.request("GET http://example.com/ok?x HTTP/1.1\nHost: x")
        assert client.response().body == b"OK\r\n"
        client.request("GET http://example.com HTTP/1.1\nHost: x")
        assert client.response().body == b"HTTP Image Store\r\n"
        client.request("OPTIONS * HTTP/1.1\nHost: x")
        assert client.response().status == 404


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET /ok HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT host:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET ?x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /ok HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /ok HTTP/1.1\r\nA: b\0c\r\n\r\n",
        b"PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\nabc",
        b"PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\nabc",
        b"PUT /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_gets_an_empty_400(port: int, data: bytes) -> None:
    with RawClient(port) as client:
        client.send(data)
        response = client.response()
        assert (response.status, response.body) == (400, b"")
        assert client.is_closed()


def test_a_malformed_second_request_lets_the_first_be_answered(port: int) -> None:
    with RawClient(port) as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n")
        assert client.response().body == b"slow"
        assert client.is_closed()


def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    with RawClient(port) as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        assert [client.response().body for _ in range(3)] == [b"slow", b"OK\r\n", b"OK\r\n"]


def test_a_head_that_is_too_large_is_413(port: int) -> None:
    with RawClient(port) as client:
        client.send(b"GET /ok HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 10_000)
        time.sleep(0.1)
        client.send(b"A: b\r\n" * 1000)
        assert client.response().status == 413
        assert client.is_closed()
    with RawClient(port) as client:
        client.send(b"GET /ok HTTP/1.1\r\nHost: x\r\n")
        assert client.send_until_cut(b"A: " + b"b" * 4000 + b"\r\n", pause_s=0.001, most=100) < 40


@pytest.mark.parametrize(
    ("lines", "status"),
    [(b"A: b\r\n" * 300, 413), (b"A: b\r\n" * 200, 200), (b"A: " + b"b" * 30_000 + b"\r\n", 200)],
)
def test_headers_are_limited_in_number(port: int, lines: bytes, status: int) -> None:
    with RawClient(port) as client:
        client.send(b"GET /ok HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
        assert client.response().status == status


@pytest.mark.parametrize("size", [10_000, 65_000, 66_000, 90_000, 250_000])
def test_a_long_url_that_arrives_at_once_is_414(port: int, size: int) -> None:
    with RawClient(port) as client:
        client.request(f"GET /{'a' * size} HTTP/1.1\nHost: x")
        assert client.response().status == 414


def test_a_url_that_never_ends_is_414(port: int) -> None:
    with RawClient(port) as client:
        client.send(b"GET /" + b"a" * 60_000)
        time.sleep(0.1)
        client.send(b"a" * 10_000)
        assert client.response().status == 414
        assert client.is_closed()


@pytest.mark.parametrize("begin", [b"", b"GET /", b"GET /ok HTTP/1.1\r\nHost:", b"\r\n"])
def test_a_trickled_head_is_cut_off(port: int, begin: bytes) -> None:
    began = time.monotonic()
    with RawClient(port) as client:
        client.send(begin)
        client.send_until_cut(b"\r\n" if begin in (b"", b"\r\n") else b"x", pause_s=0.05, most=200)
    assert 0.3 < time.monotonic() - began < 8


def test_a_trickled_second_head_is_cut_off(port: int) -> None:
    with RawClient(port) as client:
        client.request("GET /ok HTTP/1.1\nHost: x")
        client.response()
        client.send(b"GET /ok")
        began = time.monotonic()
        assert client.is_closed()
        assert 0.3 < time.monotonic() - began < 2.5


def test_an_idle_connection_lives_longer_than_a_head_may_take(port: int) -> None:
    with RawClient(port) as client:
        client.request("GET /ok HTTP/1.1\nHost: x")
        client.response()
        time.sleep(0.8)
        client.request("GET /ok HTTP/1.1\nHost: x")
        assert client.response().status == 200
        began = time.monotonic()
        assert client.is_closed()
        assert time.monotonic() - began > 2.5


def test_a_partial_second_head_does_not_end_the_first_request(port: int) -> None:
    with RawClient(port) as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET /o")
        assert client.response().body == b"slow"
        client.send(b"k HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.response().body == b"OK\r\n"


@pytest.mark.parametrize("framing", ["Content-Length: 5000", "Transfer-Encoding: chunked"])
def test_a_trickled_body_is_cut_off(port: int, framing: str) -> None:
    with RawClient(port) as client:
        client.request(f"PUT /echo HTTP/1.1\nHost: x\n{framing}")
        began = time.monotonic()
        client.send_until_cut(b"x" if "Length" in framing else b"1\r\nx\r\n", pause_s=0.05, most=200)
        assert 0.9 < time.monotonic() - began < 8


def test_a_slow_body_that_makes_progress_is_read(port: int) -> None:
    with RawClient(port) as client:
        client.request("PUT /echo HTTP/1.1\nHost: x\nContent-Length: 15000")
        for _ in range(10):
            time.sleep(0.1)
            client.send(b"x" * 1500)
        assert client.response().body == b"x" * 15000


def test_a_body_can_come_with_100_continue(port: int) -> None:
    with RawClient(port) as client:
        client.request("PUT /echo HTTP/1.1\nHost: x\nContent-Length: 3\nExpect: 100-continue")
        assert client.response().status == 100
        client.send(b"abc")
        assert client.response().body == b"abc"
        client.request("GET /ok HTTP/1.1\nHost: x")
        assert client.response().status == 200


@pytest.mark.parametrize("target", ["/none", "/stats", "/%zz"])
def test_who_waits_for_leave_to_send_is_told_to_go(port: int, target: str) -> None:
    with RawClient(port) as client:
        client.request(f"PUT {target} HTTP/1.1\nHost: x\nContent-Length: 3\nExpect: 100-continue")
        assert client.response().headers["connection"] == "close"
        assert client.is_closed()


def test_a_chunked_body_is_read(port: int) -> None:
    with RawClient(port) as client:
        client.request(
            "POST /echo HTTP/1.1\nHost: x\nTransfer-Encoding: chunked", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        assert client.response().body == b"abcde"


@pytest.mark.covers("s192")
@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT * 2])
def test_a_body_over_the_limit_is_413_for_those_who_send_it_all_first(
    port: int, size: int, connection: str
) -> None:
    head = f"PUT /echo HTTP/1.1\nHost: x\nConnection: {connection}\nContent-Length: {size}"
    with RawClient(port) as client:
        client.request(head, bytes(size))
        response = client.response()
        assert (response.status, response.body) == (413, b"memory limit exceeded\r\n")
        assert response.headers["connection"] == "close"
        assert client.is_closed()


@pytest.mark.covers("s192")
def test_a_length_over_the_limit_is_413_at_once(port: int) -> None:
    with RawClient(port) as client:
        client.request(f"PUT /echo HTTP/1.1\nHost: x\nContent-Length: {LIMIT + 1}")
        assert client.response().status == 413
    with RawClient(port) as client:
        client.request(f"PUT /echo HTTP/1.1\nHost: x\nContent-Length: {LIMIT + 1}\nExpect: 100-continue")
        assert client.response().status == 413
        assert client.is_closed()


@pytest.mark.covers("s192")
def test_chunks_over_the_limit_are_413(port: int) -> None:
    size = LIMIT + 1
    with RawClient(port) as client:
        body = f"{size:x}\r\n".encode() + bytes(size) + b"\r\n0\r\n\r\n"
        client.request("PUT /echo HTTP/1.1\nHost: x\nTransfer-Encoding: chunked", body)
        assert client.response().body == b"memory limit exceeded\r\n"


@pytest.mark.parametrize("target", ["/echo", "/none"])
def test_an_endless_body_is_cut_off(port: int, target: str) -> None:
    with RawClient(port) as client:
        client.request(f"PUT {target} HTTP/1.1\nHost: x\nTransfer-Encoding: chunked")
        client.send_until_cut(b"2710\r\n" + bytes(10_000) + b"\r\n", pause_s=0.0005, most=1000)


@pytest.mark.parametrize("begin", [b"0\r\nTrailer: ", b"1;extension="])
def test_endless_trailers_and_extensions_are_cut_off(port: int, begin: bytes) -> None:
    with RawClient(port) as client:
        client.request("PUT /echo HTTP/1.1\nHost: x\nTransfer-Encoding: chunked", begin)
        assert client.send_until_cut(b"x" * 10_000, pause_s=0.001, most=1000) < 100


def test_trailers_are_taken(port: int) -> None:
    with RawClient(port) as client:
        body = b"3\r\nabc\r\n0\r\nA: b\r\n\r\n"
        client.request("PUT /echo HTTP/1.1\nHost: x\nTransfer-Encoding: chunked", body)
        assert client.response().body == b"abc"


def test_the_body_of_a_refused_request_is_skipped(port: int) -> None:
    """The next request on the connection must not be taken out of the middle of it."""
    smuggled = b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n"
    with RawClient(port) as client:
        client.request(f"PUT /none HTTP/1.1\nHost: x\nContent-Length: {len(smuggled)}")
        assert client.response().status == 404
        client.send(smuggled + b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.response().body == b"OK\r\n"


def test_a_refused_body_that_stops_is_cut_off(port: int) -> None:
    with RawClient(port) as client:
        client.request("PUT /none HTTP/1.1\nHost: x\nContent-Length: 50000", bytes(5000))
        assert client.response().status == 404
        assert client.is_closed()


def test_a_client_that_never_reads_is_cut_off() -> None:
    app = make_app(endpoint("get", "/big", big))
    with (
        running(app, progress_timeout_s=0.3) as port,
        RawClient(port, receive_buffer=4096) as client,
    ):
        client.request("GET /big HTTP/1.1\nHost: x\nConnection: close")
        time.sleep(1)
        client.send_until_cut(b"x", pause_s=0.05, most=10)


def test_a_slow_reader_gets_everything(port: int) -> None:
    with RawClient(port, receive_buffer=4096) as client:
        client.request("GET /big HTTP/1.1\nHost: x\nConnection: close")
        received, began = 0, time.monotonic()
        while data := client.socket.recv(60_000):
            received += len(data)
            if time.monotonic() - began < 1.5:
                time.sleep(0.02)
        assert received > BIG


def test_a_client_that_leaves_in_its_body_is_forgotten() -> None:
    statistics = Statistics()
    app = make_app(endpoint("put", "/echo", echo), statistics=statistics)
    with running(app) as port:
        with RawClient(port) as client:
            client.request("PUT /echo HTTP/1.1\nHost: x\nContent-Length: 5000", b"abc")
            wait_until(lambda: statistics.value("calling") == 1)
        wait_until(lambda: statistics.value("calling") == 0)
        assert [statistics.value(name) for name in ("calling", "total_errors", "total_write")] == [0, 0, 0]


def test_a_client_that_leaves_frees_its_place() -> None:
    engine = FakeEngine(delay_s=30)
    statistics = Statistics()

    async def act(state: RequestState) -> Answer:
        await engine.thumbnail(state.body, [])
        return text("late")

    app = make_app(endpoint("get", "/x", act), engine=engine, statistics=statistics)
    with running(app) as port:
        clients = [RawClient(port) for _ in range(5)]
        for client in clients:
            client.request("GET /x HTTP/1.1\nHost: x")
        wait_until(lambda: len(engine.calls) == 5)
        for client in clients:
            client.socket.close()
        wait_until(lambda: statistics.value("calling") == 0)
        assert engine.cancelled == 5


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
def test_an_upgrade_is_answered_in_http_1(port: int, upgrade: str) -> None:
    with RawClient(port) as client:
        client.request(f"GET /ok HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: {upgrade}")
        assert client.response().body == b"OK\r\n"
        assert client.is_closed()


def test_half_closed_connections_are_answered(port: int) -> None:
    with RawClient(port) as client:
        client.request("GET /ok HTTP/1.1\nHost: x\nConnection: close")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.response().body == b"OK\r\n"
