"""Metrics for Prometheus, right for all HTTP workers together, dead ones included.

They are rendered from our own shared memory. The multi-process mode of the Prometheus client takes some 20
microseconds for what a request counts, a file for every process that has ever lived, and a directory for
them; its text formats and data model are what we use.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from safelight import __version__
from safelight.blob import MemoryBlob
from safelight.engine.pool import PoolStatus
from safelight.model import Answer
from safelight.server.log import mask
from safelight.server.stats import GAUGE, Statistics
from safelight.server.tallies import Tally
from safelight.timing import STEP_NAMES, Account

NOBODY = "none"
"""The endpoint of requests that no endpoint has served."""

MAX_LABEL_CHARACTERS = 200
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60)
"""From a small file to the default deadline; 20 s are those of a transform."""

PUBLISH_S = 1.0
_NS = 1_000_000_000
_WIDTH = len(BUCKETS_S) + 2  # and what is above the highest; and the sum, in nanoseconds
_SUM = _WIDTH - 1

REQUESTS, DURATIONS, STEPS, RECEIVED, SENT = "requests", "durations", "steps", "received", "sent"
RESTARTS = "restarts"
"""Kinds of entries in the tallies; `GAUGE` is one more."""


class Metrics:
    """What one worker adds to the metrics."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._labels: dict[str, str] = {}
        self._places: dict[tuple[str | None, int], tuple[int, int, int, int]] = {}
        self._steps = {name: tally.place(STEPS, name, width=_WIDTH) for name in STEP_NAMES}

    def note(self, account: Account) -> None:
        """Count a request that has ended."""
        key = account.endpoint, account.status
        places = self._places.get(key) or self._find(*key)
        numbers = self._tally.numbers
        requests, durations, received, sent = places
        numbers[requests] += 1
        if account.received_bytes:
            numbers[received] += account.received_bytes
        numbers[sent] += account.sent_bytes
        numbers[durations + bisect_left(BUCKETS_S, account.duration_s)] += 1
        numbers[durations + _SUM] += int(account.duration_s * _NS)
        for step, seconds in account.steps_s.items():
            place = self._steps[step]
            numbers[place + bisect_left(BUCKETS_S, seconds)] += 1
            numbers[place + _SUM] += int(seconds * _NS)

    def watch(self, status: Callable[[], PoolStatus]) -> None:
        """Publish what an engine says of itself, now and every second; to be called on its event loop."""
        EngineWatch(self._tally, status).publish()

    def _find(self, endpoint: str | None, status: int) -> tuple[int, int, int, int]:
        label = _label(endpoint) if endpoint is not None else NOBODY
        place = self._tally.place
        found = self._places[endpoint, status] = (
            place(REQUESTS, label, str(status)),
            place(DURATIONS, label, width=_WIDTH),
            place(RECEIVED, label),
            place(SENT, label),
        )
        return found


def _label(endpoint: str) -> str:
    """Short and without secrets, which may stand in a matcher."""
    return mask(endpoint)[:MAX_LABEL_CHARACTERS]


class EngineWatch:
    """Copies figures of a pool to where other processes see them."""

    def __init__(self, tally: Tally, status: Callable[[], PoolStatus]) -> None:
        self._tally = tally
        self._status = status
        self._restarts: dict[str, int] = {}

    def publish(self) -> None:
        """Do it, and again a second later."""
        status, numbers = self._status(), self._tally.numbers
        for name, (_, read) in POOL_GAUGES.items():
            numbers[self._tally.place(GAUGE, name)] = read(status)
        for reason, count in status.restarts.items():
            numbers[self._tally.place(RESTARTS, reason)] += count - self._restarts.get(reason, 0)
        self._restarts = dict(status.restarts)
        asyncio.get_running_loop().call_later(PUBLISH_S, self.publish)


POOL_GAUGES: Mapping[str, tuple[str, Callable[[PoolStatus], int]]] = {
    "safelight_image_queue_length": ("Images that wait for a worker.", lambda pool: pool.waiting),
    "safelight_image_workers": ("Living image workers, spare ones included.", lambda pool: pool.workers),
    "safelight_image_workers_busy": ("Image workers that have a job.", lambda pool: pool.busy),
    "safelight_image_memory_admitted_bytes": (
        "Memory granted to the jobs of image workers.",
        lambda pool: pool.admitted_bytes,
    ),
    "safelight_image_memory_limit_bytes": (
        "Memory that may be granted to the jobs of image workers.",
        lambda pool: pool.memory_limit_bytes,
    ),
}


# For the reader

_STATISTICS: Sequence[tuple[str, str, str, Mapping[tuple[str, ...], str], tuple[str, ...]]] = (
    (
        "safelight_storage_operations",
        "Images read from and written to storages.",
        "counter",
        {
            (operation, storage): f"total_{storage}_{operation}"
            for operation in ("source", "store")
            for storage in ("file", "s3")
        },
        ("operation", "storage"),
    ),
    (
        "safelight_storage_bytes",
        "Bytes of these images.",
        "counter",
        {
            (operation, storage): f"total_{storage}_{operation}_bytes"
            for operation in ("source", "store")
            for storage in ("file", "s3")
        },
        ("operation", "storage"),
    ),
    (
        "safelight_cache_requests",
        "Objects looked up in caches, and failures of caches.",
        "counter",
        {
            (result,): f"total_s3_cache_{plural}"
            for result, plural in (("hit", "hits"), ("miss", "misses"), ("error", "errors"))
        },
        ("result",),
    ),
    (
        "safelight_signature_checks",
        "Signatures of requests that were right and wrong.",
        "counter",
        {("valid",): "total_valid_hmac", ("invalid",): "total_invalid_hmac"},
        ("result",),
    ),
    (
        "safelight_thumbnails",
        "Thumbnails made.",
        "counter",
        {(): "total_thumbnail_thumbnails"},
        (),
    ),
    ("safelight_http_worker_starts", "HTTP workers started so far.", "counter", {(): "workers"}, ()),
    ("safelight_requests_in_progress", "Requests being served.", "gauge", {(): "calling"}, ()),
)
"""Metrics that `/stats` knows, too: name, help, kind, statistics by label values, labels."""


class Exposition(Collector):
    """All metrics of a server, for whoever asks."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics

    def answer(self, accept: str) -> Answer:
        """The metrics in the format that `accept` prefers, plain text or OpenMetrics."""
        encode, content_type = choose_encoder(accept)
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
        for name, text, kind, sources, labels in _STATISTICS:
            made = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            family = made(name, text, labels=labels)
            for values, statistic in sources.items():
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
        counts = accumulate(values[:_SUM])
        family.add_metric(label_values, list(zip(limits, counts, strict=True)), values[_SUM] / _NS)
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
