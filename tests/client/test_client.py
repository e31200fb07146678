"""`safelight.client` against running servers: each test with the synchronous and the asynchronous classes.

client.thumbnail(photo, "...")      # is awaited where it has to be
"""

import asyncio
import io
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from serving import Server
from thumbnailers import answer, close, free_port, hang, scripted, text

from safelight import errors
from safelight.client import (
    AsyncStore,
    AsyncThumbnailer,
    Busy,
    Download,
    ImageInfo,
    SafelightError,
    Signer,
    Store,
    Thumbnail,
    Thumbnailer,
)
from safelight.image.spec import ThumbnailSpec

DATA = Path(__file__).parent.parent / "data"
PHOTO = DATA / "coffee.jpg"
SECRET = "replace-me-secret"
MIB = 1 << 20


class Blocking:
    """An asynchronous client that looks like a synchronous one."""

    def __init__(self, make: Callable[..., Any], *args: Any, **settings: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = make(*args, **settings)
        self._runner.run(self._client.__aenter__())

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not asyncio.iscoroutinefunction(found):
            return found
        return lambda *args, **settings: self._runner.run(found(*args, **settings))

    def __enter__(self) -> "Blocking":
        return self

    def __exit__(self, *exception: object) -> None:
        self._runner.run(self._client.__aexit__(*exception))
        self._runner.close()


@pytest.fixture(params=["synchronous", "asynchronous"])
def kinds(request: pytest.FixtureRequest) -> Iterator[tuple[Callable[..., Any], Callable[..., Any]]]:
    """The classes for a thumbnailer and for a store; clients made of them are closed after the test."""
    opened: list[Any] = []

    def kind(plain: Callable[..., Any], awaited: Callable[..., Any]) -> Callable[..., Any]:
        def make(*args: Any, **settings: Any) -> Any:
            made = (
                plain(*args, **settings)
                if request.param == "synchronous"
                else Blocking(awaited, *args, **settings)
            )
            opened.append(made)
            return made.__enter__()

        return make

    yield kind(Thumbnailer, AsyncThumbnailer), kind(Store, AsyncStore)
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def new_thumbnailer(kinds) -> Callable[..., Any]:
    return kinds[0]


@pytest.fixture
def new_store(kinds) -> Callable[..., Any]:
    return kinds[1]


def size(data: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(data)).size


# The thumbnailer


def test_one_thumbnail(new_thumbnailer, thumbnailer: Server) -> None:
    client = new_thumbnailer(thumbnailer.url + "/")
    for spec in ("crop,40,30,png,quality:50", ThumbnailSpec.parse("crop,40,30,png,quality:50")):
        made = client.thumbnail(PHOTO, spec)
        assert (made.mime_type, made.width, made.height) == ("image/png", 40, 30)
        assert size(made.data) == (40, 30)
    assert client.url == thumbnailer.url


def test_several_thumbnails(new_thumbnailer, thumbnailer: Server) -> None:
    client = new_thumbnailer(thumbnailer.url)
    one, bad, two = client.thumbnails(
        PHOTO.read_bytes(), ["fit,40,40,png", "squeeze,1,1,png", "crop,5,5,jpeg"]
    )
    assert (one.width, two.mime_type) == (40, "image/jpeg")
    assert isinstance(bad, errors.BadRequest)
    assert bad.message == "thumbnail method 'squeeze' is not supported"
    assert [made.width for made in client.thumbnails(PHOTO, ["crop,7,5,png"])] == [7]
    assert client.thumbnails(PHOTO, []) == []


def test_identify(new_thumbnailer, thumbnailer: Server) -> None:
    assert new_thumbnailer(thumbnailer.url).identify(PHOTO) == ImageInfo(
        "image/jpeg", *size(PHOTO.read_bytes())
    )


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ("squeeze,5,5,png", errors.BadRequest, "thumbnail method 'squeeze' is not supported"),
        ("crop,5,5", errors.SpecError, "missing format argument in spec 'crop,5,5'"),
        ("crop,20000,20000,png", errors.TooLarge, "image too large: cache resources exhausted"),
    ],
)
def test_a_specification_that_is_refused(new_thumbnailer, thumbnailer: Server, spec, kind, message) -> None:
    with pytest.raises(kind) as caught:
        new_thumbnailer(thumbnailer.url).thumbnail(PHOTO, spec)
    assert caught.value.message.startswith(message)


