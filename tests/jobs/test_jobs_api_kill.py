"""Jobs submitted over HTTP to a server that is killed again and again: none that was acknowledged is lost."""

import asyncio
import io
import os
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from job_api_support import HERE, allowed, job_server, new_job
from job_servers import HttpServer, Seen, reply
from job_support import until
from PIL import Image

JOBS = int(os.environ.get("SAFELIGHT_TEST_JOBS", "600"))
"""2,000 take two minutes, most of them for the thumbnails."""

LARGEST_BATCH = 12
KILLS = 6
AT_A_TIME = 16
SIZE = (6, 4)
SETTINGS = f"jobs per-host=100 concurrency={AT_A_TIME} attempts=1000"


def colour(number: int) -> tuple[int, int, int]:
    """One of its own for each job; told apart by anybody who looks at a pixel."""
    return number // 256, number % 256, 77


def source(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (12, 8), colour(number)).save(file, "PNG")
    return file.getvalue()


@dataclass
class Supervisor:
    """Keeps one server running on one queue in a thread: kills all its processes, starts it again."""

    directory: Path
    url: str = ""
    kills: int = 0
    may_end: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        for life in range(KILLS + 1):
            configuration = allowed(*HERE).replace("jobs attempts=2", SETTINGS)
            with job_server(self.directory, configuration=configuration) as server:
                self.url = server.url
                if life == KILLS:
                    self.may_end.wait(300)
                    return
                time.sleep(random.uniform(0.2, 1.6))
                server.kill()
                self.kills += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        running = asyncio.create_task(asyncio.to_thread(self.run))
        try:
            await until(lambda: asyncio.sleep(0, self.url))
            yield
        finally:
            self.may_end.set()
            await running


def batches() -> Iterator[range]:
    start = 0
    while start < JOBS:
        count = random.randint(1, LARGEST_BATCH)
        yield range(start, min(start + count, JOBS))
        start += count


async def submit(web: HttpServer, supervisor: Supervisor, name: str) -> tuple[dict[int, str], int]:
    """Ids by number of everything that was acknowledged, which is all in the end; how often it broke off."""
    acknowledged: dict[int, str] = {}
    broken = 0
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        for numbers in batches():
            jobs = [
                new_job(
                    f"{web.url}/in/{number}",
                    f"{web.url}/out/{number}",
                    make="fit,6,4,png",
                    key=f"{name} {number}",
                    batch=name,
                )
                for number in numbers
            ]
            while True:
                try:
                    answer = await client.post(f"{supervisor.url}/jobs", json=jobs)
                except httpx.TransportError:
                    broken += 1
                    await asyncio.sleep(0.02)
                    continue
                assert answer.status_code == 202, answer.text
                acknowledged |= dict(zip(numbers, answer.json()["ids"], strict=True))
                break
    return acknowledged, broken


async def all_jobs(url: str, name: str) -> dict[str, str]:
    """State of each job by id."""
    states: dict[str, str] = {}
    cursor: dict[str, str] = {}
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
        while True:
            wanted = {"batch": name, "limit": "700", **cursor}
            page = (await client.get("/jobs", params=wanted)).json()
            states |= {view["id"]: view["state"] for view in page["jobs"]}
            if page["next"] is None:
                return states
            cursor = {"cursor": page["next"]}


async def ended(supervisor: Supervisor, name: str) -> bool:
    if supervisor.kills < KILLS:
        return False
    async with httpx.AsyncClient(base_url=supervisor.url, trust_env=False, timeout=60) as client:
        try:
            return bool((await client.get(f"/batches/{name}")).json()["ended"])
        except httpx.TransportError:  # the last one has not begun
            return False


async def test_no_acknowledged_job_is_lost(tmp_path: Path, web: HttpServer) -> None:
    """Each result is at its destination and no other; twice only what a death left in doubt."""
    delivered: dict[int, list[bytes]] = {}

    async def take(request: Seen, writer: asyncio.StreamWriter) -> None:
        delivered.setdefault(int(request.target.rpartition("/")[2]), []).append(request.body)
        await reply(201)(request, writer)

    web.answers = {f"/in/{n}": reply(200, source(n)) for n in range(JOBS)}
    web.answers |= {f"/out/{n}": take for n in range(JOBS)}
    supervisor, name, began = Supervisor(tmp_path / "server"), "killed", time.monotonic()
    async with supervisor.running():
        acknowledged, broken = await submit(web, supervisor, name)
        await until(lambda: ended(supervisor, name), patience_s=300)
        states = await all_jobs(supervisor.url, name)
    assert set(acknowledged) == set(range(JOBS))
    assert set(acknowledged.values()) == set(states), "what was submitted twice is one job, by its key"
    assert len(states) == JOBS
    assert Counter(states.values()) == {"done": JOBS}
    assert set(delivered) == set(range(JOBS))
    for number, results in delivered.items():
        for result in results:
            image = Image.open(io.BytesIO(result))
            assert (image.size, image.convert("RGB").getpixel((3, 2))) == (SIZE, colour(number))
    duplicates = sum(map(len, delivered.values())) - JOBS
    print(
        f"{KILLS} kills in {time.monotonic() - began:.0f} s, {broken} requests broke off, "
        f"{duplicates} of {JOBS} jobs were delivered once more"
    )
    assert duplicates <= KILLS * AT_A_TIME
