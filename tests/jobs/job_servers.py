"""Origins and targets of jobs: real HTTP and FTP servers on loopback, with TLS too, that fail on purpose."""

import asyncio
import ssl
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # pyftpdlib uses asyncore where Python has it
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
    from pyftpdlib.ioloop import IOLoop
    from pyftpdlib.servers import FTPServer

USER, PASSWORD = "user", "p@ss:w/rd"
ESCAPED_PASSWORD = "p%40ss%3Aw%2Frd"


@dataclass
class Seen:
    """A request as it came; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""


Answer = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]


@asynccontextmanager
async def tcp_server(
    converse: Converse, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A server in this event loop that says what `converse` says, then closes the connection; its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await converse(reader, writer)
                writer.close()
                await writer.wait_closed()
        finally:
            with suppress(AttributeError):  # asyncio of Python 3.11 cannot abort what is closed already
                writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(serve, host, port, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


@dataclass
class HttpServer:
    """Answers each path as `answers` say, 404 otherwise. `connections` counts what was accepted."""

    url: str = ""
    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    reads_bodies: bool = True

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        request = await self._read(reader)
        self.seen.append(request)
        await self.answers.get(request.target.partition("?")[0], reply(404))(request, writer)
        await writer.drain()

    async def _read(self, reader: asyncio.StreamReader) -> Seen:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): text for name, text in (line.split(": ", 1) for line in lines)}
        size = int(headers.get("content-length", "0")) if self.reads_bodies else 0
        return Seen(method, target, headers, await reader.readexactly(size))


@asynccontextmanager
async def http_server(
    host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[HttpServer]:
    """An HTTP server in this event loop."""
    made = HttpServer()
    async with tcp_server(made.converse, host, port, tls) as made.port:
        made.url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{made.port}"
        yield made


def reply(status: int, body: bytes = b"", **headers: str) -> Answer:
    """A whole answer; `content_type` becomes `Content-Type`."""

    async def answer(_request: Seen, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()

    return answer


def raw(*pieces: bytes, then: Callable[[], Awaitable[Any]] | None = None) -> Answer:
    """These bytes; afterwards it waits for `then` before it closes."""

    async def answer(_request: Seen, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if then:
            await then()

    return answer


def for_ever() -> Awaitable[Any]:
    """Until the test ends, which cancels it."""
    return asyncio.Event().wait()


def endless(head: bytes, piece: bytes) -> Answer:
    """`head`, then `piece` again and again."""

    async def answer(_request: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)  # or the client has no turn before the socket is full

    return answer


@dataclass
class Ftp:
    """A server whose files are below `root`; user and password as above, anonymous may only read."""

    root: Path
    port: int
    commands: list[str]

    @property
    def place(self) -> str:
        """Host and port, for URLs."""
        return f"127.0.0.1:{self.port}"

    @property
    def login(self) -> str:
        """User, password, host and port, for URLs."""
        return f"{USER}:{ESCAPED_PASSWORD}@{self.place}"


class _Recording:
    """Remembers commands, without arguments."""

    commands: list[str]
    refused: dict[str, str]

    def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
        self.commands.append(cmd)
        if cmd in self.refused:
            self.respond(self.refused[cmd])  # type: ignore[attr-defined]
        else:
            super().pre_process_command(line, cmd, arg)  # type: ignore[misc]


class PlainHandler(_Recording, FTPHandler):
    """Without TLS."""


class TlsHandler(_Recording, TLS_FTPHandler):
    """With explicit TLS, which it insists on, for data as well."""

    tls_control_required = True
    tls_data_required = True


class ImplicitTlsHandler(TlsHandler):
    """TLS from the first byte."""

    def handle(self) -> None:
        self.secure_connection(self.ssl_context)

    def handle_ssl_established(self) -> None:
        super().handle()


@contextmanager
def ftp_server(
    root: Path, handler: type = PlainHandler, permissions: str = "elradfmwMT", **settings: Any
) -> Iterator[Ftp]:
    """A server in a thread, with a loop of its own. `settings` become attributes of its handler.

    `refused` maps commands to the reply that they get instead of being done.
    """
    authorizer = DummyAuthorizer()
    authorizer.add_user(USER, PASSWORD, str(root), perm=permissions)
    authorizer.add_user("anonymous", "", str(root), perm="elr")
    commands: list[str] = []
    own = type(
        "Handler", (handler,), {"refused": {}, **settings, "authorizer": authorizer, "commands": commands}
    )
    own.auth_failed_timeout = 0  # type: ignore[attr-defined]
    loop = IOLoop()
    server = FTPServer(("127.0.0.1", 0), own, ioloop=loop)
    stopped = threading.Event()

    def serve() -> None:
        while not stopped.is_set():
            loop.loop(timeout=0.05, blocking=False)
        server.close_all()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Ftp(root, server.address[1], commands)
    finally:
        stopped.set()
        thread.join(30)
