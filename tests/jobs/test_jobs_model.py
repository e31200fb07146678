"""The queue against a model of it: any sequence of calls, at any time, by workers fresh and late."""

import asyncio
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule
from job_support import held, order

from safelight.jobs.queue import Filter, LeaseLost
from safelight.jobs.record import Lease, State
from safelight.jobs.sqlite import SqliteQueue

ENDED = (State.DONE, State.DEAD, State.CANCELLED)


@dataclass
class Expected:
    """What is known of one job. `until` is the end of its lease or of its delay on the monotonic clock."""

    seq: int
    host: str
    priority: int
    key: str | None
    batch: str | None
    state: State = State.WAITING
    attempts: int = 0
    until: float = 0.0
    lease: Lease | None = None


class QueueMachine(RuleBasedStateMachine):
    """Time stands still unless a rule moves it; the wall clock jumps as it likes."""

    leases = Bundle("leases")
    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.wall = 1.7e9
        self.jobs: dict[str, Expected] = {}
        self.submitted = 0
        self.directory = tempfile.TemporaryDirectory()
        self.patches = [
            patch("safelight.jobs.sqlite.monotonic", lambda: self.now),
            patch("time.time", lambda: self.wall),
            patch("time.time_ns", lambda: int(self.wall * 1e9)),
        ]
        for one in self.patches:
            one.start()
        self.loop = asyncio.new_event_loop()
        self.queue = self.open()

    def open(self) -> SqliteQueue:
        path = Path(self.directory.name) / "jobs.db"
        return self.loop.run_until_complete(SqliteQueue.open(path))

    def teardown(self) -> None:
        self.loop.run_until_complete(self.queue.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        for one in self.patches:
            one.stop()
        self.directory.cleanup()

    @rule(
        target=ids,
        places=st.lists(st.tuples(st.sampled_from("abc"), st.integers(-1, 1)), max_size=4),
        key=st.sampled_from([None, None, "k", "l"]),
        batch=st.sampled_from([None, "one", "two"]),
    )
    def submit(self, places: list[tuple[str, int]], key: str | None, batch: str | None) -> object:
        """The key is the first one's."""
        keys = [key if not index else None for index in range(len(places))]
        orders = [
            order("x", f"{host}.example", priority=priority, key=one, batch=batch)
            for (host, priority), one in zip(places, keys, strict=True)
        ]
        got = self.loop.run_until_complete(self.queue.submit(orders))
        known = {job.key: job_id for job_id, job in self.jobs.items() if job.key}
        for (host, priority), one, job_id in zip(places, keys, got, strict=True):
            if one in known:
                assert job_id == known[one]
                continue
            assert job_id not in self.jobs
            self.submitted += 1
            self.jobs[job_id] = Expected(self.submitted, f"{host}.example", priority, one, batch)
        return multiple(*got)

    @rule(
        target=leases, count=st.integers(1, 5), per_host=st.integers(1, 3), lease_s=st.sampled_from([5, 50])
    )
    def lease(self, count: int, per_host: int, lease_s: float) -> object:
        got = self.loop.run_until_complete(self.queue.lease("w", count, lease_s, per_host))
        for job in self.jobs.values():
            if job.state is State.RUNNING and job.until <= self.now:
                job.state, job.until = State.WAITING, self.now
        running = Counter(job.host for job in self.jobs.values() if job.state is State.RUNNING)
        due = [
            (job_id, job)
            for job_id, job in sorted(self.jobs.items(), key=lambda one: (-one[1].priority, one[1].seq))
            if job.state is State.WAITING and job.until <= self.now
        ]
        expected: list[str] = []
        for job_id, job in due:
            if len(expected) < count and running[job.host] < per_host:
                running[job.host] += 1
                expected.append(job_id)
        assert [job.id for job in got] == expected
        for job in got:
            known = self.jobs[job.id]
            known.state, known.until = State.RUNNING, self.now + lease_s
            known.attempts += 1
            known.lease = held(job)
            assert job.attempts == known.attempts
        return multiple(*(held(job) for job in got))

    @rule(
        lease=leases,
        how=st.sampled_from(["finish", "bury", "release", "retry at once", "retry later"]),
    )
    def settle(self, lease: Lease, how: str) -> None:
        job = self.jobs.get(lease.job_id)
        is_held = job is not None and job.state is State.RUNNING and job.lease == lease
        calls = {
            "finish": lambda: self.queue.finish(lease),
            "bury": lambda: self.queue.bury(lease, "why"),
            "release": lambda: self.queue.release(lease),
            "retry at once": lambda: self.queue.retry(lease, 0, "why"),
            "retry later": lambda: self.queue.retry(lease, 10, "why"),
        }
        try:
            self.loop.run_until_complete(calls[how]())
        except LeaseLost:
            assert not is_held
            return
        assert is_held
        assert job
        job.state = {"finish": State.DONE, "bury": State.DEAD}.get(how, State.WAITING)
        job.until = self.now + 10 if how == "retry later" else self.now
        job.attempts -= how == "release"

    @rule(lease=leases)
    def extend(self, lease: Lease) -> None:
        lost = self.loop.run_until_complete(self.queue.extend([lease], 30))
        job = self.jobs.get(lease.job_id)
        if job is not None and job.state is State.RUNNING and job.lease == lease:
            assert not lost
            job.until = self.now + 30
        else:
            assert lost == {lease}

    @rule(job_id=ids)
    def cancel(self, job_id: str) -> None:
        if job_id in self.jobs:
            job = self.jobs[job_id]
            if job.state not in ENDED:
                job.state = State.CANCELLED
            assert self.loop.run_until_complete(self.queue.cancel(job_id)).state is job.state

    @rule(job_id=ids)
    def revive(self, job_id: str) -> None:
        if job_id in self.jobs:
            job = self.jobs[job_id]
            if job.state is State.DEAD:
                job.state, job.attempts, job.until = State.WAITING, 0, self.now
            assert self.loop.run_until_complete(self.queue.revive(job_id)).state is job.state

    @rule(state=st.sampled_from(list(State)))
    def prune(self, state: State) -> None:
        """All that ended, whatever the wall clock said then."""
        gone = [job_id for job_id, job in self.jobs.items() if job.state is state and state in ENDED]
        far = datetime(2100, 1, 1, tzinfo=UTC)
        assert self.loop.run_until_complete(self.queue.prune(state, far)) == len(gone)
        for job_id in gone:
            del self.jobs[job_id]

    @rule(seconds=st.sampled_from([1.0, 6.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(wall=st.floats(0, 4e9))
    def set_the_wall_clock(self, wall: float) -> None:
        self.wall = wall

    @rule()
    def open_again(self) -> None:
        self.loop.run_until_complete(self.queue.close())
        self.queue = self.open()

    @invariant()
    def all_jobs_are_as_expected(self) -> None:
        page = self.loop.run_until_complete(self.queue.find(Filter(), 1000))
        found = {job.id: (job.state, job.attempts) for job in page.jobs}
        # A lease that has expired counts as one until somebody asks for jobs.
        assert found == {job_id: (job.state, job.attempts) for job_id, job in self.jobs.items()}
        for batch in (None, "one", "two"):
            members = [job.state for job in self.jobs.values() if batch in (None, job.batch)]
            counts = self.loop.run_until_complete(self.queue.counts(batch))
            assert {state: count for state, count in counts.items() if count} == Counter(members)


QueueMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=40)
TestQueueAgainstModel = QueueMachine.TestCase
