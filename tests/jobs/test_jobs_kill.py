"""No job is lost, whenever a process is killed: real processes, real SIGKILL."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import job_crash
import msgspec
import pytest
from job_crash import Plan, content
from postgres_server import PostgresServer

from safelight.jobs.opening import open_queue
from safelight.jobs.queue import Filter
from safelight.jobs.record import Job, State

CONCURRENCY = 4
STAGES = ["leased", "performing", "delivered", "finishing", "finished", "submitted"]
STATEMENTS = {"sqlite": ["BEGIN", "SAVEPOINT", "INSERT", "UPDATE", "COMMIT"], "postgres": ["sent"]}
"""What processes may die of beside `STAGES` with each database; see `job_crash`."""


@pytest.fixture
def place(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> str:
    """Of a queue that is not there yet, in the kind of database that the test is for."""
    if database == "sqlite":
        return str(tmp_path / "jobs.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    return asyncio.run(server.new_queue())


def run(directory: Path, plan: Plan) -> dict[str, int]:
    """Let everybody die and do their work; how many deaths there were."""
    child = subprocess.Popen(
        [sys.executable, job_crash.__file__, str(directory), msgspec.json.encode(plan).decode()],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, complaints = child.communicate(timeout=300)
    except BaseException:
        os.killpg(child.pid, 9)
        child.communicate()
        raise
    assert child.returncode == 0, complaints
    return msgspec.json.decode(output, type=dict[str, int])


async def _all_jobs(where: str) -> list[Job]:
    queue = await open_queue(where)
    jobs: list[Job] = []
    cursor = None
    while True:
        page = await queue.find(Filter(), 1000, cursor)
        jobs += page.jobs
        cursor = page.cursor
        if cursor is None:
            break
    counted = await queue.counts()
    await queue.close()
    assert {state: n for state, n in counted.items() if n} == Counter(job.state for job in jobs)
    return jobs


def check(directory: Path, plan: Plan, deaths: int) -> int:
    """That all is as promised; how often something was delivered once more."""
    jobs = asyncio.run(_all_jobs(plan.queue))
    assert Counter(job.state for job in jobs) == {State.DONE: plan.jobs}
    acknowledged = [line.split()[1:] for line in (directory / "acknowledged").read_text().splitlines()]
    assert {one for ids in acknowledged for one in ids} == {job.id for job in jobs}
    for number in range(plan.jobs):
        assert (directory / "results" / str(number)).read_text() == content(str(number))
    deliveries = Counter((directory / "ledger").read_text().split()[0::2])
    assert set(deliveries) == {str(number) for number in range(plan.jobs)}
    duplicates = deliveries.total() - plan.jobs
    assert duplicates <= deaths * CONCURRENCY
    return duplicates


@pytest.mark.parametrize(
    ("database", "stage"),
    [(database, stage) for database in STATEMENTS for stage in STAGES + STATEMENTS[database]],
)
def test_a_kill_at_any_stage_loses_nothing(tmp_path: Path, place: str, database: str, stage: str) -> None:
    """The first two processes that come to `stage` die of it."""
    plan = Plan(place, jobs=24, per_call=12, stages=[stage], max_deaths=2, lease_s=1.0)
    died = run(tmp_path, plan)
    assert died["deaths"] >= 2
    duplicates = check(tmp_path, plan, died["deaths"])
    if stage in ("BEGIN", "SAVEPOINT", "INSERT", "submitted", "leased", "performing"):
        assert duplicates == 0, "nothing was delivered before"


@pytest.mark.parametrize(("database", "jobs"), [("sqlite", 2000), ("postgres", 1000)])
def test_many_jobs_under_repeated_kills(tmp_path: Path, place: str, database: str, jobs: int) -> None:
    plan = Plan(
        place,
        jobs=jobs,
        stages=["leased", "performing", "delivered", "finished", *STATEMENTS[database]],
        chance=0.002,
        max_deaths=40,
        kill_every_s=0.3,
        max_kills=40,
        workers=3,
    )
    died = run(tmp_path, plan)
    assert died["deaths"] >= 10
    duplicates = check(tmp_path, plan, died["deaths"])
    print(f"{died['deaths']} deaths, {duplicates} of {plan.jobs} jobs delivered once more")


@pytest.mark.parametrize(
    ("database", "stages", "chance"),
    [("sqlite", ["INSERT", "COMMIT", "submitted"], 0.01), ("postgres", ["sent", "submitted"], 0.1)],
)
def test_a_submission_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, place: str, database: str, stages: list[str], chance: float
) -> None:
    plan = Plan(
        place, jobs=600, per_call=6, stages=stages, chance=chance, max_deaths=30, keyed=False,
        workers=0,
    )  # fmt: skip
    died = run(tmp_path, plan)
    assert died["deaths"] >= 1
    jobs = asyncio.run(_all_jobs(plan.queue))
    batches = Counter(job.order.batch for job in jobs)
    assert set(batches.values()) == {6}
    lines = [line.split() for line in (tmp_path / "acknowledged").read_text().splitlines()]
    assert len(lines) == 100
    assert {batch for batch, *_ in lines} <= set(batches)
    assert {one for _, *ids in lines for one in ids} <= {job.id for job in jobs}
    assert len(batches) <= 100 + died["deaths"], "only the call during which it died may be there unknown"
