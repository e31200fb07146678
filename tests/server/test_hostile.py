"""Hostile requests to a store, over a real socket: 4xx, one line that says why, and the server goes on."""

import re
import socket

import hostile_images
import httpx
import pytest
from serving import Server, Servers

CONFIGURATION = """
path "path" "#{path}"

put "thumbnail" "&:operation?fit" "&:width?32" "&:height?32" "&:format?jpeg" "&:options?" "&:edits?" {
    thumbnail "input" "small" operation="#{operation}" width="#{width}" height="#{height}" \\
        format="#{format}" options="#{options}" edits="#{edits}"
    output_image "small"
}
put "identify" {
    identify "input"
    output_text "#{input_image_mime_extension} #{input_image_width}x#{input_image_height}"
}
get "files" {
    source_file "file" root="files" path="path"
    output_image "file"
}
put "files" {
    store_file "input" root="files" path="path"
    output_store_path "input"
}
"""

FORMATS = [*hostile_images.SAVED_AS, "svg"]


@pytest.fixture(scope="module")
def server(shared_servers: Servers) -> Server:
    return shared_servers.start(CONFIGURATION, "--transform-timeout", "10")


def put(server: Server, path: str, body: bytes, **parameters: str) -> httpx.Response:
    return httpx.put(server.url + path, content=body, params=parameters, timeout=60)


def refused(reply: httpx.Response, *statuses: int) -> str:
    """Check the one form that refusals have; their text."""
    assert reply.status_code in (statuses or range(400, 500)), reply.text
    assert reply.headers["content-type"] == "text/plain"
    assert re.fullmatch(r"[^\r\n]+\r\n", reply.text)
    assert "Traceback" not in reply.text
    return reply.text


def still_serves(server: Server) -> None:
    assert put(server, "/thumbnail", hostile_images.image("png")).status_code == 200


@pytest.mark.parametrize("name", FORMATS)
def test_good_images_are_served(server: Server, name: str) -> None:
    reply = put(server, "/thumbnail", hostile_images.image(name))
    assert (reply.status_code, reply.headers["content-type"]) == (200, "image/jpeg")
    assert put(server, "/identify", hostile_images.image(name)).status_code == 200


SHARES = [0.02, 0.3, 0.7, 0.9]
WHOLE_ENOUGH = {("icns", 0.9)}  # its last tenth holds another size of the same icon


@pytest.mark.parametrize(
    ("name", "share"),
    [(name, share) for name in FORMATS for share in SHARES if (name, share) not in WHOLE_ENOUGH],
)
def test_truncated_images(server: Server, name: str, share: float) -> None:
    refused(put(server, "/thumbnail", hostile_images.truncated(name, share)), 415, 413)


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_images_are_decoded_or_refused(server: Server, name: str) -> None:
    for seed in range(8):
        reply = put(server, "/thumbnail", hostile_images.damaged(name, seed))
        if reply.status_code != 200:
            refused(reply, 415, 413)
    still_serves(server)


@pytest.mark.parametrize("name", hostile_images.BOMBS)
def test_bombs(server: Server, name: str) -> None:
    refused(put(server, "/thumbnail", hostile_images.BOMBS[name]), 413, 415)
    still_serves(server)


@pytest.mark.parametrize("route", ["/thumbnail", "/identify"])
@pytest.mark.parametrize("name", hostile_images.RUBBISH)
def test_what_is_no_image(server: Server, name: str, route: str) -> None:
    text = refused(put(server, route, hostile_images.RUBBISH[name]), 415)
    assert "unsupported media type: no decode delegate for this image format" in text


@pytest.mark.covers("s101")
@pytest.mark.parametrize("route", ["/thumbnail", "/identify", "/files/x"])
def test_empty_bodies(server: Server, route: str) -> None:
    assert refused(put(server, route, b""), 400) == "empty body - expected image data\r\n"


NUMBERS = [
    "NaN",
    "nan",
    "inf",
    "-inf",
    "1e309",
    "-1e309",
    "1e400",
    "5.",
    "0x",
    "1e",
    "--1",
    "١",
    "9" * 400,
    "",
]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("side", ["width", "height"])
def test_numbers_that_are_no_sides(server: Server, side: str, number: str) -> None:
    refused(put(server, "/thumbnail", hostile_images.image("png"), **{side: number}), 400)


