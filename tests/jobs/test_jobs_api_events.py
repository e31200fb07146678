"""Events of jobs and batches, and that streams of them hold nothing and hinder nobody."""

import asyncio
import json
import os
import re
import resource
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, nullcontext, suppress
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from job_api_support import (
    HERE,
    Api,
    Events,
    Gate,
    JobServer,
    allowed,
    api_client,
    job_server,
    new_job,
    picture,
)
from job_servers import HttpServer, reply
from job_support import until

from safelight.server.job_api import events
from safelight.server.job_api.messages import Retried

AT_ONCE_S = 10
"""Far less than the 30 s that a stop gives to requests, and enough for a busy machine."""
MANY = 300


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    """One whose requests may take little time, and which tells of each in a log."""
    place = tmp_path_factory.mktemp("events") / "server"
    options = ("--request-timeout", "1", "--access-log-file", "access", "--access-log-format", "json")
    with job_server(place, *options, configuration=allowed(*HERE)) as made:
        yield made


@pytest.fixture
async def api(server: JobServer) -> AsyncIterator[Api]:
    async with api_client(server) as made:
        yield made


@pytest.fixture
def gate(web: HttpServer) -> Gate:
    """In front of a source; behind it a job is done at once."""
    made = Gate(reply(200, picture()))
    web.answers |= {"/a.png": made, "/b.png": reply(200, picture()), "/out": reply(201)}
    return made


async def running_job(api: Api, web: HttpServer, gate: Gate, **rest: str) -> str:
    """The id of one that waits at the gate."""
    job_id: str = (await api.submit(new_job(f"{web.url}/a.png", f"{web.url}/out", **rest)))["id"]
    await until(lambda: asyncio.sleep(0, gate.visitors))
    await api.when(job_id, lambda view: view["state"] == "running")
    return job_id


async def test_the_events_of_a_job(api: Api, web: HttpServer, gate: Gate) -> None:
    """The present state at once, each change, the end; what is told is what anybody may see."""
    job_id = await running_job(api, web, gate)
    async with api.events(f"/jobs/{job_id}/events") as stream:
        headers = stream.response.headers
        assert headers["content-type"] == "text/event-stream"
        assert headers["cache-control"] == "no-store"
        assert "content-length" not in headers
        assert await stream.next() == ("job", await api.view(job_id))
        gate.opened.set()
        rest = await stream.rest()
    assert [name for name, _ in rest] == ["job"] * len(rest)
    assert [view["state"] for _, view in rest][-1] == "done"
    assert rest[-1][1] == await api.view(job_id)
    assert all(one != other for one, other in pairwise(rest))


async def test_a_job_that_has_ended_has_one_event(api: Api, web: HttpServer, gate: Gate) -> None:
    gate.opened.set()
    job_id = (await api.submit(new_job(f"{web.url}/b.png", f"{web.url}/out")))["id"]
    done = await api.ended(job_id)
    async with api.events(f"/jobs/{job_id}/events") as stream:
        assert await stream.rest() == [("job", done)]


async def test_a_reason_and_a_cancellation_are_events(api: Api, web: HttpServer) -> None:
    """Waiting for the next attempt is told once, although its time is read from a clock each time."""
    web.answers = {"/a.png": reply(503)}
    job_id = (await api.submit(new_job(f"{web.url}/a.png", f"{web.url}/out")))["id"]
    async with api.events(f"/jobs/{job_id}/events") as stream:
        seen = [await stream.next()]
        while seen[-1][1]["reason"] is None:
            seen.append(await stream.next())
        assert seen[-1][1]["state"] == "waiting"
        assert "503" in seen[-1][1]["reason"]
        await asyncio.sleep(4 * events.ROUND_S)
        await api.ask("DELETE", f"/jobs/{job_id}", 200)
        rest = await stream.rest()
    assert [view["state"] for _, view in rest if view["attempts"] == 1] == ["cancelled"]


