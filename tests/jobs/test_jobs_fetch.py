"""Fetching sources of jobs from real servers: whole, within limits, from where the policy allows."""

import asyncio
import gzip
import logging
import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from job_servers import (
    ESCAPED_PASSWORD,
    PASSWORD,
    USER,
    PlainHandler,
    Seen,
    endless,
    for_ever,
    ftp_server,
    http_server,
    raw,
    reply,
    tcp_server,
)

from safelight.jobs import network
from safelight.jobs.failure import SourceError
from safelight.jobs.fetch import fetch
from safelight.jobs.policy import Policy, Rule, parse_rule

IMAGE = bytes(range(256)) * 20
LARGE = os.urandom(3 << 20)
HERE = Policy(sources=(Rule("127.0.0.1"), Rule("127.0.0.2")), fetch_timeout_s=60, connect_timeout_s=30)
HURRIED = replace(HERE, fetch_timeout_s=0.3)
HTTP_HEAD = b"HTTP/1.1 200 OK\r\n"


async def fetched(url: str, policy: Policy = HERE, directory: Path | None = None) -> bytes:
    """The bytes behind `url`."""
    got = await fetch(url, policy, directory)
    try:
        return got.blob.read()
    finally:
        got.blob.close()


async def refused(url: str, policy: Policy = HERE) -> SourceError:
    """The error, which shows no secret."""
    with pytest.raises(SourceError) as caught:
        await fetch(url, policy, None)
    error = caught.value
    while error is not None:
        for secret in (PASSWORD, ESCAPED_PASSWORD, "hidden"):
            assert secret not in f"{error} {error!r} {getattr(error, 'detail', '')}"
        error = error.__cause__ or error.__context__
    return caught.value


async def test_http_source(web, tmp_path) -> None:
    web.answers["/a%20b.png"] = reply(200, IMAGE, Content_Type="image/png")
    got = await fetch(f"{web.url}/a%20b.png?q=%20&hidden=1#part", HERE, tmp_path)
    assert (got.blob.read(), got.content_type) == (IMAGE, "image/png")
    assert got.final_url == f"{web.url}/a%20b.png"
    (request,) = web.seen
    assert (request.method, request.target) == ("GET", "/a%20b.png?q=%20&hidden=1")
    assert request.headers["host"] == f"127.0.0.1:{web.port}"
    assert request.headers["user-agent"].startswith("Mozilla/5.0")
    assert request.headers["accept-encoding"] == "identity"
    assert "authorization" not in request.headers
    assert list(tmp_path.iterdir()) == []


async def test_characters_that_urls_do_not_have_are_encoded(web) -> None:
    web.answers["/a%20%C3%A9%7B.png"] = reply(200, IMAGE)
    assert await fetched(f"{web.url}/a é{{.png") == IMAGE


async def test_a_large_source_is_spooled(web, tmp_path) -> None:
    web.answers["/a"] = reply(200, LARGE)
    got = await fetch(f"{web.url}/a", HERE, tmp_path)
    assert got.blob.fileno() is not None
    assert got.blob.read() == LARGE
    got.blob.close()


