"""`header` statements, and what answers say they vary by."""

import hashlib
import hmac

import pytest
from http_support import configured
from server_support import Connect, RawClient, running

from safelight.api import load_config
from safelight.errors import ConfigError


def with_header(statement: str, output: str = 'output_text "x"', matchers: str = "") -> str:
    return f"get {matchers} {{\n{statement}\n{output}\n}}"


async def test_a_header_is_sent_with_answers(connect: Connect) -> None:
    client = await connect(configured(with_header('header "X-Robots-Tag" "noindex"')))
    for method in ("GET", "HEAD"):
        assert (await client.request(method, "/")).headers["x-robots-tag"] == "noindex"


async def test_values_are_templates(connect: Connect) -> None:
    text = with_header('header "Link" `</#{name}>; rel="canonical"`', matchers='":name"')
    client = await connect(configured(text))
    assert (await client.get("/a.jpg")).headers["link"] == '</a.jpg>; rel="canonical"'


async def test_an_empty_value_sends_nothing(connect: Connect) -> None:
    client = await connect(configured(with_header('header "X-Name" "#{name}"', matchers='"&:name?"')))
    assert "x-name" not in (await client.get("/")).headers
    assert (await client.get("/?name=a")).headers["x-name"] == "a"


async def test_the_last_one_that_takes_part_counts(connect: Connect) -> None:
    text = with_header(
        'header "X-Size" "any"\nheader "x-size" "small" if-variable-matches="size:small"',
        matchers='"&:size?"',
    )
    client = await connect(configured(text))
    assert (await client.get("/?size=small")).headers.get_list("x-size") == ["small"]
    assert (await client.get("/?size=large")).headers.get_list("x-size") == ["any"]


async def test_headers_of_the_top_level_are_for_all_endpoints(connect: Connect) -> None:
    text = """
    header "X-A" "top"
    get "a" { output_ok }
    get "b" { header "X-A" "own"
        output_ok }
    header "X-B" "top"
    """
    client = await connect(configured(text))
    found = [(await client.get(path)).headers for path in ("/a", "/b")]
    assert [(headers["x-a"], headers["x-b"]) for headers in found] == [("top", "top"), ("own", "top")]
    assert "x-a" not in (await client.get("/none")).headers


async def test_a_header_replaces_what_the_server_would_have_said(connect: Connect) -> None:
    """Uploads of unknown type are attachments; the configuration may name them."""
    statement = 'header "Content-Disposition" `attachment; filename="picture.bin"`'
    text = f'put {{ output_image "input"\n{statement}\n}}'
    client = await connect(configured(text))
    response = await client.put("/", content=b"data")
    assert response.headers.get_list("content-disposition") == ['attachment; filename="picture.bin"']


async def test_errors_go_without_headers(connect: Connect) -> None:
    text = with_header('header "X-A" "b"', 'output_image "missing"')
    response = await (await connect(configured(text))).get("/")
    assert response.status_code == 500
    assert "x-a" not in response.headers


async def test_an_answer_of_another_status_has_headers(connect: Connect) -> None:
    text = with_header('header "X-A" "b"', 'output_text "gone" status=410')
    response = await (await connect(configured(text))).get("/")
    assert (response.status_code, response.headers["x-a"]) == (410, "b")


async def test_an_undefined_variable_is_500_and_a_warning(connect: Connect) -> None:
    text = with_header('header "X-A" "#{nothing}"')
    assert "variable 'nothing' not defined" in str(load_config(text, "f").warnings[0])
    response = await (await connect(configured(text))).get("/")
    assert (response.status_code, response.text) == (500, "variable 'nothing' not defined\r\n")


def test_a_header_of_the_top_level_is_warned_of_once() -> None:
    text = 'header "X-A" "#{nothing}"\nget "a" { output_ok }\nget "b" { output_ok }'
    assert len(load_config(text, "f").warnings) == 1


@pytest.mark.parametrize(
    "name",
    [
        "Content-Length",
        "content-type",
        "Transfer-Encoding",
        "Connection",
        "Date",
        "Server",
        "ETag",
        "Last-Modified",
        "Content-Range",
        "X-Content-Type-Options",
    ],
)
def test_the_servers_own_headers_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"f:2:1: .*header '{name}' is the server's own"):
        load_config(with_header(f'header "{name}" "x"'), "f")


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ('header "Cache-Control" "no-store"', "use the 'cache-control' attribute of the output"),
        ('header "Access-Control-Allow-Origin" "*"', "use the 'cors' statement"),
        ('header "X A" "b"', "expected header name to be letters, digits and dashes"),
        ('header "X:" "b"', "expected header name to be"),
        ('header "" "b"', "expected header name to be"),
        ('header "é" "b"', "expected header name to be"),
        ('header "X\\r\\nY" "b"', "expected header name to be"),
        ('header "X" "a\\r\\nSet-Cookie: b"', "cannot have a line break"),
        ('header "X"', "expected header value"),
        ("header", "expected header name"),
        ('header "X" "b" "c"', "unexpected values"),
    ],
)
def test_statements_that_cannot_be_are_refused(statement: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load_config(with_header(statement), "f")


@pytest.mark.parametrize(
    "target",
    [
        "a%0d%0aSet-Cookie:%20evil=1",
        "a%0aSet-Cookie:%20evil=1",
        "a%0dSet-Cookie:%20evil=1",
        "a%0d%0a%0d%0a<html>",
        "a%00b",
        "a%c4%8d%c4%8aSet-Cookie:%20evil=1",
        "a%e2%80%a8b",
        "a%7fb",
    ],
)
def test_no_value_can_split_an_answer(target: str) -> None:
    statements = (
        'header "X-Name" "#{name}"\nheader "Content-Disposition" "attachment; filename=#{name}"\n'
        "cors origins=`https://a.example`"
    )
    app = configured(with_header(statements, matchers='":name"'))
    with running(app) as port, RawClient(port) as client:
        client.request(f"GET /{target} HTTP/1.1\nHost: x\nOrigin: https://a.example\nConnection: close")
        received = b""
        while data := client.socket.recv(1 << 16):
            received += data
    head, _, body = received.partition(b"\r\n\r\n")
    assert body == b"x\r\n"
    lines = head.split(b"\r\n")[1:]
    assert not any(line.lower().startswith(b"set-cookie") for line in lines)
    (shown,) = (line for line in lines if line.startswith(b"x-name: "))
    assert shown.startswith(b"x-name: a?")
    assert all(0x20 <= octet < 0x7F for line in lines for octet in line)


# Vary


async def test_answers_vary_by_the_header_that_validates_them(connect: Connect) -> None:
    """A shared cache must not give them to somebody without it."""
    text = with_header('validate_header_hmac "X_Original-URI" "hmac" secret="s" digest="sha256"')
    client = await connect(configured(text))
    signature = hmac.new(b"s", b"/x", hashlib.sha256).hexdigest()
    valid = await client.get(f"/?hmac={signature}", headers={"X-Original-URI": "/x"})
    invalid = await client.get("/?hmac=0", headers={"X-Original-URI": "/x"})
    assert [response.status_code for response in (valid, invalid)] == [200, 403]
    assert [response.headers["vary"] for response in (valid, invalid)] == ["X-Original-URI"] * 2


async def test_answers_that_vary_by_nothing_say_nothing(connect: Connect) -> None:
    text = with_header('validate_uri_hmac "hmac" secret="s" if-variable-matches="x"')
    assert "vary" not in (await (await connect(configured(text))).get("/")).headers
