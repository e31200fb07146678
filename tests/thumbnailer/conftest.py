"""Thumbnailers as processes. One of them serves all tests that only look at answers."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "image"))  # for `image_makers`

from thumbnailer_support import Commands, Thumbnailer


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """Starts commands for one test."""
    started = Commands(tmp_path)
    yield started
    started.stop_all()


@pytest.fixture(scope="session")
def thumbnailer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Thumbnailer]:
    """`httpthumbnailer` with one image worker and no other option that matters for its answers."""
    started = Commands(tmp_path_factory.mktemp("thumbnailer"))
    yield started.start("--worker-processes", "1")
    started.stop_all()


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A directory whose paths are short enough for sockets."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)
