"""The bounded waiting line of an engine, and the promise of how long waiting takes."""

import math
from collections import OrderedDict
from typing import Generic, TypeVar

from safelight.errors import Busy

Item = TypeVar("Item")

SMOOTHING = 0.1
DOUBTS = 4
MAX_URGENT = 16
PATIENCE = 1.5
"""Predictions are not kept to the second: who has been let in waits up to so many times the allowed time."""


class WaitingLine(Generic[Item]):
    """First in, first out; urgent items before all others. Refuses at once what would wait too long.

    The prediction is the mean time of service, times the items before and including a new one, over the
    number of workers. It begins as if `DOUBTS` items had been served in no time and then forgets slowly, so
    the first item in line is refused only when service takes long for everybody.
    """

    def __init__(self, *, workers: int, max_waiting: int, max_wait_s: float) -> None:
        self._workers = workers
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._ordinary: OrderedDict[int, Item] = OrderedDict()
        self._urgent: OrderedDict[int, Item] = OrderedDict()
        self._served = DOUBTS
        self._service_s = 0.0

    def __len__(self) -> int:
        return len(self._ordinary) + len(self._urgent)

    def predicted_wait_s(self, more: int = 1) -> float:
        """How long the last ordinary item would wait if so many more were in line, in seconds."""
        return self._service_s * (len(self._ordinary) + more) / self._workers

    def served(self, seconds: float) -> None:
        """Learn from one ordinary item that was served in so many seconds."""
        self._served += 1
        self._service_s += max(SMOOTHING, 1 / self._served) * (seconds - self._service_s)

    def join(self, number: int, item: Item, *, urgent: bool) -> None:
        """Put an item at the end of its line. Raises: Busy."""
        if urgent:
            if len(self._urgent) >= MAX_URGENT:
                raise Busy("too many urgent requests are waiting")
            self._urgent[number] = item
            return
        if len(self._ordinary) >= self._max_waiting or self.predicted_wait_s() > self._max_wait_s:
            raise self.refusal()
        self._ordinary[number] = item

    def refusal(self) -> Busy:
        """For an item that may not wait: come back when half of the line is gone, so that it never ends."""
        retry_after_s = min(60, max(1, math.ceil(self.predicted_wait_s() / 2)))
        return Busy("too many images are waiting", retry_after_s=retry_after_s)

    def join_in_front(self, number: int, item: Item, *, urgent: bool) -> None:
        """Give an item its place back: its worker was lost, or its memory, through no fault of its own."""
        line = self._urgent if urgent else self._ordinary
        line[number] = item
        line.move_to_end(number, last=False)

    def leave(self, number: int) -> None:
        """Take an item out, if it is still there."""
        self._ordinary.pop(number, None)
        self._urgent.pop(number, None)

    def first(self) -> Item | None:
        """The item whose turn it is, None if there is none."""
        line = self._urgent or self._ordinary
        return line[next(iter(line))] if line else None

    def take(self) -> Item:
        """Take out the first item. Raises: KeyError if there is none."""
        line = self._urgent or self._ordinary
        return line.popitem(last=False)[1]

    def take_hopeless(self) -> list[Item]:
        """Take out the last ones, if service has become so slow that their patience will not suffice."""
        items: list[Item] = []
        while len(self._ordinary) > 1 and self.predicted_wait_s(0) > PATIENCE * self._max_wait_s:
            items.append(self._ordinary.popitem()[1])
        return items

    def clear(self) -> list[Item]:
        """Take everything out."""
        items = [*self._urgent.values(), *self._ordinary.values()]
        self._urgent.clear()
        self._ordinary.clear()
        return items
