"""The bounded waiting line of an engine, and the promise of how long waiting takes."""

import math
from collections import OrderedDict
from typing import Generic, TypeVar

from safelight.errors import Busy

Item = TypeVar("Item")

SMOOTHING = 0.1
MAX_URGENT = 16


class WaitingLine(Generic[Item]):
    """First in, first out; urgent items before all others. Refuses at once what would wait too long.

    The prediction is the smoothed time of service, times the items before and including a new one, over the
    number of workers. The first item in line is refused by it only when service takes long for everybody.
    """

    def __init__(self, *, workers: int, max_waiting: int, max_wait_s: float) -> None:
        self._workers = workers
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._ordinary: OrderedDict[int, Item] = OrderedDict()
        self._urgent: OrderedDict[int, Item] = OrderedDict()
        self._service_s = 0.0

    def __len__(self) -> int:
        return len(self._ordinary) + len(self._urgent)

    def predicted_wait_s(self) -> float:
        """How long one more ordinary item would wait, in seconds."""
        return self._service_s * (len(self._ordinary) + 1) / self._workers

    def served(self, seconds: float) -> None:
        """Learn from one ordinary item that was served in so many seconds."""
        self._service_s += SMOOTHING * (seconds - self._service_s)

    def join(self, number: int, item: Item, *, urgent: bool) -> None:
        """Put an item at the end of its line. Raises: Busy."""
        if urgent:
            if len(self._urgent) >= MAX_URGENT:
                raise Busy("too many urgent requests are waiting")
            self._urgent[number] = item
            return
        wait_s = self.predicted_wait_s()
        if len(self._ordinary) >= self._max_waiting or wait_s > self._max_wait_s:
            raise Busy("too many images are waiting", retry_after_s=min(60, max(1, math.ceil(wait_s))))
        self._ordinary[number] = item

    def join_in_front(self, number: int, item: Item, *, urgent: bool) -> None:
        """Give an item its place back: its worker was lost through no fault of its own."""
        line = self._urgent if urgent else self._ordinary
        line[number] = item
        line.move_to_end(number, last=False)

    def leave(self, number: int) -> None:
        """Take an item out, if it is still there."""
        self._ordinary.pop(number, None)
        self._urgent.pop(number, None)

    def next(self, *, only_urgent: bool) -> Item | None:
        """Take the item whose turn it is, None if there is none."""
        line = self._urgent or (None if only_urgent else self._ordinary)
        return line.popitem(last=False)[1] if line else None

    def clear(self) -> list[Item]:
        """Take everything out."""
        items = [*self._urgent.values(), *self._ordinary.values()]
        self._urgent.clear()
        self._ordinary.clear()
        return items
