"""`safelight request`: the server's answers without a server."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result
from PIL import Image

from safelight.cli import main

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}

CONFIG = """
path "by-name" "#{path}"
get "text" "&:q?none" { output_text "path '#{path}' q '#{q}'" cache-control="no-store"; }
get "broken" { output_text "#{nope}"; }
get "teapot" { output_text "short and stout" status=418; }
get "moved" { output_text "elsewhere" status=301; }
get "signed" { validate_header_hmac "X-Original" "hmac" secret="pass123"; }
put "small" {
    thumbnail "input" "small" width=20 height=20 format="png"
    output_image "small"
}
put "files" {
    store_file "input" root="files" path="by-name"
    output_text "#{input_sha256}" status=201
}
get "files" { source_file "f" root="files" path="by-name"; output_image "f"; }
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "api.sdl").write_text(CONFIG)
    Image.new("RGB", (60, 40), "red").save(tmp_path / "red.jpg")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    structlog.reset_defaults()


def request(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["request", *arguments, "--config", "api.sdl"], input=stdin)


def test_a_text() -> None:
    result = request("GET", "/text/a/b?q=1#fragment")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout_bytes == b"path 'a/b' q '1'\r\n"


def test_status_line_and_headers_come_first() -> None:
    result = request("get", "/text", "--include")
    assert re.sub(rb'etag: "[0-9a-f]+"', b'etag: "..."', result.stdout_bytes) == (
        b"HTTP/1.1 200 OK\r\n"
        b"content-type: text/plain\r\n"
        b"x-content-type-options: nosniff\r\n"
        b"content-length: 18\r\n"
        b"cache-control: no-store\r\n"
        b'etag: "..."\r\n'
        b"accept-ranges: bytes\r\n"
        b"\r\n"
        b"path '' q 'none'\r\n"
    )


def test_spaces_and_other_letters_are_encoded() -> None:
    assert request("GET", "/text/caf\u00e9 au lait/100%25?q=\u017c").stdout == (
        "path 'caf\u00e9 au lait/100%' q '\u017c'\n"
    )


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/nope?x=1", "request for URI '/nope' was not handled by the server"),
        ("GET", "/broken", "variable 'nope' not defined"),
        ("GET", "/teapot", "short and stout"),
        ("GET", "/moved", "elsewhere"),
        ("PUT", "/small", "empty body - expected image data"),
        ("GET", "/files/none", "error while processing image 'f': file 'none' not found"),
        ("GET", "/%zz", "400 Bad Request"),
        ("HEAD", "/nope", "404 Not Found"),
        ("DELETE", "/text", "request for URI '/text' was not handled by the server"),
    ],
)
def test_failures_go_to_standard_error(method: str, path: str, message: str) -> None:
    result = request(method, path)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", message + "\n")


def test_headers_of_failures_can_be_seen() -> None:
    result = request("GET", "/teapot", "-i")
    assert result.exit_code == 1
    assert result.stdout.startswith("HTTP/1.1 418 I'm a Teapot\n")
    assert result.stdout.endswith("\n\n")


def test_an_image_goes_to_standard_output_as_it_is() -> None:
    result = request("PUT", "/small", "--body", "red.jpg")
    assert result.exit_code == 0, result.stderr
    image = Image.open(BytesIO(result.stdout_bytes))
    assert (image.format, image.size) == ("PNG", (20, 13))


