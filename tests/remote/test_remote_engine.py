"""The remote engine against our own thumbnailer, and against one that behaves like the original or badly."""

import asyncio
import io
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from PIL import Image
from serving import Server
from thumbnailers import (
    Act,
    answer,
    close,
    free_port,
    hang,
    head,
    kept,
    reset,
    scripted,
    send,
    text,
)

from safelight import errors
from safelight.blob import FileBlob, MemoryBlob
from safelight.engine.remote import MAX_TEXT_BYTES, RemoteEngine
from safelight.image.result import ImageInfo, Thumbnail
from safelight.image.spec import Edit, ThumbnailSpec
from safelight.multipart import Part, join
from safelight.server.health import HealthCheck
from safelight.xid import set_xid

DATA = Path(__file__).parent.parent / "data"
IMAGE = MemoryBlob(b"some image")
FIT = ThumbnailSpec.parse("fit,40,40,png")
CROP = ThumbnailSpec.parse("crop,8,8,jpeg,quality:60!rotate,90")
FACTS = {
    "X_Input_Image_Mime_Type": "image/png",
    "X_Input_Image_Width": 400,
    "X_Input_Image_Height": 300,
    "X_Image_Width": 4,
    "X_Image_Height": 3,
}
GOOD = Thumbnail(b"thumbnail", "image/jpeg", 4, 3)
MIB = 1 << 20


@pytest.fixture
async def remote() -> AsyncIterator[Callable[..., object]]:
    """`engine = await remote(url)`: a started engine, closed after the test."""
    started: list[RemoteEngine] = []

    async def start(url: str, **settings: float) -> RemoteEngine:
        engine = RemoteEngine(url, **settings)  # type: ignore[arg-type]
        await engine.start()
        started.append(engine)
        return engine

    yield start
    for engine in started:
        await engine.close()


def like_the_original(**more: str | int) -> Act:
    return answer(GOOD.data, GOOD.mime_type, **{**FACTS, **more})


def multipart(*parts: Part, boundary: str = "B-1") -> Act:
    content_type = f'multipart/mixed; boundary="{boundary}"'
    return answer(join(parts, boundary), content_type, **FACTS)


# Our own thumbnailer


async def test_our_own_thumbnailer(thumbnailer: Server, remote) -> None:
    engine = await remote(thumbnailer.url)
    picture = MemoryBlob((DATA / "coffee.jpg").read_bytes())
    size = Image.open(io.BytesIO(picture.read())).size
    made = await engine.thumbnail(picture, [FIT, CROP])
    assert made.source == ImageInfo("image/jpeg", *size)
    fit, crop = made.outputs
    assert Image.open(io.BytesIO(fit.data)).size == (fit.width, fit.height)
    assert (crop.width, crop.height, crop.mime_type) == (8, 8, "image/jpeg")
    assert await engine.identify(picture) == made.source
    assert (await engine.thumbnail(picture, [FIT])).outputs[0] == fit


async def test_our_own_thumbnailer_gets_a_file_in_pieces(thumbnailer: Server, remote) -> None:
    engine = await remote(thumbnailer.url)
    path = DATA / "chelsea.png"
    blob = FileBlob(os.open(path, os.O_RDONLY), path.stat().st_size)
    assert (await engine.identify(blob)).mime_type == "image/png"


async def test_our_own_thumbnailer_says_what_is_wrong(thumbnailer: Server, remote) -> None:
    engine = await remote(thumbnailer.url)
    with pytest.raises(errors.UnsupportedMedia, match=r"^unsupported media type: no decode delegate"):
        await engine.thumbnail(IMAGE, [FIT])
    with pytest.raises(errors.UnsupportedMedia, match=r"^unsupported media type: no decode delegate"):
        await engine.identify(IMAGE)
    picture = MemoryBlob((DATA / "coffee.jpg").read_bytes())
    zero, good = (await engine.thumbnail(picture, [ThumbnailSpec.parse("fit,0,5,png"), FIT])).outputs
    assert isinstance(zero, errors.BadRequest)
    assert zero.message == "at least one image dimension is zero: 0x5"
    assert isinstance(good, Thumbnail)


async def test_connections_are_kept_where_the_server_lets_us(remote) -> None:
    with scripted(kept(GOOD.data, GOOD.mime_type, **FACTS)) as server:
        engine = await remote(server.url)
        for _ in range(3):
            assert (await engine.thumbnail(IMAGE, [FIT])).outputs == (GOOD,)
        assert (len(server.requests), server.connections) == (3, 1)


