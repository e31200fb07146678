"""Job servers that share a queue in PostgreSQL, as several machines would: real servers, real deaths."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from job_api_support import HERE, Gate, JobServer, api_client, bodies, new_job, picture, start_api
from job_servers import HttpServer, reply
from job_support import until
from loopback_ports import free_ports
from postgres_server import PASSWORD, PostgresServer, postgres_server

from safelight.jobs.postgres import PostgresQueue

LEASE_S = 30
"""How long a dead machine keeps its jobs."""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """One that the test may end."""
    with postgres_server() as made:
        yield made


@pytest.fixture
def machines(tmp_path: Path, server: PostgresServer) -> Iterator[list[JobServer]]:
    """Two that share nothing but the database."""
    lines = (*HERE, f'queue "{server.url()}"')
    with ExitStack() as stack:
        yield [stack.enter_context(start_api(tmp_path / name, lines=lines)) for name in ("one", "two")]


async def test_machines_share_jobs_and_take_over_those_of_a_dead_one(
    machines: list[JobServer], server: PostgresServer, web: HttpServer
) -> None:
    gate = Gate(reply(200, picture((60, 40))))
    web.answers = {"/a.png": reply(200, picture((60, 40))), "/gate.png": gate, "/late": reply(201)}
    jobs = [new_job(f"{web.url}/a.png", f"{web.url}/{n}", batch="b", key=str(n)) for n in range(20)]
    web.answers |= {f"/{n}": reply(201) for n in range(20)}
    first, second = machines
    async with api_client(first) as here, api_client(second) as there:
        ids = await here.submit_all(jobs)
        assert await there.submit_all(jobs[::-1]) == ids[::-1], "keys are known on every machine"

        async def all_done() -> bool:
            return bool((await there.ask("GET", "/batches/b", 200))["done"] == 20)

        await until(all_done)
        assert sorted(seen.target for seen in web.seen if seen.method == "PUT") == sorted(
            f"/{n}" for n in range(20)
        ), "each once"

        job = await here.submit(new_job(f"{web.url}/gate.png", f"{web.url}/late"))
        await here.when(job["id"], lambda view: view["state"] == "running")
        dead, left = machines if await holds(first, server, job["id"]) else machines[::-1]
        dead.kill()
        gate.opened.set()
        async with api_client(left) as there:
            ended = await until(lambda: done(there, job["id"]), patience_s=5 * LEASE_S)
            assert ended["attempts"] == 2
    assert len(bodies(web, "/late")) == 1


async def holds(machine: JobServer, server: PostgresServer, job_id: str) -> bool:
    """Whether a process of that machine has the lease of the job."""
    queue = await PostgresQueue.open(server.url())
    lease = (await queue.get(job_id)).lease
    await queue.close()
    assert lease
    return os.getpgid(int(lease.owner.split(":")[-2])) == machine.process.pid


async def done(api: "object", job_id: str) -> "dict[str, object] | None":
    view = await api.view(job_id)  # type: ignore[attr-defined]
    return view if view["state"] == "done" else None


async def test_while_the_database_is_away_requests_fail_and_nothing_else(
    machines: list[JobServer], server: PostgresServer, web: HttpServer
) -> None:
    web.answers = {"/a.png": reply(200, picture((60, 40))), "/x": reply(201), "/y": reply(201)}
    async with api_client(machines[0]) as api:
        before = await api.submit(new_job(f"{web.url}/a.png", f"{web.url}/x"))
        await api.ended(before["id"])
        server.kill()
        problem = await api.ask("POST", "/jobs", 502, json=new_job(f"{web.url}/a.png", f"{web.url}/y"))
        assert problem["detail"] == "the database of the job queue cannot be reached"
        server.start()

        async def accepted() -> str | None:
            answer = await api.client.post("/jobs", json=new_job(f"{web.url}/a.png", f"{web.url}/y"))
            return answer.json()["id"] if answer.status_code == 202 else None

        job_id = await until(accepted)
        assert job_id
        assert (await api.ended(job_id))["state"] == "done"
        assert (await api.view(before["id"]))["state"] == "done"
    for machine in machines:
        assert PASSWORD not in machine.log


@pytest.mark.parametrize("password", ["", "wrong", PASSWORD])
def test_a_queue_that_cannot_be_opened_ends_the_start(
    tmp_path: Path, postgres: PostgresServer, password: str
) -> None:
    """Without a server, with a wrong password, and without the database."""
    url = postgres.url("nowhere", password=password)
    if not password:
        url = f"postgresql://postgres:sesame@127.0.0.1:{free_ports(1)[0]}/x"
    (tmp_path / "jobs.sdl").write_text(f'jobs {{\n queue "{url}"\n}}\n')
    command = [sys.executable, "-m", "safelight", "jobs", "--config", "jobs.sdl", "--verbose"]
    done = subprocess.run(
        [*command, "--listen", f"127.0.0.1:{free_ports(1)[0]}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "the database of the job queue" in output
    assert "Traceback" not in output
    for secret in ("sesame", "wrong", PASSWORD, "not%2Bfor"):
        assert secret not in output
