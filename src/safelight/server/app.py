"""The ASGI application: from a request as received to the answer of the endpoint that serves it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import structlog

from safelight.blob import Blob
from safelight.errors import Busy, MemoryLimitExceeded, NotFound, SafelightError, UriTooLong
from safelight.model import Answer, Counters
from safelight.server.access import AccessLog
from safelight.server.admin import AdminListener
from safelight.server.answer import Stream, read_piece, send_answer, send_stream
from safelight.server.asgi import Header, Receive, Scope, Send
from safelight.server.body import read_body
from safelight.server.conditional import conditional_answer
from safelight.server.errors import INTERNAL_ERROR, ClientLeft, MalformedTarget, text_answer
from safelight.server.exchange import Exchange
from safelight.server.exposition import Exposition
from safelight.server.express import Express, Ready
from safelight.server.metrics import Metrics
from safelight.server.request_line import server_timing
from safelight.server.service import Service
from safelight.server.stats import Statistics
from safelight.server.watch import Lookout, Watch
from safelight.timing import Account, current_account, measured, serving
from safelight.uri import well_formed
from safelight.xid import set_xid

MAX_URL_BYTES = 8 << 10
METRICS = "/metrics"
CLIENT_LEFT = 499  # in the access log only, as nginx has it

_CLOSE: Header = (b"connection", b"close")
_log = structlog.get_logger("safelight.server")


@dataclass(frozen=True, slots=True)
class AppSettings:
    """What requests may take.

    `max_bytes`: image data and body of one request. `request_timeout_s`: from the end of its body to its
    answer. `spool_directory`: where large bodies wait, None for the system's temporary directory.
    `refuse_bad_escapes`: answer 400 to a `%` without two hexadecimal digits; for services that decode paths.
    `xid_header`: request header whose value is shown in the log lines of the request, and sent on.
    `server_timing`: tell clients in a header how long each step took. `takes_every_post`: the service answers
    POST on every path, those of the built-in routes included.
    """

    max_bytes: int = 128 << 20
    request_timeout_s: float = 60
    spool_directory: Path | None = None
    refuse_bad_escapes: bool = True
    xid_header: str | None = None
    server_timing: bool = False
    takes_every_post: bool = False


class App:
    """Serves one service. `on_start` is called when it is ready, `on_close` when it has stopped.

    `metrics`: what requests are counted in. `admin`: the listener at which alone the metrics are shown;
    None: they are shown at all, unless an endpoint serves `/metrics`.
    """

    def __init__(
        self,
        service: Service,
        settings: AppSettings,
        statistics: Statistics,
        counters: Counters,
        access_log: AccessLog | None = None,
        on_start: Callable[[], None] | None = None,
        *,
        metrics: Metrics | None = None,
        admin: AdminListener | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._service = service
        self._settings = settings
        self._statistics = statistics
        self._count = counters.add
        self._access_log = access_log
        self._on_start = on_start
        self._on_close = on_close
        self._metrics = metrics
        self._admin = admin
        self._exposition = Exposition(statistics)
        self._lookout = Lookout(settings.request_timeout_s)
        self._stopping = asyncio.Event()
        is_plain = admin is None and settings.xid_header is None and not settings.server_timing
        self._express = Express() if is_plain else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            ready = self._express.find(scope) if self._express is not None else None
            if ready is not None:
                await self._send_ready(scope, send, ready)
            else:
                await self._serve(Exchange(scope, receive, send))
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def start(self) -> None:
        """Start the service. Raises: SafelightError; the server must not boot then."""
        self.reopen_logs()  # they were opened before the fork, perhaps long ago
        await self._service.start()
        self._count("workers")
        if self._on_start is not None:
            self._on_start()

    def reopen_logs(self) -> None:
        """Follow a rotation of the access log."""
        if self._access_log is not None:
            self._access_log.reopen()

    def end_streams(self) -> None:
        """End the answers that would go on for ever; to be called when the server begins to stop."""
        self._stopping.set()

    async def close(self) -> None:
        """Stop the service."""
        await self._service.close()
        if self._on_close is not None:
            await asyncio.to_thread(self._on_close)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": _boot_failure(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, exchange: Exchange) -> None:
        self._count("total_requests")
        self._note_xid(exchange)
        account = Account(status=CLIENT_LEFT)
        with serving(account, exchange) as whole:
            reply = await self._reply(exchange)
            if reply is not None:
                _note_reply(account, reply, exchange)
                if self._settings.server_timing:
                    reply = reply.timed(account, whole.elapsed_s())
                with measured("sending response image data"):
                    await self._send(exchange, reply, account)
        if self._access_log is not None:
            self._access_log.write(exchange.scope, account)
        if self._metrics is not None:
            self._metrics.note(account)
        if self._express is not None and exchange.standing is not None:
            self._express.note(exchange, account)

    async def _send_ready(self, scope: Scope, send: Send, ready: Ready) -> None:
        """Answer at once, by what has answered an equal request."""
        began, account = perf_counter(), ready.account()
        try:
            await send({"type": "http.response.start", "status": ready.status, "headers": ready.headers})
            await send({"type": "http.response.body", "body": ready.body})
        except Exception as error:
            _log.error(f"answer to {scope['method']} [{scope['raw_path']!r}] broke off: {error}")
        account.duration_s = perf_counter() - began
        account.steps_s["send"] = account.duration_s
        self._count("total_requests")
        self._count("total_result_cache_hits")
        self._count("total_write")
        if self._access_log is not None:
            self._access_log.write(scope, account)
        if self._metrics is not None:
            self._metrics.note(account)

    def _note_xid(self, exchange: Exchange) -> None:
        """For this task, which serves no other request."""
        header = self._settings.xid_header
        if header is not None and (xid := exchange.headers.get(header.lower())):
            set_xid(header, xid)

    async def _reply(self, exchange: Exchange) -> "_Reply | None":
        """What to send; None when nobody is left to read it."""
        self._count("calling")
        try:
            answer = await self._answer(exchange)
            with measured("reading response data"):
                first = await _first_piece(exchange, answer)
            return _Reply(answer, first, exchange.closing() + exchange.told)
        except ClientLeft:
            return None
        except asyncio.CancelledError:
            return self._failed(exchange, Busy("server is stopping"))
        except Exception as error:
            return self._failed(exchange, error)
        finally:
            self._count("calling", -1)

    async def _answer(self, exchange: Exchange) -> Answer | Stream:
        raw_path, raw_query = exchange.raw_path, exchange.raw_query
        if self._settings.refuse_bad_escapes and not _well_formed(raw_path, raw_query):
            raise MalformedTarget
        if len(raw_path) + len(raw_query) > MAX_URL_BYTES:
            raise UriTooLong("request URI is too long")
        if self._admin is not None and self._admin.received(exchange.scope):
            return await self._operators_answer(exchange)
        if not (exchange.method == "POST" and self._settings.takes_every_post):
            if raw_path == "/stats" or raw_path.startswith("/stats/"):
                return self._statistics.answer(raw_path)
            if raw_path == "/health_check" or raw_path.startswith("/health_check/"):
                return await self._service.check_health()
        answer = await self._served(exchange)
        if answer is not None:
            return answer
        if raw_path == METRICS and self._admin is None and exchange.method in ("GET", "HEAD"):
            return self._exposition.answer(exchange.headers.get("accept", ""))
        if raw_path in ("", "/"):
            return text_answer(self._service.banner)
        raise NotFound(f"request for URI '{raw_path}' was not handled by the server")

    async def _operators_answer(self, exchange: Exchange) -> Answer:
        """At the listener of the operator. Raises: NotFound for anything but the routes of every server."""
        raw_path = exchange.raw_path
        if raw_path == METRICS:
            return self._exposition.answer(exchange.headers.get("accept", ""))
        if raw_path == "/stats" or raw_path.startswith("/stats/"):
            return self._statistics.answer(raw_path)
        if raw_path == "/health_check":
            return await self._service.check_health()
        raise NotFound(f"request for URI '{raw_path}' was not handled by the server")

    async def _served(self, exchange: Exchange) -> Answer | Stream | None:
        """The service's answer, watched over from when the body is there."""
        watch: Watch | None = None

        async def body() -> Blob:
            nonlocal watch
            blob = await self._read_body(exchange)
            watch = self._lookout.watch(exchange.receive)
            return blob

        try:
            answer = await self._service.answer(exchange, body)
            if answer is None or isinstance(answer, Stream):
                return answer
            return await conditional_answer(exchange.method, exchange.headers, answer)
        except asyncio.CancelledError:
            if watch is not None:
                watch.translate()
            raise
        finally:
            if watch is not None:
                watch.stop()

    async def _read_body(self, exchange: Exchange) -> Blob:
        exchange.body_read = True
        settings = self._settings
        body = await read_body(
            exchange.headers, exchange.receive, settings.max_bytes, settings.spool_directory
        )
        if (noted := current_account()) is not None:
            noted.received_bytes = body.size
        return body

    def _failed(self, exchange: Exchange, error: Exception) -> "_Reply":
        """The reply to a request that failed, counted and logged."""
        self._count("total_errors")
        self._count("total_write_error")
        answer = exchange.explain(error)
        _report(exchange, answer.status, error)
        extra = (_CLOSE,) if isinstance(error, MemoryLimitExceeded) else exchange.closing()
        if isinstance(error, Busy):
            extra += ((b"retry-after", b"%d" % error.retry_after_s),)
        return _Reply(answer, answer.body.read(), extra + exchange.told)

    async def _send(self, exchange: Exchange, reply: "_Reply", account: Account) -> None:
        answer, head_only = reply.answer, exchange.method == "HEAD"
        # Whole answers are handed over at once.
        in_pieces = isinstance(answer, Stream) or 0 < len(reply.first) < answer.body.size
        if in_pieces:
            self._count("writing")
        try:
            if isinstance(answer, Stream):
                await send_stream(
                    exchange.send,
                    exchange.receive,
                    answer,
                    head_only,
                    reply.extra,
                    self._stopping,
                    lambda size: _note_piece(account, size),
                )
            else:
                await send_answer(exchange.send, answer, reply.first, head_only, reply.extra)
        except Exception as error:  # the response has begun: returning early closes the connection
            _log.error(f"answer to {exchange} broke off: {error}")
        finally:
            if in_pieces:
                self._count("writing", -1)
        is_multipart = answer.content_type.startswith("multipart/")
        self._count("total_write_multipart" if is_multipart else "total_write")


