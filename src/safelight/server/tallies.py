"""Numbers under names not known beforehand, shared by all HTTP workers: what the metrics are made of.

Each worker writes a row of its own, so no locks are needed, and adding costs less than a microsecond. A row
is a list of entries in anonymous shared memory, in numbers of 8 bytes: first how many numbers are in use,
this one included; then of every entry `length of the name << 16 | count of values`, the name, padded, and
the values. A row keeps its entries when its worker dies, and a later worker counts on from there.
"""

import mmap
from collections.abc import Iterator, Sequence

import structlog

ROW_NUMBERS = 16 << 10
"""128 KiB, for about 500 endpoints; memory that is never written costs nothing."""

SEPARATOR = "\x1f"
_NUMBER_BYTES = 8
_WIDTH_BITS = 16
_MAX_WIDTH = 64

_log = structlog.get_logger("safelight.server")


class Tallies:
    """The rows of all workers, made before they are forked."""

    def __init__(self, rows: int) -> None:
        self._memory = memoryview(mmap.mmap(-1, (rows * ROW_NUMBERS + 1) * _NUMBER_BYTES))
        self._numbers = self._memory.cast("q")
        self._in_use = rows * ROW_NUMBERS  # where the number of rows is that have ever been used

    def begin(self, row: int) -> None:
        """In the master, before a worker may write `row`."""
        self._numbers[self._in_use] = max(self._numbers[self._in_use], row + 1)

    def row(self, number: int) -> "Tally":
        """In the worker: the row that it writes."""
        first = number * ROW_NUMBERS * _NUMBER_BYTES
        return Tally(self._memory[first : first + ROW_NUMBERS * _NUMBER_BYTES])

    def clear(self, row: int, kind: str) -> None:
        """In the master, when the worker has died: set all values of this kind to zero."""
        tally = self.row(row)
        for name, place, width in tally.entries():
            if name.partition(SEPARATOR)[0] == kind:
                tally.numbers[place : place + width] = memoryview(bytes(width * _NUMBER_BYTES)).cast("q")

    def totals(self) -> dict[tuple[str, ...], Sequence[int]]:
        """Sums over all workers, by the parts of the name."""
        totals: dict[tuple[str, ...], Sequence[int]] = {}
        for row in range(self._numbers[self._in_use]):
            tally = self.row(row)
            for name, place, width in tally.entries():
                parts, values = tuple(name.split(SEPARATOR)), tally.numbers[place : place + width].tolist()
                known = totals.get(parts)
                totals[parts] = [a + b for a, b in zip(known, values, strict=True)] if known else values
        return totals


class Tally:
    """One row. `numbers[tally.place(...)]` may be changed at will by its owner."""

    def __init__(self, memory: memoryview) -> None:
        self.numbers: memoryview[int] = memory.cast("q")
        self._octets = memory
        self._scratch = len(self.numbers) - _MAX_WIDTH
        self._places = {name: place for name, place, _ in self.entries()}
        self._is_full = False

    def place(self, *parts: str, width: int = 1) -> int:
        """Where the values under a name begin; they are zero at first. `parts[0]`: its kind.

        When the row is full, that is said in the log, and what is counted is lost: requests matter more.
        """
        name = SEPARATOR.join(parts)
        known = self._places.get(name)
        if known is None:
            known = self._places[name] = self._new(name.encode("utf-8", "replace"), width)
        return known

    def entries(self) -> Iterator[tuple[str, int, int]]:
        """Names, where their values begin, and how many they are."""
        at = 1
        while at < min(self.numbers[0], self._scratch):
            head = self.numbers[at]
            size, width = head >> _WIDTH_BITS, head & ((1 << _WIDTH_BITS) - 1)
            name = bytes(self._octets[(at + 1) * _NUMBER_BYTES :][:size]).decode("utf-8", "replace")
            place = at + 1 + _padded(size)
            yield name, place, width
            at = place + width

    def _new(self, name: bytes, width: int) -> int:
        at = self.numbers[0] or 1
        place = at + 1 + _padded(len(name))
        if place + width > self._scratch:
            if not self._is_full:
                self._is_full = True
                _log.warning("there is no room for more metrics")
            return self._scratch
        self._octets[(at + 1) * _NUMBER_BYTES :][: len(name)] = name
        self.numbers[at] = len(name) << _WIDTH_BITS | width
        self.numbers[0] = place + width  # last: readers in other processes see whole entries only
        return place


def _padded(size: int) -> int:
    """Numbers that so many bytes take."""
    return -(-size // _NUMBER_BYTES)
