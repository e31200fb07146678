"""A running thumbnailer for the tests of this directory."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Server

sys.path.append(str(Path(__file__).parent))

from thumbnailers import ThumbnailerServers


@pytest.fixture(scope="session")
def thumbnailer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`safelight thumbnailer` with two image workers."""
    servers = ThumbnailerServers(tmp_path_factory.mktemp("thumbnailers"))
    yield servers.start_one("--workers", "2")
    servers.stop_all()