def test_an_image_that_is_refused(new_thumbnailer, thumbnailer: Server) -> None:
    client = new_thumbnailer(thumbnailer.url)
    for call in (
        lambda: client.identify(b"no image"),
        lambda: client.thumbnail(b"no image", "crop,5,5,png"),
        lambda: client.thumbnails(b"no image", ["crop,5,5,png", "crop,6,6,png"]),
    ):
        with pytest.raises(errors.UnsupportedMedia, match="unsupported media type: no decode delegate"):
            call()
    with pytest.raises(errors.TooLarge, match="memory limit exceeded"):
        client.identify(bytes(2 * MIB + 1))


# What images can be


@pytest.mark.parametrize("kind", ["bytes", "path", "file", "memory"])
def test_images_come_from_anywhere(new_thumbnailer, thumbnailer: Server, kind: str) -> None:
    data = PHOTO.read_bytes()
    with PHOTO.open("rb") as file:
        image: Any = {"bytes": data, "path": PHOTO, "file": file, "memory": io.BytesIO(data)}[kind]
        assert new_thumbnailer(thumbnailer.url).identify(image).width == size(data)[0]
        assert not file.closed


def test_an_open_file_is_sent_from_where_it_stands(new_store, store: Server, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before" + PHOTO.read_bytes())
    client = new_store(store.url)
    with path.open("rb") as file:
        file.seek(6)
        (name,) = client.upload("/images", file)
    assert client.get(f"/images/{name}").data == PHOTO.read_bytes()


def test_a_pipe_is_sent_in_chunks(new_store, store: Server) -> None:
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(PHOTO.read_bytes())

    thread = threading.Thread(target=write)
    thread.start()
    client = new_store(store.url)
    with os.fdopen(reading, "rb") as pipe:
        (name,) = client.upload("/images", pipe)
    thread.join()
    assert client.get(f"/images/{name}").data == PHOTO.read_bytes()


def test_a_file_is_sent_with_its_length_and_in_pieces(new_thumbnailer, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(3 * MIB))
    identity = answer(b'{"mimeType":"image/png","width":1,"height":2}', "application/json")
    with scripted(identity) as server:
        assert new_thumbnailer(server.url).identify(path) == ImageInfo("image/png", 1, 2)
    sent = {name.lower(): value for name, value in server.requests[0].headers.items()}
    assert sent["content-length"] == str(3 * MIB)
    assert "transfer-encoding" not in sent
    assert len(server.requests[0].body) == 3 * MIB


def test_a_file_that_is_not_there(new_thumbnailer, thumbnailer: Server, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        new_thumbnailer(thumbnailer.url).identify(tmp_path / "nothing")


# The store


def test_a_life_of_an_image(new_store, store: Server) -> None:
    client = new_store(store.url)
    (name,) = client.upload("/images", PHOTO)
    assert client.get(f"/images/{name}") == Download(PHOTO.read_bytes(), "image/jpeg")
    small = client.get(f"thumbnail/{name}/fit/50/50?format=png")
    assert (small.mime_type, size(small.data)) == ("image/png", (50, 33))
    client.delete(f"/images/{name}")
    with pytest.raises(errors.NotFound, match=f"file '{name}' not found"):
        client.get(f"/images/{name}")
    with pytest.raises(errors.NotFound):
        client.delete(f"/images/{name}")


def test_what_a_store_refuses(new_store, store: Server) -> None:
    client = new_store(store.url)
    with pytest.raises(errors.UnsupportedMedia):
        client.upload("/images", b"no image")
    with pytest.raises(errors.TooLarge, match="memory limit exceeded"):
        client.upload("/images", bytes(2 * MIB + 1))
    with pytest.raises(errors.NotFound, match="was not handled by the server"):
        client.upload("/images", PHOTO, method="POST")
    with pytest.raises(errors.UriTooLong):
        client.get("/" + 9000 * "x")
    (name,) = client.upload("/images", PHOTO)
    with pytest.raises(errors.BadRequest, match="width value 'x' is not an integer"):
        client.get(f"/thumbnail/{name}/fit/x/5")


# Signatures


def test_a_signer_signs_every_request(new_store, signed: Server) -> None:
    client = new_store(signed.url, signer=Signer(SECRET, digest="sha256"))
    assert client.upload("/images/some/cat.jpg", PHOTO) == ["some/cat.jpg"]
    url = client.signed_url("/images/some/cat.jpg", expires_in_s=60)
    assert httpx.get(url).content == PHOTO.read_bytes()
    assert url.startswith(f"{signed.url}/images/some/cat.jpg?expires=")
    client.delete("/images/some/cat.jpg")
    assert httpx.get(url).status_code == 404


def test_a_signed_url_ends(new_store, signed: Server) -> None:
    client = new_store(signed.url, signer=Signer(SECRET, digest="sha256"))
    expired = httpx.get(client.signed_url("/images/cat.jpg", expires_in_s=-1))
    assert (expired.status_code, "has expired" in expired.text) == (403, True)
    until = int(re.findall(r"expires=(\d+)&", client.signed_url("/x?y=z", 100))[0])
    assert 90 < until - time.time() < 110
    assert re.fullmatch(rf"{signed.url}/x\?y=z&hmac=[0-9a-f]{{64}}", client.signed_url("x?y=z"))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a b", "a b"),
        ("ä", "ä"),
        ("a%20b", "a b"),
        ("a'b\"c", "a'b\"c"),
        ("a/../b", "a/../b"),
        ("~[]|", "~[]|"),
        ("a+b", "a b"),
    ],
)
def test_what_is_signed_is_what_is_sent(new_store, signed: Server, text: str, read: str) -> None:
    """The HTTP library would rewrite some of these on the way."""
    client = new_store(signed.url, signer=Signer(SECRET, digest="sha256"))
    assert client.get(f"/search?q={text}") == Download(f"{read}\r\n".encode(), "text/plain")


