"""Webhooks: what is sent, to whom, and what the answer means for the notice. Receivers are real servers."""

import asyncio
import hmac
import itertools
import re
import ssl
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from job_network import Certificates, Names
from job_servers import Answer, HttpServer, Seen, for_ever, http_server, raw, reply
from job_support import held, lease_all, order, until
from serving import ROOT

from safelight.config.load import load
from safelight.engine.inline import InlineEngine
from safelight.errors import ConfigError
from safelight.image.settings import ImageSettings
from safelight.jobs import network
from safelight.jobs.notify import signing_key
from safelight.jobs.perform import Outside, Performer
from safelight.jobs.policy import Policy, Rule
from safelight.jobs.queue import Filter
from safelight.jobs.reception import Reception
from safelight.jobs.record import Job, State
from safelight.jobs.settings import job_settings
from safelight.jobs.sqlite import SqliteQueue
from safelight.jobs.worker import Pace, Worker
from safelight.statements import REGISTRY

KEY = b"0123456789abcdef"
QUICK = Pace(poll_s=0.05, first_delay_s=0.02, max_delay_s=0.05, max_attempts=4)
HERE = Policy(webhooks=(Rule("127.0.0.1"),), deliver_timeout_s=60, connect_timeout_s=30)
PATH = "/hooks/jobs"
GUIDE = (ROOT / "docs" / "jobs.md").read_text()


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[SqliteQueue]:
    opened = await SqliteQueue.open(tmp_path / "jobs.db")
    yield opened
    await opened.close()


@asynccontextmanager
async def notifying(queue: SqliteQueue, policy: Policy = HERE, pace: Pace = QUICK) -> AsyncIterator[None]:
    """A worker does what waits in `queue`."""
    engine = InlineEngine(ImageSettings(), workers=1)
    performer = Performer(queue, engine, Outside(policy, {}, webhook_key=KEY), Reception())
    worker = Worker(queue, performer.perform, pace, abandon=performer.abandon)
    running = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await asyncio.wait_for(running, 60)
        await engine.close()


async def cancelled(queue: SqliteQueue, webhook: str, **rest: Any) -> tuple[str, str]:
    """A job that has ended, which `webhook` is to be told; ids of the job and of the notice."""
    (job_id,) = await queue.submit([order(webhook=webhook, **rest)])
    await queue.cancel(job_id)
    (notice,) = (await queue.find(Filter(), 1)).jobs
    assert notice.order.source == webhook
    return job_id, notice.id


async def ended(queue: SqliteQueue, job_id: str) -> Job:
    async def look() -> Job | None:
        job = await queue.get(job_id)
        return job if job.ended_at else None

    return await until(look)  # type: ignore[return-value]


async def outcome(queue: SqliteQueue, webhook: str, policy: Policy = HERE) -> Job:
    """The notice, when it has ended."""
    _, notice_id = await cancelled(queue, webhook)
    async with notifying(queue, policy):
        return await ended(queue, notice_id)


def verified(request: Seen, key: bytes = KEY) -> dict[str, Any]:
    """The body of a message whose signature and time are right, as a receiver would check them."""
    headers = request.headers
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{request.body.decode()}"
    expected = b64encode(hmac.digest(key, content.encode(), "sha256")).decode()
    assert f"v1,{expected}" in headers["webhook-signature"].split(" ")
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 300, "receivers refuse what is older"
    return msgspec.json.decode(request.body)