# The original


async def test_the_original_closes_every_connection(remote) -> None:
    with scripted(like_the_original()) as server:
        engine = await remote(server.url)
        for _ in range(3):
            made = await engine.thumbnail(IMAGE, [FIT])
        assert (len(server.requests), server.connections) == (3, 3)
    assert made.source == ImageInfo("image/png", 400, 300)
    assert made.outputs == (GOOD,)


@pytest.mark.covers("s115", "s123")
async def test_what_the_original_is_sent(remote) -> None:
    parts = [Part("image/png", b"one"), Part("image/jpeg", b"two")]
    identity = answer(b'{"mimeType":"image/png","width":1,"height":2}', "application/json")
    with scripted(like_the_original(), multipart(*parts), identity) as server:
        engine = await remote(server.url + "/")
        await engine.thumbnail(IMAGE, [CROP])
        await engine.thumbnail(IMAGE, [FIT, CROP])
        assert await engine.identify(IMAGE) == ImageInfo("image/png", 1, 2)
    assert [request.target for request in server.requests] == [
        "/thumbnail/crop,8,8,jpeg,quality:60!rotate,90",
        "/thumbnails/fit,40,40,png/crop,8,8,jpeg,quality:60!rotate,90",
        "/identify",
    ]
    for request in server.requests:
        assert (request.method, request.body) == ("PUT", b"some image")
        sent = {name.lower(): value for name, value in request.headers.items()}
        assert sent["content-type"] == "image/autodetect"
        assert sent["content-length"] == "10"
        assert sent["accept-encoding"] == "identity"
        assert "transfer-encoding" not in sent


async def test_no_value_leaves_its_specification_on_the_wire(remote) -> None:
    """Sharp edge S36."""
    spec = ThumbnailSpec("crop", 1, 2, "png", {"a": "x/../../stats?b#c %41é"}, (Edit("e", ("..",)),))
    with scripted(like_the_original()) as server:
        await (await remote(server.url)).thumbnail(IMAGE, [spec])
    assert server.requests[0].target == (
        "/thumbnail/crop,1,2,png,a:x%2F..%2F..%2Fstats%3Fb%23c%20%2541%C3%A9!e,.."
    )


@pytest.mark.covers("s124")
@pytest.mark.parametrize("name", ["X_Input_Image_Mime_Type", "X_Input_Image_Content_Type"])
async def test_the_type_of_the_input_has_two_names(remote, name: str) -> None:
    facts = {**FACTS, name: "image/gif"}
    if name != "X_Input_Image_Mime_Type":
        del facts["X_Input_Image_Mime_Type"]
    with scripted(answer(b"x", "image/png", **facts)) as server:
        made = await (await remote(server.url)).thumbnail(IMAGE, [FIT])
    assert made.source == ImageInfo("image/gif", 400, 300)


async def test_parts_in_the_original_framing(remote) -> None:
    framed = (
        b"--9f\r\nContent-Type: image/png\r\nX-Image-Width: 5\r\nX-Image-Height: 6\r\n\r\n"
        b"\x89PNG\r\n\r\n--\r\n"
        b"--9f\r\nContent-Type: text/plain\r\nStatus: 413\r\n\r\ntoo\r\nlarge\r\n"
        b"--9f--\r\n"
    )
    with scripted(answer(framed, 'multipart/mixed; boundary="9f"', **FACTS)) as server:
        good, bad = (await (await remote(server.url)).thumbnail(IMAGE, [FIT, CROP])).outputs
    assert good == Thumbnail(b"\x89PNG\r\n\r\n--", "image/png", 5, 6)
    assert isinstance(bad, errors.TooLarge)
    assert bad.message == "too\r\nlarge"


# The transaction id


@pytest.mark.covers("s210")
async def test_the_transaction_id_is_sent_on(remote) -> None:
    identity = answer(b'{"mimeType":"image/png","width":1,"height":2}', "application/json")
    set_xid("X-Request-ID", "a-1 \xe9")
    with scripted(like_the_original(), identity) as server:
        engine = await remote(server.url)
        await engine.thumbnail(IMAGE, [FIT])
        await engine.identify(IMAGE)
    assert [request.headers["X-Request-ID"] for request in server.requests] == ["a-1 \xe9"] * 2


