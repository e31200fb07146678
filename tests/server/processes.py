"""What processes a server has, and whether they still run. A process may end while it is asked about."""

import time
from collections.abc import Iterable

import psutil

DEADLINE_S = 30


def is_running(pid: int) -> bool:
    """Whether it has not ended. A zombie has: who becomes its parent may take its time to notice."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def children(pid: int) -> list[int]:
    """HTTP workers of a master, template of an HTTP worker, image workers of a template: those that run."""
    try:
        return [child.pid for child in psutil.Process(pid).children() if is_running(child.pid)]
    except psutil.NoSuchProcess:
        return []


def descendants(pid: int) -> list[int]:
    return [found for child in children(pid) for found in (child, *descendants(child))]


def wait_until_gone(pids: Iterable[int], timeout_s: float = DEADLINE_S) -> None:
    """Raises `AssertionError` if one of them still runs after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while left := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.02)
