"""HTTPS: `--tls-certificate`, `--tls-key`, `--tls-client-ca`."""

import hashlib
import os
import signal
import socket
import ssl
import time
from pathlib import Path

import httpx
import pytest
from certificates import Authority
from serving import Server, Servers

from safelight.errors import ConfigError
from safelight.server.tls import TlsSettings, tls_context

API = """
path "f" "f"
put "f" { store_file "input" root="." path="f" }
get "f" { source_file "image" root="." path="f"
    output_image "image" }
get "ok" { output_ok }
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    directory = tmp_path / "certificates"
    directory.mkdir()
    return Authority(directory)


def trusting(authority: Authority, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    if client:
        context.load_cert_chain(*client)
    return context


def options(certificate: Path, key: Path) -> tuple[str, ...]:
    return ("--workers", "1", "--tls-certificate", str(certificate), "--tls-key", str(key))


def connected(server: Server, context: ssl.SSLContext) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", server.port), 10)
    return context.wrap_socket(raw, server_hostname="127.0.0.1")


def shown_certificate(server: Server, context: ssl.SSLContext) -> str:
    """Digest of the certificate that a new connection is shown."""
    with connected(server, context) as wrapped:
        return hashlib.sha256(wrapped.getpeercert(binary_form=True) or b"").hexdigest()


def digest(certificate: Path) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()


def test_it_speaks_https(servers: Servers, authority: Authority) -> None:
    server = servers.start(API, *options(*authority.issue("server")))
    assert server.url.startswith("https://127.0.0.1:")
    data = os.urandom(3 << 20)
    with httpx.Client(verify=trusting(authority), base_url=server.url, timeout=30) as client:
        assert client.put("/f", content=data).status_code == 200
        for _ in range(3):
            assert client.get("/f").content == data
        response = client.get("/f", headers={"Range": "bytes=1000000-2000000"})
        assert (response.status_code, response.content) == (206, data[1000000:2000001])


def test_the_version_is_1_2_at_least(servers: Servers, authority: Authority) -> None:
    server = servers.start(API, *options(*authority.issue("server")))
    context = trusting(authority)
    for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
        context.minimum_version = context.maximum_version = version
        with connected(server, context) as wrapped:
            assert wrapped.version() == name
    assert tls_context(TlsSettings(*authority.issue("other"))).minimum_version == ssl.TLSVersion.TLSv1_2


def test_who_speaks_http_is_sent_away(servers: Servers, authority: Authority) -> None:
    server = servers.start(API, *options(*authority.issue("server")))
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{server.port}/ok")
    assert httpx.get(f"{server.url}/ok", verify=trusting(authority)).text == "OK\r\n"


def test_a_handshake_that_does_not_come_is_cut_off(servers: Servers, authority: Authority) -> None:
    """As a request head that does not: after 10 seconds."""
    server = servers.start(API, *options(*authority.issue("server")))
    with socket.create_connection(("127.0.0.1", server.port), 40) as silent:
        began = time.monotonic()
        assert silent.recv(1) == b""
        assert 9 < time.monotonic() - began < 35


def test_clients_need_a_certificate_when_asked_for(servers: Servers, authority: Authority) -> None:
    server = servers.start(API, *options(*authority.issue("server")), "--tls-client-ca", str(authority.file))
    known = trusting(authority, authority.issue("client"))
    assert httpx.get(f"{server.url}/ok", verify=known).text == "OK\r\n"
    stranger = Authority(authority.file.parent, "stranger").issue("stranger")
    for context in (trusting(authority), trusting(authority, stranger)):
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{server.url}/ok", verify=context)


def test_a_renewed_certificate_comes_with_a_reload(servers: Servers, authority: Authority) -> None:
    files = authority.issue("server")
    server = servers.start(API, *options(*files))
    context = trusting(authority)
    old = digest(files[0])
    assert shown_certificate(server, context) == old
    authority.issue("server")
    new = digest(files[0])
    assert new != old
    server.signal(signal.SIGHUP)
    deadline = time.monotonic() + 30
    while shown_certificate(server, context) != new:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.05)


def test_a_reload_with_a_broken_certificate_keeps_the_old_one(servers: Servers, authority: Authority) -> None:
    files = authority.issue("server")
    server = servers.start(API, *options(*files))
    context, old = trusting(authority), digest(files[0])
    files[0].write_text("nonsense")
    (server.directory / "api.sdl").write_text('get "new" { output_ok }')
    server.signal(signal.SIGHUP)
    server.wait_for_log("the certificate is kept as it was")
    deadline = time.monotonic() + 30
    while httpx.get(f"{server.url}/new", verify=context).status_code != 200:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.05)
    assert shown_certificate(server, context) == old


def test_both_files_are_needed(servers: Servers, authority: Authority) -> None:
    certificate, key = authority.issue("server")
    for given in (
        ("--tls-certificate", str(certificate)),
        ("--tls-key", str(key)),
        ("--tls-client-ca", str(authority.file)),
    ):
        process, _, log = servers.launch(API, *given)
        assert process.wait(30) == 2
        assert "HTTPS needs both --tls-certificate and --tls-key" in log.read_text()


def test_files_that_cannot_be_used_are_told_before_the_start(servers: Servers, authority: Authority) -> None:
    certificate, _ = authority.issue("server")
    _, another_key = authority.issue("other")
    process, _, log = servers.launch(API, *options(certificate, another_key))
    assert process.wait(30) == 1
    assert "the key does not belong to the certificate" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_what_is_wrong_with_a_file_is_said(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("server")
    nonsense, missing = tmp_path / "nonsense", tmp_path / "missing"
    nonsense.write_text("nonsense")
    locked = authority.issue("locked", password=b"secret")
    for settings, complaint in (
        (TlsSettings(missing, key), f"{missing}: cannot be read: No such file"),
        (TlsSettings(certificate, missing), f"{missing}: cannot be read: No such file"),
        (TlsSettings(nonsense, key), "one of them holds nothing of its kind"),
        (TlsSettings(certificate, nonsense), "one of them holds nothing of its kind"),
        (TlsSettings(key, certificate), "one of them holds nothing of its kind"),
        (TlsSettings(*locked), "the key needs a password"),
        (TlsSettings(certificate, key, nonsense), f"cannot use '{nonsense}': it holds no certificate"),
        (TlsSettings(certificate, key, missing), f"{missing}: cannot be read"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            tls_context(settings)
