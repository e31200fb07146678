"""Routes, texts and headers of the thumbnailer, on a real server (reference/thumbnailer sections 1 to 4)."""

import json
import re

import pytest
from image_makers import alpha_a, photo_p, photo_q, pillow
from server_support import RawClient
from thumbnailer_support import Thumbnailer

from safelight.server.health import PICTURE

ANGLE = "error while applying edit 'rotate': expected argument 'angle' to be a float"
FLOAT_X = "error while thumbnailing with method 'crop': expected argument 'float-x' to be a float"
NOT_HANDLED = "request for URI '{}' was not handled by the server\r\n"


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
@pytest.mark.parametrize(
    ("target", "text"),
    [
        pytest.param("/", "HTTP Thumbnailer\r\n", marks=pytest.mark.covers("t001")),
        pytest.param("/?a=b", "HTTP Thumbnailer\r\n", marks=pytest.mark.covers("t001", "t009")),
        pytest.param("/health_check", "HTTP Thumbnailer OK\r\n", marks=pytest.mark.covers("t002")),
        pytest.param("/health_check/x/y?z", "HTTP Thumbnailer OK\r\n", marks=pytest.mark.covers("t003")),
    ],
)
def test_fixed_texts_for_any_method(thumbnailer: Thumbnailer, method: str, target: str, text: str) -> None:
    response = thumbnailer.ask(method, target)
    assert (response.status, response.body.decode()) == (200, text)
    assert response.headers["content-type"] == "text/plain"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        pytest.param("GET", "/blah", marks=pytest.mark.covers("t004")),
        pytest.param("PUT", "/blah/thumbnails/crop,0,0,PNG", marks=pytest.mark.covers("t005")),
        pytest.param("GET", "/thumbnail/crop,1,1,png", marks=pytest.mark.covers("t006")),
        pytest.param("POST", "/thumbnail/crop,1,1,png", marks=pytest.mark.covers("t006")),
        pytest.param("POST", "/identify", marks=pytest.mark.covers("t007")),
        pytest.param("GET", "/identify", marks=pytest.mark.covers("t007")),
        pytest.param("PUT", "/thumbnail", marks=pytest.mark.covers("t008")),
        pytest.param("PUT", "/thumbnails", marks=pytest.mark.covers("t008")),
        ("PUT", "/identifying"),
        ("GET", "/statsx"),
        ("GET", "/health_checks"),
        ("GET", "/%68ealth_check"),
        ("GET", "/a%zzb"),
        ("PUT", "/thumbnail%2Ffit,1,1,png"),
        ("GET", "//"),
        ("GET", "/_raindrops"),
    ],
)
def test_everything_else_is_not_handled(thumbnailer: Thumbnailer, method: str, target: str) -> None:
    for query in ("", "?", "?a=%zz/b"):
        response = thumbnailer.ask(method, target + query)
        assert (response.status, response.body.decode()) == (404, NOT_HANDLED.format(target))
        assert response.headers["content-type"] == "text/plain"


@pytest.mark.covers("t009")
def test_queries_and_content_types_are_ignored(thumbnailer: Thumbnailer) -> None:
    response = thumbnailer.put(
        "/thumbnail/fit,8,8,png?fit,9,9,png&%zz", photo_q(), "Content-Type: image/autodetect\n"
    )
    assert pillow(response.body).size == (6, 8)
    response = thumbnailer.put("/identify?x", photo_q(), "Content-Type: text/html\n")
    assert json.loads(response.body)["width"] == 509


@pytest.mark.covers("t010", "t011", "t012")
def test_no_charset_always_a_length_and_connections_are_kept(thumbnailer: Thumbnailer) -> None:
    requests = [
        ("GET", "/"),
        ("GET", "/stats"),
        ("GET", "/stats/workers"),
        ("GET", "/health_check"),
        ("GET", "/blah"),
        ("PUT", "/identify"),
        ("PUT", "/thumbnail/fit,8,8,png"),
        ("PUT", "/thumbnail/fit,8,8,jpeg"),
        ("PUT", "/thumbnail/fit,8,8,blah"),
        ("PUT", "/thumbnails/fit,8,8,png/crop,8,8,jpeg"),
    ]
    with RawClient(thumbnailer.port, timeout_s=60) as client:
        for method, target in requests:
            body = alpha_a() if method == "PUT" else b""
            client.request(f"{method} {target} HTTP/1.1\nHost: test\nContent-Length: {len(body)}", body)
            response = client.response()
            assert "charset" not in response.headers["content-type"]
            assert int(response.headers["content-length"]) == len(response.body)
            assert "transfer-encoding" not in response.headers
            assert response.headers.get("connection", "keep-alive") == "keep-alive"
            assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", response.headers["date"])


@pytest.mark.covers("t013")
def test_paths_are_never_decoded(thumbnailer: Thumbnailer) -> None:
    response = thumbnailer.put("/thumbnail/pad,32,32,png,background-color:%23ff0000", photo_q())
    assert (response.status, response.body) == (400, b"invalid color name: %23ff0000\r\n")
    response = thumbnailer.put("/thumbnail/pad,32,32,png!rotate,%2030", photo_q())
    assert response.status == 400
    assert response.body.endswith(b"expected argument 'angle' to be a float, got: %2030\r\n")
    response = thumbnailer.put("/thumbnail/fit%2C8,8,png", photo_q())
    assert response.body == b"missing format argument in spec 'fit%2C8,8,png'\r\n"


