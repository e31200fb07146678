"""Traces, as a collector of the test's own gets them."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from collector import ERROR, INTERNAL, SERVER, Collector, Exported
from serving import ROOT, Server

from safelight import __version__

Start = Callable[..., Server]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


def sampled(trace: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace}-{PARENT}-01"}


@pytest.fixture(scope="module")
def traced(start: Start, collector: Collector) -> Server:
    """Two HTTP workers that send traces because the environment says where to."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **QUICK}
    lines = ("--access-log-file", "access", "--access-log-format", "json")
    return start("--http-workers", "2", *lines, **environment)


def test_a_request_is_a_trace(traced: Server, collector: Collector) -> None:
    headers = {
        **sampled(TRACE),
        "user-agent": "tester/1",
        "host": "img.example:8080",
        "x-forwarded-for": "1.2.3.4",
    }
    answer = httpx.get(f"{traced.url}/thumbnail/cat.jpg?hmac=12&a=b", headers=headers)
    spans = collector.wait_for_trace(TRACE)
    whole = spans[0]
    assert (whole.kind, whole.parent, whole.status) == (SERVER, PARENT, 0)
    assert whole.name == 'GET get "thumbnail"'
    assert whole.facts == {
        "http.request.method": "GET",
        "http.route": 'get "thumbnail"',
        "http.response.status_code": 200,
        "http.request.body.size": 0,
        "http.response.body.size": len(answer.content),
        "url.scheme": "http",
        "url.path": "/thumbnail/cat.jpg",
        "url.query": "hmac=***&a=b",
        "server.address": "img.example",
        "server.port": 8080,
        "client.address": "1.2.3.4",
        "network.protocol.version": "1.1",
        "user_agent.original": "tester/1",
    }
    assert whole.resource["service.name"] == "safelight"
    assert whole.resource["service.version"] == __version__
    by_name = {span.name: span for span in spans}
    ancestors = {
        "sourcing images": whole.name,
        "sourcing image from file": "sourcing images",
        "processing images": whole.name,
        "thumbnailing image": "processing images",
        "waiting for an image worker": "thumbnailing image",
        "sending response image data": whole.name,
    }
    assert ancestors.keys() <= by_name.keys()
    for name, ancestor in ancestors.items():
        span, around = by_name[name], by_name[ancestor]
        assert (span.parent, span.kind) == (around.id, INTERNAL)
        tolerance_ns = 5_000_000  # of the clocks
        assert around.began - tolerance_ns <= span.began <= span.ended <= around.ended + tolerance_ns
    assert by_name["sourcing image from file"].facts == {"safelight.object": "cat.jpg"}
    assert f'"trace":"{TRACE}"' in (traced.directory / "access").read_text()


def test_failures_are_marked(traced: Server, collector: Collector) -> None:
    trace = "a" * 32
    assert httpx.get(f"{traced.url}/broken", headers=sampled(trace)).status_code == 500
    whole = collector.wait_for_trace(trace)[0]
    assert (whole.status, whole.facts["error.type"]) == (ERROR, "500")


def test_what_a_client_did_wrong_is_no_failure(traced: Server, collector: Collector) -> None:
    trace = "b" * 32
    httpx.request("PROPFIND", f"{traced.url}/nothing", headers=sampled(trace))
    whole = collector.wait_for_trace(trace)[0]
    assert (whole.name, whole.status, whole.facts["http.response.status_code"]) == ("HTTP", 0, 404)
    assert whole.facts["http.request.method"] == "_OTHER"
    assert "http.route" not in whole.facts


def test_a_request_without_a_trace_begins_one(traced: Server, collector: Collector) -> None:
    httpx.get(f"{traced.url}/original/cat.jpg?begins", headers={"traceparent": "00-nonsense-1-01"})
    whole = collector.wait_for(lambda span: span.facts.get("url.query") == "begins")
    assert whole.parent == ""
    assert len(whole.trace) == 32


def test_what_the_client_does_not_sample_is_not_sent(traced: Server, collector: Collector) -> None:
    trace = "c" * 32
    httpx.get(f"{traced.url}/original/cat.jpg", headers={"traceparent": f"00-{trace}-{PARENT}-00"})
    httpx.get(f"{traced.url}/original/cat.jpg?later")
    collector.wait_for(lambda span: span.facts.get("url.query") == "later")
    assert not [span for span in collector.spans if span.trace == trace]


class Thumbnailer(ThreadingHTTPServer):
    """Notes the headers of requests and refuses them."""

    def __init__(self) -> None:
        noted = self.noted = list[dict[str, str]]()

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                noted.append({name.lower(): value for name, value in self.headers.items()})
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(415)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def thumbnailer() -> Iterator[Thumbnailer]:
    with Thumbnailer() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_last_spans_are_sent_at_the_stop_and_a_trace_goes_on_at_the_thumbnailer(
    start: Start, collector: Collector, thumbnailer: Thumbnailer
) -> None:
    trace = "d" * 32
    environment = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.url}/v1/traces",
        "OTEL_SERVICE_NAME": "mine",
    }
    options = ("--otel", "--thumbnailer", f"http://127.0.0.1:{thumbnailer.server_port}")
    server = start(*options, **environment, OTEL_BSP_SCHEDULE_DELAY="600000")
    assert httpx.get(f"{server.url}/thumbnail/cat.jpg", headers=sampled(trace)).status_code == 415
    assert not [span for span in collector.spans if span.trace == trace]
    server.stop()
    spans = {span.name: span for span in collector.wait_for_trace(trace)}
    (headers,) = thumbnailer.noted
    assert headers["traceparent"] == f"00-{trace}-{spans['thumbnailing image'].id}-01"
    assert spans["thumbnailing image"].resource["service.name"] == "mine"


def test_a_collector_that_is_away_harms_nobody(start: Start) -> None:
    server = start(
        "--otel", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_EXPORTER_OTLP_TIMEOUT="1", **QUICK
    )
    assert httpx.get(f"{server.url}/original/cat.jpg").status_code == 200
    server.stop()


def test_it_can_be_refused(start: Start, collector: Collector) -> None:
    server = start("--no-otel", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **QUICK)
    httpx.get(f"{server.url}/original/cat.jpg?refused")
    server.stop()
    assert not [span for span in collector.spans if refused(span)]


def refused(span: Exported) -> bool:
    return span.facts.get("url.query") == "refused"


def test_a_missing_package_is_told_at_the_start(tmp_path: Path) -> None:
    """As without the extra: the packages cannot be found."""
    (tmp_path / "api.sdl").write_text('get "x" { output_ok }')
    hide = (
        "import importlib.util as util, sys\n"
        "find = util.find_spec\n"
        "hidden = 'opentelemetry'\n"
        "util.find_spec = lambda name, *more: None if name.startswith(hidden) else find(name, *more)\n"
        "from safelight.cli import main\n"
        "main(['serve', 'api.sdl', '--listen', 'unix:socket', '--otel'])\n"
    )
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", hide],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == "traces need more packages: pip install 'safelight[otel]'\n"


def test_nothing_is_imported_for_those_who_want_no_traces() -> None:
    script = (
        "import sys, safelight.cli.serve; print([name for name in sys.modules if 'opentelemetry' in name])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
