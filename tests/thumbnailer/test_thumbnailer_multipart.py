"""Several thumbnails of one image (reference/thumbnailer section 5)."""

import re

import pytest
from image_makers import array, large_l, photo_p, photo_q, pillow
from thumbnailer_support import Thumbnailer, parts_of

from safelight.multipart import Part


def texts(parts: list[Part]) -> list[str]:
    return [part.body.decode() if part.content_type == "text/plain" else part.content_type for part in parts]


@pytest.mark.covers("t105", "t108")
def test_headers(thumbnailer: Thumbnailer) -> None:
    response = thumbnailer.put("/thumbnails/fit,8,8,png/fit,9,9,jpeg", photo_q())
    version_4 = (
        r'multipart/mixed; boundary="[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"'
    )
    assert re.fullmatch(version_4, response.headers["content-type"])
    assert {name: text for name, text in response.headers.items() if name.startswith("x-i")} == {
        "x-input-image-mime-type": "image/png",
        "x-input-image-width": "509",
        "x-input-image-height": "719",
    }


@pytest.mark.covers("t106", "t107", "t109")
def test_framing(thumbnailer: Thumbnailer) -> None:
    response = thumbnailer.put("/thumbnails/fit,8,8,png/blah,8,8,png/", photo_q())
    boundary = response.headers["content-type"].split('"')[1]
    parts = parts_of(response)
    assert pillow(parts[0].body).size == (6, 8)
    good = "Content-Type: image/png\r\nX-Image-Width: 6\r\nX-Image-Height: 8\r\n\r\n"
    bad = "Content-Type: text/plain\r\nStatus: 400\r\n\r\nthumbnail method 'blah' is not supported"
    assert response.body == b"".join(
        [
            f"--{boundary}\r\n{good}".encode(),
            parts[0].body,
            f"\r\n--{boundary}\r\n{bad}\r\n--{boundary}--\r\n".encode(),
        ]
    )


@pytest.mark.covers("t110")
def test_a_failure_is_alone_in_its_part(thumbnailer: Thumbnailer) -> None:
    """What was 500 in parts of the older server is 400, as its documentation promises."""
    specs = {
        "fit,16,16,png": (None, "image/png"),
        "crop,0,16,png": ("400", "at least one image dimension is zero: 0x16"),
        "crop,16000,16000,png": ("413", "image too large: cache resources exhausted"),
        "pad,16,16,png,background-color:zz": ("400", "invalid color name: zz"),
        "fit,16,16,png!nope": ("400", "no edit with name 'nope' is supported"),
        "fit,16,16,xyz": ("400", "unknown format: XYZ"),
        "fit,16,16,png,interlace:x": ("400", "unsupported interlace: x"),
        "fit,16,16,png!rotate,x": (
            "400",
            "error while applying edit 'rotate': expected argument 'angle' to be a float, got: x",
        ),
        "fit,24,24,jpeg": (None, "image/jpeg"),
    }
    parts = parts_of(thumbnailer.put("/thumbnails/" + "/".join(specs), photo_p()))
    assert [part.headers.get("status") for part in parts] == [status for status, _ in specs.values()]
    assert texts(parts) == [text for _, text in specs.values()]
    assert pillow(parts[-1].body).size == (17, 24)


@pytest.mark.covers("t079", "t110")
def test_edits_stay_in_their_part(thumbnailer: Thumbnailer) -> None:
    parts = parts_of(
        thumbnailer.put("/thumbnails/fit,32,32,png!rotate,90/fit,32,32,png/fit,32,32,png", photo_p())
    )
    assert [pillow(part.body).size for part in parts] == [(32, 23), (23, 32), (23, 32)]
    assert (array(parts[1].body) == array(parts[2].body)).all()


@pytest.mark.parametrize("target", ["/thumbnails/", "/thumbnails//", "/thumbnails///?x"])
@pytest.mark.covers("t111")
def test_no_specification_gives_the_closing_delimiter_only(thumbnailer: Thumbnailer, target: str) -> None:
    """The image is decoded all the same."""
    response = thumbnailer.put(target, photo_q())
    boundary = response.headers["content-type"].split('"')[1]
    assert (response.status, response.body.decode()) == (200, f"--{boundary}--\r\n")
    assert response.headers["x-input-image-height"] == "719"
    assert thumbnailer.put(target, b"no image").status == 415


@pytest.mark.covers("t112")
def test_a_request_whose_parts_all_fail_is_fine(thumbnailer: Thumbnailer) -> None:
    parts = parts_of(thumbnailer.put("/thumbnails/a,1,1,png/b,1,1,png", photo_q()))
    assert texts(parts) == [
        "thumbnail method 'a' is not supported",
        "thumbnail method 'b' is not supported",
    ]


@pytest.mark.covers("t041", "t042")
def test_an_empty_specification_fails_the_request(thumbnailer: Thumbnailer) -> None:
    response = thumbnailer.put("/thumbnails/fit,8,8,png//fit,9,9,png", photo_q())
    assert (response.status, response.body) == (400, b"missing method argument in spec ''\r\n")


@pytest.mark.covers("t110")
def test_many_of_which_some_fail(thumbnailer: Thumbnailer) -> None:
    specs = ["fit,8,8,png" if number % 3 else "fit,8,8,png!rotate,nan" for number in range(32)]
    parts = parts_of(thumbnailer.put("/thumbnails/" + "/".join(specs), photo_q()))
    assert [part.content_type for part in parts] == [
        "image/png" if number % 3 else "text/plain" for number in range(32)
    ]


@pytest.mark.covers("t114", "t115", "t116")
def test_large_images(thumbnailer: Thumbnailer) -> None:
    single = thumbnailer.put("/thumbnail/crop,16000,16000,png", photo_p())
    assert (single.status, single.body) == (413, b"image too large: cache resources exhausted\r\n")
    small = thumbnailer.put("/thumbnails/crop,16,16,png", large_l())
    assert small.headers["x-input-image-width"] == "9911"
    assert [pillow(part.body).size for part in parts_of(small)] == [(16, 16)]
    big = thumbnailer.put("/thumbnail/crop,7000,7000,png", large_l())
    assert (big.status, big.body) == (413, b"image too large: cache resources exhausted\r\n")
    found = thumbnailer.put("/identify", large_l())
    assert found.body == b'{"mimeType":"image/jpeg","width":9911,"height":14000}'
