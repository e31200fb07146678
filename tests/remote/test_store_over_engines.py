"""The store is the same whether its engine is the embedded pool or another server.

Every test asks two running servers with one configuration, one with the pool and one whose `thumbnailer` is a
running `safelight thumbnailer`, and compares; some compare with what is known besides.
"""

import base64
import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from PIL import Image
from serving import Server, Servers
from thumbnailers import Scripted, ThumbnailerServers, free_port, kept, scripted

DATA = Path(__file__).parent.parent / "data"
MIB = 1 << 20
API = """
path {
    "facts" "#{input_image_width}x#{input_image_height}.#{input_image_mime_extension}"
    "size" "#{image_width}x#{image_height}"
    "hash" "#{input_digest}.#{image_mime_extension}"
}
put "single" ":operation" ":width" ":height" ":format" "&:options?" "&:edits?" {
    thumbnail "input" "a" operation="#{operation}" width="#{width}" height="#{height}" format="#{format}" \\
        options="#{options}" edits="#{edits}"
    output_image "a"
}
put "edited" {
    thumbnail "input" "a" operation="crop" width=60 height=40 format="png" {
        edit "rotate" "30" background-color="blue"
        edit "pixelate" "0.2" "0.2" "0.5" "0.5" size="0.1"
    }
    output_image "a"
}
put "grouped" ":pick" {
    thumbnail "input" {
        "a" operation="crop" width=50 height=30 format="jpeg" quality=70 if-image-name-on="#{pick}"
        "b" operation="pad" width=60 height=60 format="png" background-color="red" if-image-name-on="#{pick}"
        "c" operation="fit" width=20 height=20 format="webp" if-image-name-on="#{pick}"
    }
    output_store_path
}
put "grouped-image" ":name" {
    thumbnail "input" {
        "a" operation="crop" width=50 height=30 format="jpeg" quality=70
        "b" operation="pad" width=60 height=60 format="png" background-color="red"
        "c" operation="fit" width=20 height=20
    }
    output_image "b"
}
put "failing-part" ":operation" ":side" {
    thumbnail "input" {
        "good" operation="crop" width=50 height=30
        "bad" operation="#{operation}" width="#{side}" height="#{side}"
        "also-good" operation="crop" width=50 height=30
    }
    output_image "good"
}
put "facts" {
    thumbnail "input" "a" operation="fit" width=20 height=20 format="png"
    store_file "input" root="files" path="facts"
    output_store_path "input"
}
put "size" {
    thumbnail "input" "a" operation="fit" width=50 height=50 format="png"
    store_file "a" root="files" path="size"
    output_store_path "a"
}
put "typed-by-thumbnail" {
    thumbnail "input" "a" operation="fit" width=20 height=20 format="png"
    output_image "input"
}
put "typed-by-identify" {
    identify "input"
    output_image "input"
}
put "identify" {
    identify "input"
    store_file "input" root="files" path="facts"
    output_store_path "input"
}
put "chain" {
    thumbnail "input" "middle" operation="crop" width=200 height=100 format="png"
    thumbnail "middle" "small" operation="fit" width=50 height=50
    output_image "small"
}
put "data-uri" {
    thumbnail "input" "a" operation="crop" width=8 height=8 format="png"
    output_data_uri_image "a"
}
put "large" {
    thumbnail "input" "a" operation="pad" width=1200 height=1200 format="png" quality=0
    output_image "a"
}
put "several-large" {
    thumbnail "input" "a" operation="pad" width=800 height=800 format="png" quality=0
    thumbnail "input" "b" operation="pad" width=800 height=800 format="png" quality=0
    thumbnail "input" "c" operation="pad" width=800 height=800 format="png" quality=0
    output_image "a"
}
"""
OPTIONS = ("--workers", "2", "--limit-memory", "4")


@dataclass(frozen=True)
class Pair:
    """Two stores that must not be told apart."""

    pool: Server
    remote: Server

    def both(self, method: str, target: str, body: bytes = b"") -> list[httpx.Response]:
        return [
            httpx.request(method, server.url + target, content=body, timeout=60)
            for server in (self.pool, self.remote)
        ]

    def same(self, method: str, target: str, body: bytes = b"") -> httpx.Response:
        """The answer of both. Their files are of one encoder, so the bytes must be equal too."""
        ours, theirs = self.both(method, target, body)
        assert (ours.status_code, ours.headers["content-type"]) == (
            theirs.status_code,
            theirs.headers["content-type"],
        ), (ours.text[:200], theirs.text[:200])
        assert ours.content == theirs.content
        return ours


