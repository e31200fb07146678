"""Runs on a real pool whose decoder does what its input says."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from safelight.batch.identify import identify
from safelight.batch.inputs import Listing
from safelight.batch.naming import Naming
from safelight.batch.run import NO_LIMIT, NO_LIMIT_S, Batch, Failed, Tally, slots
from safelight.batch.session import Stop
from safelight.batch.survey import Survey, survey
from safelight.batch.writing import Existing
from safelight.engine.pool import PoolEngine, PoolLimits
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec

sys.path.append(str(Path(__file__).parents[1] / "engine"))  # template processes import `engine_handlers`

WORKERS = 2


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PoolEngine]:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    limits = PoolLimits(transform_timeout_s=2, max_waiting=NO_LIMIT, max_wait_s=NO_LIMIT_S)
    pool = PoolEngine(
        ImageSettings(), workers=WORKERS, limits=limits, handler="engine_handlers:HostileHandler"
    )
    await pool.start()
    yield pool
    await pool.close()


def create(contents: dict[str, str]) -> None:
    for name, text in contents.items():
        Path("in", name).write_text(text)


async def run(engine: PoolEngine, stop: Stop | None = None, flight: int = slots(WORKERS)) -> Tally:
    naming = Naming("out/", [ThumbnailSpec.parse("crop,1,1,jpeg")])
    listing, found = Listing(["in"]), Survey()
    survey(listing, naming, found)
    batch = Batch(engine, naming, Existing.REFUSE, 1 << 20, found, stop or Stop())
    await batch.run(listing, flight)
    return batch.tally


async def test_a_file_that_kills_its_decoder_costs_that_file_only(engine: PoolEngine) -> None:
    create({f"{number:03}.jpg": f"image {number}" for number in range(60)})
    create({"010.jpg": "segv ", "030.jpg": "abort ", "050.jpg": "hang "})
    tally = await run(engine)
    assert (tally.done, tally.failed) == (57, 3)
    failures = sorted(tally.take_failures())
    assert [line.split(":")[0] for line in failures] == ["in/010.jpg", "in/030.jpg", "in/050.jpg"]
    assert failures[2] == "in/050.jpg: image processing took too long"
    assert len(list(Path("out").iterdir())) == 57


async def test_waiting_has_no_limit_when_images_are_slow(engine: PoolEngine) -> None:
    create({f"{number}.jpg": "sleep 0.3" for number in range(12)})
    tally = await run(engine, flight=12)
    assert (tally.done, tally.failed) == (12, 0)


async def test_what_is_in_work_when_a_signal_comes_is_no_failure(engine: PoolEngine) -> None:
    create({f"{number:02}.jpg": "sleep 0.2" for number in range(40)})
    stop = Stop()
    working = asyncio.create_task(run(engine, stop))
    while not Path("out").exists():  # noqa: ASYNC110 (the file system has no events)
        await asyncio.sleep(0.01)
    stop.note(15)
    await engine.close()
    tally = await working
    assert tally.failed == 0
    assert 0 < tally.done == len(list(Path("out").iterdir())) < 40


async def test_failures_beyond_memory_are_kept(engine: PoolEngine) -> None:
    tally = Tally()
    for number in range(20_000):
        tally.fail(f"some/directory/{number}.jpg", ["unsupported media type: no decode delegate", "more"])
    assert tally.failed == 20_000
    assert sum(1 for _ in tally.take_failures()) == 40_000
    assert list(tally.take_failures()) == []


async def test_identifying_keeps_the_order(engine: PoolEngine) -> None:
    create({f"{number}.jpg": "sleep 0.2" if number % 3 == 0 else "fast" for number in range(9)})
    create({"4.jpg": "segv "})
    listing = Listing(["in"])
    answers = [
        (answer.shown if isinstance(answer, Failed) else answer[0].path, isinstance(answer, Failed))
        async for answer in identify(engine, listing, max_bytes=1 << 20, slots=8, stop=Stop())
    ]
    assert answers == [(f"in/{number}.jpg", number == 4) for number in range(9)]
