"""Webhooks of a whole server: told when a job has ended, also when the server was killed in between."""

import hmac
from base64 import b64encode
from pathlib import Path
from typing import Any

import msgspec
import pytest
from job_api_support import Api, api_client, job_server, new_job, picture
from job_servers import HttpServer, Seen, for_ever, raw, reply
from job_support import until
from test_jobs_legacy import JobServer

SECRET = "correct-horse-battery-staple"
HOOK = "/hook"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a picture, for sources and destinations."""
    (tmp_path / "a.png").write_bytes(picture())
    return tmp_path


def start(place: Path) -> Any:
    """The server, with the same queue each time."""
    configuration = f"""jobs attempts=3 webhook-secret="{SECRET}" {{
        source_root "{place}"
        destination_root "{place}"
        webhook "http://127.0.0.1"
    }}"""
    return job_server(place / "server", "--data", str(place / "queue"), configuration=configuration)


def job(place: Path, web: HttpServer, name: str = "a.png", **rest: Any) -> dict[str, Any]:
    return new_job(f"file://{place}/{name}", f"file://{place}/out-{name}", webhook=web.url + HOOK, **rest)


def verified(request: Seen) -> dict[str, Any]:
    """The message, as a receiver would check it."""
    headers = request.headers
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
    signature = b64encode(hmac.digest(SECRET.encode(), content, "sha256")).decode()
    assert headers["webhook-signature"] == f"v1,{signature}"
    return msgspec.json.decode(request.body)


async def told(web: HttpServer, count: int) -> list[dict[str, Any]]:
    """The first `count` messages."""

    async def look() -> bool:
        return len(web.seen) >= count

    await until(look)
    return [verified(request) for request in web.seen]


async def ended_notices(api: Api) -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]]:
        jobs = (await api.ask("GET", "/jobs", 200))["jobs"]
        notices = [view for view in jobs if not view["outputs"]]
        return notices if notices and all(view["ended_at"] for view in notices) else []

    return await until(look)


async def test_done_and_dead_jobs_are_told_of(place: Path, web: HttpServer) -> None:
    web.answers[HOOK] = reply(200)
    with start(place) as server:
        async with api_client(server) as api:
            ids = await api.submit_all([job(place, web, batch="b"), job(place, web, "none.png", batch="b")])
            messages = await told(web, 2)
            assert {message["data"]["id"]: message["type"] for message in messages} == {
                ids[0]: "job.done",
                ids[1]: "job.dead",
            }
            for message in messages:
                assert message["data"] == await api.view(message["data"]["id"])
            counted = await api.ask("GET", "/batches/b", 200)
            assert (counted["total"], counted["ended"]) == (2, True)
            notices = await ended_notices(api)
            assert {view["source"] for view in notices} == {web.url + HOOK}
            assert {view["state"] for view in notices} == {"done"}


async def test_nothing_is_accepted_that_would_tell_somebody_else(place: Path, web: HttpServer) -> None:
    with start(place) as server:
        async with api_client(server) as api:
            told_to = {**job(place, web), "webhook": "https://elsewhere.example/"}
            problem = await api.ask("POST", "/jobs", 403, json=told_to)
            assert problem["errors"][0]["where"] == "jobs[0].webhook"
            assert (await api.ask("GET", "/jobs", 200))["jobs"] == []


async def test_a_kill_before_the_webhook_is_told_does_not_silence_it(place: Path, web: HttpServer) -> None:
    """The job has ended and the receiver hears the first words of it when the server dies."""
    web.answers[HOOK] = raw(then=for_ever)
    with start(place) as server:
        async with api_client(server) as api:
            view = await api.submit(job(place, web))
            await told(web, 1)
            assert (await api.view(view["id"]))["state"] == "done"
        server.kill()
    web.answers[HOOK] = reply(204)
    with start(place) as server:
        assert isinstance(server, JobServer)
        first, *_, last = await told(web, 2)
        assert first == last
        assert len({request.headers["webhook-id"] for request in web.seen}) == 1
        async with api_client(server) as api:
            (notice,) = await ended_notices(api)
            assert (notice["state"], notice["attempts"]) == ("done", 2)
            assert notice["id"] == web.seen[0].headers["webhook-id"]
            assert (await api.view(view["id"]))["attempts"] == 1, "the job itself was not done again"
