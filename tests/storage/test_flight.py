"""Work that several want at the same time is done once, for as long as somebody waits for it."""

import asyncio

import pytest

from safelight.storage.flight import SharedCall, SingleFlight


class Work:
    """Work that goes on until it is told to end, and counts how often it was begun and stopped."""

    def __init__(self) -> None:
        self.begun = 0
        self.stopped = 0
        self.may_end = asyncio.Event()
        self.failure: Exception | None = None

    async def __call__(self) -> str:
        self.begun += 1
        number = self.begun
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        if self.failure:
            raise self.failure
        return f"result {number}"


Flights = SingleFlight[str, str]
Calls = SharedCall[str, str]


@pytest.fixture(params=[Flights, Calls])
def flights(request: pytest.FixtureRequest) -> Flights | Calls:
    return request.param()


async def begun(
    flights: Flights | Calls, work: Work, count: int, key: str = "key"
) -> "list[asyncio.Task[str]]":
    tasks = [asyncio.create_task(flights.join(key, work)) for _ in range(count)]
    await settled()
    return tasks


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_callers_at_the_same_time_share_one_result(flights: Flights | Calls) -> None:
    work = Work()
    tasks = await begun(flights, work, 20)
    work.may_end.set()
    assert await asyncio.gather(*tasks) == ["result 1"] * 20
    assert work.begun == 1


async def test_different_keys_share_nothing(flights: Flights | Calls) -> None:
    work = Work()
    tasks = [*await begun(flights, work, 2, "a"), *await begun(flights, work, 2, "b")]
    work.may_end.set()
    assert await asyncio.gather(*tasks) == ["result 1", "result 1", "result 2", "result 2"]


async def test_a_result_is_not_kept(flights: Flights | Calls) -> None:
    work = Work()
    work.may_end.set()
    assert await flights.join("key", work) == "result 1"
    assert await flights.join("key", work) == "result 2"


async def test_a_failure_reaches_all_and_is_not_kept(flights: Flights | Calls) -> None:
    work = Work()
    tasks = await begun(flights, work, 3)
    work.failure = ValueError("broken")
    work.may_end.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(result) for result in results] == ["broken"] * 3
    work.failure = None
    assert await flights.join("key", work) == "result 2"


@pytest.mark.parametrize("leaving", [0, 1, 2])
async def test_who_leaves_harms_nobody(leaving: int) -> None:
    """Not even the one who began."""
    flights, work = Flights(), Work()
    tasks = await begun(flights, work, 3)
    left = tasks.pop(leaving)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    work.may_end.set()
    assert await asyncio.gather(*tasks) == ["result 1"] * 2
    assert (work.begun, work.stopped) == (1, 0)


async def test_work_that_nobody_waits_for_is_stopped() -> None:
    flights, work = Flights(), Work()
    tasks = await begun(flights, work, 3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await settled()
    assert (work.begun, work.stopped) == (1, 1)
    work.may_end.set()
    assert await flights.join("key", work) == "result 2"


async def test_who_comes_while_work_is_being_stopped_begins_anew() -> None:
    flights, work = Flights(), Work()
    (first,) = await begun(flights, work, 1)
    first.cancel()
    await asyncio.sleep(0)  # the caller has left, the work has not noticed yet
    second = asyncio.create_task(flights.join("key", work))
    work.may_end.set()
    assert await second == "result 2"
    assert first.cancelled()


async def test_nobody_joins_what_was_left(flights: Flights | Calls) -> None:
    work = Work()
    before = await begun(flights, work, 2)
    flights.leave("key")
    after = await begun(flights, work, 2)
    assert work.begun == 2
    work.may_end.set()
    assert await asyncio.gather(*before, *after) == ["result 1", "result 1", "result 2", "result 2"]


async def test_the_end_of_what_was_left_does_not_end_what_came_after(flights: Flights | Calls) -> None:
    work = Work()
    before = await begun(flights, work, 1)
    flights.leave("key")
    after = await begun(flights, work, 1)
    before[0].cancel()
    await settled()
    joined = await begun(flights, work, 1)
    assert (work.begun, work.stopped) == (2, 1)
    work.may_end.set()
    assert await asyncio.gather(*after, *joined) == ["result 2"] * 2


async def test_leaving_nothing(flights: Flights | Calls) -> None:
    flights.leave("key")


@pytest.mark.parametrize(("leaving", "times"), [(0, 2), (1, 1), (2, 1)])
async def test_when_who_makes_a_call_leaves_the_next_one_begins_anew(leaving: int, times: int) -> None:
    calls, work = Calls(), Work()
    tasks = await begun(calls, work, 3)
    left = tasks.pop(leaving)
    left.cancel()
    await settled()
    assert left.cancelled()
    assert (work.begun, work.stopped) == (times, times - 1)
    work.may_end.set()
    assert await asyncio.gather(*tasks) == [f"result {times}"] * 2


async def test_a_call_that_nobody_waits_for_is_stopped() -> None:
    calls, work = Calls(), Work()
    tasks = await begun(calls, work, 3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await settled()
    assert work.begun == work.stopped
    work.may_end.set()
    assert await calls.join("key", work) == f"result {work.begun}"
