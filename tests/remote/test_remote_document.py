"""docs/remote.md: its configuration is complete, and its numbers are those of the code."""

import re

from serving import ROOT, Server, Servers

from safelight.api import load_config
from safelight.client import Store
from safelight.engine.remote import CONNECT_TIMEOUT_S, TIMEOUT_S

DOCUMENT = (ROOT / "docs" / "remote.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def test_its_configuration_serves_thumbnails(servers: Servers, thumbnailer: Server) -> None:
    (text,) = blocks("sdl")
    assert load_config(text, "remote.md").warnings == ()
    server = servers.start(text.replace("http://10.0.0.2:3100", thumbnailer.url), "--workers", "1")
    (server.directory / "images").symlink_to(ROOT / "tests" / "data")
    with Store(server.url) as store:
        assert store.get("/thumbnail/60/60/coffee.jpg").mime_type == "image/jpeg"
        assert store.get("/health_check").data == b"HTTP Image Store OK\r\n"


def test_its_numbers() -> None:
    assert f"no connection after {CONNECT_TIMEOUT_S} seconds, no whole answer after {TIMEOUT_S}" in DOCUMENT