def in_turn(*answers: Answer) -> Answer:
    """Each once, the last one ever after."""
    left = list(answers)

    async def answer(request: Seen, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(request, writer)

    return answer


# What is sent


async def test_a_message_is_signed_and_says_what_became_of_the_job(
    queue: SqliteQueue, web: HttpServer
) -> None:
    web.answers[PATH] = reply(204)
    job_id, notice_id = await cancelled(queue, f"{web.url}{PATH}?to=me", batch="b", key="k", priority=3)
    async with notifying(queue):
        await ended(queue, notice_id)
    (request,) = web.seen
    assert (request.method, request.target) == ("POST", f"{PATH}?to=me")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == notice_id
    message = verified(request)
    assert (message["type"], set(message)) == ("job.cancelled", {"type", "timestamp", "data"})
    told = message["data"]
    job = await queue.get(job_id)
    assert datetime.fromisoformat(message["timestamp"]) == job.ended_at
    assert datetime.fromisoformat(told.pop("created_at")) == job.created_at
    assert datetime.fromisoformat(told.pop("ended_at")) == job.ended_at
    assert told == {
        "id": job_id,
        "state": "cancelled",
        "attempts": 0,
        "reason": None,
        "source": "http://origin.example/a.jpg",
        "outputs": [{"make": "fit,10,10,png", "to": "s3://bucket/a.png", "delivered": False}],
        "priority": 3,
        "batch": "b",
        "key": "k",
        "not_before": None,
    }


async def test_dead_and_done_jobs_are_told_of(queue: SqliteQueue, web: HttpServer) -> None:
    web.answers[PATH] = reply(200, b"thanks")
    ids = await queue.submit([order(name, webhook=web.url + PATH) for name in "ab"])
    done, dead = await lease_all(queue)
    await queue.finish(held(done))
    await queue.bury(held(dead), "no image")
    async with notifying(queue):
        await until(lambda: _counted(queue, State.DONE, 3))
    told = {message["type"]: message["data"] for message in map(verified, web.seen)}
    assert [told[f"job.{state}"]["id"] for state in ("done", "dead")] == ids
    assert told["job.done"]["outputs"][0]["delivered"] is True
    assert (told["job.dead"]["reason"], told["job.dead"]["attempts"]) == ("no image", 1)


async def _counted(queue: SqliteQueue, state: State, count: int) -> bool:
    return (await queue.counts())[state] == count


async def test_a_message_shows_no_password(queue: SqliteQueue, web: HttpServer) -> None:
    """But what the webhook itself asks for is used."""
    web.answers[PATH] = reply(200)
    wanted = order(webhook=web.url.replace("://", "://me:my-password@") + PATH)
    wanted = msgspec.structs.replace(wanted, source="https://u:hidden@origin.example/a.png?token=hidden")
    (job_id,) = await queue.submit([wanted])
    await queue.cancel(job_id)
    async with notifying(queue):
        await until(lambda: _counted(queue, State.DONE, 1))
    (request,) = web.seen
    assert verified(request)["data"]["source"] == "https://origin.example/a.png"
    assert b"hidden" not in request.body
    assert b64decode(request.headers["authorization"].removeprefix("Basic ")) == b"me:my-password"


async def test_a_receiver_checks_as_the_document_shows(queue: SqliteQueue, web: HttpServer) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    shown: dict[str, Any] = {}
    exec(code, shown)
    web.answers[PATH] = reply(200)
    await outcome(queue, web.url + PATH)
    (request,) = web.seen
    assert shown["is_genuine"](request.headers, request.body, KEY)
    assert not shown["is_genuine"](request.headers, request.body + b" ", KEY)
    assert not shown["is_genuine"](request.headers, request.body, b"another key")
    past = {**request.headers, "webhook-timestamp": "1700000000"}
    assert not shown["is_genuine"](past, request.body, KEY)


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        ("a secret of any kind", b"a secret of any kind"),
        ("whsec_MDEyMzQ1Njc4OWFiY2RlZg==", b"0123456789abcdef"),
        ("schlüssel-schlüssel", "schlüssel-schlüssel".encode()),
    ],
)
def test_keys_are_written_as_the_standard_does_or_plainly(secret: str, key: bytes) -> None:
    assert signing_key(secret) == key


@pytest.mark.parametrize(
    "secret", ["whsec_no base64 at all", "whsec_ä0123456789abcdef", "whsec_MDEyMzQ1Njc4"]
)
def test_a_secret_that_is_no_key_is_told_with_its_place(secret: str) -> None:
    text = f'\njobs webhook-secret="{secret}" {{\n}}\n'
    with pytest.raises(ConfigError, match=r"jobs\.sdl:2:1: expected .*base64 after 'whsec_'"):
        job_settings(load(text, "jobs.sdl", REGISTRY), legacy=False)


# What the answers mean


