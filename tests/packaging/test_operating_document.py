"""`docs/operating.md`: messages, options, sessions and log lines are those of the program."""

import ast
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import click
import httpx
import pytest
from serving import Server, Servers

from safelight.cli.serve import command as serve

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "src" / "safelight"
TEXT = (ROOT / "docs" / "operating.md").read_text()
SHOWN_ADDRESS = "http://127.0.0.1:3000"
LEFT_OUT = "…"
SHORTEST = 6
NOT_OPTIONS_OF_SERVE = {
    *("--append", "--groups", "--system", "--home-dir", "--shell", "--now", "--upgrade"),
    *("--kill-whom", "--signal", "--read-only", "--tmpfs", "--cap-drop", "--security-opt"),
    *("--minutes", "--connections", "--all"),
}
"""Of the other programs and commands in the document."""


def section(title: str) -> str:
    return re.split(r"^##+ ", TEXT, flags=re.MULTILINE)[titles().index(title) + 1]


def titles() -> list[str]:
    return re.findall(r"^##+ (.*)$", TEXT, re.MULTILINE)


def rows(title: str) -> list[list[str]]:
    """Cells of the table of a section, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def messages() -> list[str]:
    """What is said to be written by Safelight itself: all that is quoted first, but for nginx's."""
    cells = [cells[0] for title in ("When it starts", "While it runs") for cells in rows(title)]
    return [re.findall(r"`([^`]+)`", cell)[0] for cell in cells if "from nginx" not in cell]


def strings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


SOURCE = "\0".join(text for path in sorted(PACKAGE.rglob("*.py")) for text in strings(path))


@pytest.mark.parametrize("message", [message for message in messages() if message != "…: '…'"])
def test_messages_are_in_the_source(message: str) -> None:
    fragments = [part.strip(" '") for part in re.split(f"{LEFT_OUT}|: ", message)]
    fragments = [part for part in fragments if len(part) >= SHORTEST]
    assert fragments
    for part in fragments:
        assert part in SOURCE


def test_there_is_help_for_many_messages() -> None:
    assert len(messages()) == len(set(messages())) >= 28


def options() -> dict[str, click.Option]:
    found = [parameter for parameter in serve.params if isinstance(parameter, click.Option)]
    return {name: option for option in found for name in option.opts}


def test_options_and_variables_exist() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT))
    assert named - options().keys() == NOT_OPTIONS_OF_SERVE & named
    variables = {str(option.envvar) for option in options().values()}
    variables |= {"SAFELIGHT_CONFIG", "SAFELIGHT_SECRET"}
    assert set(re.findall(r"SAFELIGHT_[A-Z_]+", TEXT)) <= variables


@pytest.mark.parametrize("row", rows("Tuning"), ids=lambda row: row[0].strip("`"))
def test_defaults_are_right(row: list[str]) -> None:
    option = options()[row[0].strip("`")]
    if re.match(r"\d", row[1]):
        assert float(row[1].split()[0]) == option.default
    else:
        assert not isinstance(option.default, int | float | str)


@pytest.fixture(scope="module")
def server(shared_servers: Servers) -> Server:
    return shared_servers.start(None, "--workers", "1", "--access-log-file", "access.log")


def test_sessions_show_what_happens(server: Server) -> None:
    for session in re.findall(r"^```console\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL):
        for command, shown in re.findall(r"^\$ (.*)\n([^$]*)", session, re.MULTILINE):
            done = subprocess.run(
                ["bash", "-c", command.replace(SHOWN_ADDRESS, server.url)],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            assert done.stdout.strip() == shown.strip()


def shape(line: str) -> str:
    """A line without what differs from request to request."""
    line = re.sub(r"\(detail: .*\)$", "(detail: ...)", line)
    line = re.sub(r"^\d+\.\d+\.\d+\.\d+", "ADDRESS", line)
    line = re.sub(r"\d+/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d", "MOMENT", line)
    line = re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "MOMENT", line)
    return re.sub(r"200 \d+ \d\.\d{4}$", "200 SIZE SECONDS", line)


def test_log_lines_look_as_they_do(server: Server) -> None:
    photo = (ROOT / "tests" / "data" / "coffee.jpg").read_bytes()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        name = client.put("/images", content=photo).text.strip()
        client.get(f"/thumbnail/{name}/fit/200/200")
        client.put("/images", content=b"no image")
    shown = [line for block in re.findall(r"^```text\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
             for line in block.splitlines() if re.match(r"\d", line)]  # fmt: skip
    assert len(shown) == 2
    access = server.directory / "access.log"
    deadline = time.monotonic() + 60
    while access.read_text().count("\n") < 3 or "warning" not in server.log:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    written = [*access.read_text().replace(name, "cup.jpg").splitlines(), *server.log.splitlines()]
    assert {shape(line) for line in shown} <= {shape(line) for line in written}
