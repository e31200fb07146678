"""Fixtures for all tests: real servers, started as `python -m safelight serve` in scratch directories.

    def test_something(servers):                # one server for one test
        server = servers.start('get "ok" { output_ok }', "--workers", "1")
        assert httpx.get(server.url + "/ok").text == "OK\r\n"

    @pytest.fixture(scope="module")             # one server for many tests
    def server(shared_servers):
        return shared_servers.start(CONFIGURATION)

A server that logged a traceback, or that does not stop when asked to, fails the test that it was made for.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "server"))  # `serving` and `server_support` are for all tests

from serving import Servers


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """Starts servers for one test."""
    started = Servers(tmp_path)
    yield started
    started.stop_all()


@pytest.fixture(scope="session")
def shared_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Starts servers that live until the end of the session, for fixtures of wider scope."""
    started = Servers(tmp_path_factory.mktemp("servers"))
    yield started
    started.stop_all()
