"""`safelight request`: one request to an API, answered by the server's own application without a socket."""

import os
import re
import stat
import sys
from collections.abc import MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from safelight.cli.check import lenient_option, load, warn
from safelight.cli.sign import request_target
from safelight.image.speed import SPEEDS, Speed

if TYPE_CHECKING:
    from safelight.config.load import Config
    from safelight.server.app import App

PIECE_BYTES = 1 << 18

Message = MutableMapping[str, Any]
Header = tuple[bytes, bytes]

_HEADER = re.compile(r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[^\r\n\0]*)")
_OURS = ("content-length", "transfer-encoding")


@click.command()
@click.argument("method")
@click.argument("path")
@click.option("--config", required=True, type=click.Path(path_type=Path), help="Configuration file.")
@click.option("--body", metavar="FILE", help="File to send as the body; '-' is standard input.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Header to send.")
@click.option("-i", "--include", is_flag=True, help="Print the status line and the headers first.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="File for the body of the answer; -i still prints to standard output.",
)
@click.option(
    "--speed",
    type=click.Choice(SPEEDS),
    default=Speed.BALANCED.value,
    envvar="SAFELIGHT_SPEED",
    show_envvar=True,
    show_default=True,
    help="How much work goes into an image.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show warnings and the server's log on standard error.")
@lenient_option
def command(
    method: str,
    path: str,
    config: Path,
    body: str | None,
    headers: tuple[str, ...],
    include: bool,
    output: str | None,
    speed: str,
    verbose: bool,
    lenient: bool,
) -> None:
    """Send one request to the API that a configuration declares, without starting a server.

    PATH may have a query. The request runs for real: it reads, stores and deletes files. The body of the
    answer goes to standard output, or to the -o FILE. The exit code is 0 for a status of 200 to 299;
    otherwise it is 1, and the text of the error goes to standard error.

    \b
      safelight request GET '/thumbnail/cat.jpg?width=100' --config api.sdl -o small.jpg
      safelight request PUT /images/cat.jpg --config api.sdl --body cat.jpg --include
    """
    import asyncio

    declared = load(config, lenient=lenient)
    if verbose:
        warn(declared)
    _configure_log(verbose)
    with ExitStack() as stack:
        source = None if body is None else stack.enter_context(_opened(body, "rb"))
        request = Request(method.upper(), request_target(path), [*map(_header, headers)], source)
        answer = asyncio.run(_answer(_app(declared, Speed(speed)), request))
    if include:
        click.echo(answer.head(), nl=False)
    if answer.succeeded:
        _write(bytes(answer.body), output)
        return
    click.echo(answer.text(), err=True)
    sys.exit(1)


@dataclass(slots=True)
class Request:
    """What is sent."""

    method: str
    target: str
    headers: list[Header]
    body: IO[bytes] | None

    def scope(self) -> Message:
        """The request as the ASGI server would announce it."""
        raw_path, _, query = self.target.partition("?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": raw_path,
            "raw_path": raw_path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": self._all_headers(),
            "client": ("127.0.0.1", 0),
            "server": ("localhost", 80),
        }

    def _all_headers(self) -> list[Header]:
        host = [] if any(name == b"host" for name, _ in self.headers) else [(b"host", b"localhost")]
        return [*host, *self.headers, *_framing(self.body)]

    async def receive(self) -> Message:
        """The next piece of the body. After the last one nothing comes: the client waits."""
        import asyncio

        if self.body is None:
            await asyncio.Event().wait()
        piece = self.body.read(PIECE_BYTES) if self.body else b""
        if not piece:
            self.body = None
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}


@dataclass(slots=True)
class Answer:
    """What came back."""

    status: int = 500
    headers: list[Header] = field(default_factory=list[Header])
    body: bytearray = field(default_factory=bytearray)

    async def send(self, message: Message) -> None:
        """Take one message of the application."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        else:
            self.body += message.get("body", b"")

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300

    def head(self) -> str:
        """Status line and headers, as on the wire."""
        lines = [f"HTTP/1.1 {self._status_text()}"]
        lines += [f"{name.decode('latin-1')}: {text.decode('latin-1')}" for name, text in self.headers]
        return "".join(line + "\r\n" for line in [*lines, ""])

    def text(self) -> str:
        """The error as the client would read it; its status if it has no text."""
        return self.body.decode("utf-8", "replace").rstrip("\r\n") or self._status_text()

    def _status_text(self) -> str:
        known = self.status in HTTPStatus.__members__.values()
        return f"{self.status} {HTTPStatus(self.status).phrase}" if known else str(self.status)


def _framing(body: IO[bytes] | None) -> list[Header]:
    """How long the body is; for what is no plain file nobody knows."""
    if body is None:
        return []
    facts = os.fstat(body.fileno()) if _has_descriptor(body) else None
    if facts is not None and stat.S_ISREG(facts.st_mode):
        return [(b"content-length", b"%d" % facts.st_size)]
    return [(b"transfer-encoding", b"chunked")]


def _has_descriptor(stream: IO[bytes]) -> bool:
    try:
        return stream.fileno() >= 0
    except OSError:
        return False


def _header(text: str) -> Header:
    found = _HEADER.fullmatch(text)
    if found is None:
        raise click.UsageError(f"'{text}' is no header: write 'Name: value'")
    if found["name"].lower() in _OURS:
        raise click.UsageError(f"'{found['name']}' follows from --body and cannot be given")
    return found["name"].lower().encode(), found["value"].rstrip(" \t").encode("utf-8", "surrogateescape")


def _configure_log(verbose: bool) -> None:
    """Standard output belongs to the answer. The error text is enough unless the user wants more."""
    import logging

    import structlog

    from safelight.server.log import configure_log

    configure_log(logging.WARNING if verbose else logging.CRITICAL)
    structlog.configure(cache_logger_on_first_use=False)


def _app(config: "Config", speed: Speed) -> "App":
    """The server's application, on threads of this process."""
    from safelight.api import build
    from safelight.engine.inline import InlineEngine
    from safelight.image.settings import ImageSettings
    from safelight.server.app import App, AppSettings
    from safelight.server.image_store import StoreService
    from safelight.server.stats import Statistics

    statistics = Statistics()
    counters = statistics.counters(statistics.take_row())
    images, settings = ImageSettings(speed=speed), AppSettings()
    api = build(config, InlineEngine(images), counters, rendering=str(images))
    service = StoreService(api, settings.max_bytes)
    return App(service, settings, statistics, counters)


async def _answer(app: "App", request: Request) -> Answer:
    answer = Answer()
    await app.start()
    try:
        await app(request.scope(), request.receive, answer.send)
    finally:
        await app.close()
    return answer


def _write(octets: bytes, output: str | None) -> None:
    with _opened(output or "-", "wb") as stream:
        try:
            stream.write(octets)
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise click.ClickException(f"{output}: cannot be written: {error.strerror}") from error


def _opened(name: str, mode: str) -> Any:
    """A context manager of an open binary file; `-` is a standard stream. Raises: click.ClickException."""
    try:
        return click.open_file(name, mode)
    except OSError as error:
        done = "read" if mode == "rb" else "written"
        raise click.ClickException(f"{name}: cannot be {done}: {error.strerror}") from error
