"""The line of a request in the access log, and Server-Timing."""

import json
import logging
import re
import time
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any

import httpx
import pytest
from server_support import RawClient
from serving import Server, Servers

from safelight.cli.launch.log import ANY, JsonFormatter
from safelight.server.request_line import json_line, text_line
from safelight.timing import STEP_NAMES, Account
from safelight.xid import set_xid

Start = Callable[..., Server]
TIMEOUT_S = 30
SCOPE: dict[str, Any] = {
    "method": "GET",
    "raw_path": b"/a%20b",
    "query_string": b"",
    "http_version": "1.1",
    "client": ("10.0.0.1", 5),
    "headers": [],
}


def line_of(server: Server, target: str) -> dict[str, Any]:
    """What the access log says of the request for `target`; it is written when the answer has been sent."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        text = (server.directory / "access").read_text()
        lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        if found := [line for line in lines if line["target"] == target]:
            return found[-1]
        assert time.monotonic() < deadline, text
        time.sleep(0.02)


def test_a_line_tells_where_the_time_went(server: Server, photo: bytes) -> None:
    answer = httpx.get(f"{server.url}/thumbnail/cat.jpg?tells", headers={"x-id": 'a"1', "host": "x"})
    line = line_of(server, "/thumbnail/cat.jpg?tells")
    assert line["type"] == "request"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])
    assert (line["method"], line["status"], line["client"]) == ("GET", 200, "127.0.0.1")
    assert (line["sent_bytes"], line["received_bytes"]) == (len(answer.content), 0)
    assert (line["endpoint"], line["xid"]) == ('get "thumbnail"', 'a"1')
    assert list(line["steps_s"]) == ["match", "source", "queue", "transform", "output", "send", "other"]
    assert sum(line["steps_s"].values()) == pytest.approx(line["duration_s"], abs=1e-5)
    assert line["steps_s"]["transform"] > 0
    httpx.put(f"{server.url}/upload?token=x", content=photo)
    line = line_of(server, "/upload?token=***")
    assert (line["received_bytes"], line["status"]) == (len(photo), 200)
    assert line["steps_s"]["store"] > 0
    assert line["steps_s"]["body"] > 0
    assert "xid" not in line


def test_lines_of_requests_that_nobody_serves(server: Server) -> None:
    httpx.get(f"{server.url}/guarded?key=value&hmac=00")
    line = line_of(server, "/guarded?key=value&hmac=***")
    assert (line["status"], line["endpoint"]) == (403, 'get "guarded" "&key=value"')
    assert "validate" in line["steps_s"]
    httpx.head(f"{server.url}/original/cat.jpg?head")
    assert line_of(server, "/original/cat.jpg?head")["sent_bytes"] == 0
    httpx.get(f"{server.url}/nothing?nobody")
    line = line_of(server, "/nothing?nobody")
    assert line["status"] == 404
    assert "endpoint" not in line


def test_a_client_that_leaves_is_499(server: Server) -> None:
    with RawClient(server.port) as client:
        client.request("PUT /upload?left HTTP/1.1\nHost: x\nContent-Length: 10", b"x")
    assert line_of(server, "/upload?left")["status"] == 499


def test_nothing_that_a_client_sends_can_begin_a_line(server: Server) -> None:
    target = "/nothing\x7f%0a\"\\\xe9?a=%0d%0a\xff\x1b'"
    with RawClient(server.port) as client:
        client.request(f'GET {target} HTTP/1.1\nHost: x\nX-Forwarded-For: 1.2.3.4"\x80\nX-Id: \xff"\t')
        assert client.response().status in (400, 404)
    httpx.get(f"{server.url}/after")
    line_of(server, "/after")
    text = (server.directory / "access").read_bytes()
    assert text.isascii()
    assert not re.search(rb"[^\x20-\x7e\n]", text)
    assert all(json.loads(line)["type"] == "request" for line in text.splitlines())


@pytest.mark.parametrize("make", [json_line, text_line])
@pytest.mark.parametrize(
    ("path", "query", "shown"),
    [
        (b"/a", b"hmac=c0ffee&b=c", "/a?hmac=***&b=c"),
        (b"/a", b"x%5Fh%6Dac=c0ffee&X-Amz-Signature=decaf", "/a?x%5Fh%6Dac=***&X-Amz-Signature=***"),
        (b"/a", b"TOKEN=c0ffee;b", "/a?TOKEN=***"),
        (b"/a/password=c0ffee/b", b"", "/a/password=***"),
        (b"/a", b"hmac&b=c", "/a?hmac&b=c"),
    ],
)
def test_secrets_are_not_shown(make: Callable[..., bytes], path: bytes, query: bytes, shown: str) -> None:
    line = make({**SCOPE, "raw_path": path, "query_string": query}, Account()).decode()
    assert f'"{shown}"' in line or f" {shown} " in line
    assert "c0ffee" not in line
    assert "decaf" not in line


@pytest.mark.parametrize("make", [json_line, text_line])
def test_hostile_texts_stay_on_their_line(make: Callable[..., bytes]) -> None:
    hostile = 'x\r\n{"type":"request"}\x1b[2J\x00\x85\udce9"'
    account = Account(endpoint=hostile, cache="hit", status=200)
    scope = {
        **SCOPE,
        "method": hostile,
        "raw_path": b'/\r\n\x00\xff"\\',
        "query_string": b"\x1b\n\xc2\x85",
        "headers": [(b"x-forwarded-for", b'1\r\n\x00"\\\xff')],
    }
    context = copy_context()
    context.run(set_xid, "X-Id", hostile)
    line = context.run(make, scope, account)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", line.decode())
    if make is json_line:
        assert json.loads(line)["cache"] == "hit"


def test_a_line_for_people() -> None:
    account = Account(
        {"other": 0.001, "match": 0.0002, "queue": 0.5},
        endpoint='get "a"', cache="miss", status=200, sent_bytes=7, duration_s=0.5012,
    )  # fmt: skip
    line = text_line({**SCOPE, "query_string": b"c=d"}, account).decode()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d 10\.0\.0\.1 GET /a%20b\?c=d 200 7 bytes 0\.5012 s "
        r'\(match 0\.0002, queue 0\.5000, other 0\.0010\), endpoint: get "a", cache: miss\n',
        line,
    )


def test_server_timing_is_told_when_asked_for(server: Server, start: Start) -> None:
    header = httpx.get(f"{server.url}/thumbnail/cat.jpg").headers["server-timing"]
    names = re.findall(r"(?:^|, )(\w+);dur=\d+\.\d{3}(?=,|$)", header)
    assert names[-1] == "total"
    assert {"match", "transform"} <= set(names) <= {*STEP_NAMES, "total"}
    assert "server-timing" in httpx.get(f"{server.url}/nothing").headers
    with_lines = start("--access-log-file", "-", "--access-log-format", "text")
    assert "server-timing" not in httpx.get(f"{with_lines.url}/original/cat.jpg").headers
    with_lines.wait_for_log(" GET /original/cat.jpg 200 ")


def wait_for_text(path: Path, text: str) -> str:
    deadline = time.monotonic() + TIMEOUT_S
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < deadline, path.exists() and path.read_text()
        time.sleep(0.02)
    return path.read_text()


def test_the_log_of_the_server_as_json(servers: Servers) -> None:
    options = ("--log-format", "json", "--perf-stats", "--xid-header", "X-Id", "-v", "--workers", "1")
    process, directory, log = servers.launch('get "x" { output_ok }', *options, listen=("unix:socket",))
    wait_for_text(log, "Safelight")
    transport = httpx.HTTPTransport(uds=str(directory / "socket"))
    with httpx.Client(transport=transport, base_url="http://x") as client:
        client.get("/nothing?a", headers={"x-id": "7"})
    wait_for_text(log, "handling request: GET")
    process.terminate()
    process.wait(TIMEOUT_S)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["type"] for line in lines} == {"log", "perf-stats"}
    (warning,) = [line for line in lines if "sending 404" in line["message"]]
    assert (warning["level"], warning["xid"], warning["logger"]) == ("warning", "7", "safelight.server")
    (ready,) = [line for line in lines if line["message"].startswith("Safelight ")]
    assert ready["level"] == "info"


def test_a_backtrace_is_a_part_of_its_object() -> None:
    try:
        raise ValueError("secret=12\n\udce9")
    except ValueError as error:
        found = (type(error), error, error.__traceback__)
    record = logging.LogRecord("a", logging.ERROR, "", 0, "b\n\udce9 token=34", None, found)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["message"], line["level"]) == ("b\n\\udce9 token=***", "error")
    assert line["error"].startswith("Traceback")
    assert "12" not in line["error"].rpartition("ValueError")[2]
    assert (
        json.loads(JsonFormatter().format(logging.LogRecord("a", ANY, "", 0, "b", None, None)))["level"]
        == "perf"
    )