async def test_the_events_of_a_batch(api: Api, web: HttpServer, gate: Gate) -> None:
    batch = f"a/b {uuid4()}"
    await running_job(api, web, gate, batch=batch)
    await api.submit_all([new_job(f"{web.url}/b.png", f"{web.url}/out", batch=batch)] * 4)
    async with api.events("/batches/" + batch.replace("/", "%2F").replace(" ", "%20") + "/events") as stream:
        name, view = await stream.next()
        assert (name, view["batch"], view["total"], view["ended"]) == ("batch", batch, 5, False)
        while view["done"] < 4:
            _, view = await stream.next()
        assert (view["running"], view["ended"]) == (1, False)
        gate.opened.set()
        rest = await stream.rest()
    assert rest[-1][1] == {**view, "running": 0, "done": 5, "ended": True}


async def test_asking_for_the_head_follows_nothing(api: Api, web: HttpServer, gate: Gate) -> None:
    job_id = await running_job(api, web, gate)
    answer = await api.client.head(f"/jobs/{job_id}/events")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    gate.opened.set()


async def test_a_stream_outlives_the_request_timeout(api: Api, web: HttpServer, gate: Gate) -> None:
    """The server of these tests gives a request little time: `load_jobs` adds what fetching may take."""
    job_id = await running_job(api, web, gate)
    async with api.events(f"/jobs/{job_id}/events") as stream:
        await stream.next()
        await asyncio.sleep(3)
        gate.opened.set()
        assert (await stream.rest())[-1][1]["state"] == "done"