@pytest.mark.covers("s211")
async def test_without_a_transaction_id_nothing_is_sent_on(remote) -> None:
    with scripted(like_the_original()) as server:
        await (await remote(server.url)).thumbnail(IMAGE, [FIT])
    names = {name.lower() for name in server.requests[0].headers}
    assert names == {"host", "accept", "accept-encoding", "user-agent", "connection"} | {
        "content-type",
        "content-length",
    }


# Errors of the server


@pytest.mark.covers("s121", "s122")
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", errors.BadRequest),
        ("404 Not Found", errors.NotFound),
        ("413 Request Entity Too Large", errors.TooLarge),
        ("415 Unsupported Media Type", errors.UnsupportedMedia),
        ("500 Internal Server Error", errors.ImageError),
        ("502 Bad Gateway", errors.ImageError),
        ("403 Forbidden", errors.ImageError),
        ("418 I'm a teapot", errors.ImageError),
        ("504 Gateway Timeout", errors.Timeout),
        ("200 OK", errors.ImageError),
    ],
)
async def test_errors_keep_their_meaning_and_lose_their_line_end(remote, status, kind) -> None:
    with scripted(text("because", status)) as server:
        engine = await remote(server.url)
        for call in (engine.thumbnail(IMAGE, [FIT, CROP]), engine.identify(IMAGE)):
            with pytest.raises(errors.SafelightError) as caught:
                await call
            assert type(caught.value) is kind
            assert caught.value.message == "because"


@pytest.mark.covers("s122")
@pytest.mark.parametrize(("retry_after", "seconds"), [("7", 7), ("soon", 1), ("²", 1), ("9" * 5000, 1)])
async def test_a_busy_server_says_when_to_come_back(remote, retry_after: str, seconds: int) -> None:
    busy = answer(b"full\r\n", "text/plain", "503 Service Unavailable", Retry_After=retry_after)
    with scripted(busy) as server, pytest.raises(errors.Busy, match=r"^full$") as caught:
        await (await remote(server.url)).thumbnail(IMAGE, [FIT])
    assert caught.value.retry_after_s == seconds


async def test_redirects_are_not_followed(remote) -> None:
    with scripted(like_the_original()) as elsewhere:
        redirect = answer(b"<html>", "text/html", "302 Found", Location=elsewhere.url)
        with scripted(redirect) as server, pytest.raises(errors.ImageError, match="with status 302"):
            await (await remote(server.url)).thumbnail(IMAGE, [FIT])
        assert elsewhere.requests == []


async def test_proxies_of_the_environment_are_ignored(remote, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with scripted(like_the_original()) as server:
        assert (await (await remote(server.url)).thumbnail(IMAGE, [FIT])).outputs == (GOOD,)


# No reply


async def test_a_refused_connection_is_told_in_the_words_of_the_original(remote) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(errors.EngineUnreachable) as caught:
        await (await remote(url)).thumbnail(IMAGE, [FIT])
    assert caught.value.message == f"Connection refused - connect(2) ({url})"


async def test_a_host_of_several_addresses_that_all_refuse(remote) -> None:
    url = f"http://localhost:{free_port()}"
    with pytest.raises(errors.EngineUnreachable) as caught:
        await (await remote(url)).identify(IMAGE)
    assert caught.value.message == f"Connection refused - connect(2) ({url})"


async def test_credentials_of_the_url_are_shown_to_nobody(remote) -> None:
    port = free_port()
    with pytest.raises(errors.EngineUnreachable) as caught:
        await (await remote(f"http://user:password@127.0.0.1:{port}")).thumbnail(IMAGE, [FIT])
    assert caught.value.message == f"Connection refused - connect(2) (http://127.0.0.1:{port})"


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (close, "thumbnailer sent no complete reply"),
        (reset, "Connection reset by peer"),
        (send(b"SSH-2.0-OpenSSH\r\n\r\n"), "thumbnailer sent no complete reply"),
        (send(os.urandom(300)), "thumbnailer sent no complete reply"),
        (send(b"HTTP/1.1 200 OK\r\nContent-Type: ima"), "thumbnailer sent no complete reply"),
        (send(b"HTTP/1.1 200 OK\r\n" + b"X-Y: z\r\n" * 100_000), "thumbnailer sent no complete reply"),
        (
            send(head(Content_Type="image/png", Content_Length=20) + b"too short"),
            "thumbnailer sent no complete reply",
        ),
        (
            send(head(Content_Type="image/png", Content_Length="-1") + b"x"),
            "thumbnailer sent no complete reply",
        ),
        (
            send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
            "thumbnailer sent no complete reply",
        ),
        (
            send(head(Content_Type="image/png", Transfer_Encoding="chunked") + b"5\r\nabcdefgh\r\n0\r\n\r\n"),
            "thumbnailer sent no complete reply",
        ),
    ],
)
async def test_a_reply_that_breaks_off_or_is_none(remote, act: Act, message: str) -> None:
    with scripted(act) as server:
        engine = await remote(server.url)
        for _ in range(2):
            with pytest.raises(errors.EngineUnreachable) as caught:
                await engine.thumbnail(IMAGE, [FIT])
            assert caught.value.message == f"{message} ({server.url})"
        assert len(server.requests) == 2, "what fails on a new connection is not repeated"


