"""Numbers under names, shared by processes."""

import os

import pytest

from safelight.server import tallies
from safelight.server.tallies import Tallies


def test_values_of_all_workers_are_added_up() -> None:
    shared = Tallies(8)
    for row in (0, 1):
        shared.begin(row)
        tally = shared.row(row)
        place = tally.place("durations", "a", width=3)
        tally.numbers[place + row] += 5
        assert tally.place("durations", "a", width=3) == place
    shared.row(1).numbers[shared.row(1).place("requests", "a", "200")] += 1
    assert shared.totals() == {("durations", "a"): [5, 5, 0], ("requests", "a", "200"): [1]}


def test_a_child_is_seen_by_others_and_followed_by_its_successor() -> None:
    shared = Tallies(2)
    shared.begin(0)
    for expected in (1, 2):
        pid = os.fork()
        if not pid:
            tally = shared.row(0)
            tally.numbers[tally.place("requests", "ż" * 7)] += 1
            os._exit(0)
        os.waitpid(pid, 0)
        assert shared.totals() == {("requests", "ż" * 7): [expected]}


def test_what_was_just_going_on_can_be_cleared() -> None:
    shared = Tallies(1)
    shared.begin(0)
    tally = shared.row(0)
    for kind in ("gauge", "requests"):
        tally.numbers[tally.place(kind, "a")] = 3
    shared.clear(0, "gauge")
    assert shared.totals() == {("gauge", "a"): [0], ("requests", "a"): [3]}


def test_a_full_row_is_said_once_and_harms_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tallies, "ROW_NUMBERS", 128)
    shared = Tallies(2)
    shared.begin(1)
    neighbour = shared.row(1)
    neighbour.numbers[neighbour.place("requests", "n")] = 7
    tally = shared.row(0)
    for number in range(100):
        place = tally.place("durations", str(number), width=18)
        for offset in range(18):
            tally.numbers[place + offset] += 1
    totals = shared.totals()
    assert totals.pop(("requests", "n")) == [7]
    assert 0 < len(totals) < 100
    assert all(values == [1] * 18 for values in totals.values())
    assert "".join(capsys.readouterr()).count("there is no room for more metrics") == 1