@pytest.fixture(scope="module")
def pair(shared_servers: Servers, thumbnailer: Server) -> Pair:
    configured = f'thumbnailer url="{thumbnailer.url}"\n{API}'
    return Pair(shared_servers.start(API, *OPTIONS), shared_servers.start(configured, *OPTIONS))


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A JPEG of 600 x 400 pixels."""
    return (DATA / "coffee.jpg").read_bytes()


def size(answer: httpx.Response) -> tuple[int, int]:
    return Image.open(io.BytesIO(answer.content)).size


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/single/fit/128/128/jpeg", (128, 85)),
        ("/single/crop/64/48/png", (64, 48)),
        ("/single/pad/90/90/webp", (90, 90)),
        ("/single/limit/5000/100/jpeg", (150, 100)),
        ("/single/crop/input/30/jpeg", (600, 30)),
        ("/single/crop/20/20/input", (20, 20)),
        ("/single/crop/64/48/jpeg?options=quality:20,interlace:LineInterlace", (64, 48)),
        ("/single/pad/90/90/png?options=background-color:0x00ff00", (90, 90)),
        ("/single/fit/128/128/png?edits=rotate,90", (85, 128)),
        ("/single/fit/60/60/png?edits=crop,0.1,0.1,0.5,0.5!blur,0,0,0.5,0.5,sigma:0.02", (60, 40)),
    ],
)
def test_single_thumbnails(pair: Pair, photo: bytes, target: str, expected: tuple[int, int]) -> None:
    answer = pair.same("PUT", target, photo)
    assert answer.status_code == 200
    assert size(answer) == expected


def test_edits_of_the_configuration(pair: Pair, photo: bytes) -> None:
    assert size(pair.same("PUT", "/edited", photo)) == (60, 40)


def test_grouped_thumbnails(pair: Pair, photo: bytes) -> None:
    answer = pair.same("PUT", "/grouped-image/b", photo)
    assert (size(answer), answer.headers["content-type"]) == ((60, 60), "image/png")


@pytest.mark.parametrize("names", ["a", "c", "a,c", "a,b,c", "none"])
def test_some_of_a_group(pair: Pair, photo: bytes, names: str) -> None:
    answer = pair.same("PUT", f"/grouped/{names}", photo)
    assert answer.status_code == (400 if names == "none" else 200)


@pytest.mark.parametrize("name", ["coffee.jpg", "chelsea.png", "rocket.jpg"])
def test_the_input_learns_its_type_and_size(pair: Pair, name: str) -> None:
    picture = (DATA / name).read_bytes()
    width, height = Image.open(io.BytesIO(picture)).size
    kind = name.rpartition(".")[2]
    for endpoint in ("/facts", "/identify"):
        assert pair.same("PUT", endpoint, picture).text == f"{width}x{height}.{kind}\r\n"
    for endpoint in ("/typed-by-thumbnail", "/typed-by-identify"):
        answer = pair.same("PUT", endpoint, picture)
        assert answer.headers["content-type"] == f"image/{kind.replace('jpg', 'jpeg')}"
        assert answer.content == picture


def test_a_thumbnail_knows_its_size(pair: Pair, photo: bytes) -> None:
    assert pair.same("PUT", "/size", photo).text == "50x33\r\n"


def test_a_thumbnail_of_a_thumbnail(pair: Pair, photo: bytes) -> None:
    answer = pair.same("PUT", "/chain", photo)
    assert (size(answer), answer.headers["content-type"]) == ((50, 25), "image/png")


def test_a_data_uri(pair: Pair, photo: bytes) -> None:
    prefix, _, data = pair.same("PUT", "/data-uri", photo).text.partition(",")
    assert prefix == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (8, 8)


@pytest.mark.covers("s120", "s121")
@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        (
            "/single/squeeze/5/5/png",
            400,
            "thumbnailing of 'input' into 'a' failed: thumbnail method 'squeeze' is not supported",
        ),
        (
            "/single/fit/0/5/png",
            400,
            "thumbnailing of 'input' into 'a' failed: at least one image dimension is zero: 0x5",
        ),
        (
            "/single/crop/5/5/png?edits=fold",
            400,
            "thumbnailing of 'input' into 'a' failed: no edit with name",
        ),
        ("/single/crop/5/5/tar", 400, "thumbnailing of 'input' into 'a' failed: unknown format: TAR"),
        ("/single/crop/20000/20000/png", 413, "thumbnailing of 'input' into 'a' failed: image too large: "),
        (
            "/failing-part/squeeze/5",
            400,
            "thumbnailing of 'input' into 'bad' failed: thumbnail method 'squeeze' is not supported",
        ),
        (
            "/failing-part/fit/0",
            400,
            "thumbnailing of 'input' into 'bad' failed: at least one image dimension is zero: 0x0",
        ),
        ("/failing-part/fit/20000", 413, "thumbnailing of 'input' into 'bad' failed: image too large: "),
    ],
)
def test_what_fails_for_one_thumbnail(
    pair: Pair, photo: bytes, target: str, status: int, message: str
) -> None:
    answer = pair.same("PUT", target, photo)
    assert answer.status_code == status
    assert answer.text.startswith(message)
    assert answer.text.count("\r\n") == 1


@pytest.mark.covers("s119", "s120", "s121", "s126")
@pytest.mark.parametrize("body", [b"twelve bytes", b"\xff\xd8\xff\xe0 no more"])
@pytest.mark.parametrize(
    ("target", "prefix"),
    [
        ("/single/fit/5/5/png", "thumbnailing of 'input' into 'a' failed: "),
        ("/grouped/a", "thumbnailing of 'input' into 'a' failed: "),
        ("/grouped/a,b", "thumbnailing of 'input' failed: "),
        ("/typed-by-identify", ""),
    ],
)
def test_what_no_decoder_accepts(pair: Pair, target: str, prefix: str, body: bytes) -> None:
    answer = pair.same("PUT", target, body)
    assert answer.status_code == 415
    assert answer.text.startswith(f"{prefix}unsupported media type: ")


def test_no_body(pair: Pair) -> None:
    assert pair.same("PUT", "/single/fit/5/5/png").status_code == 400


@pytest.mark.parametrize("colour", ["fff", "ff8000", "f008", "FF800080"])
def test_colours_in_hexadecimal(pair: Pair, photo: bytes, colour: str) -> None:
    """A remote server reads no escapes, so `#` cannot be sent to it, but `0x` means the same."""
    for target in ("/single/pad/9/9/png?options=background-color:%23", "/single/fit/9/9/png?edits=rotate,30"):
        edit = ",background-color:%23" if "edits" in target else ""
        assert pair.same("PUT", f"{target}{edit}{colour}", photo).status_code == 200


@pytest.mark.parametrize("target", ["/single/fit/x/5/png", "/single/fit/5/5/png?options=a", "/grouped/"])
def test_bad_requests(pair: Pair, photo: bytes, target: str) -> None:
    assert pair.same("PUT", target, photo).status_code in (400, 404)


@pytest.mark.parametrize("text", ["a%2Fb", "x%3Fy", "%23ff", "50%25", "two%20words", "%C3%A9", "../.."])
def test_odd_values_stay_values(pair: Pair, photo: bytes, text: str) -> None:
    """Sharp edge S36: what a client writes into an option must not become another request.

    A remote server reads escapes as they are, so its messages may show them.
    """
    ours, theirs = pair.both("PUT", f"/single/pad/9/9/png?options=background-color:{text}", photo)
    assert ours.status_code == theirs.status_code == 400
    start = "thumbnailing of 'input' into 'a' failed: invalid color name: "
    assert ours.text.startswith(start)
    assert theirs.text.startswith(start)


def test_what_a_client_chooses_adds_no_edit(pair: Pair, photo: bytes) -> None:
    ours, theirs = pair.both("PUT", "/single/fit/30/20/png,a:b!resize_stretch,9,900", photo)
    assert ours.status_code == theirs.status_code == 400
    assert "unknown format: PNG" in theirs.text


def test_memory_is_limited(pair: Pair, photo: bytes) -> None:
    """A body, and thumbnails that are together more than 4 MiB."""
    assert pair.same("PUT", "/typed-by-identify", bytes(4 * MIB + 1)).status_code == 413
    answer = pair.same("PUT", "/several-large", photo)
    assert (answer.status_code, answer.text) == (413, "memory limit exceeded\r\n")


def test_a_thumbnail_of_more_than_the_limit(pair: Pair, photo: bytes) -> None:
    """Refused by the pool's worker, or by the store that gets it: the texts differ."""
    for answer in pair.both("PUT", "/large", photo):
        assert answer.status_code == 413
        assert "memory limit" in answer.text


