"""Safelight as a user gets it: the wheel, installed into an environment of its own."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import Installed, Programs, install


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Made once for all processes of a run."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "installed"
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "done").exists():
            install(directory)
            (directory / "done").touch()
    return Installed(directory)


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Starts commands for one test."""
    started = Programs(tmp_path)
    yield started
    started.stop_all()
