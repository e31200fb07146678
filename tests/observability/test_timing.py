"""What is measured, and who is told."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from safelight.timing import (
    STEP_NAMES,
    STEPS,
    Account,
    Finish,
    Span,
    current_account,
    listen,
    measured,
    onward_headers,
    serving,
    spent,
)


@pytest.fixture
def told() -> Iterator[list[Span]]:
    """Every span that has ended, in order."""
    spans: list[Span] = []

    def listener(span: Span) -> Finish:
        return lambda: spans.append(span)

    stop = listen(listener)
    yield spans
    stop()


def test_every_step_has_a_name() -> None:
    assert set(STEPS.values()) == set(STEP_NAMES)


def test_where_no_request_is_served_nothing_is_measured(told: list[Span]) -> None:
    with measured("sourcing images"):
        spent("waiting for an image worker", 0, 1)
    assert told == []
    assert (current_account(), dict(onward_headers())) == (None, {})


@pytest.mark.parametrize("is_told", [False, True])
def test_each_moment_counts_for_one_step(is_told: bool, request: pytest.FixtureRequest) -> None:
    """The inner of two tasks, so that all steps together are the whole request."""
    if is_told:
        request.getfixturevalue("told")
    account = Account()
    with serving(account, "it") as whole:
        assert current_account() is account
        with measured("processing images"), measured("thumbnailing image"):
            asked = time.perf_counter()
            time.sleep(0.02)
            spent("waiting for an image worker", asked, 0.015)
        with measured("storing images"), measured("storing image in file"):
            time.sleep(0.01)
        assert 0.03 <= whole.elapsed_s() <= 0.03 + 1
    assert current_account() is None
    assert set(account.steps_s) == {"transform", "queue", "store", "other"}
    assert account.steps_s["queue"] == 0.015
    assert account.steps_s["transform"] >= 0.004
    assert account.steps_s["store"] >= 0.01
    assert sum(account.steps_s.values()) == pytest.approx(account.duration_s, abs=1e-9)


def test_a_failing_task_is_measured_too(told: list[Span]) -> None:
    account = Account()
    with pytest.raises(ValueError, match="no"), serving(account, "it"), measured("sourcing images"):
        raise ValueError("no")
    assert [span.task for span in told] == ["sourcing images", "handling request"]
    assert account.duration_s >= account.steps_s["source"] > 0


async def test_tasks_that_run_at_the_same_time_know_what_they_are_part_of(told: list[Span]) -> None:
    async def work(name: str, seconds: float) -> None:
        with measured("storing image in file", name):
            await asyncio.sleep(seconds)
            with measured("inner"):
                await asyncio.sleep(seconds)

    account = Account()
    with serving(account, "it"), measured("storing images"):
        await asyncio.gather(work("a", 0.02), work("b", 0.01))
    stored = ("handling request", "storing images", "storing image in file")
    assert [(span.path(), span.thing) for span in told] == [
        ((*stored, "inner"), None),
        (stored, "b"),
        ((*stored, "inner"), None),
        (stored, "a"),
        (stored[:2], None),
        (stored[:1], "it"),
    ]
    assert {span.account for span in told} == {account}
    assert account.steps_s["store"] < 0.06 + 1  # not twice the time


async def test_requests_that_run_at_the_same_time_are_told_apart() -> None:
    async def request(task: str) -> Account:
        account = Account()
        with serving(account, task):
            await asyncio.sleep(0)
            with measured(task):
                await asyncio.sleep(0.001)
        return account

    first, second = await asyncio.gather(request("sourcing images"), request("storing images"))
    assert (set(first.steps_s), set(second.steps_s)) == ({"source", "other"}, {"store", "other"})


def test_headers_of_a_listener_are_those_of_the_innermost_task() -> None:
    def listener(span: Span) -> Finish:
        span.headers = {"task": span.task}
        return lambda: None

    stop = listen(listener)
    try:
        with serving(Account(), "it"):
            assert onward_headers() == {"task": "handling request"}
            with measured("sourcing images"):
                assert onward_headers() == {"task": "sourcing images"}
            assert onward_headers() == {"task": "handling request"}
    finally:
        stop()
