"""Changes of what answers are made of: caches know of them until they are made, whoever gives up."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from safelight.blob import EMPTY
from safelight.model import Captures, Change, Images, MemoryBudget, Request, RequestState
from safelight.results.epochs import Epochs, place_slot
from safelight.run import store
from safelight.variables import Variables

TIMEOUT_S = 30


class Slow:
    """A change of `place` that is made when `may_end` is set, and the store that plans it."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.has_begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.is_made = False

    def plan(self, state: RequestState) -> Change:
        return self

    async def make(self) -> None:
        self.has_begun.set()
        await self.may_end.wait()
        self.is_made = True

    def record(self, state: RequestState) -> None:
        """Nothing to note."""


def state() -> RequestState:
    captures, images = Captures({}, ""), Images(MemoryBudget(0))
    variables = Variables(captures.values, captures.path, {}, EMPTY, images)
    return RequestState(Request("PUT", "/a", "", {}, {}), EMPTY, images, variables)


@pytest.mark.parametrize("count", [1, 2])
async def test_a_change_is_locked_until_it_is_made_even_if_its_client_leaves(
    tmp_path: Path, count: int
) -> None:
    epochs = Epochs(tmp_path)
    changes = [Slow(f"file:/images/{number}") for number in range(count)]
    slots = [place_slot(change.place) for change in changes]
    request = asyncio.create_task(store(changes, state(), [epochs]))
    for change in changes:
        await asyncio.wait_for(change.has_begun.wait(), TIMEOUT_S)
    request.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(request, TIMEOUT_S)
    assert request.cancelled()
    assert all(map(epochs.is_changing, slots))
    for change in changes:
        change.may_end.set()
    left = asyncio.all_tasks() - {request, asyncio.current_task()}
    _, unfinished = await asyncio.wait(left, timeout=TIMEOUT_S)
    assert not unfinished
    assert all(change.is_made for change in changes)
    assert not any(map(epochs.is_changing, slots))


def test_a_change_is_locked_until_the_process_ends_if_its_server_stops_before(tmp_path: Path) -> None:
    """A thread may still be writing: what it has not written yet must not be kept."""
    epochs, change = Epochs(tmp_path), Slow("file:/images/a")

    async def serve_for_a_moment() -> None:
        request = asyncio.create_task(store([change], state(), [epochs]))
        await asyncio.wait_for(change.has_begun.wait(), TIMEOUT_S)
        request.cancel()

    asyncio.run(serve_for_a_moment())
    assert not change.is_made
    assert epochs.is_changing(place_slot(change.place))
