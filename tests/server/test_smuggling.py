"""Requests that proxies and servers may read differently (RFC 9112, section 11): one reading here, or none.

What cannot be misread is answered; everything else gets 400, and the connection is closed, so that nothing
that was sent after it can be taken for a request. More malformed requests are in test_protocol.py.
"""

import re

import pytest
from server_support import RawClient, echo, endpoint, make_app, ok, running, text

from safelight.model import Answer, RequestState

PUT = b"PUT /echo HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /ok HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
ABC = b"\r\n3\r\nabc\r\n0\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


async def smuggled(state: RequestState) -> Answer:
    return text("smuggled")


@pytest.fixture(scope="module")
def port() -> object:
    app = make_app(
        endpoint("get", "/ok", ok), endpoint("put", "/echo", echo), endpoint("get", "/smuggled", smuggled)
    )
    with running(app, head_timeout_s=5, progress_timeout_s=5) as found:
        yield found


def received(port: int, data: bytes) -> bytes:
    """All that the server says to `data` and a last request, until it closes the connection."""
    with RawClient(port) as client:
        client.send(data + b"GET /ok HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        found = b""
        try:
            while piece := client.socket.recv(1 << 16):
                found += piece
        except ConnectionError:  # it was closed with our last words unread
            pass
        return found


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answers)]


LENGTHS = {
    "length and chunks": CHUNKED + b"Content-Length: 3\r\n" + ABC,
    "chunks and length": b"Content-Length: 3\r\n" + CHUNKED + ABC,
    "two lengths": b"Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc",
    "one length twice": b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": b"Content-Length: 3, 3\r\n\r\nabc",
    "a length with a sign": b"Content-Length: +3\r\n\r\nabc",
    "a hexadecimal length": b"Content-Length: 0x3\r\n\r\nabc",
    "two numbers": b"Content-Length: 3 0\r\n\r\nabc",
    "no number": b"Content-Length: \r\n\r\nabc",
    "a space before the colon": b"Content-Length : 3\r\n\r\nabc",
    "a tab before the colon": b"Transfer-Encoding\t: chunked\r\n" + ABC,
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n" + ABC,
    "chunked not last": b"Transfer-Encoding: chunked, identity\r\n" + ABC,
    "identity": b"Transfer-Encoding: identity\r\n\r\nabc",
    "identity and a length": b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",
    "chunked twice": CHUNKED + CHUNKED + ABC,
    "a control character before chunked": b"Transfer-Encoding: \x0bchunked\r\n" + ABC,
    "chunked on a folded line": b"Transfer-Encoding:\r\n chunked\r\n" + ABC,
}


@pytest.mark.parametrize("rest", LENGTHS.values(), ids=LENGTHS)
def test_an_ambiguous_length_is_refused(port: int, rest: bytes) -> None:
    assert statuses(received(port, PUT + rest + SMUGGLED)) == [400]


LINES = {
    "a folded line": b"A: b\r\n c\r\n\r\n",
    "a line that begins with a space": b" A: b\r\n\r\n",
    "a bare line feed": b"A: b\nB: c\r\n\r\n",
    "a bare carriage return": b"A: b\rB: c\r\n\r\n",
    "a line feed at the end": b"A: b\r\n\n",
    "a zero in a value": b"A: b\0c\r\n\r\n",
    "a zero in a name": b"A\0: b\r\n\r\n",
    "no colon": b"nonsense\r\n\r\n",
    "no name": b": b\r\n\r\n",
    "a space in a name": b"A B: c\r\n\r\n",
    "a letter outside ASCII in a name": b"\xe9: c\r\n\r\n",
}


@pytest.mark.parametrize("rest", LINES.values(), ids=LINES)
def test_an_ambiguous_header_line_is_refused(port: int, rest: bytes) -> None:
    assert statuses(received(port, GET + rest + SMUGGLED)) == [400]


CHUNKS = {
    "a bare line feed after the size": b"3\nabc\r\n0\r\n\r\n",
    "a bare line feed after the data": b"3\r\nabc\n0\r\n\r\n",
    "a bare line feed at the end": b"3\r\nabc\r\n0\r\n\n",
    "a line feed in an extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "a carriage return in an extension": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "a zero in an extension": b"3;\0\r\nabc\r\n0\r\n\r\n",
    "a space after the size": b"3 \r\nabc\r\n0\r\n\r\n",
    "a prefix before the size": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a negative size": b"-3\r\nabc\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "more data than its size": b"2\r\nabc\r\n0\r\n\r\n",
    "a length in the trailer": b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n",
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_an_ambiguous_chunk_is_refused(port: int, chunks: bytes) -> None:
    assert statuses(received(port, PUT + CHUNKED + b"\r\n" + chunks + SMUGGLED)) == [400]


FIRST_LINES = {
    "another version": b"GET /ok HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/2 without a notice": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tabs": b"GET\t/ok\tHTTP/1.1\r\nHost: x\r\n\r\n",
    "a space at the end": b"GET /ok HTTP/1.1 \r\nHost: x\r\n\r\n",
    "a method in lower case": b"get /ok HTTP/1.1\r\nHost: x\r\n\r\n",
    "a bare line feed": b"GET /ok HTTP/1.1\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("data", FIRST_LINES.values(), ids=FIRST_LINES)
def test_an_ambiguous_first_line_is_refused(port: int, data: bytes) -> None:
    assert statuses(received(port, data + SMUGGLED)) == [400]


HARMLESS = {
    "a request in a body": (GET + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED, b"OK\r\n"),
    "a length of similar name": (PUT + b"Content_Length: 9\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    "a coding in capitals": (PUT + b"Transfer-Encoding: CHUNKED\r\n" + ABC, b"abc"),
    "a coding named as a header of the connection": (
        PUT + b"Connection: Transfer-Encoding\r\n" + CHUNKED + ABC,
        b"abc",
    ),
    "extensions of chunks": (PUT + CHUNKED + b'\r\n3;a=b;c="d"\r\nabc\r\n0\r\n\r\n', b"abc"),
    "two hosts, of which nothing is made": (GET + b"Host: y\r\n\r\n", b"OK\r\n"),
    "the target of another host": (b"GET http://other/ok HTTP/1.1\r\nHost: x\r\n\r\n", b"OK\r\n"),
    "a target with a name of a user": (b"GET http://a@b/ok HTTP/1.1\r\nHost: x\r\n\r\n", b"OK\r\n"),
    "a fragment": (b"GET /ok#/smuggled HTTP/1.1\r\nHost: x\r\n\r\n", b"OK\r\n"),
}


@pytest.mark.parametrize(("data", "body"), HARMLESS.values(), ids=HARMLESS)
def test_what_can_only_be_read_in_one_way_is_answered(port: int, data: bytes, body: bytes) -> None:
    """And the request after it is the next one that the server sees."""
    answers = received(port, data)
    assert statuses(answers) == [200, 200]
    first, last = (answer.split(b"\r\n\r\n", 1)[1] for answer in answers.split(b"HTTP/1.1 ")[1:])
    assert (first, last) == (body, b"OK\r\n")


def test_chunks_of_http_1_0_end_the_connection(port: int) -> None:
    """An old proxy would not understand them (RFC 9112, 6.1)."""
    data = b"PUT /echo HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n" + CHUNKED + ABC + SMUGGLED
    answers = received(port, data)
    assert b"smuggled" not in answers
    assert len(statuses(answers)) == 1


def test_a_path_that_looks_like_a_host_is_a_path(port: int) -> None:
    assert statuses(received(port, b"GET //other/ok HTTP/1.1\r\nHost: x\r\n\r\n")) == [404, 200]
