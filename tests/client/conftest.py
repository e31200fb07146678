"""Running servers for the client."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Server, Servers

sys.path.append(str(Path(__file__).parent.parent / "remote"))  # for `thumbnailers`

from thumbnailers import ThumbnailerServers

SECRET = "replace-me-secret"
SIGNED = f"""
path "requested" "#{{path}}"
put "images" ":path/.+/" {{
    validate_uri_hmac "hmac" secret="{SECRET}" digest="sha256"
    store_file "input" root="images" path="requested"
    output_store_path "input"
}}
get "images" ":path/.+/" {{
    validate_uri_hmac "hmac" secret="{SECRET}" digest="sha256" expires="expires"
    source_file "image" root="images" path="requested"
    output_image "image"
}}
delete "images" ":path/.+/" {{
    validate_uri_hmac "hmac" secret="{SECRET}" digest="sha256"
    delete_file root="images" path="requested"
}}
get "search" "&:q" {{
    validate_uri_hmac "hmac" secret="{SECRET}" digest="sha256"
    output_text "#{{q}}"
}}
"""


@pytest.fixture(scope="session")
def thumbnailer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`safelight thumbnailer`."""
    servers = ThumbnailerServers(tmp_path_factory.mktemp("thumbnailers"))
    yield servers.start_one("--workers", "1", "--limit-memory", "2")
    servers.stop_all()


@pytest.fixture(scope="session")
def store(shared_servers: Servers) -> Server:
    """The built-in example."""
    return shared_servers.start(None, "--workers", "1", "--limit-memory", "2")


@pytest.fixture(scope="session")
def signed(shared_servers: Servers) -> Server:
    """Every request must be signed with SECRET, by sha256."""
    return shared_servers.start(SIGNED, "--workers", "1", "--limit-memory", "2")
