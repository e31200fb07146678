"""Lines of the access log."""

import re
from pathlib import Path
from typing import Any

import pytest
from server_support import Connect, endpoint, make_app, ok

from safelight.server.access import AccessLog
from safelight.timing import Account

SCOPE: dict[str, Any] = {
    "method": "GET",
    "raw_path": b"/a%20b",
    "query_string": b"c=d",
    "http_version": "1.1",
    "client": ("10.0.0.1", 5),
    "headers": [(b"host", b"x")],
}
DATE = r"\d\d/[A-Z][a-z][a-z]/\d{{4}}:\d\d:\d\d:\d\d \+0000"
LINE = r"{client} - - \[" + DATE + r'\] "GET /a%20b\?c=d HTTP/1\.1" {rest}\n'


def account(status: int, size: int) -> Account:
    return Account(status=status, length_bytes=size, duration_s=0.00201)


def written(tmp_path: Path, scope: dict[str, Any], size: int = 18) -> str:
    AccessLog(str(tmp_path / "log")).write(scope, account(200, size))
    return (tmp_path / "log").read_text()


def test_a_line_has_the_ncsa_form(tmp_path: Path) -> None:
    line = written(tmp_path, SCOPE)
    assert re.fullmatch(LINE.format(client="10.0.0.1", rest="200 18 0.0020"), line)


def test_an_empty_answer_is_a_dash(tmp_path: Path) -> None:
    assert re.fullmatch(LINE.format(client="10.0.0.1", rest="200 - 0.0020"), written(tmp_path, SCOPE, 0))


@pytest.mark.parametrize(
    ("headers", "client", "shown"),
    [
        ([(b"x-forwarded-for", b"1.2.3.4, 5.6.7.8")], ("10.0.0.1", 5), r"1\.2\.3\.4, 5\.6\.7\.8"),
        ([(b"x-forwarded-for", b'a"\xff\\ "')], ("10.0.0.1", 5), r"a\\x22\\xFF\\x5C \\x22"),
        ([], None, r"127\.0\.0\.1"),
    ],
)
def test_the_client_is_the_forwarded_one(
    tmp_path: Path, headers: list[tuple[bytes, bytes]], client: Any, shown: str
) -> None:
    line = written(tmp_path, {**SCOPE, "headers": headers, "client": client})
    assert re.fullmatch(LINE.format(client=shown, rest="200 18 0.0020"), line)


def test_a_rotated_file_is_opened_again(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "log"))
    log.write(SCOPE, account(200, 1))
    (tmp_path / "log").rename(tmp_path / "old")
    log.reopen()
    log.write(SCOPE, account(404, 1))
    assert '" 200 1' in (tmp_path / "old").read_text()
    assert '" 404 1' in (tmp_path / "log").read_text()


async def test_the_app_writes_one_line_for_each_request(connect: Connect, tmp_path: Path) -> None:
    client = await connect(make_app(endpoint("get", "/x", ok), access_log=AccessLog(str(tmp_path / "log"))))
    await client.get("/x")
    await client.get("/none")
    await client.head("/x")
    found = re.findall(r'"(\S+ \S+) HTTP/1.1" (\S+ \S+)', (tmp_path / "log").read_text())
    assert found == [("GET /x", "200 4"), ("GET /none", "404 55"), ("HEAD /x", "200 4")]