def test_health(pair: Pair) -> None:
    assert pair.same("GET", "/health_check").text == "HTTP Image Store OK\r\n"


def test_statistics(pair: Pair, photo: bytes) -> None:
    names = ("thumbnail_requests", "thumbnail_requests_bytes", "thumbnail_thumbnails", "identify_requests")

    def read() -> list[list[int]]:
        both = [pair.both("GET", f"/stats/total_{name}") for name in names]
        return [[int(answers[index].text) for answers in both] for index in range(2)]

    before = read()
    pair.same("PUT", "/grouped/a,b", photo)
    pair.same("PUT", "/typed-by-identify", photo)
    pair.same("PUT", "/failing-part/squeeze/5", photo)
    rises = [
        [after - earlier for after, earlier in zip(*counts, strict=True)]
        for counts in zip(read(), before, strict=True)
    ]
    assert rises == [[2, 2 * len(photo), 2, 1]] * 2


def test_many_at_once(pair: Pair, photo: bytes) -> None:
    def ask(side: int) -> bytes:
        return pair.same("PUT", f"/single/crop/{side}/{side}/png", photo).content

    with ThreadPoolExecutor(8) as threads:
        pictures = list(threads.map(ask, range(10, 42)))
    assert [Image.open(io.BytesIO(picture)).size for picture in pictures] == [(n, n) for n in range(10, 42)]


