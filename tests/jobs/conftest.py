"""Servers to fetch from and to deliver to, and name resolution that tests decide about."""

import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme
from job_network import Certificates, Names
from job_servers import Ftp, HttpServer, ImplicitTlsHandler, TlsHandler, ftp_server, http_server
from job_support import Opener
from loopback_ports import free_ports
from postgres_server import PostgresServer, postgres_server

from safelight.jobs import network
from safelight.jobs.postgres import PostgresQueue
from safelight.jobs.sqlite import SqliteQueue

logging.getLogger("pyftpdlib").setLevel(logging.ERROR)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    """An authority, and a directory for what it issues."""
    return trustme.CA(), tmp_path_factory.mktemp("certificates")


@pytest.fixture
def certificates(
    authority: tuple[trustme.CA, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Certificates]:
    """Trusted for one test."""
    ca, directory = authority
    issued = ca.issue_cert("127.0.0.1", "origin.test")
    file = directory / "server.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(file))
    ca.cert_pem.write_to_path(str(directory / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    network.tls_context.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(directory / "authority.pem"))
    yield Certificates(context, file)
    network.tls_context.cache_clear()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The PostgreSQL of this process; each test makes a database of its own in it."""
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
async def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Of a queue that is not there yet, in each kind of database."""
    if request.param == "sqlite":
        return lambda: SqliteQueue.open(tmp_path / "data" / "jobs.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    url = await server.new_queue()
    return lambda: PostgresQueue.open(url)


@pytest.fixture
async def web() -> AsyncIterator[HttpServer]:
    """HTTP on 127.0.0.1."""
    async with http_server() as server:
        yield server


@pytest.fixture
async def secure_web(certificates: Certificates) -> AsyncIterator[HttpServer]:
    """HTTPS on 127.0.0.1."""
    async with http_server(tls=certificates.context) as server:
        yield server


@pytest.fixture
def ftp(tmp_path: Path) -> Iterator[Ftp]:
    """FTP."""
    (tmp_path / "ftp").mkdir()
    with ftp_server(tmp_path / "ftp") as server:
        yield server


@pytest.fixture
def ftps(tmp_path: Path, certificates: Certificates) -> Iterator[Ftp]:
    """FTP with explicit TLS."""
    (tmp_path / "ftps").mkdir()
    with ftp_server(tmp_path / "ftps", TlsHandler, certfile=str(certificates.file)) as server:
        yield server


@pytest.fixture
def implicit_ftps(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ftp]:
    """FTP with TLS from the first byte; its port stands for 990, which only root may open."""
    (tmp_path / "implicit").mkdir()
    with ftp_server(tmp_path / "implicit", ImplicitTlsHandler, certfile=str(certificates.file)) as server:
        monkeypatch.setattr("safelight.jobs.ftp.IMPLICIT_TLS_PORT", server.port)
        yield server


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Decides what names resolve to, in place of the system's resolver."""
    made = Names()
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *given, **options: made.resolve(real, *given, **options)
    )
    return made


@pytest.fixture
def one_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets 127.0.0.1 stand for all public addresses, since tests stay on loopback; 127.0.0.2 is private."""
    monkeypatch.setattr(network, "is_public", lambda address: str(address) == "127.0.0.1")


@pytest.fixture
def free_port() -> int:
    """Free on 127.0.0.1, and so on the rest of loopback."""
    return free_ports(1)[0]
