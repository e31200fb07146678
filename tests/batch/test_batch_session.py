"""Signals, and work that races with them."""

import asyncio
import signal
import subprocess
import sys

import pytest

from safelight.batch.session import Stop, Stopped

STUBBORN = """
import asyncio
from safelight.batch.session import run_interruptible

async def work(stop):
    print("ready", flush=True)
    await stop.wait()
    print("stopping", flush=True)
    await asyncio.sleep(60)

run_interruptible(work)
"""


async def test_a_race_is_won_by_the_work() -> None:
    async def work() -> int:
        return 3

    assert await Stop().race(work()) == 3


async def test_a_race_is_won_by_the_signal() -> None:
    stop, cancelled = Stop(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    asyncio.get_running_loop().call_later(0.01, stop.note, signal.SIGTERM)
    with pytest.raises(Stopped):
        await stop.race(work())
    assert cancelled.is_set()
    assert stop.signal == signal.SIGTERM


async def test_errors_of_the_work_pass_through() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Stop().race(work())


async def test_a_signal_and_its_echo_are_one() -> None:
    stop = Stop()
    stop.note(signal.SIGINT)
    stop.note(signal.SIGTERM)  # would end this process
    assert stop.signal == signal.SIGINT


def test_a_later_signal_ends_what_does_not_end_by_itself() -> None:
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == b"stopping\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == -signal.SIGINT
    process.stdout.close()
