"""`/metrics`: what has been counted in all HTTP workers, dead ones included, as Prometheus reads it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from safelight import __version__
from safelight.blob import MemoryBlob
from safelight.model import Answer
from safelight.server.metrics import (
    BUCKETS_S,
    DURATIONS,
    NS,
    POOL_GAUGES,
    RECEIVED,
    REQUESTS,
    RESTARTS,
    SENT,
    STEPS,
    SUM,
)
from safelight.server.stats import GAUGE, Statistics

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
_OPENMETRICS = re.compile(
    r"application/openmetrics-text *(; *(version=1\.0\.0|q=[\d.]+|charset=utf-8) *)*(,|$)"
)


class Shown(NamedTuple):
    """A metric that `/stats` knows, too. `statistics`: by the values of its labels."""

    name: str
    text: str
    labels: tuple[str, ...]
    statistics: Mapping[tuple[str, ...], str]
    family: type[CounterMetricFamily | GaugeMetricFamily] = CounterMetricFamily


_STORAGES = [(operation, storage) for operation in ("source", "store") for storage in ("file", "s3")]
_STATISTICS = (
    Shown(
        "safelight_storage_operations",
        "Images read from and written to storages.",
        ("operation", "storage"),
        {(operation, storage): f"total_{storage}_{operation}" for operation, storage in _STORAGES},
    ),
    Shown(
        "safelight_storage_bytes",
        "Bytes of these images.",
        ("operation", "storage"),
        {(operation, storage): f"total_{storage}_{operation}_bytes" for operation, storage in _STORAGES},
    ),
    Shown(
        "safelight_cache_requests",
        "Objects looked up in caches, and failures of caches.",
        ("result",),
        {
            ("hit",): "total_s3_cache_hits",
            ("miss",): "total_s3_cache_misses",
            ("error",): "total_s3_cache_errors",
        },
    ),
    Shown(
        "safelight_result_cache_requests",
        "Requests to endpoints that keep answers: answered by a kept, an old or a shared one, or by none.",
        ("result",),
        {
            ("hit",): "total_result_cache_hits",
            ("stale",): "total_result_cache_stale",
            ("shared",): "total_result_cache_shared",
            ("miss",): "total_result_cache_misses",
        },
    ),
    Shown(
        "safelight_signature_checks",
        "Signatures of requests that were right and wrong.",
        ("result",),
        {("valid",): "total_valid_hmac", ("invalid",): "total_invalid_hmac"},
    ),
    Shown("safelight_thumbnails", "Thumbnails made.", (), {(): "total_thumbnail_thumbnails"}),
    Shown("safelight_http_worker_starts", "HTTP workers started so far.", (), {(): "workers"}),
    Shown("safelight_requests_in_progress", "Requests being served.", (), {(): "calling"}, GaugeMetricFamily),
)


class Exposition(Collector):
    """All metrics of a server, for whoever asks."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics

    def answer(self, accept: str) -> Answer:
        """The metrics as OpenMetrics 1.0.0 if the client can read that, else as plain text.

        Other words of `accept` are not for the library, which trips over some.
        """
        encode, content_type = choose_encoder(OPENMETRICS if _OPENMETRICS.search(accept) else "")
        return Answer(
            MemoryBlob(encode(self)),
            "text/plain",
            cache_control="no-store",
            facts=(("Content-Type", content_type),),
        )

    def collect(self) -> Iterator[Metric]:
        """As the Prometheus client wants them."""
        totals = self._statistics.tallies.totals()
        yield from _request_metrics(totals)
        yield from _pool_metrics(totals)
        yield from self._from_statistics()
        version = GaugeMetricFamily("safelight_build_info", "The version that runs.", labels=["version"])
        version.add_metric([__version__], 1)
        yield version

    def _from_statistics(self) -> Iterator[Metric]:
        known = set(self._statistics.names)
        for shown in _STATISTICS:
            family = shown.family(shown.name, shown.text, labels=shown.labels)
            for values, statistic in shown.statistics.items():
                if statistic in known:
                    family.add_metric(values, self._statistics.value(statistic))
            if family.samples:
                yield family


Totals = Mapping[tuple[str, ...], Sequence[int]]


def _of(totals: Totals, kind: str) -> Iterable[tuple[tuple[str, ...], Sequence[int]]]:
    return sorted((name[1:], values) for name, values in totals.items() if name[0] == kind)


def _counter(totals: Totals, kind: str, name: str, text: str, labels: Sequence[str]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for label_values, (value,) in _of(totals, kind):
        family.add_metric(label_values, value)
    return family


def _histogram(totals: Totals, kind: str, name: str, text: str, label: str) -> Metric:
    family = HistogramMetricFamily(name, text, labels=[label])
    limits = [*map(str, map(float, BUCKETS_S)), "+Inf"]
    for label_values, values in _of(totals, kind):
        counts = accumulate(values[:SUM])
        family.add_metric(label_values, list(zip(limits, counts, strict=True)), values[SUM] / NS)
    return family


def _request_metrics(totals: Totals) -> Iterator[Metric]:
    labels = ["endpoint", "status"]
    yield _counter(totals, REQUESTS, "safelight_requests", "Requests served.", labels)
    text = "Time from a request to the end of its answer."
    yield _histogram(totals, DURATIONS, "safelight_request_duration_seconds", text, "endpoint")
    text = "Time that requests have spent in a step."
    yield _histogram(totals, STEPS, "safelight_step_duration_seconds", text, "step")
    yield _counter(totals, RECEIVED, "safelight_received_bytes", "Bytes of request bodies.", labels[:1])
    yield _counter(totals, SENT, "safelight_sent_bytes", "Bytes of answer bodies.", labels[:1])


def _pool_metrics(totals: Totals) -> Iterator[Metric]:
    for name, (text, _) in POOL_GAUGES.items():
        yield GaugeMetricFamily(name, text, value=sum(totals.get((GAUGE, name), ())))
    text = "Image workers replaced, by reason."
    yield _counter(totals, RESTARTS, "safelight_image_worker_restarts", text, ["reason"])