async def test_idle_streams_get_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that proxies do not take them for dead; every 15 seconds, here sooner."""
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.05)
    following = events.Following()

    async def look() -> events.Sight:
        return events.Sight("job", Retried(1), has_ended=False)

    stream = await following.follow(("job", "a"), look)
    assert await anext(stream) == b'event: job\ndata: {"retried":1}\n\n'
    assert [await anext(stream) for _ in range(2)] == [b":\n\n"] * 2
    await stream.aclose()
    await following.close()


async def test_what_is_forgotten_is_followed_no_more() -> None:
    following, is_there = events.Following(), True

    async def look() -> events.Sight:
        if not is_there:
            raise events.NotFound("gone")
        return events.Sight("job", Retried(1), has_ended=False)

    stream = await following.follow(("job", "a"), look)
    other = await following.follow(("job", "a"), look)
    assert await anext(stream) == await anext(other)
    is_there = False
    assert [piece async for piece in stream] == [piece async for piece in other] == []
    with pytest.raises(events.NotFound):
        await following.follow(("job", "a"), look)
    await following.close()


async def test_a_queue_that_fails_for_a_while_ends_no_stream() -> None:
    following, seen, failures = events.Following(), 0, 0

    async def look() -> events.Sight:
        nonlocal failures
        if seen == 1 and failures < 2:
            failures += 1
            raise events.SafelightError("the job queue failed")
        return events.Sight("job", Retried(seen), has_ended=seen == 1)

    stream = await following.follow(("job", "a"), look)
    await anext(stream)
    seen = 1
    assert [piece async for piece in stream] == [b'event: job\ndata: {"retried":1}\n\n']
    assert failures == 2
    await following.close()


# --- streams and the server


async def sent(server: JobServer, target: str) -> dict[str, object]:
    """What the access log says of the one request for `target`."""
    log = server.log_path.parent / "access"

    async def look() -> dict[str, object] | None:
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return next((line for line in lines if line["target"] == target), None)

    found = await until(look)
    assert found
    return found


async def metric(api: Api, name: str) -> float:
    text = (await api.client.get("/metrics")).text
    return sum(float(number) for number in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


async def writing(api: Api) -> int:
    return int((await api.client.get("/stats/writing")).text)


async def test_the_log_and_the_metrics_tell_of_streams(api: Api, web: HttpServer, gate: Gate) -> None:
    """One line when it has ended: how long it was and how long it took."""
    job_id = await running_job(api, web, gate)
    before = await metric(api, "safelight_sent_bytes_total")
    async with api.events(f"/jobs/{job_id}/events") as stream:
        await stream.next()
        assert await writing(api) == 1
        await asyncio.sleep(1)
        gate.opened.set()
        await stream.rest()
        size = stream.response.num_bytes_downloaded
    line = await sent(api.server, f"/jobs/{job_id}/events")
    assert (line["status"], line["method"]) == (200, "GET")
    assert 300 < int(str(line["sent_bytes"])) <= size
    assert float(str(line["duration_s"])) > 1
    await until(lambda: writing_is(api, 0))
    assert await metric(api, "safelight_sent_bytes_total") >= before + int(str(line["sent_bytes"]))


async def writing_is(api: Api, count: int) -> bool:
    return await writing(api) == count


async def test_a_client_that_leaves_ends_its_stream_at_once(api: Api, web: HttpServer, gate: Gate) -> None:
    job_id = await running_job(api, web, gate)
    async with api.events(f"/jobs/{job_id}/events") as stream:
        await stream.next()
        assert await writing(api) == 1
    left = time.monotonic()
    line = await sent(api.server, f"/jobs/{job_id}/events")
    assert time.monotonic() - left < AT_ONCE_S < events.KEEP_ALIVE_S
    assert line["status"] == 200
    await until(lambda: writing_is(api, 0))
    gate.opened.set()


async def test_many_idle_streams_hinder_nobody(api: Api, web: HttpServer, gate: Gate) -> None:
    """No request waits for them, jobs are done, and each of them hears of the end."""
    needed = MANY + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, needed), hard))
    job_id = await running_job(api, web, gate, batch="many")
    async with AsyncExitStack() as stack:
        paths = [f"/jobs/{job_id}/events"] * (MANY // 2) + ["/batches/many/events"] * (MANY // 2)
        streams: list[Events] = [await stack.enter_async_context(api.events(path)) for path in paths]
        for stream in streams:
            await stream.next()
        assert await writing(api) == MANY
        assert (await api.client.get("/health_check")).status_code == 200
        other = await api.submit(new_job(f"{web.url}/b.png", f"{web.url}/out"))
        assert (await api.ended(other["id"]))["state"] == "done"
        gate.opened.set()
        ends = await asyncio.gather(*(stream.rest() for stream in streams))
    assert all(rest[-1][1].get("ended", rest[-1][1].get("state") == "done") for rest in ends)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
async def test_a_stop_or_reload_ends_streams_at_once(
    tmp_path: Path, web: HttpServer, gate: Gate, number: signal.Signals
) -> None:
    """In order, unless it is a quick stop; nobody waits for the end of the grace period."""
    with job_server(tmp_path / "server", "--graceful-timeout", "60", configuration=allowed(*HERE)) as server:
        async with api_client(server) as api:
            job_id = await running_job(api, web, gate)
            async with api.events(f"/jobs/{job_id}/events") as stream:
                await stream.next()
                began = time.monotonic()
                os.kill(server.process.pid, number)
                with suppress(httpx.TransportError) if number is signal.SIGQUIT else nullcontext():
                    assert await stream.rest() == []
                assert time.monotonic() - began < AT_ONCE_S
            gate.opened.set()
            if number is signal.SIGHUP:
                await api.ended(job_id)
            else:
                await asyncio.to_thread(server.process.wait, 60)


async def test_a_client_that_does_not_read_does_not_hold_up_a_stop(
    tmp_path: Path, web: HttpServer, gate: Gate
) -> None:
    """Its connection is full when the server is told to stop."""
    with job_server(tmp_path / "server", "--graceful-timeout", "60", configuration=allowed(*HERE)) as server:
        async with api_client(server) as api:
            await running_job(api, web, gate, batch="b" * 200)
            reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
            writer.write(f"GET /batches/{'b' * 200}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await reader.readuntil(b"event: batch")
            gate.opened.set()
            began = time.monotonic()
            server.process.terminate()
            await asyncio.to_thread(server.process.wait, 60)
            assert time.monotonic() - began < 30
            writer.close()


async def test_another_process_sees_the_changes(tmp_path: Path, web: HttpServer, gate: Gate) -> None:
    """State comes from the queue: of several HTTP workers any may do the job, and any may be asked."""
    options = ("--http-workers", "3")
    with job_server(tmp_path / "server", *options, configuration=allowed(*HERE)) as server:
        async with api_client(server) as api, AsyncExitStack() as stack:
            job_id = await running_job(api, web, gate)
            streams = [
                await stack.enter_async_context(api.events(f"/jobs/{job_id}/events")) for _ in range(12)
            ]
            for stream in streams:
                await stream.next()
            gate.opened.set()
            for stream in streams:
                assert (await stream.rest())[-1][1]["state"] == "done"