def test_paths_are_sent_as_they_are(new_store, signed: Server) -> None:
    client = new_store(signed.url, signer=Signer(SECRET, digest="sha256"))
    assert client.upload("/images/two words.jpg", PHOTO) == ["two words.jpg"]
    with pytest.raises(errors.Forbidden, match="outside of root"):
        client.upload("/images/../../x", b"data")


@pytest.mark.parametrize("signer", [None, Signer("wrong", digest="sha256"), Signer(SECRET, parameter="x")])
def test_a_wrong_signature_is_refused(new_store, signed: Server, signer: Signer | None) -> None:
    client = new_store(signed.url, signer=signer)
    with pytest.raises(errors.Forbidden, match="HMAC URI authentication with digest 'sha256' failed"):
        client.upload("/images/cat.jpg", PHOTO)


def test_there_are_no_signed_urls_without_a_signer(new_store) -> None:
    with pytest.raises(ValueError, match="without a signer"):
        new_store("http://127.0.0.1:1").signed_url("/x")


def test_a_signer_shows_no_secret() -> None:
    assert "pass123" not in repr(Signer("pass123"))


# Servers that are not there, or not well


ERRORS = [
    ("400 Bad Request", errors.BadRequest),
    ("403 Forbidden", errors.Forbidden),
    ("404 Not Found", errors.NotFound),
    ("413 Too Large", errors.TooLarge),
    ("414 Too Long", errors.UriTooLong),
    ("415 Unsupported", errors.UnsupportedMedia),
    ("504 Timeout", errors.Timeout),
]


