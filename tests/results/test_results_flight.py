"""One at a time for a key, among all processes."""

import asyncio
import sys
from pathlib import Path

from safelight.results.flight import Flights

HOLDER = """
import asyncio, sys
from pathlib import Path
from safelight.results.flight import Flights

async def main():
    async with Flights(Path(sys.argv[1])).alone(sys.argv[2], wait=True):
        print("alone", flush=True)
        sys.stdin.read()

asyncio.run(main())
"""
TIMEOUT_S = 30


async def test_only_one_is_alone_with_a_name(tmp_path: Path) -> None:
    flights = Flights(tmp_path)
    async with flights.alone("a", wait=False) as first:
        assert first
        async with (
            Flights(tmp_path).alone("a", wait=False) as second,
            flights.alone("b", wait=False) as other,
        ):
            assert not second
            assert other
    async with flights.alone("a", wait=False) as again:
        assert again


async def test_who_waits_is_next(tmp_path: Path) -> None:
    flights, order = Flights(tmp_path), list[str]()

    async def wait() -> None:
        async with flights.alone("a", wait=True):
            order.append("second")

    async with flights.alone("a", wait=True):
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0.05)
        order.append("first")
    await asyncio.wait_for(waiting, TIMEOUT_S)
    assert order == ["first", "second"]


async def test_who_gives_up_waiting_leaves_nothing_behind(tmp_path: Path) -> None:
    flights = Flights(tmp_path)

    async def wait() -> None:
        async with flights.alone("a", wait=True):
            raise AssertionError("it was not alone")

    async with flights.alone("a", wait=True):
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0.02)
        waiting.cancel()
        await asyncio.wait([waiting])
    async with flights.alone("a", wait=False) as is_alone:
        assert is_alone


async def test_a_killed_process_makes_way(tmp_path: Path) -> None:
    pipe = asyncio.subprocess.PIPE
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(tmp_path), "a", stdin=pipe, stdout=pipe
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"alone\n"
    async with Flights(tmp_path).alone("a", wait=False) as is_alone:
        assert not is_alone
    holder.kill()
    await holder.wait()
    async with asyncio.timeout(TIMEOUT_S), Flights(tmp_path).alone("a", wait=True) as is_alone:
        assert is_alone


async def test_without_locks_everybody_is_alone(tmp_path: Path) -> None:
    async with Flights(tmp_path / "missing").alone("a", wait=False) as is_alone:
        assert is_alone