def test_an_image_goes_to_a_file(directory: Path) -> None:
    result = request(
        "PUT", "/small", "--body", "-", "-o", "small.png", "-i", stdin=Path("red.jpg").read_bytes()
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("HTTP/1.1 200 OK\ncontent-type: image/png\n")
    assert result.stdout.endswith("\n\n")
    with Image.open(directory / "small.png") as image:
        assert image.size == (20, 13)


def test_the_policy_of_speed_is_that_of_the_server(directory: Path) -> None:
    stripes = Image.new("L", (400, 300))
    stripes.putdata([255 * (column % 2) for _ in range(300) for column in range(400)])
    stripes.save(directory / "stripes.png")
    in_gamma, in_light = (
        request("PUT", "/small", "--body", "stripes.png", "--speed", speed, "-o", f"{speed}.png")
        for speed in ("reference", "balanced")
    )
    assert (in_gamma.exit_code, in_light.exit_code) == (0, 0)
    darker, lighter = (
        Image.open(directory / f"{speed}.png").convert("L").getpixel((10, 7))
        for speed in ("reference", "balanced")
    )
    assert isinstance(darker, int)
    assert isinstance(lighter, int)
    assert darker == pytest.approx(128, abs=4)
    assert lighter == pytest.approx(188, abs=4), "half of the light"


def test_an_answer_kept_by_another_policy_of_speed_is_none(directory: Path) -> None:
    (directory / "api.sdl").write_text('get "kept" { cache root="cache"; output_text "kept"; }')
    found = [
        re.findall("(?m)^cache-status: (.*?)\r?$", request("GET", "/kept", "-i", "--speed", speed).stdout)
        for speed in ("reference", "best", "best")
    ]
    assert found == [["safelight; fwd=miss; stored"]] * 2 + [["safelight; hit"]]


def test_a_failure_writes_no_file(directory: Path) -> None:
    assert request("GET", "/files/none", "-o", "none.jpg").exit_code == 1
    assert not (directory / "none.jpg").exists()


@pytest.mark.parametrize("body", ["large", "-"])
def test_a_large_body_is_stored_and_read_again(directory: Path, body: str) -> None:
    data = bytes(range(256)) * 12_000
    (directory / "large").write_bytes(data)
    result = request("PUT", "/files/a/b", "--body", body, stdin=data)
    assert result.exit_code == 0, result.stderr
    assert (directory / "files/a/b").read_bytes() == data
    assert request("GET", "/files/a/b").stdout_bytes == data


def test_head_is_get_without_the_body(directory: Path) -> None:
    request("PUT", "/files/x", "--body", "red.jpg")
    result = request("HEAD", "/files/x", "-i")
    assert result.exit_code == 0
    assert f"content-length: {(directory / 'red.jpg').stat().st_size}\n" in result.stdout
    assert result.stdout.endswith("\n\n")


def test_headers_are_sent() -> None:
    path = "/signed?hmac=cc67210148307affa1465ee5d146978b1f3278cb"
    assert request("GET", path).exit_code == 1
    assert request("GET", path, "-H", "x-original:  /hello ").stdout == "OK\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("text",), "must begin with '/'"),
        (("/text", "-H", "nothing"), "'nothing' is no header"),
        (("/text", "-H", "a b: c"), "is no header"),
        (("/text", "-H", "a: b\nc: d"), "is no header"),
        (("/text", "-H", "Content-Length: 5"), "'Content-Length' follows from --body"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], message: str) -> None:
    result = request("GET", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_files_that_cannot_be_used() -> None:
    result = request("PUT", "/small", "--body", "none.jpg")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: none.jpg: cannot be read: No such file or directory\n",
    )
    result = request("GET", "/text", "-o", "none/x")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: none/x: cannot be written: No such file or directory\n",
    )


def test_a_bad_configuration_is_refused_unless_lenient(directory: Path) -> None:
    with (directory / "api.sdl").open("a") as file:
        file.write("old\n")
    result = request("GET", "/text")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "api.sdl:17:1: unexpected statement: old\n"
    assert request("GET", "/text", "--lenient").exit_code == 0


def test_verbose_shows_warnings_and_the_log() -> None:
    lines = request("GET", "/broken", "-v").stderr.splitlines()
    assert lines[0] == "api.sdl:4:16: warning: variable 'nope' not defined"
    assert "VariableNotDefined" in lines[1]
    assert lines[2:] == ["variable 'nope' not defined"]


def test_built_in_routes_answer() -> None:
    assert request("GET", "/").stdout == "HTTP Image Store\n"
    assert request("GET", "/health_check").stdout == "HTTP Image Store OK\n"
    assert request("GET", "/stats/total_requests").stdout == "1\n"


def test_as_a_process(directory: Path) -> None:
    program = [sys.executable, "-W", "error", "-c", "from safelight.cli import main; main()", "request"]
    with (directory / "red.jpg").open("rb") as body:
        done = subprocess.run(
            [*program, "PUT", "/small", "--config", "api.sdl", "--body", "-"],
            stdin=body,
            capture_output=True,
            env=ENVIRONMENT,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert Image.open(BytesIO(done.stdout)).size == (20, 13)
    done = subprocess.run(
        [*program, "GET", "/broken", "--config", "api.sdl"], capture_output=True, env=ENVIRONMENT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"variable 'nope' not defined\n")