@pytest.mark.parametrize("target", ["/", "/blah", "/health_check", "/stats"])
@pytest.mark.covers("t014")
def test_head_has_the_headers_of_get(thumbnailer: Thumbnailer, target: str) -> None:
    for _ in range(5):
        before = thumbnailer.get(target)
        with RawClient(thumbnailer.port) as client:
            client.request(f"HEAD {target} HTTP/1.1\nHost: test\nConnection: close")
            head = client.response(head_only=True)
            assert client.is_closed()  # nothing followed
        after = thumbnailer.get(target)
        if len(before.body) == len(after.body):  # no counter of /stats got another digit in between
            break
    assert head.status == after.status
    for name in ("content-type", "content-length"):
        assert head.headers[name] == after.headers[name]


# Identify


@pytest.mark.covers("t015", "t017")
def test_identities_are_compact_json(thumbnailer: Thumbnailer) -> None:
    response = thumbnailer.put("/identify", photo_p())
    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    assert response.body == b'{"mimeType":"image/jpeg","width":509,"height":719}'
    assert not [name for name in response.headers if name.startswith(("x-image", "x-input"))]
    response = thumbnailer.put("/identify/anything", photo_q())
    assert response.body == b'{"mimeType":"image/png","width":509,"height":719}'


@pytest.mark.parametrize("route", ["/identify", "/thumbnail/fit,8,8,png", "/thumbnails/fit,8,8,png"])
@pytest.mark.covers("t018", "t019")
def test_what_is_no_image_is_unsupported(thumbnailer: Thumbnailer, route: str) -> None:
    text = thumbnailer.put(route, b"just a text\n")
    assert (text.status, text.headers["content-type"]) == (415, "text/plain")
    assert text.body.startswith(b"unsupported media type: no decode delegate for this image format"), (
        text.body
    )
    nothing = thumbnailer.put(route)
    assert nothing.status == 415
    assert nothing.body.startswith(b"unsupported media type: zero-length blob not permitted"), nothing.body


# One image


@pytest.mark.parametrize(
    ("image_format", "mime_type"),
    [("jpeg", "image/jpeg"), ("JpEg", "image/jpeg"), ("jpg", "image/jpeg"), ("png", "image/png"),
     ("gif", "image/gif"), ("webp", "image/webp"), ("tiff", "image/tiff"), ("input", "image/png")],
)  # fmt: skip
@pytest.mark.covers("t092")
def test_one_image_and_what_its_headers_say(
    thumbnailer: Thumbnailer, image_format: str, mime_type: str
) -> None:
    response = thumbnailer.put(f"/thumbnail/fit,128,128,{image_format}", photo_q())
    assert (response.status, response.headers["content-type"]) == (200, mime_type)
    assert pillow(response.body).size == (91, 128)
    headers = {name: text for name, text in response.headers.items() if name.startswith("x-i")}
    assert headers == {
        "x-image-width": "91",
        "x-image-height": "128",
        "x-input-image-mime-type": "image/png",
        "x-input-image-width": "509",
        "x-input-image-height": "719",
    }


def test_the_health_check_of_an_image_store_passes(thumbnailer: Thumbnailer) -> None:
    """It sends a picture of 4x4 pixels and wants more than 300 bytes with `JFIF` in them."""
    response = thumbnailer.put("/thumbnail/fit,4,4,jpeg", PICTURE)
    assert response.status == 200
    assert response.headers["content-type"] == "image/jpeg"
    assert len(response.body) > 300
    assert b"JFIF" in response.body
    assert pillow(response.body).size == (4, 4)


