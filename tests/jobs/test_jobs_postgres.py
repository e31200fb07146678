"""What is so of the queue in PostgreSQL alone: many submitters, several machines, a server that goes."""

import asyncio
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from job_support import LONG_S, PATIENCE_S, SHORT_S, held, lease_all, lease_one, names, order, until
from loopback_ports import free_ports
from postgres_server import PASSWORD, PostgresServer, postgres_server

from safelight.errors import BadRequest, ConfigError, StorageError
from safelight.jobs import postgres as module
from safelight.jobs import postgres_link
from safelight.jobs.opening import open_queue
from safelight.jobs.postgres import FOLD_EVERY, PostgresQueue
from safelight.jobs.postgres_schema import SCHEMA, VERSION
from safelight.jobs.queue import Filter
from safelight.jobs.record import Footprint, Order, State
from safelight.jobs.worker import Pace, Worker


@pytest.fixture
async def url(postgres: PostgresServer) -> str:
    """Of a queue that nobody has opened yet."""
    return await postgres.new_queue()


@pytest.fixture
async def queue(url: str) -> AsyncIterator[PostgresQueue]:
    async with opened(url) as made:
        yield made


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresQueue]:
    made = await PostgresQueue.open(url)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def session(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection like those of a queue."""
    connection = await asyncpg.connect(url, server_settings=postgres_link.SESSION)
    try:
        yield connection
    finally:
        await connection.close()


async def accept(connection: "asyncpg.Connection[asyncpg.Record]", *orders: Order) -> list[Any]:
    """What a submission does, in whatever transaction `connection` is."""
    return await connection.fetchval(module._ACCEPT, *module._columns(orders))


# Many at a time


async def test_submitters_do_not_wait_for_each_other(queue: PostgresQueue, url: str) -> None:
    """One whose transaction is not over holds nobody else up, not even for the same host and batch."""
    async with session(url) as slow:
        transaction = slow.transaction()
        await transaction.start()
        await accept(slow, order("slow", batch="b", priority=3))
        async with asyncio.timeout(PATIENCE_S / 2):
            await queue.submit([order("quick", batch="b"), order("other", "other.example")])
            assert sorted(names(await lease_all(queue))) == ["other", "quick"]
            assert (await queue.counts("b"))[State.WAITING] == 0
        await transaction.commit()
    assert names(await lease_all(queue)) == ["slow"], "it came when the lane of its host was gone"
    assert (await queue.counts("b"))[State.RUNNING] == 2


async def test_a_key_of_an_unfinished_submission_is_waited_for(queue: PostgresQueue, url: str) -> None:
    async with session(url) as slow:
        transaction = slow.transaction()
        await transaction.start()
        (first,) = await accept(slow, order("first", key="same"))
        second = asyncio.create_task(queue.submit([order("second", key="same"), order("own", key="own")]))
        await until(lambda: _waiting_for_a_lock(url))
        assert not second.done()
        await transaction.commit()
        assert (await second)[0] == str(first)


async def _waiting_for_a_lock(url: str, count: int = 1) -> bool:
    async with session(url) as connection:
        sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
        return await connection.fetchval(sql) >= count


async def test_crossing_keys_never_deadlock(
    queue: PostgresQueue, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two come with the same keys in opposite sequence, and must wait in the middle for a third."""
    monkeypatch.setattr(postgres_link, "MAX_ATTEMPTS", 1)  # else a deadlock would be mended unseen
    forward = [order(str(n), key=str(n)) for n in range(9)]
    async with opened(url) as other, session(url) as slow:
        transaction = slow.transaction()
        await transaction.start()
        await accept(slow, forward[5])
        submissions = [
            asyncio.create_task(queue.submit(forward)),
            asyncio.create_task(other.submit(forward[::-1])),
        ]
        await until(lambda: _waiting_for_a_lock(url, 2))
        await transaction.rollback()
        first, second = await asyncio.gather(*submissions)
    assert first == second[::-1]
    assert (await queue.counts())[State.WAITING] == 9


async def test_the_limit_of_a_host_holds_under_concurrent_leases(queue: PostgresQueue, url: str) -> None:
    await queue.submit([order(str(n), f"h{n % 2}.example") for n in range(200)])
    async with opened(url) as other:
        jobs = await asyncio.gather(
            *(side.lease("w", 2, LONG_S, 3) for _ in range(20) for side in (queue, other))
        )
    hosts = [job.order.host for leased in jobs for job in leased]
    assert sorted(hosts) == ["h0.example"] * 3 + ["h1.example"] * 3


async def test_a_job_that_somebody_is_changing_is_passed_over_and_not_forgotten(
    queue: PostgresQueue, url: str
) -> None:
    await queue.submit([order("changing"), order("other", "other.example")])
    async with session(url) as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("UPDATE jobs SET state = 'cancelled' WHERE host = 'origin.example'")
        async with asyncio.timeout(PATIENCE_S / 2):
            assert names(await lease_all(queue)) == ["other"]
        await transaction.rollback()
    assert names(await lease_all(queue)) == ["changing"]


async def test_jobs_of_a_host_at_its_limit_cost_nothing(queue: PostgresQueue, url: str) -> None:
    """Counted in pages that are looked at, which no other load on the machine changes."""
    for batch in range(10):
        await queue.submit([order(f"{batch}-{n}", "slow.example", priority=9) for n in range(2000)])
    assert len(await lease_all(queue, 2, per_host=2)) == 2
    await queue.submit([order("fast", priority=-9)])
    async with session(url) as connection:
        lease = "lease('w', 1, 60, 2, 0, '{}', '{}', '{}')"
        sql = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM {lease}"
        for _ in range(7):  # plans change after some executions
            plan = str(await connection.fetchval(sql))
    hit, read = (int(n) for n in re.findall(r'"Shared (?:Hit|Read) Blocks": (\d+)', plan)[:2])
    assert hit + read < 300
    assert (await queue.counts())[State.RUNNING] == 3


async def test_what_is_appended_is_folded(queue: PostgresQueue, url: str) -> None:
    """So that counting, and the first lease after many submissions, cost no more with time."""
    for number in range(FOLD_EVERY):
        await queue.submit([order(str(number), f"h{number % 3}.example", batch="b")])

    async def folded() -> bool:
        async with session(url) as connection:
            sql = "SELECT (SELECT count(*) FROM tally_changes) + (SELECT count(*) FROM arrivals)"
            return await connection.fetchval(sql) < FOLD_EVERY

    await until(folded)
    assert (await queue.counts("b"))[State.WAITING] == (await queue.counts())[State.WAITING] == FOLD_EVERY
    await queue.prune(State.DONE, datetime.now(UTC))
    assert len(await lease_all(queue, 1000, per_host=1000)) == FOLD_EVERY


async def test_tallies_of_forgotten_batches_are_forgotten(queue: PostgresQueue, url: str) -> None:
    await queue.submit([order(batch="b")])
    await queue.finish(held(await lease_one(queue)))
    await queue.prune(State.DONE, datetime.now(UTC) + timedelta(hours=1))
    async with session(url) as connection:
        await connection.execute("SELECT fold()")
        assert await connection.fetch("SELECT * FROM tallies") == []
    assert set((await queue.counts()).values()) == {0}


# Several machines


async def test_a_submission_elsewhere_wakes_at_once(queue: PostgresQueue, url: str) -> None:
    done = asyncio.Event()

    async def perform(job: object) -> None:
        done.set()

    async with opened(url) as other:
        worker = Worker(queue, perform, Pace(poll_s=LONG_S))
        running = asyncio.create_task(worker.run())
        try:
            for _ in range(3):
                done.clear()
                await other.submit([order()])
                await asyncio.wait_for(done.wait(), PATIENCE_S)
        finally:
            worker.stop()
            await running


async def test_a_listener_that_was_cut_off_listens_again(queue: PostgresQueue, url: str) -> None:
    async with opened(url) as other:
        woken = asyncio.Event()
        queue.subscribe(woken.set)
        async with session(url) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND application_name = 'safelight'"
            )
        await asyncio.wait_for(woken.wait(), PATIENCE_S)  # it may have missed something

        async def hears() -> bool:
            woken.clear()
            try:
                await other.submit([order()])
                await asyncio.wait_for(woken.wait(), 5)
            except (StorageError, TimeoutError):
                return False
            return True

        await until(hears)


