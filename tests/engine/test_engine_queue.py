"""The waiting line, without anything behind it."""

import pytest

from safelight.engine.queue import MAX_URGENT, WaitingLine
from safelight.errors import Busy


def line(*, workers: int = 1, max_waiting: int = 10, max_wait_s: float = 5) -> WaitingLine[str]:
    return WaitingLine(workers=workers, max_waiting=max_waiting, max_wait_s=max_wait_s)


def filled(*texts: str) -> WaitingLine[str]:
    made = line()
    for number, text in enumerate(texts):
        made.join(number, text, urgent=text.startswith("!"))
    return made


def test_first_in_first_out_urgent_before_all() -> None:
    waiting = filled("a", "b", "!c", "!d")
    for text in ("!c", "!d", "a", "b"):
        assert (waiting.first(), waiting.take()) == (text, text)
    assert waiting.first() is None


def test_leaving_and_coming_back_in_front() -> None:
    waiting = filled("a", "b", "!c")
    waiting.leave(0)
    waiting.leave(2)
    waiting.leave(99)
    waiting.join_in_front(7, "first", urgent=False)
    assert waiting.clear() == ["first", "b"]
    assert len(waiting) == 0


def test_the_bound_holds_for_ordinary_items_only() -> None:
    waiting = line(max_waiting=1)
    waiting.join(1, "a", urgent=False)
    with pytest.raises(Busy):
        waiting.join(2, "b", urgent=False)
    for number in range(MAX_URGENT):
        waiting.join(10 + number, "c", urgent=True)
    with pytest.raises(Busy):
        waiting.join(99, "d", urgent=True)


def test_the_prediction_learns_and_forgets() -> None:
    waiting = line(workers=2)
    assert waiting.predicted_wait_s() == 0
    for _ in range(100):
        waiting.served(4)
    assert waiting.predicted_wait_s() == pytest.approx(2, abs=0.01)
    waiting.join(1, "a", urgent=False)
    waiting.join(2, "b", urgent=False)
    with pytest.raises(Busy) as caught:
        waiting.join(3, "c", urgent=False)
    assert caught.value.retry_after_s == 3  # half of the line
    for _ in range(100):
        waiting.served(0.01)
    waiting.join(3, "c", urgent=False)


def test_one_slow_item_among_fast_ones_closes_no_door() -> None:
    waiting = line()
    waiting.served(20)
    waiting.join(1, "a", urgent=False)


def test_four_samples_are_half_believed_and_the_last_in_line_learn_of_it() -> None:
    waiting = filled(*"abcdefgh")
    for _ in range(4):
        waiting.served(4)
    assert waiting.predicted_wait_s(0) == pytest.approx(8 * 2)
    assert waiting.take_hopeless() == ["h", "g", "f", "e", "d"]  # 3 x 2 s is within one and a half times 5 s
    assert waiting.take_hopeless() == []
    assert waiting.first() == "a"


def test_who_is_next_is_never_without_hope() -> None:
    waiting = filled("a", "b")
    for _ in range(50):
        waiting.served(100)
    assert waiting.take_hopeless() == ["b"]
    assert waiting.refusal().retry_after_s == 60