def test_neither_has_logged_a_trace(pair: Pair) -> None:
    for server in (pair.pool, pair.remote):
        assert "Traceback" not in server.log


# What only a remote engine can do wrong


@pytest.fixture
def original() -> Iterator[Scripted]:
    """One that answers 503."""
    busy = kept(b"full\r\n", "text/plain", "503 Service Unavailable", Retry_After=9)
    with scripted(busy) as server:
        yield server


def test_a_busy_thumbnailer_is_passed_on(servers: Servers, original: Scripted, photo: bytes) -> None:
    store = servers.start(API, "--thumbnailer", original.url)
    for target, message in (
        ("/single/fit/5/5/png", "thumbnailing of 'input' into 'a' failed: full\r\n"),
        ("/grouped/a,b", "thumbnailing of 'input' failed: full\r\n"),
        ("/typed-by-identify", "full\r\n"),
    ):
        answer = httpx.put(store.url + target, content=photo)
        assert (answer.status_code, answer.text) == (503, message)
        assert answer.headers["retry-after"] == "9"


@pytest.mark.covers("s198")
def test_a_thumbnailer_that_is_down(servers: Servers, photo: bytes) -> None:
    """Sharp edge S50."""
    url = f"http://127.0.0.1:{free_port()}"
    store = servers.start(
        f'thumbnailer url="{url}"\n{API}', environment={"SAFELIGHT_THUMBNAILER": "http://x"}
    )
    refused = f"Connection refused - connect(2) ({url})\r\n"
    answer = httpx.put(f"{store.url}/single/fit/5/5/png", content=photo, timeout=60)
    assert (answer.status_code, answer.text) == (500, f"thumbnailing of 'input' into 'a' failed: {refused}")
    answer = httpx.get(f"{store.url}/health_check")
    assert (answer.status_code, answer.text) == (502, refused)


def test_a_thumbnailer_that_comes_back(servers: Servers, tmp_path: Path, photo: bytes) -> None:
    """The connection that the store has kept is closed meanwhile."""
    address = f"127.0.0.1:{free_port()}"
    thumbnailers = ThumbnailerServers(tmp_path)
    try:
        first = thumbnailers.start(None, "--workers", "1", listen=(address,))
        store = servers.start(API, "--thumbnailer", first.url)
        target = f"{store.url}/single/fit/5/5/png"
        assert httpx.put(target, content=photo, timeout=60).status_code == 200
        first.stop()
        assert httpx.put(target, content=photo, timeout=60).status_code == 500
        thumbnailers.start(None, "--workers", "1", listen=(address,))
        assert httpx.put(target, content=photo, timeout=60).status_code == 200
    finally:
        thumbnailers.stop_all()


def test_a_thumbnailer_that_hangs_is_left_at_the_deadline(servers: Servers, photo: bytes) -> None:
    def hang(connection) -> bool:
        connection.recv(1)
        return False

    with scripted(hang) as server:
        store = servers.start(API, "--thumbnailer", server.url, "--request-timeout", "1")
        answer = httpx.put(f"{store.url}/single/fit/5/5/png", content=photo, timeout=20)
        assert answer.status_code == 504
        server.wait_until(lambda: not server.open_connections)


def test_a_url_without_a_scheme_stops_the_start(servers: Servers) -> None:
    process, _, log = servers.launch('thumbnailer url="127.0.0.1:3100"\n', "--workers", "1")
    assert process.wait(30) != 0
    assert re.search(r"cannot start: thumbnailer URL '127\.0\.0\.1:3100' does not begin", log.read_text())
