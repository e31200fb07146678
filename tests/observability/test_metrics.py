"""`/metrics`, read by the parsers of Prometheus itself."""

import os
import re
import signal
import time
from collections.abc import Callable

import httpx
import pytest
from processes import children
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from serving import Server

from safelight.server.stats import STATISTICS, Statistics
from safelight.timing import STEP_NAMES

Start = Callable[..., Server]
Samples = dict[str, dict[tuple[str, ...], float]]
TIMEOUT_S = 30
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5"
REQUESTS = "safelight_requests_total"


def read(url: str, accept: str = "") -> Samples:
    """Samples by name, then by the values of their labels in alphabetical order of these."""
    answer = httpx.get(f"{url}/metrics", headers={"accept": accept})
    assert answer.status_code == 200
    is_open = answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0;")
    assert is_open == bool(accept)
    assert is_open or answer.headers["content-type"].startswith("text/plain; version=0.0.4;")
    samples: Samples = {}
    for family in (parse_openmetrics if is_open else parse_text)(answer.text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            assert labels not in samples.setdefault(sample.name, {}), sample
            samples[sample.name][labels] = sample.value
    return samples


def wait_for(url: str, is_so: Callable[[Samples], bool]) -> Samples:
    deadline = time.monotonic() + TIMEOUT_S
    while not is_so(samples := read(url)):
        assert time.monotonic() < deadline, samples
        time.sleep(0.05)
    return samples


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=abc",
        "text/plain;version=x;escaping=y",
        "application/openmetrics-text;version=2.0.0,*/*",
        ";,=;,",
        "a" * 4000,
    ],
)
def test_whatever_a_client_accepts_is_answered(server: Server, accept: str) -> None:
    answer = httpx.get(f"{server.url}/metrics", headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def counted(samples: Samples) -> dict[tuple[str, ...], float]:
    return {labels: count for labels, count in samples[REQUESTS].items() if labels[0] != "none"}


def test_every_worker_tells_the_requests_of_all(start: Start) -> None:
    server = start("--http-workers", "2")
    size = (server.directory / "photos/cat.jpg").stat().st_size
    for _ in range(20):  # each on a connection of its own, so that both workers get some
        assert httpx.get(f"{server.url}/original/cat.jpg").status_code == 200
    httpx.get(f"{server.url}/original/dog.jpg")
    httpx.get(f"{server.url}/nothing/of/this/path/is/a/label")
    httpx.head(f"{server.url}/original/cat.jpg")
    httpx.put(f"{server.url}/upload", content=b"x" * 100)
    original = 'get "original"'
    expected = {(original, "200"): 21, (original, "404"): 1, ('put "upload" "&:token?none"', "415"): 1}
    wait_for(server.url, lambda samples: counted(samples) == expected)
    for accept in ("", OPENMETRICS) * 2:
        samples = read(server.url, accept)
        assert counted(samples) == expected
        assert samples[REQUESTS]["none", "404"] == 1
        assert samples["safelight_received_bytes_total"]['put "upload" "&:token?none"',] == 100
        sent = samples["safelight_sent_bytes_total"][original,]
        assert 20 * size < sent < 20 * size + 200
        assert samples["safelight_request_duration_seconds_count"][original,] == 22
        assert samples["safelight_request_duration_seconds_bucket"][original, "+Inf"] == 22
        assert 0 < samples["safelight_request_duration_seconds_sum"][original,] < 22 * TIMEOUT_S
        assert samples["safelight_storage_operations_total"]["source", "file"] == 21
        assert samples["safelight_http_worker_starts_total"][()] == 2
        assert {labels[0] for labels in samples["safelight_step_duration_seconds_count"]} == set(STEP_NAMES)
        assert samples["safelight_step_duration_seconds_count"]["source",] == 23
        assert samples["safelight_requests_in_progress"][()] == 1
    assert "path" not in httpx.get(f"{server.url}/metrics").text


def test_buckets_grow_and_end_at_the_count(server: Server) -> None:
    httpx.get(f"{server.url}/thumbnail/cat.jpg")
    samples = wait_for(server.url, lambda samples: ('get "thumbnail"', "200") in samples[REQUESTS])
    for step in STEP_NAMES:
        buckets = [
            (float(limit), count)
            for (limit, name) in sorted(
                samples["safelight_step_duration_seconds_bucket"], key=lambda key: float(key[0])
            )
            if name == step
            for count in [samples["safelight_step_duration_seconds_bucket"][limit, name]]
        ]
        counts = [count for _, count in buckets]
        assert counts == sorted(counts)
        assert counts[-1] == samples["safelight_step_duration_seconds_count"][step,]
    assert samples["safelight_step_duration_seconds_count"]["transform",] >= 1
    assert samples["safelight_step_duration_seconds_count"]["queue",] >= 1


def test_counts_outlive_their_workers(start: Start) -> None:
    server = start("--http-workers", "1")
    httpx.get(f"{server.url}/original/cat.jpg")
    key = ('get "original"', "200")
    wait_for(server.url, lambda samples: samples[REQUESTS].get(key) == 1)
    (worker,) = children(server.process.pid)
    os.kill(worker, signal.SIGKILL)
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            if httpx.get(f"{server.url}/original/cat.jpg").status_code == 200:
                break
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    samples = wait_for(server.url, lambda samples: samples[REQUESTS][key] == 2)
    assert samples["safelight_http_worker_starts_total"][()] == 2
    assert samples["safelight_requests_in_progress"][()] == 1


def test_lost_image_workers_are_counted_by_reason(start: Start) -> None:
    server = start()
    wait_for(server.url, lambda samples: samples["safelight_image_workers"][()] == 2)
    (http_worker,) = children(server.process.pid)
    (template,) = children(http_worker)
    os.kill(children(template)[0], signal.SIGKILL)
    samples = wait_for(server.url, lambda samples: "safelight_image_worker_restarts_total" in samples)
    assert sum(samples["safelight_image_worker_restarts_total"].values()) == 1
    samples = wait_for(server.url, lambda samples: samples["safelight_image_workers"][()] == 2)
    assert samples["safelight_image_memory_limit_bytes"][()] > 1 << 20
    for name in ("queue_length", "workers_busy", "memory_admitted_bytes"):
        assert samples[f"safelight_image_{name}"][()] == 0


def test_an_endpoint_comes_before_the_metrics(start: Start) -> None:
    server = start(api='get "metrics" { output_text "mine" }\nget "token=abc" { output_ok }')
    assert httpx.get(f"{server.url}/metrics").text == "mine\r\n"
    assert httpx.get(f"{server.url}/stats").status_code == 200


def test_the_operator_can_have_a_listener_of_his_own(start: Start) -> None:
    server = start("--admin-listen", "127.0.0.1:0", api='get "x" "&token=abc" { output_ok }')
    server.wait_for_log("Metrics at ")
    found = re.search(r"^Metrics at (\S+)/metrics$", server.log, re.MULTILINE)
    assert found
    admin = found[1]
    assert httpx.get(f"{server.url}/x?token=abc").status_code == 200
    assert httpx.get(f"{server.url}/metrics").status_code == 404
    assert httpx.get(f"{server.url}/stats").status_code == 200
    assert httpx.get(f"{admin}/x?token=abc").status_code == 404
    assert httpx.get(f"{admin}/health_check").text == "HTTP Image Store OK\r\n"
    assert httpx.get(f"{admin}/stats/workers").text == "1\r\n"
    samples = read(admin)
    (endpoint,) = {labels[0] for labels in samples[REQUESTS] if labels[0] != "none"}
    assert "&token=***" in endpoint  # what a client has to know stays secret
    assert admin not in server.log.splitlines()[0]


def test_the_listener_can_be_a_unix_socket(start: Start) -> None:
    server = start("--admin-listen", "unix:admin.sock", api='get "x" { output_ok }')
    socket = httpx.HTTPTransport(uds=str(server.directory / "admin.sock"))
    with httpx.Client(transport=socket, base_url="http://admin") as client:
        assert "safelight_build_info" in client.get("/metrics").text
    assert httpx.get(f"{server.url}/metrics").status_code == 404


@pytest.mark.covers("s199")
def test_statistics_are_those_of_the_reference(server: Server) -> None:
    lines = httpx.get(f"{server.url}/stats").text.splitlines()
    assert [line.partition(": ")[0] for line in lines] == list(STATISTICS)
    assert httpx.get(f"{server.url}/stats/total_requests").text.strip().isdigit()


@pytest.mark.covers("s200")
def test_stored_bytes_are_counted(server: Server, photo: bytes) -> None:
    before = int(httpx.get(f"{server.url}/stats/total_file_store_bytes").text)
    assert httpx.put(f"{server.url}/upload", content=photo).status_code == 200
    after = int(httpx.get(f"{server.url}/stats/total_file_store_bytes").text)
    assert after - before == len(photo)


def test_gauges_end_with_their_worker() -> None:
    statistics = Statistics()
    row = statistics.take_row()
    tally = statistics.tallies.row(row)
    for kind in ("gauge", "restarts"):
        tally.numbers[tally.place(kind, "x")] = 2
    statistics.free_row(row)
    assert statistics.tallies.totals() == {("gauge", "x"): [0], ("restarts", "x"): [2]}
