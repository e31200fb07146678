"""nginx in front of Safelight: one pair for the tests that only look, others for those that change it."""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "image"))  # for `image_makers`
sys.path.append(str(Path(__file__).parent.parent / "thumbnailer"))  # for `thumbnailer_support`

from nginx_support import Nginx, start_site
from serving import Server, Servers


@pytest.fixture(scope="module")
def places() -> Iterator[Path]:
    """A directory that other users may enter, with paths short enough for sockets."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture(scope="module")
def module_servers(places: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Starts servers that end before `places` does: their sockets are there."""
    started = Servers(tmp_path_factory.mktemp("servers"))
    yield started
    started.stop_all()


@pytest.fixture(scope="module")
def running(places: Path) -> Iterator[Callable[[Nginx], Nginx]]:
    """Has every nginx that it is given stopped at the end."""
    with contextlib.ExitStack() as stack:

        def keep(nginx: Nginx) -> Nginx:
            stack.callback(nginx.stop)
            return nginx

        yield keep


@pytest.fixture(scope="module")
def site(module_servers: Servers, places: Path, running: Callable[[Nginx], Nginx]) -> tuple[Nginx, Server]:
    """The example API on a Unix socket, behind nginx."""
    server = module_servers.start(
        None, "--workers", "2", "--http-workers", "2", listen=(f"unix:{places}/http.sock",)
    )
    return running(start_site(places / "nginx", f"unix:{places}/http.sock")), server