@pytest.mark.parametrize(
    ("status", "kind"), [*ERRORS, ("500 Error", errors.StorageError), ("418 Teapot", errors.StorageError)]
)
def test_errors_of_a_store(new_store, status: str, kind: type[SafelightError]) -> None:
    with scripted(text("because", status)) as server:
        client = new_store(server.url)
        for call in (client.get, client.delete, lambda path: client.upload(path, b"data")):
            with pytest.raises(SafelightError) as caught:
                call("/x")
            assert type(caught.value) is kind
            assert caught.value.message == "because"


@pytest.mark.parametrize(
    ("status", "kind"), [*ERRORS, ("500 Error", errors.ImageError), ("502 Bad", errors.ImageError)]
)
def test_errors_of_a_thumbnailer(new_thumbnailer, status: str, kind: type[SafelightError]) -> None:
    with scripted(text("because", status)) as server:
        client = new_thumbnailer(server.url)
        for call in (client.identify, lambda image: client.thumbnail(image, "crop,5,5,png")):
            with pytest.raises(SafelightError) as caught:
                call(b"data")
            assert type(caught.value) is kind
            assert caught.value.message == "because"


def test_a_busy_server_says_when_to_come_back(new_store, new_thumbnailer) -> None:
    busy = answer(b"full\r\n", "text/plain", "503 Busy", Retry_After=12)
    with scripted(busy) as server:
        store, thumbnailer = new_store(server.url), new_thumbnailer(server.url)
        for call in (lambda: store.get("/x"), lambda: thumbnailer.identify(b"data")):
            with pytest.raises(Busy, match="full") as caught:
                call()
            assert caught.value.retry_after_s == 12


def test_a_page_of_a_proxy_is_no_message(new_store) -> None:
    page = answer(b"<html>oh no</html>", "text/html", "502 Bad Gateway")
    with scripted(page) as server, pytest.raises(errors.StorageError) as caught:
        new_store(server.url).get("/x")
    assert caught.value.message == "server answered with status 502"


def test_redirects_are_not_followed(new_store) -> None:
    redirect = answer(b"", "text/plain", "302 Found", Location="/elsewhere")
    with scripted(redirect) as server, pytest.raises(errors.StorageError, match="status 302"):
        new_store(server.url).get("/x")
    assert len(server.requests) == 1


def test_a_server_that_is_not_there(new_store, new_thumbnailer) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for call in (
        lambda: new_store(url).get("/x"),
        lambda: new_thumbnailer(url).identify(PHOTO),
        lambda: new_store("http://[::1").get("/x"),
        lambda: new_store("ftp://127.0.0.1").get("/x"),
    ):
        with pytest.raises(errors.StorageError, match=r"^no answer from (http|ftp)://"):
            call()


def test_a_server_that_breaks_off(new_store) -> None:
    with (
        scripted(close) as server,
        pytest.raises(errors.StorageError, match=f"no answer from {server.url}: "),
    ):
        new_store(server.url).get("/x")


def test_a_server_that_hangs(new_store) -> None:
    with scripted(hang) as server, pytest.raises(errors.StorageError, match="no answer from"):
        new_store(server.url, timeout_s=0.2).get("/x")


def test_nothing_is_answered_but_the_connection_is_there(new_store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(errors.StorageError):
            new_store(url, timeout_s=0.2).get("/x")


# Types


def test_the_package_says_that_it_is_typed() -> None:
    import safelight

    assert (Path(safelight.__file__).parent / "py.typed").exists()


def test_synchronous_and_asynchronous_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert methods(Thumbnailer) == methods(AsyncThumbnailer)
    assert methods(Store) == methods(AsyncStore)
    assert Thumbnail.__module__ != Thumbnailer.__module__