async def _first_piece(exchange: Exchange, answer: Answer | Stream) -> bytes:
    """What is read before the answer begins, so that its failure could still be told."""
    if isinstance(answer, Stream) or exchange.method == "HEAD":
        return b""
    return await read_piece(answer.body, 0)


def _well_formed(raw_path: str, raw_query: str) -> bool:
    return ("%" not in raw_path or well_formed(raw_path)) and ("%" not in raw_query or well_formed(raw_query))


class _Reply(NamedTuple):
    """An answer, the first piece of its body (read early: its failure can still be told), more headers."""

    answer: Answer | Stream
    first: bytes
    extra: tuple[Header, ...]

    def timed(self, account: Account, elapsed_s: float) -> "_Reply":
        """With a header that tells how long everything has taken so far."""
        return self._replace(extra=(*self.extra, (b"server-timing", server_timing(account, elapsed_s))))


def _note_reply(account: Account, reply: _Reply, exchange: Exchange) -> None:
    answer = reply.answer
    account.status = answer.status
    account.length_bytes = 0 if isinstance(answer, Stream) else answer.body.size
    account.sent_bytes = 0 if exchange.method == "HEAD" else account.length_bytes


def _note_piece(account: Account, size: int) -> None:
    """Of a stream: nobody knew before how long it would be."""
    account.length_bytes += size
    account.sent_bytes += size


def _report(exchange: Exchange, status: int, error: Exception) -> None:
    """Log a failed request; with the trace when the error is not one of ours."""
    if not isinstance(error, SafelightError):
        message = f"unhandled error while processing request: {exchange}: {type(error).__name__}: {error}"
        _log.error(message, exc_info=error)
        return
    details = {"detail": error.detail} if error.detail else {}
    if status == INTERNAL_ERROR:
        message = f"unhandled error while processing request: {exchange}: {type(error).__name__}: {error}"
        _log.error(message, **details)
    else:
        _log.warning(f"sending {status} error response: {error}", **details)


def _boot_failure(error: Exception) -> str:
    if isinstance(error, SafelightError):
        return f"cannot start: {error.message}" + (f" ({error.detail})" if error.detail else "")
    _log.error("cannot start", exc_info=error)
    return f"cannot start: {error}"