async def test_a_server_that_says_nothing_is_left(remote) -> None:
    with scripted(hang) as server:
        started = time.monotonic()
        with pytest.raises(errors.EngineUnreachable, match=r"^thumbnailer did not answer in time "):
            await (await remote(server.url, timeout_s=0.3)).thumbnail(IMAGE, [FIT])
        assert time.monotonic() - started < 5
        server.wait_until(lambda: not server.open_connections)


async def test_the_time_limit_is_for_the_whole_reply(remote) -> None:
    """A server that trickles makes progress all the time."""

    def trickle(connection) -> bool:
        connection.sendall(head(Content_Type="image/png", Content_Length=10_000))
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    with scripted(trickle) as server:
        with pytest.raises(errors.EngineUnreachable, match=r"^thumbnailer did not answer in time "):
            await (await remote(server.url, timeout_s=0.5)).thumbnail(IMAGE, [FIT])
        server.wait_until(lambda: not server.open_connections)


async def test_a_request_that_is_given_up_closes_its_connection(remote) -> None:
    with scripted(hang, like_the_original()) as server:
        engine = await remote(server.url)
        running = asyncio.create_task(engine.thumbnail(IMAGE, [FIT]))
        await asyncio.to_thread(server.wait_until, lambda: len(server.requests) == 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.to_thread(server.wait_until, lambda: not server.open_connections)
        assert (await engine.thumbnail(IMAGE, [FIT])).outputs == (GOOD,)


# Idle connections


@pytest.mark.parametrize("leave", [close, reset])
async def test_an_idle_connection_that_was_just_closed_is_replaced(remote, leave: Act) -> None:
    """The server closes when the next request is on the way: nobody can see that in advance."""
    good = kept(GOOD.data, GOOD.mime_type, **FACTS)
    with scripted(good, leave, good, good, leave, good) as server:
        engine = await remote(server.url)
        for _ in range(4):
            assert (await engine.thumbnail(IMAGE, [FIT])).outputs == (GOOD,)
        assert [request.body for request in server.requests] == [b"some image"] * 6
        assert server.connections == 4


async def test_an_idle_connection_is_replaced_once_only(remote) -> None:
    with scripted(kept(GOOD.data, GOOD.mime_type, **FACTS), close) as server:
        engine = await remote(server.url)
        await engine.thumbnail(IMAGE, [FIT])
        with pytest.raises(errors.EngineUnreachable, match="no complete reply"):
            await engine.thumbnail(IMAGE, [FIT])
        assert (len(server.requests), server.connections) == (3, 2)


async def test_a_reply_that_has_begun_is_not_asked_for_again(remote) -> None:
    half = send(head(Content_Type="image/png", Content_Length=20) + b"too short")
    with scripted(kept(GOOD.data, GOOD.mime_type, **FACTS), half) as server:
        engine = await remote(server.url)
        await engine.thumbnail(IMAGE, [FIT])
        with pytest.raises(errors.EngineUnreachable, match="no complete reply"):
            await engine.thumbnail(IMAGE, [FIT])
        assert len(server.requests) == 2


async def test_more_bytes_than_announced_harm_no_later_request(remote) -> None:
    good = kept(GOOD.data, GOOD.mime_type, **FACTS)
    too_much = send(
        head(Content_Type="image/jpeg", Content_Length=len(GOOD.data), **FACTS) + GOOD.data + b"more",
        keep=True,
    )
    with scripted(too_much, good) as server:
        engine = await remote(server.url)
        for _ in range(2):
            assert (await engine.thumbnail(IMAGE, [FIT])).outputs == (GOOD,)


# Replies that are too long


def endless(content_type: str, sent: list[int]) -> Act:
    def act(connection) -> bool:
        connection.sendall(head(Content_Type=content_type, Connection="close"))
        while True:
            sent.append(connection.send(bytes(1 << 16)))

    return act


@pytest.mark.parametrize("content_type", ["image/jpeg", "multipart/mixed; boundary=B"])
async def test_an_endless_image_is_refused_as_soon_as_it_is_too_large(remote, content_type: str) -> None:
    sent: list[int] = []
    with scripted(endless(content_type, sent)) as server:
        with pytest.raises(errors.MemoryLimitExceeded):
            await (await remote(server.url, max_reply_bytes=MIB)).thumbnail(IMAGE, [FIT])
        server.wait_until(lambda: not server.open_connections)
    assert sum(sent) < 16 * MIB, "the kernel's buffers hold some megabytes"


@pytest.mark.parametrize("content_type", ["text/html", "text/plain", "application/json"])
async def test_endless_text_is_cut_off(remote, content_type: str) -> None:
    sent: list[int] = []
    with scripted(endless(content_type, sent)) as server:
        engine = await remote(server.url)
        with pytest.raises(errors.ImageError) as caught:
            await engine.identify(IMAGE)
        server.wait_until(lambda: not server.open_connections)
    assert len(caught.value.message) < MAX_TEXT_BYTES
    assert sum(sent) < 16 * MIB


async def test_an_announced_length_is_refused_at_once(remote) -> None:
    def announce(connection) -> bool:
        connection.sendall(head(Content_Type="image/png", Content_Length=1 << 40))
        return hang(connection)

    with scripted(announce) as server, pytest.raises(errors.MemoryLimitExceeded):
        await (await remote(server.url)).thumbnail(IMAGE, [FIT])


async def test_a_reply_of_exactly_the_limit_is_fine(remote) -> None:
    with scripted(answer(bytes(MIB), "image/png", **FACTS)) as server:
        made = await (await remote(server.url, max_reply_bytes=MIB)).thumbnail(IMAGE, [FIT])
    assert len(made.outputs[0].data) == MIB


async def test_a_compressed_reply_is_not_unpacked(remote) -> None:
    bomb = answer(b"bomb", "image/png", Content_Encoding="gzip")
    with scripted(bomb) as server, pytest.raises(errors.ImageError, match="encoded"):
        await (await remote(server.url)).thumbnail(IMAGE, [FIT])


# Malformed replies


PNG = Part("image/png", b"one")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (answer(b"<html>", "text/html; charset=utf-8"), "text/html; charset=utf-8"),
        (send(head(Content_Length=1, Connection="close") + b"x"), "reply without a content type"),
        (like_the_original(), "image/jpeg"),
        (answer(b"", "multipart/mixed"), "thumbnailer sent a malformed reply"),
        (answer(b"--B--\r\n", "multipart/mixed; boundary=B"), "thumbnailer sent 0 thumbnails instead of 2"),
        (multipart(PNG), "thumbnailer sent 1 thumbnails instead of 2"),
        (multipart(PNG, PNG, PNG), "thumbnailer sent 3 thumbnails instead of 2"),
        (
            answer(b"--B\r\nContent-Type: image/png\r\n\r\nx", "multipart/mixed; boundary=B"),
            "thumbnailer sent a malformed reply",
        ),
        (
            answer(join([PNG, PNG], "B") + b"--B", "multipart/mixed; boundary=B"),
            "thumbnailer sent a malformed reply",
        ),
        (
            multipart(PNG, Part("text/plain", b"no status")),
            "thumbnailer sent a part that is neither an image nor an error",
        ),
        (
            multipart(PNG, Part("text/html", b"", {"Status": "400"})),
            "thumbnailer sent a part that is neither an image nor an error",
        ),
        (
            multipart(PNG, Part("text/plain", b"", {"Status": "4²0"})),
            "thumbnailer sent a part that is neither an image nor an error",
        ),
        (multipart(PNG, Part("image/", b"x")), "thumbnailer sent an image without a type or without data"),
        (
            multipart(PNG, Part("image/x\nSet-Cookie: a", b"x")),
            "thumbnailer sent an image without a type or without data",
        ),
        (multipart(PNG, Part("image/png", b"")), "thumbnailer sent an image without a type or without data"),
    ],
)
async def test_malformed_thumbnails(remote, act: Act, message: str) -> None:
    with scripted(act) as server, pytest.raises(errors.ImageError) as caught:
        await (await remote(server.url)).thumbnail(IMAGE, [FIT, CROP])
    assert caught.value.message == message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"width":"4"}', b'{"width":1e99}', b"\xff"])