# Specifications


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param("", "missing method argument", marks=pytest.mark.covers("t020")),
        pytest.param(",1,1,png", "missing method argument", marks=pytest.mark.covers("t020")),
        pytest.param("!rotate,90", "missing method argument", marks=pytest.mark.covers("t020")),
        pytest.param("crop", "missing width argument", marks=pytest.mark.covers("t021")),
        pytest.param("crop,,16,png", "missing width argument", marks=pytest.mark.covers("t022")),
        ("crop,16", "missing height argument"),
        pytest.param("crop,128,png", "missing format argument", marks=pytest.mark.covers("t023")),
        pytest.param(
            "crop,128,bogous,png",
            "height value 'bogous' is not an integer or 'input'",
            marks=pytest.mark.covers("t024"),
        ),
        pytest.param(
            "crop,-1,1,png", "width value '-1' is not an integer or 'input'", marks=pytest.mark.covers("t025")
        ),
        pytest.param(
            "crop,1.5,1,png",
            "width value '1.5' is not an integer or 'input'",
            marks=pytest.mark.covers("t026"),
        ),
        pytest.param(
            "crop,INPUT,1,png",
            "width value 'INPUT' is not an integer or 'input'",
            marks=pytest.mark.covers("t027"),
        ),
        ("crop,NaN,1,png", "width value 'NaN' is not an integer or 'input'"),
        ("crop,1,1e309,png", "height value '1e309' is not an integer or 'input'"),
        pytest.param(
            "crop,128,128,png,fas-xyz",
            "missing option value for key 'fas-xyz'",
            marks=pytest.mark.covers("t029"),
        ),
        pytest.param("crop,1,1,png,a:", "missing option value for key 'a'", marks=pytest.mark.covers("t030")),
        pytest.param(
            "crop,1,1,png,:b", "missing option key name for value 'b'", marks=pytest.mark.covers("t031")
        ),
        pytest.param(
            "crop,16,16,png,,a:b",
            "missing key-value pair on position 1",
            marks=pytest.mark.covers("t032"),
        ),
        pytest.param(
            "crop,1,1,png!!rotate,1", "missing edit name argument", marks=pytest.mark.covers("t036")
        ),
        pytest.param("crop,1,1,png!a:b", "missing edit name argument", marks=pytest.mark.covers("t037")),
        pytest.param(
            "fit,16,16,png!rotate,background-color:red,30",
            "missing option value for key '30' for edit 'rotate'",
            marks=pytest.mark.covers("t038"),
        ),
        pytest.param("crop,1,1,,x", "missing option value for key 'x'", marks=pytest.mark.covers("t039")),
    ],
)
@pytest.mark.covers("t040", "t041", "t042")
def test_specifications_are_checked_before_the_body(
    thumbnailer: Thumbnailer, spec: str, message: str
) -> None:
    """In a list, the first bad one fails the request, and only that one is named."""
    targets = [f"/thumbnail/{spec}", f"/thumbnails/fit,8,8,png/{spec}/blah,8,8,png"]
    for target in targets:
        response = thumbnailer.put(target, b"no image")
        assert (response.status, response.body.decode()) == (400, f"{message} in spec '{spec}'\r\n")
        assert response.headers["content-type"] == "text/plain"


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        pytest.param("crop,016,08,png", (16, 8), marks=pytest.mark.covers("t028")),
        pytest.param("crop,16,16,png,x:a:b:c", (16, 16), marks=pytest.mark.covers("t033")),
        pytest.param("crop,16,16,png,quality:x,quality:90", (16, 16), marks=pytest.mark.covers("t034")),
        pytest.param("crop,16,16,png,", (16, 16), marks=pytest.mark.covers("t035")),
        pytest.param("crop,16,16,png!", (16, 16), marks=pytest.mark.covers("t035")),
        pytest.param("crop,16,16,png!!!", (16, 16), marks=pytest.mark.covers("t035")),
        pytest.param("crop,input,16,png", (509, 16), marks=pytest.mark.covers("t054")),
        pytest.param("crop,4,input,png", (4, 719), marks=pytest.mark.covers("t054")),
        pytest.param("crop,input,input,png", (509, 719), marks=pytest.mark.covers("t054")),
        pytest.param("fit,128,128,png!rotate,30", (117, 128), marks=pytest.mark.covers("t060")),
    ],
)
def test_specifications_that_are_fine(thumbnailer: Thumbnailer, spec: str, size: tuple[int, int]) -> None:
    response = thumbnailer.put(f"/thumbnail/{spec}", photo_p())
    assert response.status == 200, response.body
    assert pillow(response.body).size == size


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param(
            "crop,0,input,png",
            "at least one image dimension is zero: 0x719",
            marks=pytest.mark.covers("t056"),
        ),
        pytest.param(
            "blah,8,8,png", "thumbnail method 'blah' is not supported", marks=pytest.mark.covers("t057")
        ),
        pytest.param(
            "crop,8,8,png,float-x:xxx",
            FLOAT_X + ", got: xxx",
            marks=pytest.mark.covers("t058"),
        ),
        pytest.param("fit,8,8,xyz", "unknown format: XYZ", marks=pytest.mark.covers("t093")),
        pytest.param("fit,8,8,png,interlace:x", "unsupported interlace: x", marks=pytest.mark.covers("t090")),
        pytest.param(
            "fit,8,8,png!nope,1", "no edit with name 'nope' is supported", marks=pytest.mark.covers("t082")
        ),
        pytest.param(
            "fit,8,8,png!rotate",
            ANGLE + " but got no value",
            marks=pytest.mark.covers("t075"),
        ),
        ("fit,8,8,png!rotate,1e309", ANGLE + ", got: 1e309"),
        ("fit,8,8,png!rotate,nan", ANGLE + ", got: nan"),
        ("pad,8,8,png,background-color:zz", "invalid color name: zz"),
        ("blah,128,128,xyz!nope,1", "no edit with name 'nope' is supported"),
    ],
)
def test_what_only_processing_finds_out_is_a_bad_request(
    thumbnailer: Thumbnailer, spec: str, message: str
) -> None:
    response = thumbnailer.put(f"/thumbnail/{spec}", photo_p())
    assert (response.status, response.body.decode()) == (400, message + "\r\n")
