"""Dispatch, errors and headers, called without a socket."""

import asyncio
import os
from typing import Any

import httpx
import pytest
from server_support import Connect, FakeEngine, echo, endpoint, make_app, ok, text

from safelight import errors
from safelight.blob import FileBlob
from safelight.model import Answer, RequestState
from safelight.server.app import AppSettings
from safelight.server.errors import status_of
from safelight.server.stats import STATISTICS, Statistics

METHODS = ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "HEAD"]


def failing(error: Exception) -> Any:
    async def act(state: RequestState) -> Answer:
        raise error

    return endpoint("get", "/fail", act)


def answering(answer: Answer) -> Any:
    async def act(state: RequestState) -> Answer:
        return answer

    return endpoint("get", "/x", act)


@pytest.mark.covers("s064")
async def test_an_endpoint_without_matchers_comes_before_the_banner(connect: Connect) -> None:
    client = await connect(make_app(endpoint("get", None, ok)))
    assert (await client.get("/")).text == "OK\r\n"
    assert (await client.put("/")).text == "HTTP Image Store\r\n"


@pytest.mark.covers("s197")
@pytest.mark.parametrize("method", METHODS)
async def test_the_banner_is_for_every_method(connect: Connect, method: str) -> None:
    response = await (await connect(make_app())).request(method, "/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain"
    assert response.headers["content-length"] == "18"
    assert response.text == ("" if method == "HEAD" else "HTTP Image Store\r\n")


@pytest.mark.covers("s065")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "path", ["/stats", "/stats/workers", "/stats/workers/x", "/health_check", "/health_check/x"]
)
async def test_built_in_paths_come_before_endpoints(connect: Connect, method: str, path: str) -> None:
    everywhere = [endpoint(verb.lower(), None, ok) for verb in METHODS]
    response = await (await connect(make_app(*everywhere))).request(method, path)
    assert response.status_code == 200
    assert int(response.headers["content-length"]) != 4 or method == "HEAD"
    assert response.text != "OK\r\n"


@pytest.mark.parametrize("path", ["/statsx", "/health_checks", "/x/stats", "/%73tats"])
async def test_built_in_paths_are_whole_literal_segments(connect: Connect, path: str) -> None:
    response = await (await connect(make_app(endpoint("get", None, ok)))).get(path)
    assert response.text == "OK\r\n"


@pytest.mark.covers("s066")
async def test_other_methods_do_not_match_get_but_head_does(connect: Connect) -> None:
    client = await connect(make_app(endpoint("get", "/x", ok)))
    for method in ("OPTIONS", "DELETE", "PATCH", "PUT", "POST"):
        assert (await client.request(method, "/x")).status_code == 404
    response = await client.head("/x")
    assert (response.status_code, response.headers["content-length"], response.content) == (200, "4", b"")


@pytest.mark.covers("s075", "s077", "s196")
async def test_the_404_shows_the_raw_path_without_the_query(connect: Connect) -> None:
    response = await (await connect(make_app())).get("/a/%E9?q=1")
    assert response.status_code == 404
    assert response.text == "request for URI '/a/%E9' was not handled by the server\r\n"
    assert response.headers["content-type"] == "text/plain"


@pytest.mark.covers("s076")
@pytest.mark.parametrize("target", [b"/%zz", b"/%", b"/a%2", b"/a?b=%zz", b"/stats/%zz", b"/%u00g0"])
async def test_malformed_escapes_are_400_without_a_body(connect: Connect, target: bytes) -> None:
    client = await connect(make_app(endpoint("get", None, ok)))
    response = await client.get(httpx.URL("http://test", raw_path=target))
    assert (response.status_code, response.content) == (400, b"")


@pytest.mark.parametrize(
    "target", [b"/%00", b"/%u0142", b"/%25u0142", b"/a?%00=%ff", b"/%ff%fe", b"//", b"/a;b"]
)
async def test_odd_bytes_are_no_server_error(connect: Connect, target: bytes) -> None:
    response = await (await connect(make_app())).get(httpx.URL("http://test", raw_path=target))
    assert response.status_code == 404


async def test_a_long_url_is_414(connect: Connect) -> None:
    client = await connect(make_app(endpoint("get", None, ok)))
    assert (await client.get("/" + "a" * 8191)).status_code == 200
    assert (await client.get("/" + "a" * 8192)).status_code == 414
    assert (await client.get("/?" + "a" * 8192)).status_code == 414


