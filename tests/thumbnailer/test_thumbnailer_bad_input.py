"""Input that no server likes: always a line of text and a status of 4xx, and the server goes on."""

import gzip
import random
from collections.abc import Iterator

import pytest
from image_makers import photo_p, photo_q, png_header
from server_support import RawClient
from thumbnailer_support import Commands, Thumbnailer

ROUTES = ("/thumbnail/fit,16,16,png", "/thumbnails/fit,16,16,png/crop,8,8,jpeg", "/identify")
MIB = 1 << 20


@pytest.fixture(autouse=True)
def goes_on(thumbnailer: Thumbnailer) -> Iterator[None]:
    """After each test the server still works, and nothing is left loaded."""
    yield
    assert thumbnailer.put("/thumbnail/fit,16,16,png", photo_q()).status == 200
    assert thumbnailer.statistic("images_loaded") == 0
    assert "Traceback" not in thumbnailer.log


def check_line(status: int, body: bytes) -> None:
    assert 400 <= status <= 499, (status, body)
    assert body.endswith(b"\r\n")
    assert body.count(b"\n") == 1
    assert len(body) > 2


def corrupt(data: bytes) -> bytes:
    """The head of an image, then noise."""
    return data[:200] + random.Random(1).randbytes(20_000)


BODIES = {
    "nothing": b"",
    "one byte": b"\xff",
    "text": b"just a text\n",
    "zeros": bytes(100_000),
    "noise": random.Random(2).randbytes(50_000),
    "html": b"<html><script>1</script></html>",
    "gzip bomb": gzip.compress(bytes(50 * MIB)),
    "svg bomb": b'<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]><svg xmlns="http://www.w3.org/2000/svg">&d;</svg>',
    "signature of PNG": photo_q()[:8],
    "signature of JPEG": b"\xff\xd8\xff",
    "list of files": b"@/etc/passwd\nlabel:x\n",
    "ImageMagick script": b"push graphic-context\nviewbox 0 0 9 9\nfill 'url(https://a/b)'",
}  # fmt: skip


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", BODIES)
@pytest.mark.covers("t018", "t019")
def test_what_is_no_image(thumbnailer: Thumbnailer, route: str, name: str) -> None:
    response = thumbnailer.put(route, BODIES[name])
    check_line(response.status, response.body)
    assert response.status == 415
    assert response.body.startswith(b"unsupported media type: ")


@pytest.mark.parametrize("route", ROUTES[:2])
def test_damaged_images(thumbnailer: Thumbnailer, route: str) -> None:
    for data in (corrupt(photo_q()), corrupt(photo_p()), photo_p()[:300], photo_q()[:60]):
        response = thumbnailer.put(route, data)
        check_line(response.status, response.body)


@pytest.mark.parametrize("route", ROUTES[:2])
def test_bombs(thumbnailer: Thumbnailer, route: str) -> None:
    for width, height in ((100_000, 100_000), (2**31 - 1, 1), (60_000, 60_000)):
        response = thumbnailer.put(route, png_header(width, height))
        check_line(response.status, response.body)


def test_too_many_edits(thumbnailer: Thumbnailer) -> None:
    response = thumbnailer.put("/thumbnail/fit,8,8,png" + "!a" * 10_000, photo_q())
    assert (response.status, response.body) == (414, b"request URI is too long\r\n")
    endless = thumbnailer.put("/thumbnail/fit,8,8,png" + "!rotate,1" * 10_000, photo_q())
    assert endless.status in (400, 414)  # more than any head of a request may have, and not parsed to its end
    response = thumbnailer.put("/thumbnail/fit,8,8,png" + "!a" * 65, photo_q())
    check_line(response.status, response.body)
    assert response.body.startswith(b"too many edits: 65, at most 64 are allowed in spec 'fit,8,8,png!a!a")


def test_too_many_specifications(thumbnailer: Thumbnailer) -> None:
    response = thumbnailer.put("/thumbnails/" + "/".join(["fit,8,8,png"] * 33), photo_q())
    assert (response.status, response.body) == (
        400,
        b"too many thumbnail specs: 33, at most 32 are allowed\r\n",
    )


@pytest.mark.parametrize(
    "spec",
    ["fit,99999999999999999999,8,png", "fit,8,8,png!rotate,1e309", "fit,8,8,png!resize_fit,nan,1",
     "fit,8,8,png!resize_crop,-5,10", "fit,8,8,png!crop,1.5,0,inf,1", "crop,8,8,png,float-x:1e309",
     "fit,999999999,999999999,png", "fit,8,8,png!resize_fit,1e30,1e30", "fit,%zz,8,png", "fit,8,8,%zz",
     "fit,8,8,png!%zz", "fit,8,8,png!rotate,%zz", "fit,8,8,png,%zz", "%", "fit,8,8,png/%2e%2e/etc/passwd"],
)  # fmt: skip
def test_absurd_specifications(thumbnailer: Thumbnailer, spec: str) -> None:
    response = thumbnailer.put(f"/thumbnail/{spec}", photo_p())
    check_line(response.status, response.body)


@pytest.mark.parametrize("octets", [b"\xff\xfe", b"\xc3\xa9", b"%00", b"'\""])
def test_absurd_bytes_in_paths(thumbnailer: Thumbnailer, octets: bytes) -> None:
    with RawClient(thumbnailer.port) as client:
        client.send(
            b"PUT /thumbnail/fit,8," + octets + b",png HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
        )
        response = client.response()
    assert response.status == 400
    assert response.body.isascii()
    if response.body:
        check_line(response.status, response.body)


@pytest.fixture
def small(commands: Commands) -> Thumbnailer:
    return commands.start("--worker-processes", "1", "--limit-memory", "1")


@pytest.mark.covers("t113")
def test_bodies_beyond_the_limit(small: Thumbnailer) -> None:
    """Refused by their announced length; without one, when the limit is passed."""
    for route in ROUTES:
        for size in (MIB + 1, MIB * 3 // 2):
            response = small.put(route, bytes(size))
            assert (response.status, response.body) == (413, b"memory limit exceeded\r\n")
    assert small.put(ROUTES[0], bytes(MIB)).status == 415
    with RawClient(small.port, timeout_s=60) as client:
        client.request("PUT /identify HTTP/1.1\nHost: a\nTransfer-Encoding: chunked")
        piece = bytes(1 << 16)
        for _ in range(20):
            client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        response = client.response()
    assert (response.status, response.body) == (413, b"memory limit exceeded\r\n")
    assert small.put(ROUTES[0], photo_p()).status == 200