async def test_http_source_without_a_length(web) -> None:
    """Chunked, and ended by the end of the connection (reference section 13, edge 16)."""
    web.answers["/chunked"] = raw(
        HTTP_HEAD, b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    web.answers["/closed"] = raw(HTTP_HEAD, b"\r\n", IMAGE)
    assert await fetched(f"{web.url}/chunked") == b"abcde"
    assert await fetched(f"{web.url}/closed") == IMAGE


async def test_credentials_in_the_url_are_used(web) -> None:
    web.answers["/a"] = reply(200, IMAGE)
    got = await fetch(f"http://{USER}:{ESCAPED_PASSWORD}@127.0.0.1:{web.port}/a", HERE, None)
    assert web.seen[0].headers["authorization"] == "Basic dXNlcjpwQHNzOncvcmQ="
    assert PASSWORD not in repr(got)
    assert ESCAPED_PASSWORD not in repr(got)


@pytest.mark.covers("j051")
async def test_https_source(secure_web) -> None:
    secure_web.answers["/a"] = reply(200, IMAGE)
    assert await fetched(f"{secure_web.url}/a") == IMAGE


async def test_certificates_are_for_the_name_not_for_its_address(secure_web, names) -> None:
    names.answers |= {"origin.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]}
    secure_web.answers["/a"] = reply(200, IMAGE)
    policy = replace(HERE, sources=(Rule("origin.test"), Rule("other.test")))
    assert await fetched(f"https://origin.test:{secure_web.port}/a", policy) == IMAGE
    error = await refused(f"https://other.test:{secure_web.port}/a", policy)
    assert "certificate" in error.message
    assert not error.temporary
    assert len(secure_web.seen) == 1
    lenient = replace(policy, unverified_hosts=frozenset({"other.test"}))
    assert await fetched(f"https://other.test:{secure_web.port}/a", lenient) == IMAGE


async def test_certificates_that_nobody_vouches_for(secure_web, monkeypatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    network.tls_context.cache_clear()
    assert "certificate" in (await refused(f"{secure_web.url}/a")).message
    assert secure_web.seen == []


@pytest.mark.parametrize(
    ("status", "temporary"),
    [
        *((status, False) for status in (204, 206, 304, 401, 403, 404, 410)),
        *((status, True) for status in (408, 429, 500, 502, 503, 504)),
    ],
)
@pytest.mark.covers("j025")
async def test_http_statuses(web, status: int, temporary: bool) -> None:
    web.answers["/a"] = reply(status)
    error = await refused(f"{web.url}/a")
    assert error.temporary is temporary
    assert str(status) in error.message


@pytest.mark.parametrize(
    ("wait", "after_s"), [("7", 7), ("9999999", 86400), ("Wed, 21 Oct 2026", 0), ("-1", 0)]
)
async def test_an_origin_that_wants_to_be_left_alone(web, wait: str, after_s: int) -> None:
    web.answers["/a"] = reply(503, Retry_After=wait)
    assert (await refused(f"{web.url}/a")).after_s == after_s


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects(web, status: int) -> None:
    web.answers |= {
        "/a/1": reply(status, Location="2?x=1"),
        "/a/2": reply(status, Location=f"http://127.0.0.1:{web.port}/b"),
        "/b": reply(200, IMAGE),
    }
    got = await fetch(f"{web.url}/a/1", HERE, None)
    assert (got.blob.read(), got.final_url) == (IMAGE, f"{web.url}/b")
    assert [seen.target for seen in web.seen] == ["/a/1", "/a/2?x=1", "/b"]


async def test_redirects_have_an_end(web) -> None:
    web.answers |= {f"/{i}": reply(302, Location=f"/{i + 1}") for i in range(9)}
    web.answers["/6"] = reply(200, IMAGE)
    assert await fetched(f"{web.url}/1") == IMAGE
    assert "more than 5 redirects" in (await refused(f"{web.url}/0")).message
    web.answers["/loop"] = reply(302, Location="/loop")
    web.seen.clear()
    await refused(f"{web.url}/loop")
    assert len(web.seen) == 6


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/", "//a_b%20c/", "//-"],
)
async def test_redirects_elsewhere(web, target: str) -> None:
    web.answers["/a"] = reply(302, Location=target)
    assert not (await refused(f"{web.url}/a")).temporary


@pytest.mark.parametrize(
    "target", ["http://[::1", "http://:x", "//[", "data:,x", "http://127.0.0.1:99999/", "//\\x"]
)
async def test_redirects_to_what_is_no_url(web, target: str) -> None:
    web.answers["/a"] = reply(302, Location=target)
    await refused(f"{web.url}/a")


async def test_a_redirect_without_a_target(web) -> None:
    web.answers["/a"] = reply(302)
    assert "302" in (await refused(f"{web.url}/a")).message


async def test_credentials_stay_with_their_host(web) -> None:
    async with http_server() as other:
        web.answers |= {"/a": reply(302, Location="/b"), "/b": reply(302, Location=f"{other.url}/c")}
        other.answers["/c"] = reply(
            302, Location=f"http://{USER}:x@127.0.0.1:{other.port}/d", Set_Cookie="a=b"
        )
        other.answers["/d"] = reply(200, IMAGE)
        assert await fetched(f"http://{USER}:{ESCAPED_PASSWORD}@127.0.0.1:{web.port}/a") == IMAGE
    assert ["authorization" in seen.headers for seen in web.seen + other.seen] == [True, True, False, True]
    assert "cookie" not in other.seen[1].headers


@pytest.mark.covers("j063")
async def test_private_sources_are_refused_without_a_connection(web, names) -> None:
    names.answers["intern.test"] = [["127.0.0.1"]]
    for host in ("127.0.0.1", "localhost", "intern.test", "2130706433", "[::ffff:127.0.0.1]"):
        error = await refused(f"http://{host}:{web.port}/a", Policy())
        assert not error.temporary
        assert "127.0.0.1" not in error.message.replace("host '127.0.0.1'", "")
    await refused(f"ftp://intern.test:{web.port}/a", Policy())
    assert web.connections == 0


@pytest.mark.covers("j063")
async def test_sources_that_are_not_listed(web) -> None:
    assert "not allowed" in (await refused(f"{web.url}/a", Policy(sources=(Rule("example.com"),)))).message
    assert web.connections == 0


@pytest.mark.covers("j063")
async def test_redirects_to_private_addresses(web, names, one_is_public) -> None:
    async with http_server("127.0.0.2") as private:
        names.answers["private.test"] = [["127.0.0.2"]]
        for host in ("127.0.0.2", "private.test"):
            web.answers["/a"] = reply(302, Location=f"http://{host}:{private.port}/secret")
            assert "no public address" in (await refused(f"{web.url}/a", Policy())).message
    assert private.connections == 0
    assert web.connections == 2


@pytest.mark.covers("j063")
async def test_a_name_that_changes_its_address_is_resolved_once(web, names, one_is_public) -> None:
    """DNS rebinding: the first answer is public, all others are not."""
    web.answers["/a"] = reply(200, IMAGE)
    async with http_server("127.0.0.2", web.port) as private:
        private.answers["/a"] = reply(200, b"secret")
        names.answers["rebind.test"] = [["127.0.0.1"], ["127.0.0.2"]]
        assert await fetched(f"http://rebind.test:{web.port}/a", Policy()) == IMAGE
        assert names.asked.count("rebind.test") == 1
        assert web.seen[0].headers["host"] == f"rebind.test:{web.port}"
        assert "no public address" in (await refused(f"http://rebind.test:{web.port}/a", Policy())).message
    assert private.connections == 0


async def test_the_next_address_is_tried(web, names) -> None:
    web.answers["/a"] = reply(200, IMAGE)
    names.answers["two.test"] = [["127.0.0.3", "127.0.0.1"]]
    policy = replace(HERE, sources=(Rule("two.test"),))
    assert await fetched(f"http://two.test:{web.port}/a", policy) == IMAGE


async def test_ipv6(names) -> None:
    try:
        async with http_server("::1") as web:
            web.answers["/a"] = reply(200, IMAGE)
            assert await fetched(f"{web.url}/a", Policy(sources=(parse_rule("[::1]"),))) == IMAGE
            assert web.seen[0].headers["host"] == f"[::1]:{web.port}"
    except OSError:
        pytest.skip("no IPv6 here")


@pytest.mark.covers("j026")
async def test_unknown_hosts(names, monkeypatch) -> None:
    error = await refused("http://does-not-exist.invalid/a", Policy())
    assert "does-not-exist.invalid" in error.message
    for number, temporary in ((socket.EAI_AGAIN, True), (socket.EAI_NONAME, False)):
        failure = socket.gaierror(number, "x")
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, failure=failure, **__: _fail(failure))
        for scheme in ("http", "ftp"):
            assert (await refused(f"{scheme}://example.com/a", Policy())).temporary is temporary


def _fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("scheme", ["http", "https", "ftp", "ftps"])
async def test_a_host_that_refuses_connections(scheme: str) -> None:
    async with http_server() as server:
        port = server.port
    assert (await refused(f"{scheme}://{USER}:hidden@127.0.0.1:{port}/a?hidden")).temporary


@pytest.mark.covers("j067")
async def test_sources_that_are_too_large(web, tmp_path) -> None:
    policy = replace(HERE, max_bytes=len(IMAGE))
    web.answers |= {
        "/exact": reply(200, IMAGE),
        "/announced": raw(HTTP_HEAD + b"Content-Length: 5121\r\n\r\n", then=for_ever),
        "/sent": raw(HTTP_HEAD + b"\r\n", IMAGE + b"x"),
        "/endless": endless(HTTP_HEAD + b"\r\n", b"x" * 999),
        "/chunks": endless(HTTP_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nxxxxx\r\n"),
        "/huge": raw(HTTP_HEAD + b"Content-Length: 99999999999999999999\r\n\r\n", then=for_ever),
    }
    assert await fetched(f"{web.url}/exact", policy) == IMAGE
    for path in ("/announced", "/sent", "/endless", "/chunks", "/huge"):
        error = await refused(f"{web.url}{path}", policy)
        assert "more than 5120 bytes" in error.message
        assert not error.temporary


@pytest.mark.parametrize(
    "answer",
    [
        raw(then=for_ever),
        raw(b"HTTP/1.1 200 OK\r\nX: ", then=for_ever),
        raw(HTTP_HEAD + b"Content-Length: 5\r\n\r\nab", then=for_ever),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["nothing", "half a head", "half a body", "informational"],
)
async def test_slow_origins(web, answer) -> None:
    web.answers["/a"] = answer
    began = time.monotonic()
    error = await refused(f"{web.url}/a", HURRIED)
    assert error.temporary
    assert "longer than 0.3 s" in error.message
    assert time.monotonic() - began < 30


async def test_an_origin_that_drips(web) -> None:
    """Each byte in time, but not all of them."""

    async def drip(_request: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(HTTP_HEAD + b"Content-Length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.02)

    web.answers["/a"] = drip
    assert (await refused(f"{web.url}/a", HURRIED)).temporary


@pytest.mark.parametrize(
    "answer",
    [
        raw(),
        raw(b"HTTP/1.1 200"),
        raw(b"220 ftp here\r\n"),
        raw(HTTP_HEAD + b"Content-Length: 5\r\n\r\nabcd"),
        raw(HTTP_HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        raw(HTTP_HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        endless(HTTP_HEAD, b"X: y\r\n" * 1000),
        raw(HTTP_HEAD + b"X: " + b"y" * 300_000),
    ],
    ids=[
        "nothing",
        "half a line",
        "not HTTP",
        "short",
        "no last chunk",
        "two lengths",
        "headers",
        "long header",
    ],
)
async def test_truncated_and_broken_answers(web, answer) -> None:
    web.answers["/a"] = answer
    error = await refused(f"{web.url}/a")
    assert error.temporary
    assert "broke off" in error.message


async def test_compressed_answers_are_refused(web) -> None:
    """Nobody asked for them, and a few bytes could become very many."""
    bomb = gzip.compress(bytes(10 << 20))
    web.answers["/a"] = reply(200, bomb, Content_Encoding="gzip")
    web.answers["/b"] = reply(200, IMAGE, Content_Encoding="identity")
    assert "compressed" in (await refused(f"{web.url}/a")).message
    assert await fetched(f"{web.url}/b") == IMAGE


async def test_a_full_disk_is_not_the_fault_of_the_source(web, tmp_path) -> None:
    web.answers["/a"] = reply(200, LARGE)
    with pytest.raises(SourceError, match="temporary file cannot be written") as caught:
        await fetch(f"{web.url}/a", HERE, tmp_path / "missing")
    assert caught.value.temporary


async def test_ftp_source(ftp) -> None:
    (ftp.root / "sub").mkdir()
    (ftp.root / "sub/a é?.png").write_bytes(LARGE)
    assert await fetched(f"ftp://{ftp.place}/sub/a%20%C3%A9?.png") == LARGE
    assert await fetched(f"ftp://{ftp.login}/sub/a%20%C3%A9%3F.png") == LARGE
    assert await fetched(f"ftp://{ftp.place}//sub/a%20%C3%A9%3F.png") == LARGE


@pytest.mark.covers("j052")
async def test_ftps_source(ftps, implicit_ftps) -> None:
    """TLS after a command, and TLS from the beginning; both servers refuse data without it."""
    for server in (ftps, implicit_ftps):
        (server.root / "a.png").write_bytes(LARGE)
        assert await fetched(f"ftps://{server.login}/a.png") == LARGE
        assert "PROT" in server.commands
    assert "AUTH" in ftps.commands
    assert "AUTH" not in implicit_ftps.commands


async def test_ftps_certificates_are_for_the_name(ftps, implicit_ftps, names) -> None:
    names.answers |= {"origin.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]}
    policy = replace(HERE, sources=(Rule("origin.test"), Rule("other.test")))
    for server in (ftps, implicit_ftps):
        (server.root / "a.png").write_bytes(IMAGE)
        login = f"ftps://{USER}:{ESCAPED_PASSWORD}"
        assert await fetched(f"{login}@origin.test:{server.port}/a.png", policy) == IMAGE
        server.commands.clear()
        error = await refused(f"{login}@other.test:{server.port}/a.png", policy)
        assert "certificate" in error.message
        assert "USER" not in server.commands


@pytest.mark.covers("j063")
async def test_an_ftp_server_that_changes_its_address_is_resolved_once(ftp, names) -> None:
    """All connections go to the first address, those for data as well."""
    (ftp.root / "a.png").write_bytes(IMAGE)
    names.answers["rebind.test"] = [["127.0.0.1"], ["127.0.0.2"]]
    policy = replace(HERE, sources=(Rule("rebind.test"),))
    assert await fetched(f"ftp://rebind.test:{ftp.port}/a.png", policy) == IMAGE
    assert names.asked.count("rebind.test") == 1


@pytest.mark.covers("j025")
async def test_missing_files(ftp, tmp_path) -> None:
    error = await refused(f"ftp://{ftp.place}/missing.png")
    assert "550" in error.message
    assert not error.temporary
    local = replace(HERE, source_roots=(tmp_path,))
    assert not (await refused(f"file://{tmp_path}/missing.png", local)).temporary


async def test_wrong_ftp_passwords(ftp) -> None:
    (ftp.root / "a.png").write_bytes(IMAGE)
    error = await refused(f"ftp://{USER}:hidden@{ftp.place}/a.png")
    assert "530" in error.message
    assert not error.temporary


@pytest.mark.covers("j067")
async def test_ftp_sources_that_are_too_large(ftp) -> None:
    (ftp.root / "a.png").write_bytes(IMAGE)
    error = await refused(f"ftp://{ftp.place}/a.png", replace(HERE, max_bytes=len(IMAGE) - 1))
    assert "more than 5119 bytes" in error.message


@pytest.mark.covers("j063")
async def test_ftp_servers_that_lie_about_their_passive_address(web, tmp_path, free_port) -> None:
    """It says 127.0.0.2, where somebody else listens on the very port; data come from the server itself."""
    (tmp_path / "a.png").write_bytes(IMAGE)
    async with http_server("127.0.0.2", free_port) as victim:
        settings = {"masquerade_address": "127.0.0.2", "passive_ports": [free_port]}
        with ftp_server(tmp_path, refused={"EPSV": "502 No."}, **settings) as server:
            assert await fetched(f"ftp://{server.place}/a.png") == IMAGE
            assert "PASV" in server.commands
    assert victim.connections == 0


class LyingHandler(PlainHandler):
    """Names another address in its extended reply, which has no place for one."""

    def ftp_EPSV(self, line: str) -> None:
        self.respond("229 Entering extended passive mode (|1|127.0.0.2|9|).")


@pytest.mark.parametrize("lie", ["229 (|||99999|)", "229 nothing", "227 (1,2,3)", "229 (|||x|)"])
async def test_passive_replies_that_make_no_sense(tmp_path, lie: str) -> None:
    (tmp_path / "a.png").write_bytes(IMAGE)
    for handler, refusals in ((PlainHandler, {"EPSV": lie}), (LyingHandler, {})):
        with ftp_server(tmp_path, handler, refused=refusals) as server:
            await refused(f"ftp://{server.place}/a.png")


class TruncatingHandler(PlainHandler):
    """Ends data connections early and says so."""

    class dtp_handler(PlainHandler.dtp_handler):
        def push_with_producer(self, producer: object) -> None:
            self.send(b"half")
            self._resp = ("426 Broken.", logging.debug)
            self.close()


async def test_truncated_ftp_transfers(tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(IMAGE)
    with ftp_server(tmp_path, TruncatingHandler) as server:
        error = await refused(f"ftp://{server.place}/a.png")
    assert error.temporary
    assert "426" in error.message


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        (b"220-more\r\n", "without end"),
        (b"x" * 1000, "speak FTP"),
        (b"HTTP/1.1 400 Bad\r\n\r\n", ""),
        (b"\xff\xfe\r\n", "without end"),
    ],
)
async def test_ftp_servers_that_do_not_stop_talking(piece: bytes, expected: str) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await endless(b"", piece)(Seen("", "", {}), writer)

    async with tcp_server(talk) as port:
        assert expected in (await refused(f"ftp://127.0.0.1:{port}/a")).message


async def test_slow_ftp_servers() -> None:
    """Nothing is said, not even about TLS."""

    async def wait(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await for_ever()

    async with tcp_server(wait) as port:
        for scheme in ("ftp", "ftps", "https"):
            assert (await refused(f"{scheme}://127.0.0.1:{port}/a", HURRIED)).temporary


async def test_file_source(tmp_path) -> None:
    policy = Policy(source_roots=(tmp_path / "other", tmp_path / "in"))
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "in/sub/a%20b c.png").write_bytes(IMAGE)
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "in/link").symlink_to(tmp_path / "secret")
    assert await fetched(f"file://{tmp_path}/in/sub/a%20b c.png", policy) == IMAGE
    for path in ("secret", "in/../secret", "in/link", "in", "in/sub", "inside"):
        error = await refused(f"file://{tmp_path}/{path}", policy)
        assert not error.temporary
    assert (
        "more than 9 bytes"
        in (await refused(f"file://{tmp_path}/in/sub/a%20b c.png", replace(policy, max_bytes=9))).message
    )


@pytest.mark.parametrize("url", ["", "x", "gopher://127.0.0.1/x", "s3://bucket/x", "http://hidden@:x/"])
async def test_what_is_no_source(url: str) -> None:
    assert not (await refused(url, Policy(legacy=True))).temporary


async def test_legacy_fetches_from_anywhere(web, tmp_path) -> None:
    web.answers["/a"] = reply(200, IMAGE)
    (tmp_path / "a.png").write_bytes(IMAGE)
    for url in (f"{web.url}/a", f"file://{tmp_path}/a.png"):
        assert await fetched(url, Policy(legacy=True)) == IMAGE
