"""A collector of traces: OTLP over HTTP, protocol buffers (opentelemetry.io/docs/specs/otlp)."""

import gzip
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

TIMEOUT_S = 60
SERVER, INTERNAL, ERROR = 2, 1, 2


@dataclass(frozen=True)
class Exported:
    """One span as it came over the wire. Ids in hexadecimal, times in nanoseconds."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    status: int
    began: int
    ended: int
    facts: Mapping[str, object]
    resource: Mapping[str, object]


class Collector:
    """Listens at `url` while it is a context; `spans` have arrived so far."""

    def __init__(self) -> None:
        self.spans: list[Exported] = []
        collected = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
                collected.extend(read(ExportTraceServiceRequest.FromString(body)))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Collector":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait_for(self, is_it: Callable[[Exported], bool]) -> Exported:
        """The first span of this kind."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            for span in list(self.spans):
                if is_it(span):
                    return span
            assert time.monotonic() < deadline, sorted({(span.trace, span.name) for span in self.spans})
            time.sleep(0.05)

    def wait_for_trace(self, trace: str) -> list[Exported]:
        """All spans of a trace, the first to begin first, once that of the server has come."""
        self.wait_for(lambda span: span.trace == trace and span.kind == SERVER)
        return sorted((span for span in self.spans if span.trace == trace), key=lambda span: span.began)


def read(message: ExportTraceServiceRequest) -> list[Exported]:
    return [
        Exported(
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.kind,
            span.status.code,
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            facts(span.attributes),
            facts(group.resource.attributes),
        )
        for group in message.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def facts(pairs: "list[KeyValue]") -> dict[str, object]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