async def test_a_receiver_that_fails_is_told_again(queue: SqliteQueue, web: HttpServer) -> None:
    """The same message each time, with a signature of its own time."""
    web.answers[PATH] = in_turn(reply(500), raw(), reply(429), reply(202))
    _, notice_id = await cancelled(queue, web.url + PATH)
    clock = itertools.count(int(time.time()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("safelight.jobs.notify.time.time", lambda: next(clock))
        async with notifying(queue):
            notice = await ended(queue, notice_id)
    assert (notice.state, notice.attempts) == (State.DONE, 4)
    assert len({request.body for request in web.seen}) == 1
    assert {request.headers["webhook-id"] for request in web.seen} == {notice_id}
    assert len({request.headers["webhook-timestamp"] for request in web.seen}) > 1
    for request in web.seen:
        verified(request)


@pytest.mark.parametrize("status", [410, 400, 401, 404])
async def test_a_receiver_that_does_not_want_it(queue: SqliteQueue, web: HttpServer, status: int) -> None:
    web.answers[PATH] = reply(status)
    notice = await outcome(queue, web.url + PATH)
    assert (notice.state, notice.attempts) == (State.DEAD, 1)
    assert notice.reason == f"'127.0.0.1:{web.port}' answered {status}"
    assert (await queue.revive(notice.id)).state is State.WAITING, "a dead letter like any other"


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_that_wants_to_be_left_alone(
    queue: SqliteQueue, web: HttpServer, status: int
) -> None:
    web.answers[PATH] = reply(status, retry_after="600")
    _, notice_id = await cancelled(queue, web.url + PATH)

    async def delayed() -> datetime | None:
        return (await queue.get(notice_id)).not_before

    async with notifying(queue, pace=msgspec.structs.replace(QUICK, max_delay_s=3600)):
        not_before = await until(delayed)
    assert not_before
    assert timedelta(seconds=400) < not_before - datetime.now(UTC) < timedelta(seconds=610)
    assert len(web.seen) == 1


async def test_a_redirect_is_not_followed(queue: SqliteQueue, web: HttpServer) -> None:
    web.answers[PATH] = reply(307, location=f"{web.url}/elsewhere")
    web.answers["/elsewhere"] = reply(200)
    notice = await outcome(queue, web.url + PATH)
    assert (notice.state, notice.reason) == (State.DEAD, f"'127.0.0.1:{web.port}' answered 307")
    assert [request.target for request in web.seen] == [PATH]


async def test_a_receiver_that_says_nothing_is_left_and_told_again(
    queue: SqliteQueue, web: HttpServer
) -> None:
    web.answers[PATH] = in_turn(raw(then=for_ever), raw(b"HTTP/1.1 ", then=for_ever), reply(200))
    notice = await outcome(queue, web.url + PATH, replace(HERE, deliver_timeout_s=0.3))
    assert notice.state is State.DONE
    assert len(web.seen) >= 3


async def test_nobody_there(queue: SqliteQueue, free_port: int) -> None:
    notice = await outcome(queue, f"http://127.0.0.1:{free_port}/")
    assert (notice.state, notice.attempts) == (State.DEAD, QUICK.max_attempts)
    assert notice.reason == f"'127.0.0.1:{free_port}' cannot be reached"


# Who may be told


@pytest.mark.parametrize(
    "rules",
    [(), (Rule("hooks.example"),), (Rule("127.0.0.1", path="/other"),), (Rule("127.0.0.1", "https"),)],
)
async def test_only_who_is_named_is_told(
    queue: SqliteQueue, web: HttpServer, rules: tuple[Rule, ...]
) -> None:
    """Destinations are not webhooks, and `--legacy` opens nothing here."""
    policy = Policy(webhooks=rules, destinations=(Rule("127.0.0.1"),), legacy=True)
    notice = await outcome(queue, web.url + PATH, policy)
    assert (notice.state, notice.reason) == (State.DEAD, "webhook host '127.0.0.1' is not allowed")
    assert web.connections == 0


@pytest.mark.usefixtures("one_is_public")
async def test_a_pattern_admits_no_private_address(queue: SqliteQueue, names: Names) -> None:
    names.answers["a.hooks.test"] = [["127.0.0.2"]]
    policy = replace(HERE, webhooks=(Rule("*.hooks.test"),))
    async with http_server("127.0.0.2") as private:
        notice = await outcome(queue, f"http://a.hooks.test:{private.port}/", policy)
        assert (notice.state, notice.reason) == (State.DEAD, "host 'a.hooks.test' has no public address")
        assert private.connections == 0


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "file:///etc/passwd", "s3://127.0.0.1/x", "nonsense"])
async def test_only_http_is_spoken(queue: SqliteQueue, url: str) -> None:
    assert (await outcome(queue, url)).state is State.DEAD


async def test_a_slow_receiver_takes_no_more_than_its_host_may(queue: SqliteQueue, web: HttpServer) -> None:
    """The limit of jobs for one host holds for notices too, so other jobs go on."""
    web.answers["/slow"] = raw(then=for_ever)
    web.answers["/quick"] = reply(200)
    for _ in range(5):
        await cancelled(queue, f"{web.url}/slow", priority=100)
    _, quick = await cancelled(queue, f"http://localhost:{web.port}/quick", priority=-100)
    policy = replace(HERE, webhooks=(Rule("127.0.0.1"), Rule("localhost")))
    pace = msgspec.structs.replace(QUICK, per_host=2, concurrency=4)
    async with notifying(queue, replace(policy, deliver_timeout_s=5), pace):
        assert (await ended(queue, quick)).state is State.DONE
        assert len([request for request in web.seen if request.target == "/slow"]) <= 2


# TLS


async def test_a_webhook_behind_tls(queue: SqliteQueue, secure_web: HttpServer) -> None:
    secure_web.answers[PATH] = reply(200)
    assert (await outcome(queue, secure_web.url + PATH)).state is State.DONE
    verified(secure_web.seen[0])


@pytest.mark.parametrize("content", [None, "", "no certificate\n"])
async def test_authorities_that_cannot_be_loaded_are_told_of(
    queue: SqliteQueue,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    content: str | None,
) -> None:
    """It is tried again: nothing is wrong with the job."""
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with http_server(tls=certificates.context) as server:
        server.answers[PATH] = reply(200)
        notice = await outcome(queue, server.url + PATH)
        assert (notice.state, notice.attempts) == (State.DEAD, QUICK.max_attempts)
        assert notice.reason == "this server cannot load the certificates that it should trust"
        with pytest.raises(network.TransferError) as caught:
            network.tls_context("http/1.1", verified=True)
        assert str(file) in (caught.value.detail or "")
        assert isinstance(network.tls_context("http/1.1", verified=False), ssl.SSLContext)