@pytest.mark.covers("s196")
@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (errors.SpecError("bad"), 400, "bad\r\n"),
        (errors.OutsideOfRoot("no"), 403, "no\r\n"),
        (errors.NoSuchFile("none"), 404, "none\r\n"),
        (errors.MemoryLimitExceeded(), 413, "memory limit exceeded\r\n"),
        (errors.UnsupportedMedia("what"), 415, "what\r\n"),
        (errors.ImageError("broken"), 500, "broken\r\n"),
        (errors.VariableNotDefined("v"), 500, "v\r\n"),
        (errors.Busy("full", retry_after_s=3), 503, "full\r\n"),
        (errors.Timeout("late"), 504, "late\r\n"),
        (errors.BadRequest("a\nb\r\nc"), 400, "a\r\nb\r\nc\r\n"),
        (errors.BadRequest("\udce9"), 400, "\\udce9\r\n"),
        (ZeroDivisionError("secret"), 500, "internal error\r\n"),
    ],
)
async def test_errors_have_a_status_and_a_text(
    connect: Connect, error: Exception, status: int, body: str
) -> None:
    statistics = Statistics()
    client = await connect(make_app(failing(error), statistics=statistics))
    response = await client.get("/fail")
    assert (response.status_code, response.text) == (status, body)
    assert response.headers["content-type"] == "text/plain"
    assert response.headers.get("retry-after") == ("3" if status == 503 else None)
    assert [statistics.value(name) for name in ("total_requests", "total_errors", "total_write")] == [1, 1, 1]
    assert [statistics.value(name) for name in ("calling", "writing")] == [0, 0]


def test_an_unknown_error_has_the_status_of_its_nearest_ancestor() -> None:
    class Special(errors.OutsideOfRoot):
        pass

    assert status_of(Special("x")) == 403
    assert status_of(KeyError()) == 500