@pytest.mark.parametrize("number", [number for number in NUMBERS if number != "9" * 400])
@pytest.mark.parametrize("edit", ["rotate,{}", "crop,{},0,1,1", "blur,0,0,1,{}", "pixelate,0,0,1,1,size:{}"])
def test_numbers_that_are_no_arguments(server: Server, edit: str, number: str) -> None:
    refused(put(server, "/thumbnail", hostile_images.image("png"), edits=edit.format(number)), 400)


@pytest.mark.parametrize(
    "parameters",
    [
        {"operation": "explode"},
        {"operation": ""},
        {"operation": "crop,1,1,png"},
        {"operation": "crop", "options": "float-x:NaN"},
        {"format": "exe"},
        {"format": "../../etc/passwd"},
        {"width": "0"},
        {"width": "-1"},
        {"width": "1.5"},
        {"options": "quality"},
        {"options": ":1"},
        {"options": "interlace:Maybe"},
        {"operation": "pad", "options": "background-color:nope"},
        {"edits": "nope"},
        {"edits": "!rotate,1"},
        {"edits": "rotate"},
        {"edits": "rectangle,0,0,1,1,color:nope"},
        {"edits": "!".join(["rotate,1"] * 65)},
    ],
    ids=str,
)
def test_bad_specifications(server: Server, parameters: dict[str, str]) -> None:
    refused(put(server, "/thumbnail", hostile_images.image("png"), **parameters), 400)


@pytest.mark.parametrize(
    "parameters", [{"width": "60000", "height": "60000"}, {"edits": "resize_fit,60000,60000"}]
)
def test_outputs_that_are_too_large(server: Server, parameters: dict[str, str]) -> None:
    assert "image too large" in refused(
        put(server, "/thumbnail", hostile_images.image("png"), **parameters), 413
    )


def test_ten_thousand_edits(server: Server) -> None:
    edits = "!".join(["blur,0,0,1,1"] * 10_000)
    head = f"PUT /thumbnail?edits={edits} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nConnection: close"
    assert re.match(r"HTTP/1.1 (413|414) ", by_hand(server, head + "\r\n\r\nx"))
    still_serves(server)


@pytest.mark.parametrize("target", ["%", "%z", "%zz", "a%2", "%u12", "a?b=%", "a?%zz=1"])
def test_bad_percent_escapes(server: Server, target: str) -> None:
    """httpx would mend them, so the request line is written by hand."""
    reply = by_hand(server, f"GET /files/{target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert reply.startswith("HTTP/1.1 400 ")
    assert reply.endswith("\r\n\r\n")


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("../outside", 403),
        ("..%2Foutside", 403),
        ("%2e%2e/%2e%2e/%2e%2e/etc/passwd", 403),
        ("a/../../outside", 403),
        ("/etc/passwd", 403),
        ("%2Fetc%2Fpasswd", 403),
        ("x%00.jpg", 403),
        ("....//outside", 404),
        ("%e0%80%ae%e0%80%ae/outside", 400),
        ("%c0%ae%c0%ae/outside", 400),
        ("%25u002e%25u002e/outside", 403),
        ("%25udc00", 400),
        ("~root/.profile", 404),
        ("a" * 300, 404),
        ("a/" * 3000 + "b", 404),
        ("file:%2F%2F%2Fetc%2Fpasswd", 404),
        ("C:%5CWindows%5Cwin.ini", 404),
    ],
)
def test_names_that_lead_elsewhere(server: Server, name: str, status: int) -> None:
    (server.directory / "outside").write_text("secret")
    reply = by_hand(server, f"GET /files/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert reply.startswith(f"HTTP/1.1 {status} "), reply
    assert "secret" not in reply
    assert "root:" not in reply


@pytest.mark.parametrize(
    "name", ["../evil", "..%2Fevil", "%2Ftmp%2Fevil", "a/../../evil", "x%00", "a" * 300, "", "."]
)
def test_names_that_cannot_be_stored(server: Server, name: str) -> None:
    before = set(server.directory.rglob("*"))
    head = f"PUT /files/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nevil"
    reply = by_hand(server, head)
    assert re.match(r"HTTP/1.1 (400|403) ", reply), reply
    assert set(server.directory.rglob("*")) - before <= {server.directory / "files"}


def by_hand(server: Server, request: str) -> str:
    """Send bytes as they are; everything that comes back."""
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        connection.sendall(request.encode())
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    return received.decode()


def test_the_server_has_seen_it_all_and_goes_on(server: Server) -> None:
    still_serves(server)
    assert server.process.poll() is None
    assert "Traceback" not in server.log
