"""Run one endpoint: validate, source, process, store, output."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial

from safelight.blob import Blob
from safelight.finish import to_the_end
from safelight.model import (
    Answer,
    Captures,
    Change,
    Endpoint,
    Images,
    MemoryBudget,
    Request,
    RequestState,
    Store,
)
from safelight.results.epochs import Epochs
from safelight.timing import current_account, measured
from safelight.variables import Variables

HASH_INLINE_BYTES = 1 << 20

ReadBody = Callable[[], Awaitable[Blob]]

_cut_off: list[ExitStack] = []
"""Locks of changes that ended with the event loop: a thread may still write. They go with the process."""


async def run(
    endpoint: Endpoint, captures: Captures, request: Request, read_body: ReadBody, max_bytes: int
) -> Answer:
    """Serve `request` by the endpoint that matched it.

    The body is read first, whatever the method; a failing step ends the request, and changes already made
    stay made (reference/imagestore section 0). `max_bytes`: image data and body of this request.
    Raises: any SafelightError.
    """
    _note(endpoint)
    state = await begin(endpoint, captures, request, await read_body(), max_bytes)
    if endpoint.validators:
        with measured("validating request"):
            for validator in endpoint.validators:
                await validator.run(state)
    if endpoint.cache is not None:
        return await endpoint.cache.answer(state, partial(compute, endpoint))
    return await compute(endpoint, state)


async def compute(endpoint: Endpoint, state: RequestState) -> Answer:
    """Make the answer to a request that `endpoint` may answer. Raises: any SafelightError."""
    if endpoint.sources:
        with measured("sourcing images"):
            for source in endpoint.sources:
                await source.run(state)
    if endpoint.processors:
        with measured("processing images"):
            for processor in endpoint.processors:
                await processor.run(state)
    if endpoint.stores:
        with measured("storing images"):
            await store(endpoint.stores, state, endpoint.told_of_changes)
    with measured("sending response"):
        return await endpoint.output.answer(state)


def _note(endpoint: Endpoint) -> None:
    """Say who serves the current request, for logs and metrics."""
    noted = current_account()
    if noted is not None:
        noted.endpoint, noted.handler = endpoint.name, endpoint.handler


async def begin(
    endpoint: Endpoint, captures: Captures, request: Request, body: Blob, max_bytes: int
) -> RequestState:
    """The state in which the first step finds the request. Raises: MemoryLimitExceeded."""
    budget = MemoryBudget(max_bytes)
    budget.charge(body.size)
    if endpoint.hashes_input and body.size > HASH_INLINE_BYTES:
        await asyncio.to_thread(lambda: body.sha256)
    images = Images(budget)
    variables = Variables(captures.values, captures.path, request.query, body, images)
    return RequestState(request, body, images, variables)


async def store(stores: Iterable[Store], state: RequestState, told: Sequence[Epochs] = ()) -> None:
    """Make all changes: at the same time, but those of one place one after the other.

    Every change that was begun is waited for; then the first failure, in file order, ends the request.
    `told`: of each place, before it is changed.
    """
    changes = [change for store in stores if (change := store.plan(state)) is not None]
    places: dict[str, list[Change]] = {}
    for change in changes:
        places.setdefault(change.place, []).append(change)
    if len(places) == 1:
        await _make(told, changes)
    else:
        making = map(partial(_make, told), places.values())
        outcomes = await asyncio.gather(*making, return_exceptions=True)
        for failure in filter(None, outcomes):
            raise failure
    for change in changes:
        change.record(state)


async def _make(told: Sequence[Epochs], changes: Sequence[Change]) -> None:
    for change in changes:
        if told:
            await to_the_end(_make_told(told, change))
        else:
            await change.make()


async def _make_told(told: Sequence[Epochs], change: Change) -> None:
    """To the end, even if the request is given up: a thread goes on writing, and who reads what is there
    until then must not keep it.
    """
    with ExitStack() as held:
        for epochs in told:
            held.enter_context(epochs.changing(change.place))
        try:
            await change.make()
        except asyncio.CancelledError:
            _cut_off.append(held.pop_all())
            raise