async def test_the_log_has_the_trace_and_the_answer_has_not(
    connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await connect(make_app(failing(ZeroDivisionError("secret"))))
    await client.get("/fail?x")
    log = "".join(capsys.readouterr())
    assert "unhandled error while processing request: GET [/fail]: ZeroDivisionError: secret" in log


@pytest.mark.parametrize(
    ("content_type", "sent", "extra"),
    [
        ("image/jpeg", "image/jpeg", {}),
        ("text/plain", "text/plain", {}),
        ("text/uri-list", "text/uri-list", {}),
        ("application/json", "application/json", {}),
        ("image/svg+xml", "image/svg+xml", {"content-security-policy": "sandbox"}),
        ("application/octet-stream", "application/octet-stream", {"content-disposition": "attachment"}),
        ("text/html", "text/html", {"content-disposition": "attachment"}),
        ("image/x\r\nset-cookie: a", "application/octet-stream", {"content-disposition": "attachment"}),
        ("text/html; charset=utf-8", "application/octet-stream", {"content-disposition": "attachment"}),
        ("é", "application/octet-stream", {"content-disposition": "attachment"}),
    ],
)
async def test_headers_keep_browsers_from_running_uploads(
    connect: Connect, content_type: str, sent: str, extra: dict[str, str]
) -> None:
    response = await (await connect(make_app(answering(text("x", content_type))))).get("/x")
    headers = dict(response.headers)
    del headers["etag"], headers["accept-ranges"]
    assert headers == {
        "content-type": sent,
        "x-content-type-options": "nosniff",
        "content-length": "1",
        **extra,
    }


@pytest.mark.parametrize(
    ("value", "sent"),
    [("max-age=3", "max-age=3"), ("a\r\nX-Evil: 1", "a??X-Evil: 1"), ("é\0", "??"), ("a\nb", "a?b")],
)
async def test_cache_control_cannot_add_a_header(connect: Connect, value: str, sent: str) -> None:
    response = await (await connect(make_app(answering(text("x", cache_control=value))))).get("/x")
    assert response.headers["cache-control"] == sent
    assert "x-evil" not in response.headers


async def test_204_has_no_body(connect: Connect) -> None:
    response = await (await connect(make_app(answering(text("x", status=204))))).get("/x")
    assert (response.status_code, response.content) == (204, b"")
    assert "content-length" not in response.headers


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 18) - 1, 1 << 18, (1 << 20) + 7])
async def test_files_are_sent_whole(connect: Connect, tmp_path: Any, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    (tmp_path / "f").write_bytes(data)
    blob = FileBlob(os.open(tmp_path / "f", os.O_RDONLY), size)
    client = await connect(make_app(answering(Answer(blob, "image/png"))))
    response = await client.get("/x")
    assert response.content == data
    head = await client.head("/x")
    assert (head.headers["content-length"], head.content) == (str(size), b"")


async def test_a_file_that_shrank_before_it_was_read_is_an_error(connect: Connect, tmp_path: Any) -> None:
    (tmp_path / "f").write_bytes(b"x" * 10)
    blob = FileBlob(os.open(tmp_path / "f", os.O_RDONLY), 20)
    response = await (await connect(make_app(answering(Answer(blob, "image/png"))))).get("/x")
    assert response.status_code == 500


@pytest.mark.covers("s192", "s195")
async def test_a_body_of_exactly_the_limit_passes(connect: Connect) -> None:
    app = make_app(endpoint("put", "/x", echo), settings=AppSettings(max_bytes=1000))
    client = await connect(app)
    for _ in range(2):
        assert (await client.put("/x", content=bytes(1000))).content == bytes(1000)
        response = await client.put("/x", content=bytes(1001))
        assert (response.status_code, response.text) == (413, "memory limit exceeded\r\n")


async def test_a_request_past_its_deadline_is_504(connect: Connect) -> None:
    engine = FakeEngine(delay_s=30)

    async def act(state: RequestState) -> Answer:
        await engine.thumbnail(state.body, [])
        return text("late")

    app = make_app(endpoint("get", "/x", act), settings=AppSettings(request_timeout_s=0.1))
    response = await (await connect(app)).get("/x")
    assert (response.status_code, response.text) == (504, "request took too long\r\n")
    assert engine.cancelled == 1


async def test_a_cancelled_step_does_not_cancel_the_next_request(connect: Connect) -> None:
    async def act(state: RequestState) -> Answer:
        await asyncio.sleep(0.2)
        return text("done")

    app = make_app(endpoint("get", "/x", act), settings=AppSettings(request_timeout_s=5))
    client = await connect(app)
    answers = await asyncio.gather(*(client.get("/x") for _ in range(20)))
    assert {answer.text for answer in answers} == {"done"}


@pytest.mark.covers("s198")
async def test_health_check_asks_the_engine_on_its_urgent_lane(connect: Connect) -> None:
    engine = FakeEngine()
    client = await connect(make_app(engine=engine))
    response = await client.get("/health_check")
    assert (response.status_code, response.text) == (200, "HTTP Image Store OK\r\n")
    ((specs, urgent),) = engine.calls
    assert ([str(spec) for spec in specs], urgent) == (["fit,4,4,jpeg"], True)


@pytest.mark.covers("s198")
@pytest.mark.parametrize("picture", [b"JFIF" * 75, b"x" * 400, b""])
async def test_health_check_with_a_bad_picture_is_502(connect: Connect, picture: bytes) -> None:
    response = await (await connect(make_app(engine=FakeEngine(picture)))).get("/health_check")
    assert (response.status_code, response.text) == (502, "bad image data returned from thumbnailer\r\n")


@pytest.mark.parametrize(
    ("error", "status"),
    [(errors.Busy("b"), 503), (errors.Timeout("t"), 504), (errors.ImageError("i"), 500), (OSError("o"), 500)],
)
async def test_health_check_tells_why_the_engine_failed(
    connect: Connect, error: Exception, status: int
) -> None:
    assert (
        await (await connect(make_app(engine=FakeEngine(error=error)))).get("/health_check")
    ).status_code == status
    if isinstance(error, errors.SafelightError):
        client = await connect(make_app(engine=FakeEngine(error)))
        assert (await client.get("/health_check")).status_code == status


async def test_simultaneous_health_checks_share_one_picture(connect: Connect) -> None:
    engine = FakeEngine(delay_s=0.1)
    client = await connect(make_app(engine=engine))
    answers = await asyncio.gather(*(client.get("/health_check") for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(engine.calls) == 1
    assert (await client.get("/health_check")).status_code == 200
    assert len(engine.calls) == 2


@pytest.mark.covers("s199")
async def test_stats_are_listed_in_order_and_one_by_one(connect: Connect) -> None:
    client = await connect(make_app(endpoint("get", "/x", ok)))
    await client.get("/x")
    await client.get("/none")
    response = await client.get("/stats")
    assert response.headers["content-type"] == "text/plain"
    lines = response.text.split("\r\n")
    assert [line.partition(": ")[0] for line in lines] == [*STATISTICS, ""]
    assert "total_requests: 3" in lines
    assert "total_errors: 1" in lines
    assert "total_write: 2" in lines
    assert "calling: 1" in lines
    assert (await client.get("/stats/total_requests")).text == "4\r\n"
    assert (await client.get("/stats/total_requests/more")).text == "5\r\n"
    response = await client.get("/stats/nonsense")
    assert response.status_code == 404


async def test_a_websocket_is_left_alone() -> None:
    app = make_app()
    await app({"type": "websocket"}, None, None)  # type: ignore[arg-type]


async def test_an_engine_that_does_not_start_fails_the_boot() -> None:
    class Broken(FakeEngine):
        async def start(self) -> None:
            raise errors.ImageError("no workers", detail="why")

    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    await make_app(engine=Broken())({"type": "lifespan"}, receive, send)
    assert sent == [{"type": "lifespan.startup.failed", "message": "cannot start: no workers (why)"}]
