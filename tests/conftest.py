"""Fixtures for all tests: real servers, started as `python -m safelight serve` in scratch directories.

    def test_something(servers):                # one server for one test
        server = servers.start('get "ok" { output_ok }', "--workers", "1")
        assert httpx.get(server.url + "/ok").text == "OK\r\n"

    @pytest.fixture(scope="module")             # one server for many tests
    def server(shared_servers):
        return shared_servers.start(CONFIGURATION)

    def test_something(seaweed):                # a real S3 server; see also `own_seaweed` and `moto`
        bucket = seaweed.make_bucket()

A server that logged a traceback, or that does not stop when asked to, fails the test that it was made for.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.append(str(Path(__file__).parent / "server"))  # `serving`, `processes` and others for all tests
sys.path.append(str(Path(__file__).parent / "s3"))  # so are `s3_servers` and `fault_proxy`

from s3_servers import OwnSeaweed, S3Server, moto_server, shared_seaweed, start_own_seaweed
from serving import Servers

# The same examples in every run; others, and more of them, are for `--hypothesis-profile=explore`.
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


def pytest_configure() -> None:
    """Heed SIGINT, also when started in the background: whatever tests start and interrupt inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """More than there are cores: much of the time of these tests is spent waiting for servers."""
    return (os.cpu_count() or 1) + 2


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


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The SeaweedFS that all processes of this run share."""
    base = tmp_path_factory.getbasetemp()
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    with shared_seaweed(
        base.parent if is_worker else base, os.getppid() if is_worker else os.getpid()
    ) as server:
        yield server


@pytest.fixture
def own_seaweed(tmp_path: Path) -> Iterator[Callable[[], OwnSeaweed]]:
    """Starts SeaweedFS for one test that means to end it."""
    started: list[OwnSeaweed] = []

    def start() -> OwnSeaweed:
        started.append(start_own_seaweed(tmp_path / f"seaweed-{len(started)}"))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The moto of this process: only for what depends on access control lists."""
    with moto_server(tmp_path_factory.mktemp("moto")) as server:
        yield server
