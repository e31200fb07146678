"""docs/s3.md: its session is what happens, its configurations load, its tables leave nothing out."""

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from certificates import Authority
from s3_servers import S3Server
from serving import ROOT, Servers

from safelight.api import load_config
from safelight.statements.clients import S3

DOCUMENT = (ROOT / "docs" / "s3.md").read_text()
SHOWN_SERVER = "http://127.0.0.1:3000"
SHOWN_STORE = "http://127.0.0.1:8333"
BUCKET = "photos"
LANGUAGES = {"sh", "sdl", "console", "json", "nginx"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def play(session: str, directory: Path, shown: dict[str, str]) -> str:
    """The session as a terminal would show it; `shown` maps what the document writes to what is the case."""
    lines: list[str] = []
    for command in re.findall(r"^\$ (.*)$", session, re.MULTILINE):
        actual = command
        for written, real in shown.items():
            actual = actual.replace(written, real)
        done = subprocess.run(
            ["bash", "-c", actual],
            cwd=directory,
            env={"PATH": os.environ["PATH"]},  # no proxy, no locale
            capture_output=True,
            text=True,
            timeout=60,
        )
        printed = (done.stdout + done.stderr).replace("\r\n", "\n")
        for written, real in shown.items():
            printed = printed.replace(real, written)
        lines += [f"$ {command}", printed]
    return "\n".join(lines)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_session(servers: Servers, seaweed: S3Server, tmp_path: Path) -> None:
    seaweed.client.create_bucket(Bucket=BUCKET)
    (tmp_path / "cache").mkdir()
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    configuration = blocks("sdl")[0].replace(SHOWN_STORE, seaweed.url)
    configuration = configuration.replace("AKIDEXAMPLE", seaweed.access_key)
    configuration = configuration.replace("SECRETEXAMPLE", seaweed.secret_key)
    server = servers.start(configuration, directory=tmp_path)
    (session,) = blocks("console")
    played = play(session, tmp_path, {SHOWN_SERVER: server.url, SHOWN_STORE: seaweed.url})
    assert played == session


@pytest.mark.parametrize("text", blocks("sdl"))
def test_configurations_load_without_a_complaint(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cache").mkdir()
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRETEXAMPLE")
    assert load_config(text, "s3.md").warnings == ()


def test_every_attribute_of_the_account_is_in_the_table() -> None:
    table = DOCUMENT.partition("| attribute of `s3` |")[2].partition("\n\n")[0]
    first_cells = "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))
    declared = {field.name for field in fields(S3)} - {"tag"}
    attributes = {name.removesuffix("_attribute").replace("_", "-") for name in declared}
    assert set(re.findall(r"`([\w-]+)`", first_cells)) == attributes


class NoObjects(BaseHTTPRequestHandler):
    """An object store in which nothing is."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name there)
        """Nowhere."""


@pytest.fixture
def secure_store(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The URL of an object store, and the file of the authority that signed its certificate."""
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("store"))
    with ThreadingHTTPServer(("127.0.0.1", 0), NoObjects) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}", authority.file
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("key", ["a", "a//b"])
def test_an_authority_of_ones_own(secure_store: tuple[str, Path], tmp_path: Path, key: str) -> None:
    """Odd keys go through another client than the rest; both have to know it."""
    url, authority = secure_store
    (tmp_path / "s3.sdl").write_text(f"""
        s3 key="K" secret="S" endpoint="{url}" region="us-east-1"
        path "key" "{key}"
        get {{
            source_s3 "o" bucket="photos" path="key"
            output_image "o"
        }}
    """)
    done = subprocess.run(
        [sys.executable, "-m", "safelight", "request", "--config", "s3.sdl", "GET", "/"],
        cwd=tmp_path,
        env={**os.environ, "SSL_CERT_FILE": str(authority), "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout + done.stderr == f"S3 bucket 'photos' does not contain key '{key}'\n"


def test_policies_and_keys_are_json() -> None:
    keys = re.findall(r"<<'END'\n(.*?)^END$", "".join(blocks("sh")), re.MULTILINE | re.DOTALL)
    assert len(keys) == 1
    for text in [*blocks("json"), *keys]:
        assert isinstance(json.loads(text), dict)


def test_no_block_is_overlooked() -> None:
    assert set(re.findall(r"^```(\w+)$", DOCUMENT, re.MULTILINE)) == LANGUAGES
