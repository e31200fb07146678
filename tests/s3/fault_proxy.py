"""An HTTP/1.1 proxy that fails on purpose, in front of a real server.

    with FaultProxy(seaweed.url) as proxy:
        proxy.fault = CutResponse(1000)              # every request from now on
        proxy.fault = times(2, Answer(503))          # the next two, then pass
        proxy.fault = lambda seen: Reset() if seen.method == "PUT" else Pass()
        with proxy.refusing():                       # nobody listens, on the same port
            ...
        assert [seen.method for seen in proxy.requests] == ["PUT", "PUT", "GET"]

Requests and answers go through byte by byte, the Host header too, since clients sign the proxy's name in it.
Each request gets a connection of its own to the server.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import urlsplit

from loopback_ports import free_ports

TIMEOUT_S = 30
PIECE = 1 << 16
OPEN_ATTEMPTS = 20


@dataclass
class SeenRequest:
    """A request as it came: target undecoded, headers in order and as spelt, payload bytes read so far."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body_bytes: int = 0

    def header(self, name: str) -> str | None:
        """The first header of that name, in any spelling."""
        return _header(self.headers, name)


@dataclass(frozen=True)
class Pass:
    """To the server and back."""


@dataclass(frozen=True)
class Answer:
    """Read the whole request and answer it here; the server never hears of it."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Delay:
    """Wait before passing the request, for ever if None: until the proxy closes the connection."""

    seconds: float | None


@dataclass(frozen=True)
class CutRequest:
    """Pass the head and so many bytes of the body, then close both connections."""

    after_bytes: int


@dataclass(frozen=True)
class CutResponse:
    """Pass the request, and of the answer the head and so many bytes of the body, then close."""

    after_bytes: int


@dataclass(frozen=True)
class Reset:
    """Answer the head of the request with a TCP reset."""


Fault: TypeAlias = Pass | Answer | Delay | CutRequest | CutResponse | Reset
Choice: TypeAlias = Fault | Callable[[SeenRequest], Fault]


def times(count: int, fault: Fault, then: Fault | None = None) -> Callable[[SeenRequest], Fault]:
    """The fault for so many requests, after them `then` (pass)."""
    left = count

    def choose(seen: SeenRequest) -> Fault:
        nonlocal left
        left -= 1
        return fault if left >= 0 else then or Pass()

    return choose


class _Cut(Exception):
    """The connection is to be closed here."""


@dataclass
class _Message:
    """Head and body of a request or an answer on its way through."""

    start: str
    headers: list[tuple[str, str]]
    head: bytes
    reader: asyncio.StreamReader

    async def pieces(self, ends_with_connection: bool = False) -> AsyncIterator[tuple[bytes, int]]:
        """The body as it is on the wire, with the number of payload bytes in each piece."""
        if (_header(self.headers, "transfer-encoding") or "").lower() == "chunked":
            async for piece in self._chunks():
                yield piece
            return
        length = _header(self.headers, "content-length")
        left = int(length) if length is not None else (1 << 62) * ends_with_connection
        while left:
            data = await self.reader.read(min(left, PIECE))
            if not data:
                if length is not None:
                    raise _Cut
                return
            left -= len(data)
            yield data, len(data)

    async def _chunks(self) -> AsyncIterator[tuple[bytes, int]]:
        line = await self.reader.readuntil(b"\r\n")
        while size := int(line.partition(b";")[0], 16):
            yield line + await self.reader.readexactly(size + 2), size
            line = await self.reader.readuntil(b"\r\n")
        while line != b"\r\n":  # the last chunk, which is empty, and the trailer
            yield line, 0
            line = await self.reader.readuntil(b"\r\n")
        yield line, 0


class FaultProxy:
    """A proxy on a loopback port of its own, from entering to leaving the `with` block."""

    def __init__(self, target: str) -> None:
        address = urlsplit(target)
        self._target = (address.hostname or "127.0.0.1", address.port or 80)
        self.fault: Choice = Pass()
        self.requests: list[SeenRequest] = []
        """All whose head arrived, in that order."""
        self.port = 0
        self._connections = set[asyncio.Task[None]]()
        self._failures: list[BaseException] = []
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        for left in reversed(range(OPEN_ATTEMPTS)):
            (self.port,) = free_ports(1)
            try:
                self.listen()
                break
            except OSError:
                if not left:
                    raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.refuse()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(TIMEOUT_S)
            self._loop.close()
        assert not self._failures, self._failures

    def refuse(self) -> None:
        """Close the listener and all connections: whoever connects is refused."""
        self._run(self._refuse())

    def listen(self) -> None:
        """Listen again on the same port."""
        self._run(self._listen())

    @contextmanager
    def refusing(self) -> Iterator[None]:
        self.refuse()
        try:
            yield
        finally:
            self.listen()

    def wait_until(self, holds: Callable[["FaultProxy"], bool]) -> None:
        """Wait for something about `requests`."""
        with self._changed:
            assert self._changed.wait_for(lambda: holds(self), TIMEOUT_S), self.requests

    def _run(self, work: Coroutine[object, object, None]) -> None:
        done: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.result(TIMEOUT_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self._server is None:  # accepted just before the listener was closed
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, _Cut):
            pass  # one of the two has left, or a fault says that both have
        except asyncio.CancelledError:
            writer.transport.abort()  # `refuse`, the only one who waits for this task
        except BaseException as error:
            self._failures.append(error)
        finally:
            writer.close()
            self._connections.discard(task)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve the next request of a connection; whether another one may follow."""
        request = await _message(reader)
        method, target, _ = request.start.split(" ")
        seen = SeenRequest(method, target, request.headers)
        with self._changed:
            self.requests.append(seen)
            self._changed.notify_all()
        choice = self.fault
        fault = choice(seen) if callable(choice) else choice
        if isinstance(fault, Answer):
            await self._answer(fault, request, seen, writer)
            return True
        if isinstance(fault, Reset):
            _reset(writer)
            return False
        if isinstance(fault, Delay):
            await (asyncio.Event().wait() if fault.seconds is None else asyncio.sleep(fault.seconds))
        return await self._pass(request, seen, writer, fault)

    async def _answer(
        self, fault: Answer, request: _Message, seen: SeenRequest, writer: asyncio.StreamWriter
    ) -> None:
        if seen.header("expect"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async for _, payload in request.pieces():
            self._count(seen, payload)
        phrase = HTTPStatus(fault.status).phrase
        lines = [f"HTTP/1.1 {fault.status} {phrase}", *(f"{name}: {text}" for name, text in fault.headers)]
        lines.append(f"Content-Length: {len(fault.body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        writer.write(b"" if seen.method == "HEAD" else fault.body)
        await writer.drain()

    async def _pass(
        self, request: _Message, seen: SeenRequest, writer: asyncio.StreamWriter, fault: Fault
    ) -> bool:
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        sending = asyncio.create_task(self._send(request, seen, server_writer, fault))
        answering = asyncio.create_task(_pass_answer(seen.method, server_reader, writer, fault))
        try:
            done, _ = await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_COMPLETED)
            if sending not in done:  # an answer before the end of the body: what is left of it goes nowhere
                answering.result()
                return False
            sending.result()
            return await answering
        finally:
            sending.cancel()
            answering.cancel()
            server_writer.transport.abort()  # before anything is awaited: `refuse` may cancel us here
            await asyncio.gather(sending, answering, return_exceptions=True)

    async def _send(
        self, request: _Message, seen: SeenRequest, server: asyncio.StreamWriter, fault: Fault
    ) -> None:
        """Send a request on to the server. A server that takes no more of it may have answered already."""
        server.write(request.head)
        if fault == CutRequest(0):
            await server.drain()
            raise _Cut
        async for data, payload in request.pieces():
            left = fault.after_bytes - seen.body_bytes if isinstance(fault, CutRequest) else payload + 1
            self._count(seen, min(payload, left))
            with suppress(OSError):
                server.write(data if payload < left else data[:left])
                await server.drain()
            if payload >= left:
                raise _Cut

    def _count(self, seen: SeenRequest, payload: int) -> None:
        with self._changed:
            seen.body_bytes += payload
            self._changed.notify_all()


async def _pass_answer(
    method: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault
) -> bool:
    """Pass the server's answer; whether the client's connection may serve another request."""
    answer = await _message(reader)
    writer.write(answer.head)
    while (status := int(answer.start.split(" ")[1])) < 200:
        answer = await _message(reader)
        writer.write(answer.head)
    if fault == CutResponse(0):
        await writer.drain()
        raise _Cut
    if method == "HEAD" or status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
        await writer.drain()
        return True
    passed = 0
    async for data, payload in answer.pieces(ends_with_connection=True):
        left = fault.after_bytes - passed if isinstance(fault, CutResponse) else payload + 1
        writer.write(data if payload < left else data[:left])
        await writer.drain()
        if payload >= left:
            raise _Cut
        passed += payload
    is_delimited = any(_header(answer.headers, name) for name in ("content-length", "transfer-encoding"))
    return is_delimited and (_header(answer.headers, "connection") or "").lower() != "close"


async def _message(reader: asyncio.StreamReader) -> _Message:
    head = await reader.readuntil(b"\r\n\r\n")
    start, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = [(name, text.strip()) for name, _, text in (line.partition(":") for line in lines)]
    return _Message(start, headers, head, reader)


def _header(headers: list[tuple[str, str]], name: str) -> str | None:
    return next((text for found, text in headers if found.lower() == name.lower()), None)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: what SO_LINGER with a time of zero means (socket(7))."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
