"""A server whose requests are looked at from all sides."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving import Server, Servers

sys.path.append(str(Path(__file__).parent))

from collector import Collector

API = """
path "by-name" "#{path}"
path "hash" "#{input_digest}.jpg"

get "original" {
    source_file "original" root="photos" path="by-name"
    output_image "original"
}
get "thumbnail" {
    source_file "original" root="photos" path="by-name"
    thumbnail "original" "small" operation="fit" width=32 height=32 format="jpeg"
    output_image "small"
}
put "upload" "&:token?none" {
    identify "input"
    store_file "input" root="stored" path="hash"
    output_store_path "input"
}
get "guarded" "&key=value" {
    validate_uri_hmac "hmac" secret="pass123"
    output_ok
}
get "broken" {
    output_image "nothing"
}
"""


@pytest.fixture(scope="session")
def photo() -> bytes:
    return (Path(__file__).parents[1] / "data/rocket.jpg").read_bytes()


@pytest.fixture(scope="session")
def start(shared_servers: Servers, photo: bytes) -> Callable[..., Server]:
    """Starts a server of `API`, or of another configuration, which has one photo, `cat.jpg`."""

    def start(*options: str, api: str = API, **more: str) -> Server:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "", **more}
        server = shared_servers.start(api, "--workers", "1", *options, environment=environment)
        (server.directory / "photos").mkdir()
        (server.directory / "photos/cat.jpg").write_bytes(photo)
        return server

    return start


@pytest.fixture(scope="session")
def server(start: Callable[..., Server]) -> Server:
    """Two HTTP workers, lines in JSON in the file `access`, Server-Timing."""
    lines = ("--access-log-file", "access", "--access-log-format", "json", "--xid-header", "X-Id")
    return start("--http-workers", "2", "--server-timing", *lines)


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Collects traces over OTLP/HTTP, as a collector of OpenTelemetry does."""
    with Collector() as started:
        yield started
