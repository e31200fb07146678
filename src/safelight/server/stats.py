"""Statistics shared by all HTTP workers: one page of integers for each, summed when somebody asks."""

import mmap
from collections.abc import Iterable

import structlog

from safelight.errors import NotFound
from safelight.model import Answer
from safelight.server.errors import text_answer
from safelight.server.tallies import Tallies

STATISTICS = (
    "workers",
    "total_requests",
    "total_errors",
    "calling",
    "writing",
    "total_write_multipart",
    "total_write",
    "total_write_part",
    "total_write_error",
    "total_write_error_part",
    "total_thumbnail_requests",
    "total_thumbnail_requests_bytes",
    "total_thumbnail_thumbnails",
    "total_thumbnail_thumbnails_bytes",
    "total_identify_requests",
    "total_identify_requests_bytes",
    "total_file_store",
    "total_file_store_bytes",
    "total_file_source",
    "total_file_source_bytes",
    "total_s3_store",
    "total_s3_store_bytes",
    "total_s3_source",
    "total_s3_source_bytes",
    "total_s3_cache_hits",
    "total_s3_cache_misses",
    "total_s3_cache_errors",
    "total_hmac_validations",
    "total_valid_hmac",
    "total_invalid_hmac",
    "total_lockpick_hmac",
    "total_result_cache_hits",
    "total_result_cache_misses",
    "total_result_cache_stale",
    "total_result_cache_shared",
)
"""Names in the order of `/stats` (reference/imagestore 9.6), then those that are new."""

GAUGES = ("calling", "writing", "images_loaded")
"""What ends with the worker that counted it; all other values only grow."""

PEAKS = {"images_loaded": ("max_images_loaded", "max_images_loaded_worker")}
"""Gauges and the statistics that keep the highest value they had in one worker."""

GAUGE = "gauge"
"""The kind of tallies that are gauges."""

HIGHEST = frozenset({"max_images_loaded_worker"})
"""The highest of all workers instead of their sum, which makes `max_images_loaded` an upper bound."""

ALIASES = {"total_images_downscaled": "total_images_downsampled"}
"""Names in older documentation, for asking for one value (reference/thumbnailer section 9)."""

MAX_WORKERS = 512
_NUMBER_BYTES = 8

_log = structlog.get_logger("safelight.server")


class Statistics:
    """Anonymous shared memory, made before the workers are forked: a row of numbers for each of them.

    Only its owner writes a row, from one thread, so no locks are needed. A row keeps its values when its
    worker dies, and a later worker counts on from there. `tallies` has a row for each worker, too.
    """

    def __init__(self, names: Iterable[str] = STATISTICS) -> None:
        self.names = tuple(names)
        self._columns = {name: column for column, name in enumerate(self.names)}
        width = len(self.names)
        self._rows = MAX_WORKERS
        self._numbers = memoryview(mmap.mmap(-1, MAX_WORKERS * width * _NUMBER_BYTES)).cast("q")
        self._free = list(reversed(range(MAX_WORKERS)))
        self.tallies = Tallies(MAX_WORKERS)

    def take_row(self) -> int:
        """In the master, before a fork: a row that no living worker has (the last one when all are taken)."""
        row = self._free.pop() if self._free else MAX_WORKERS - 1
        self.tallies.begin(row)
        return row

    def free_row(self, row: int) -> None:
        """In the master, when the worker has died: what it was just doing has ended."""
        for name in GAUGES:
            if name in self._columns:
                self._numbers[row * len(self.names) + self._columns[name]] = 0
        self.tallies.clear(row, GAUGE)
        if row not in self._free:
            self._free.append(row)

    def counters(self, row: int) -> "RowCounters":
        """In the worker: the counters that write `row`."""
        width = len(self.names)
        return RowCounters(self._numbers[row * width : (row + 1) * width], self._columns)

    def value(self, name: str) -> int:
        """Sum (or highest) over all workers. Raises: KeyError for an unknown name."""
        numbers = self._numbers[self._columns[name] :: len(self.names)]
        return max(numbers) if name in HIGHEST else sum(numbers)

    def answer(self, raw_path: str) -> Answer:
        """Answer `/stats` by all values, `/stats/<name>` by one. Raises: NotFound for an unknown name."""
        name = raw_path.removeprefix("/stats").removeprefix("/").partition("/")[0]
        if not name:
            return text_answer("\n".join(f"{name}: {self.value(name)}" for name in self.names))
        known = ALIASES.get(name, name)
        if known not in self._columns:
            raise NotFound(f"unknown statistic '{name}'")
        return text_answer(str(self.value(known)))


class RowCounters:
    """The `Counters` of one worker. To be used from the thread of its event loop only."""

    def __init__(self, numbers: memoryview, columns: dict[str, int]) -> None:
        self._numbers = numbers
        self._columns = columns
        self._peaks = {
            columns[gauge]: [columns[peak] for peak in peaks if peak in columns]
            for gauge, peaks in PEAKS.items()
            if gauge in columns
        }
        self._unknown: set[str] = set()

    def add(self, name: str, amount: int = 1) -> None:
        """Add to a statistic. An unknown name is logged once: a figure is not worth a failed request."""
        column = self._columns.get(name)
        if column is not None:
            self._numbers[column] += amount
            for peak in self._peaks.get(column, ()):
                self._numbers[peak] = max(self._numbers[peak], self._numbers[column])
        elif name not in self._unknown:
            self._unknown.add(name)
            _log.error(f"no statistic is called '{name}'")