async def test_malformed_identities(remote, body: bytes) -> None:
    identity = answer(body, "application/json")
    with scripted(identity) as server, pytest.raises(errors.ImageError, match="in no known form"):
        await (await remote(server.url)).identify(IMAGE)


async def test_odd_numbers_are_unknown_ones(remote) -> None:
    odd = {
        "X_Input_Image_Width": "²",
        "X_Input_Image_Height": "9" * 5000,
        "X_Image_Width": "-1",
        "X_Image_Height": "",
    }
    with scripted(answer(b"x", "image/png", X_Input_Image_Mime_Type="nonsense", **odd)) as server:
        made = await (await remote(server.url)).thumbnail(IMAGE, [FIT])
    assert made.source == ImageInfo("", 0, 0)
    assert made.outputs == (Thumbnail(b"x", "image/png", 0, 0),)


# What we send


async def test_an_image_that_has_shrunk_meanwhile_is_no_fault_of_the_server(remote, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(1000))
    blob = FileBlob(os.open(path, os.O_RDONLY), 2000)
    closed = FileBlob(os.open(path, os.O_RDONLY), 1000)
    closed.close()
    with scripted(like_the_original()) as server:
        engine = await remote(server.url)
        for image in (blob, closed):
            with pytest.raises(errors.ImageError, match=r"^image cannot be read$"):
                await engine.thumbnail(image, [FIT])


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:3100", "ftp://127.0.0.1", "http://", "http://[::1", "file:/x"]
)
async def test_a_url_that_leads_nowhere_stops_the_start(url: str) -> None:
    with pytest.raises(errors.ImageError, match="thumbnailer URL"):
        await RemoteEngine(url).start()


