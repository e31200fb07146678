"""Traces for OpenTelemetry: a span for every request, and below it one for every task that `timing` measures.

Where they are sent to, and how many, is said by the variables that all its users know:
`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME`, ... The packages are those of the
extra `otel`.
"""

import logging
import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

import structlog

from safelight import __version__
from safelight.errors import ConfigError
from safelight.server.exchange import Exchange
from safelight.server.log import mask
from safelight.server.request_line import client_address, masked_query
from safelight.timing import Finish, Span, listen

if TYPE_CHECKING:
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

SERVICE = "safelight"
ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FIRST_SERVER_ERROR = 500
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})

_log = structlog.get_logger("safelight.telemetry")


def is_wanted() -> bool:
    """Whether the environment names somebody who collects traces."""
    return any(os.environ.get(name) for name in ENDPOINT_VARIABLES)


def check_installed() -> None:
    """Raises: ConfigError when the extra is missing."""
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter") is None:
        raise ConfigError("traces need more packages: pip install 'safelight[otel]'")


def start_tracing() -> Finish:
    """Send traces from now on; in an HTTP worker, because threads do not survive a fork.

    What is returned sends what is left, and ends it; it may wait for the collector.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    _divert_log()
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": SERVICE}
    resource = Resource.create({**named, "service.version": __version__, "process.pid": os.getpid()})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    stop_listening = listen(Tracing(provider.get_tracer(SERVICE, __version__)))

    def stop() -> None:
        stop_listening()
        provider.shutdown()

    return stop


class Tracing:
    """Listens to what is measured and makes spans of it."""

    def __init__(self, tracer: "Tracer") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()
        self._open: dict[Span | None, OtelSpan] = {}

    def __call__(self, span: Span) -> Finish:
        began_ns = time.time_ns() - _ns(span.elapsed_s())
        exchange = span.thing if isinstance(span.thing, Exchange) else None
        made = self._request(exchange, began_ns) if exchange is not None else self._task(span, began_ns)
        self._open[span] = made
        span.headers = self._headers(made)
        context = made.get_span_context()
        span.account.trace = f"{context.trace_id:032x}" if context.is_valid else None

        def finish() -> None:
            del self._open[span]
            if exchange is not None:
                _describe_end(made, span, exchange)
            made.end(began_ns + _ns(span.real_s))

        return finish

    def _request(self, exchange: Exchange, began_ns: int) -> "OtelSpan":
        """Below the span that the client names, if it does (W3C Trace Context)."""
        from opentelemetry.trace import SpanKind

        return self._tracer.start_span(
            _method(exchange),
            self._propagator.extract(exchange.headers),
            SpanKind.SERVER,
            _facts(exchange),
            start_time=began_ns,
        )

    def _task(self, span: Span, began_ns: int) -> "OtelSpan":
        from opentelemetry.trace import set_span_in_context

        around = self._open.get(span.parent)
        context = self._propagator.extract(span.headers) if around is None else set_span_in_context(around)
        facts = {} if span.thing is None else {"safelight.object": mask(str(span.thing))}
        return self._tracer.start_span(span.task, context, attributes=facts, start_time=began_ns)

    def _headers(self, made: "OtelSpan") -> Mapping[str, str]:
        from opentelemetry.trace import set_span_in_context

        headers: dict[str, str] = {}
        self._propagator.inject(headers, set_span_in_context(made))
        return headers


def _method(exchange: Exchange) -> str:
    """Methods are a label: what a client invents must not be one."""
    return exchange.method if exchange.method in METHODS else "HTTP"


def _facts(exchange: Exchange) -> dict[str, str | int]:
    """What is known of a request when it begins (semantic conventions for HTTP servers)."""
    scope, headers = exchange.scope, exchange.headers
    host, _, port = headers.get("host", "").rpartition(":")
    facts: dict[str, str | int] = {
        "http.request.method": exchange.method if exchange.method in METHODS else "_OTHER",
        "url.scheme": scope.get("scheme", "http"),
        "url.path": mask(scope["raw_path"].decode("utf-8", "backslashreplace")),
        "client.address": client_address(scope).decode(),
        "network.protocol.version": scope["http_version"],
    }
    if scope["query_string"]:
        facts["url.query"] = masked_query(scope)
    if "host" in headers:
        facts["server.address"] = host if port.isdecimal() else headers["host"]
    if port.isdecimal():
        facts["server.port"] = int(port)
    if "user-agent" in headers:
        facts["user_agent.original"] = headers["user-agent"]
    return facts


def _describe_end(made: "OtelSpan", span: Span, exchange: Exchange) -> None:
    from opentelemetry.trace import StatusCode

    account = span.account
    facts: dict[str, str | int] = {
        "http.response.status_code": account.status,
        "http.request.body.size": account.received_bytes,
        "http.response.body.size": account.sent_bytes,
    }
    if account.cache is not None:
        facts["safelight.cache"] = account.cache
    if account.endpoint is not None:
        facts["http.route"] = mask(account.endpoint)
        made.update_name(f"{_method(exchange)} {facts['http.route']}")
    if account.status >= FIRST_SERVER_ERROR:
        facts["error.type"] = str(account.status)
        made.set_status(StatusCode.ERROR)
    made.set_attributes(facts)


def _ns(seconds: float) -> int:
    return int(seconds * 1_000_000_000)


class _Relay(logging.Handler):
    """Takes what the packages have to say, a collector that cannot be reached above all, to our log."""

    def emit(self, record: logging.LogRecord) -> None:
        _log.log(record.levelno, record.getMessage())


def _divert_log() -> None:
    logger = logging.getLogger("opentelemetry")
    logger.handlers = [_Relay()]
    logger.propagate = False
