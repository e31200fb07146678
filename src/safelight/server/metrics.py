"""What is counted for the metrics, in one HTTP worker; `exposition` shows the sums of all.

The counts are in our own shared memory, where those of a request cost 4 microseconds. In the multi-process
mode of the Prometheus client it is 19, with a file for every process that has ever lived, and a directory.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Mapping

from safelight.engine.pool import PoolStatus
from safelight.server.log import escape, mask
from safelight.server.stats import GAUGE
from safelight.server.tallies import Tally
from safelight.timing import STEP_NAMES, Account

NOBODY = "none"
"""The endpoint of requests that no endpoint has served."""

MAX_LABEL_CHARACTERS = 200
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60)
"""From a small file to the default deadline; 20 s are those of a transform."""

PUBLISH_S = 1.0
NS = 1_000_000_000
WIDTH = len(BUCKETS_S) + 2  # and what is above the highest; and the sum, in nanoseconds
SUM = WIDTH - 1

REQUESTS, DURATIONS, STEPS, RECEIVED, SENT = "requests", "durations", "steps", "received", "sent"
RESTARTS = "restarts"
"""Kinds of entries in the tallies; `GAUGE` is one more."""


class Metrics:
    """What one worker adds to the metrics."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._places: dict[tuple[str | None, int], tuple[int, int, int, int]] = {}
        self._steps = {name: tally.place(STEPS, name, width=WIDTH) for name in STEP_NAMES}

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
        numbers[durations + SUM] += int(account.duration_s * NS)
        for step, seconds in account.steps_s.items():
            place = self._steps[step]
            numbers[place + bisect_left(BUCKETS_S, seconds)] += 1
            numbers[place + SUM] += int(seconds * NS)

    def watch(self, status: Callable[[], PoolStatus]) -> None:
        """Publish what an engine says of itself, now and every second; to be called on its event loop."""
        EngineWatch(self._tally, status).publish()

    def _find(self, endpoint: str | None, status: int) -> tuple[int, int, int, int]:
        label = NOBODY if endpoint is None else _label(endpoint)
        place = self._tally.place
        found = self._places[endpoint, status] = (
            place(REQUESTS, label, str(status)),
            place(DURATIONS, label, width=WIDTH),
            place(RECEIVED, label),
            place(SENT, label),
        )
        return found


def _label(endpoint: str) -> str:
    """Short, printable and without secrets, which may stand in a matcher."""
    return escape(mask(endpoint))[:MAX_LABEL_CHARACTERS]


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