# The health check


PICTURE = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(400)


@pytest.mark.covers("s198")
@pytest.mark.parametrize(
    ("act", "status", "message"),
    [
        (answer(PICTURE, "image/jpeg"), 200, "Store OK"),
        (answer(b"JFIF", "image/jpeg"), 502, "bad image data returned from thumbnailer"),
        (answer(bytes(500), "image/jpeg"), 502, "bad image data returned from thumbnailer"),
        (close, 502, "thumbnailer sent no complete reply (URL)"),
    ],
)
async def test_the_health_check(remote, act: Act, status: int, message: str) -> None:
    with scripted(act) as server:
        result = await HealthCheck(await remote(server.url), "Store").answer()
    assert (result.status, result.body.read()) == (
        status,
        message.replace("URL", server.url).encode() + b"\r\n",
    )
    assert server.requests[0].target == "/thumbnail/fit,4,4,jpeg"


async def test_the_health_check_of_a_server_that_is_down(remote) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = await HealthCheck(await remote(url), "Store").answer()
    assert (result.status, result.body.read().decode()) == (
        502,
        f"Connection refused - connect(2) ({url})\r\n",
    )


async def test_the_health_check_passes_other_failures_on(remote) -> None:
    broken = text("broken", "500 Internal Server Error")
    with scripted(broken) as server, pytest.raises(errors.ImageError, match="broken"):
        await HealthCheck(await remote(server.url), "Store").answer()


async def test_the_health_check_does_not_wait_for_ever(remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safelight.server.health.TIMEOUT_S", 0.2)
    with scripted(hang) as server, pytest.raises(errors.Timeout):
        await HealthCheck(await remote(server.url), "Store").answer()


async def test_how_much_work_it_is_stays_here(remote) -> None:
    """An older server would not know the option, and a newer one has a policy of its own."""
    spec = ThumbnailSpec("fit", 1, 2, "png", {"speed": "best", "quality": "84"})
    with scripted(like_the_original()) as server:
        await (await remote(server.url)).thumbnail(IMAGE, [spec])
    assert server.requests[0].target == "/thumbnail/fit,1,2,png,quality:84"
