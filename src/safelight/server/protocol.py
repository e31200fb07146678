"""uvicorn's HTTP protocol with the guards it lacks: against slow, endless and oversized input and output.

Nothing here runs more than once or twice for an ordinary request: timers are only armed for a request head
that does not arrive in one piece, for a body, and for output that the client does not take.
"""

import asyncio
import fcntl
import struct
import termios
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MIN_PROGRESS_BYTES = 1 << 10
FIRST_REQUEST_S = 2.0
MAX_HEAD_BYTES = 64 << 10
MAX_HEADERS = 256
MAX_URL_BYTES = 8 << 10
MAX_PARSED_URL_BYTES = (1 << 16) - 1  # the parser of URLs counts with 16 bits

_NO_BODY = b"HTTP/1.1 %d %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_BAD_REQUEST = (400, b"Bad Request")
_HEAD_TOO_LARGE = (413, b"Content Too Large")
_URL_TOO_LONG = (414, b"URI Too Long")


class GuardedProtocol(HttpToolsProtocol):
    """One connection.

    A request head must be complete `head_timeout_s` after its first byte (or the begin of the connection).
    While a body arrives, or output waits for the client, 1 KiB must pass in every `progress_timeout_s`.
    The rest of a body whose request has been answered is read and thrown away, `max_discard_bytes` of it,
    before the connection is closed: closing earlier would destroy the answer on its way (RFC 9112, 9.6).
    """

    head_timeout_s: float = 10
    progress_timeout_s: float = 30
    max_discard_bytes: int = 128 << 20

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._in_body = False
        self._lingering = False
        self._is_last_request = False
        self._refusal = _BAD_REQUEST
        self._head_bytes = 0
        self._body_bytes = 0
        self._discarded_bytes = 0
        self._overhead_bytes = 0
        self._read_guard: asyncio.TimerHandle | None = None
        self._write_guard: asyncio.TimerHandle | None = None

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._drop_read_guard()
        self._drop_write_guard()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        size = len(data)
        if self._in_head and self._head_bytes + size > MAX_HEAD_BYTES:
            self._refuse(_URL_TOO_LONG if len(self.url) > MAX_URL_BYTES else _HEAD_TOO_LARGE)
            return
        self._overhead_bytes += size
        super().data_received(data)
        if self._in_body:
            self._body_bytes += size
            if self._overhead_bytes > MAX_HEAD_BYTES:  # endless chunk extensions or trailers
                self._refuse(_BAD_REQUEST)
                return
            if self._read_guard is None:
                self._expect_body()
        elif self._in_head or not self._serving():
            self._head_bytes += size
            if self._read_guard is None:
                self._expect_head()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal)

    def shutdown(self) -> None:
        """The server stops. A connection that is new gets `FIRST_REQUEST_S` for the request it was made for.

        Its client cannot know; one that has had an answer can (RFC 9112, 9.3.1) and sends again elsewhere.
        """
        if self.cycle is None:  # pyright: ignore[reportUnnecessaryComparison]
            self._is_last_request = True
            self.loop.call_later(FIRST_REQUEST_S, self._close_if_unused)
        else:
            super().shutdown()

    def _close_if_unused(self) -> None:
        if self.cycle is None and not self._in_head:  # pyright: ignore[reportUnnecessaryComparison]
            self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Requests for another protocol are answered in this one; the parser is of no use afterwards."""
        self.cycle.keep_alive = False

    def _serving(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison]

    # Events of the parser

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.url) > MAX_PARSED_URL_BYTES:
            self._refusal = _URL_TOO_LONG
            raise ValueError("URL too long")
        if len(self.headers) > MAX_HEADERS:
            self._refusal = _HEAD_TOO_LARGE
            raise ValueError("too many header fields")
        if self.url[:1] != b"/":
            self.url = _origin_form(self.url)
        super().on_headers_complete()
        self.cycle.transport = _JoiningTransport(self)  # pyright: ignore[reportAttributeAccessIssue]
        if self._is_last_request:
            self.cycle.keep_alive = False
        self._in_body = True
        self._body_bytes = self._discarded_bytes = self._overhead_bytes = 0
        self._drop_read_guard()

    def on_body(self, body: bytes) -> None:
        self._overhead_bytes = 0
        if self.cycle.response_complete:
            self._discarded_bytes += len(body)
            if self._discarded_bytes > self.max_discard_bytes:
                self.transport.close()
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._drop_read_guard()
        super().on_message_complete()
        if self._lingering:
            self.transport.close()

    def _refuse(self, refusal: tuple[int, bytes]) -> None:
        """Answer what cannot be parsed, unless an answer has begun; an earlier request is finished first."""
        if self._serving() and not self._in_body:
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        begun = self.cycle.response_started if self._in_body else False
        if not begun:
            self.transport.write(_NO_BODY % refusal)
        if self._in_body:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
        self._expect_drain()

    # The guards

    def _expect_head(self) -> None:
        self._read_guard = self.loop.call_later(self.head_timeout_s, self._head_is_late)

    def _head_is_late(self) -> None:
        if self._serving():
            self._expect_head()
        else:
            self.transport.abort()

    def _expect_body(self) -> None:
        self._read_guard = self.loop.call_later(self.progress_timeout_s, self._check_body, self._body_bytes)

    def _check_body(self, seen_bytes: int) -> None:
        if self.flow.read_paused or self._body_bytes - seen_bytes >= MIN_PROGRESS_BYTES:
            self._expect_body()
        else:
            self.transport.abort()

    def _drop_read_guard(self) -> None:
        if self._read_guard is not None:
            self._read_guard.cancel()
            self._read_guard = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_drain()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._drop_write_guard()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_drain()

    def timeout_keep_alive_handler(self) -> None:
        """An idle connection ends; one that has not even taken its last answer is not waited for."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _expect_drain(self) -> None:
        if self._write_guard is None:
            self._write_guard = self.loop.call_later(
                self.progress_timeout_s, self._check_drain, self._unsent()
            )

    def _check_drain(self, unsent_bytes: int) -> None:
        self._write_guard = None
        if not self.transport.get_write_buffer_size():
            return
        if unsent_bytes - self._unsent() >= MIN_PROGRESS_BYTES:
            self._expect_drain()
        else:
            self.transport.abort()

    def _unsent(self) -> int:
        """Bytes that the client has not acknowledged, here and in the kernel.

        The kernel holds megabytes, and takes more only when a third of that is free; a client may need
        minutes for it (SIOCOUTQ, tcp(7)).
        """
        waiting = bytearray(struct.calcsize("i"))
        fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, waiting)
        return self.transport.get_write_buffer_size() + struct.unpack("i", waiting)[0]

    def _drop_write_guard(self) -> None:
        if self._write_guard is not None:
            self._write_guard.cancel()
            self._write_guard = None

    def close_gently(self) -> None:
        """Close once the rest of the body has arrived, if the answer is complete; otherwise at once."""
        if self._in_body and self.cycle.response_complete:
            self._lingering = True
        else:
            self.transport.close()


class _JoiningTransport:
    """The transport as a request sees it: the head of its answer goes out with what follows, by one call.

    A head that nothing follows in the same turn of the event loop goes out alone. `close` does not cut off
    what is still arriving of a body.
    """

    __slots__ = ("_head", "_protocol", "_transport", "is_closing")

    def __init__(self, protocol: GuardedProtocol) -> None:
        self._protocol = protocol
        self._transport = protocol.transport
        self._head: bytes | None = None
        self.is_closing = protocol.transport.is_closing

    def write(self, data: bytes) -> None:
        if self._head is None:
            self._head = data
            self._protocol.loop.call_soon(self._send_head)
        elif self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
        else:
            self._transport.write(data)

    def _send_head(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        self._send_head()
        self._protocol.close_gently()


def _origin_form(url: bytes) -> bytes:
    """`/path?query` of `http://host/path?query` (RFC 9112, 3.2.2); `*` stays. Raises: HttpParserError."""
    parsed = httptools.parse_url(url)
    return (parsed.path or b"/") + (b"?" + parsed.query if parsed.query else b"")