async def test_a_delay_set_by_one_process_ends_for_another(queue: PostgresQueue, url: str) -> None:
    await queue.submit([order()])
    await queue.retry(held(await lease_one(queue)), 0.5, "soon")
    begun = time.monotonic()
    async with opened(url) as other:
        await queue.close()
        assert (await lease_one(other)).attempts == 2
    assert time.monotonic() - begun > 0.2


async def test_the_common_clock_goes_on_while_anybody_looks(url: str) -> None:
    """Also when the process that began is gone, and as fast as time passes, not faster."""

    async def reads(queue: PostgresQueue, seconds: float) -> bool:
        await queue.lease("w", 1, LONG_S, 1)
        async with session(url) as connection:
            return await connection.fetchval("SELECT seconds FROM clock") >= seconds

    begun = time.monotonic()
    async with opened(url) as first, opened(url) as second:
        await until(lambda: reads(first, 1.0))
        await first.close()
        await until(lambda: reads(second, 2.0))
    async with opened(url) as third:
        assert 2.0 <= third._clock.now() <= time.monotonic() - begun


async def test_steps_of_the_servers_clock_change_nothing(
    url: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The functions that tell the time are replaced by ours, for all sessions of the queue."""
    await postgres.run("CREATE SCHEMA IF NOT EXISTS stepping")
    await postgres.run("DROP TABLE IF EXISTS stepping.step")
    await postgres.run("CREATE TABLE stepping.step AS SELECT interval '0' AS step")
    for name in ("now", "clock_timestamp", "statement_timestamp", "transaction_timestamp"):
        await postgres.run(
            f"CREATE OR REPLACE FUNCTION stepping.{name}() RETURNS timestamptz LANGUAGE sql AS "
            f"'SELECT pg_catalog.{name}() + step FROM stepping.step'"
        )
    async with opened(url):  # makes the tables, whose defaults would keep the real functions
        pass
    await postgres.run(f"ALTER TABLE {SCHEMA}.jobs ALTER created_at SET DEFAULT stepping.clock_timestamp()")
    stepped = postgres_link.SESSION | {"search_path": f"stepping, {SCHEMA}, pg_catalog"}
    monkeypatch.setitem(postgres_link._OPTIONS, "server_settings", stepped)
    async with opened(url) as queue:
        await queue.submit([order("held"), order("expiring"), order("delayed")])
        kept, expiring, delayed = await lease_all(queue)
        await queue.extend([held(expiring)], 1)
        await queue.retry(held(delayed), 1, "soon")
        for step in ("-10 years", "10 years"):
            await postgres.run(f"UPDATE stepping.step SET step = '{step}'")
            (job_id,) = await queue.submit([order(f"after {step}")])
            assert abs((await queue.get(job_id)).created_at - datetime.now(UTC)) > timedelta(days=3000)
            await queue.cancel(job_id)
            came = [await lease_one(queue), await lease_one(queue)]
            assert sorted(names(came)) == ["delayed", "expiring"]
            assert await lease_all(queue) == []
            await queue.extend([held(kept)], LONG_S)
            for job in came:
                if names([job]) == ["delayed"]:
                    await queue.retry(held(job), 1, "soon")
                else:
                    await queue.extend([held(job)], 1)


async def test_a_lease_expires_only_for_who_saw_it_unchanged(queue: PostgresQueue, url: str) -> None:
    """A process that comes late cannot know since when a lease has not been extended."""
    await queue.submit([order()])
    job = await lease_one(queue, lease_s=1)
    await asyncio.sleep(1.2)
    async with opened(url) as other:
        assert await lease_all(other) == []
        assert await queue.extend([held(job)], 1) == set()
        taken = await lease_one(other, worker="other")
        assert (taken.id, taken.attempts) == (job.id, 2)


async def test_a_worker_that_lives_keeps_its_lease(queue: PostgresQueue, url: str) -> None:
    await queue.submit([order()])
    job = await lease_one(queue, lease_s=2)
    async with opened(url) as other:
        for _ in range(8):
            assert await lease_all(other) == []
            assert await queue.extend([held(job)], 2) == set()
            await asyncio.sleep(0.4)
    await queue.finish(held(job))


# A server that goes, and comes back


@pytest.fixture(scope="module")
def doomed() -> Any:
    """A PostgreSQL that tests may end, and must leave running."""
    with postgres_server() as server:
        yield server


@pytest.mark.parametrize("end", [PostgresServer.stop, PostgresServer.kill])
async def test_after_a_restart_all_goes_on(doomed: PostgresServer, end: Any) -> None:
    async with opened(await doomed.new_queue()) as queue:
        (job_id,) = await queue.submit([order("before")])
        job = await lease_one(queue)
        end(doomed)
        for use in (queue.submit([order("lost")]), queue.counts(), queue.finish(held(job))):
            with pytest.raises(
                StorageError, match="the database of the job queue cannot be reached"
            ) as caught:
                await use
            assert PASSWORD not in str(caught.value.detail)
        doomed.start()
        await until(lambda: _works(queue))
        assert (await queue.get(job_id)).state is State.RUNNING
        await queue.finish(held(job))
        assert (await queue.counts())[State.WAITING] == 0, "what was refused is not there"


async def _works(queue: PostgresQueue) -> bool:
    try:
        await queue.counts()
    except StorageError:
        return False
    return True


async def test_a_restart_takes_no_job_from_its_worker(doomed: PostgresServer) -> None:
    """While the server is away nobody can extend a lease."""
    url = await doomed.new_queue()
    async with opened(url) as queue, opened(url) as other:
        await queue.submit([order()])
        job = await lease_one(queue, lease_s=2)
        assert await lease_all(other) == []
        doomed.kill()
        await asyncio.sleep(2.2)
        doomed.start()
        await until(lambda: _works(other))
        assert await lease_all(other) == []
        await until(lambda: _works(queue))
        assert await queue.extend([held(job)], 2) == set()
        assert (await lease_one(other)).attempts == 2


@pytest.mark.parametrize("end", [PostgresServer.stop, PostgresServer.kill])
async def test_nothing_acknowledged_is_lost_when_the_server_dies(doomed: PostgresServer, end: Any) -> None:
    """Submitters and workers go on through restarts; whatever was accepted is done, and done as one job."""
    url = await doomed.new_queue()
    acknowledged: dict[str, str] = {}
    done: list[str] = []
    async with opened(url) as queue, opened(url) as other:

        async def submit(first: int) -> None:
            for number in range(first, 400, 4):
                key = str(number)
                while key not in acknowledged:
                    try:
                        (acknowledged[key],) = await queue.submit([order(key, key=key, batch="b")])
                    except StorageError:
                        await asyncio.sleep(0.05)

        async def perform(job: Any) -> None:
            done.append(job.id)

        pace = Pace(lease_s=3, poll_s=0.1, concurrency=4, per_host=100, max_attempts=1000)
        worker = Worker(other, perform, pace)
        running = asyncio.create_task(worker.run())
        submitting = [asyncio.create_task(submit(first)) for first in range(4)]
        for share in (50, 150, 250):
            await until(lambda share=share: _holds(len(acknowledged) >= share))
            end(doomed)
            await asyncio.sleep(0.2)  # to be refused
            doomed.start()
        await asyncio.gather(*submitting)
        await until(lambda: _all_done(queue, 400))
        worker.stop()
        await running
        assert set(done) == set(acknowledged.values())
        assert len(set(acknowledged.values())) == 400
        page = await queue.find(Filter(batch="b"), 1000)
        assert {job.order.key: job.id for job in page.jobs} == acknowledged


async def _holds(condition: bool) -> bool:
    return condition


async def _all_done(queue: PostgresQueue, count: int) -> bool:
    try:
        return (await queue.counts())[State.DONE] == count
    except StorageError:
        return False


async def test_close_waits_for_what_was_asked_for(url: str) -> None:
    queue = await PostgresQueue.open(url)
    submissions = [asyncio.create_task(queue.submit([order(str(n))])) for n in range(20)]
    await asyncio.sleep(0)
    await queue.close()
    assert len({job_id for (job_id,) in await asyncio.gather(*submissions)}) == 20


# Who may open it, and where it is not


async def refusal(url: str) -> str:
    """How opening is refused, without the password."""
    with pytest.raises((StorageError, ConfigError)) as caught:
        await open_queue(url)
    texts = f"{caught.value.message} {caught.value.detail}"
    for secret in (PASSWORD, "not+for", "sesame", "not%2Bfor"):
        assert secret not in texts
    return caught.value.message


async def test_a_wrong_password(postgres: PostgresServer) -> None:
    message = "the database of the job queue refuses the user or the password"
    assert await refusal(postgres.url(password="open sesame")) == message


async def test_a_database_that_is_not_there(postgres: PostgresServer) -> None:
    assert await refusal(postgres.url("nowhere")) == "the database of the job queue does not exist"


async def test_a_server_that_is_not_there() -> None:
    message = "the database of the job queue cannot be reached"
    assert await refusal(f"postgresql://a:sesame@127.0.0.1:{free_ports(1)[0]}/x") == message


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:open@sesame@127.0.0.1/db",
        "postgresql://user:open/sesame@127.0.0.1/db",
        "postgresql://user:open#sesame@127.0.0.1/db",
        "postgresql://user:open?sesame@127.0.0.1/db",
        "postgresql://user:sesame/db",
        "postgresql://[sesame/db",
        "postgresql://127.0.0.1/db?sslmode=sesame",
    ],
)
async def test_a_url_that_cannot_be_understood(url: str) -> None:
    assert "the URL of the job queue cannot be understood" in await refusal(url)


async def test_another_format(queue: PostgresQueue, url: str) -> None:
    async with session(url) as connection:
        await connection.execute("UPDATE format SET version = 99")
    assert await refusal(url) == f"the job queue has format 99, and this Safelight knows {VERSION}"


async def test_tables_that_somebody_has_dropped(queue: PostgresQueue, url: str) -> None:
    async with session(url) as connection:
        await connection.execute("DROP TABLE lanes")
    with pytest.raises(StorageError, match="the tables of the job queue are damaged"):
        await queue.lease("w", 1, LONG_S, 1)


async def test_an_encoding_that_lacks_letters(postgres: PostgresServer) -> None:
    name = await postgres.make_database("ENCODING LATIN1 TEMPLATE template0")
    assert "has the encoding LATIN1, and must have UTF8" in await refusal(postgres.url(name))


async def test_a_user_who_may_not_make_tables_uses_those_there_are(
    postgres: PostgresServer, url: str
) -> None:
    await postgres.run("DROP ROLE IF EXISTS clerk")
    await postgres.run("CREATE ROLE clerk LOGIN PASSWORD 'sesame'")
    clerk = postgres.url(user="clerk", password="sesame")
    assert await refusal(clerk) == "the user may not use the job queue in the database"
    async with opened(url):
        pass
    for grant in (
        f"USAGE ON SCHEMA {SCHEMA}",
        f"ALL ON ALL TABLES IN SCHEMA {SCHEMA}",
        f"ALL ON ALL SEQUENCES IN SCHEMA {SCHEMA}",
    ):
        await postgres.run(f"GRANT {grant} TO clerk")
    async with opened(clerk) as queue:
        await queue.submit([order()])
        await queue.finish(held(await lease_one(queue)))


async def test_a_read_only_database_says_so(queue: PostgresQueue, url: str) -> None:
    async with session(url) as connection:
        await connection.execute("ALTER ROLE postgres SET default_transaction_read_only = on")
    try:
        with pytest.raises(StorageError, match="is read-only"):
            await _with_new_connections(queue)
    finally:
        async with session(url) as connection:
            await connection.execute("SET default_transaction_read_only = off")
            await connection.execute("ALTER ROLE postgres RESET default_transaction_read_only")
    await until(lambda: _accepts(queue))


async def _with_new_connections(queue: PostgresQueue) -> None:
    await queue._link._pool.expire_connections()
    await queue.submit([order()])


async def _accepts(queue: PostgresQueue) -> bool:
    """Its connections to what was read-only have been given up."""
    try:
        return bool(await queue.submit([order()]))
    except StorageError:
        return False


def test_without_asyncpg_it_says_what_to_install() -> None:
    script = """
        import asyncio, sys
        sys.modules["asyncpg"] = None
        from safelight.errors import ConfigError
        from safelight.jobs.opening import open_queue
        try:
            asyncio.run(open_queue("postgresql://host/db"))
        except ConfigError as error:
            print(error.message)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert "install safelight[postgres]" in done.stdout


def test_many_processes_may_make_the_tables_at_once(postgres: PostgresServer) -> None:
    url = asyncio.run(postgres.new_queue())
    script = """
        import asyncio, sys
        from job_support import order
        from safelight.jobs.opening import open_queue
        from safelight.jobs.record import State
        async def main():
            queue = await open_queue(sys.argv[1])
            await queue.submit([order("x", key=f"{n}") for n in range(20)])
            print((await queue.counts())[State.WAITING])
            await queue.close()
        asyncio.run(main())
    """
    children = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), url],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(5)
    ]
    for child in children:
        assert child.communicate(timeout=120) == ("20\n", "")


# Texts that PostgreSQL cannot keep


async def test_nul_is_refused_where_it_matters_and_replaced_elsewhere(queue: PostgresQueue) -> None:
    for field in ("key", "batch"):
        with pytest.raises(BadRequest, match=rf"the job cannot be accepted.*\$\.{field}"):
            await queue.submit([order(**{field: "a\0b"})])
    await queue.submit([order(host="a\0b.example", webhook="https://hook.example/\0")])
    job = await lease_one(queue)
    assert job.order.host == "a\0b.example"
    await queue.note(held(job), Footprint(delivered=(0,)))
    await queue.bury(held(job), "the file \udcff\0 is bad")
    assert (await queue.get(job.id)).reason == "the file ?\ufffd is bad"
    for odd in ("a\0b", "\udcff"):
        assert (await queue.find(Filter(batch=odd), 10)).jobs == []
        assert set((await queue.counts(odd)).values()) == {0}


async def test_a_short_lease_of_a_dead_worker_is_taken_over_by_another_process(
    queue: PostgresQueue, url: str
) -> None:
    await queue.submit([order()])
    await lease_one(queue, lease_s=SHORT_S)
    await queue.close()
    async with opened(url) as other:
        assert (await lease_one(other)).attempts == 2
