"""Statistics shared by processes."""

import os

import pytest

from safelight.errors import NotFound
from safelight.server.stats import MAX_WORKERS, STATISTICS, Statistics


def test_rows_are_summed_and_outlive_their_workers() -> None:
    statistics = Statistics()
    first, second = statistics.take_row(), statistics.take_row()
    statistics.counters(first).add("total_requests", 2)
    statistics.counters(second).add("total_requests")
    statistics.counters(first).add("calling")
    assert (statistics.value("total_requests"), statistics.value("calling")) == (3, 1)
    statistics.free_row(first)
    assert (statistics.value("total_requests"), statistics.value("calling")) == (3, 0)
    assert statistics.take_row() == first
    statistics.counters(first).add("total_requests")
    assert statistics.value("total_requests") == 4


def test_a_child_process_is_seen_by_its_parent() -> None:
    statistics = Statistics()
    row = statistics.take_row()
    pid = os.fork()
    if not pid:
        statistics.counters(row).add("total_write", 7)
        os._exit(0)
    os.waitpid(pid, 0)
    assert statistics.value("total_write") == 7


def test_more_workers_than_rows_share_the_last_one() -> None:
    statistics = Statistics()
    rows = [statistics.take_row() for _ in range(MAX_WORKERS + 2)]
    assert rows[-3:] == [MAX_WORKERS - 1] * 3
    for row in rows[-3:]:
        statistics.free_row(row)
    assert [statistics.take_row() for _ in range(2)] == [MAX_WORKERS - 1] * 2


def test_an_unknown_counter_is_logged_once(capsys: pytest.CaptureFixture[str]) -> None:
    counters = Statistics().counters(0)
    counters.add("nonsense")
    counters.add("nonsense")
    assert "".join(capsys.readouterr()).count("no statistic is called 'nonsense'") == 1


@pytest.mark.covers("s199")
def test_other_servers_can_have_other_statistics() -> None:
    statistics = Statistics(("workers", "jobs"))
    statistics.counters(statistics.take_row()).add("jobs", 3)
    assert statistics.answer("/stats").body.read() == b"workers: 0\r\njobs: 3\r\n"
    assert statistics.answer("/stats/jobs/x/y").body.read() == b"3\r\n"
    with pytest.raises(NotFound, match="unknown statistic 'total_requests'"):
        statistics.answer("/stats/total_requests")


def test_there_are_35_statistics() -> None:
    assert len(set(STATISTICS)) == len(STATISTICS) == 35
