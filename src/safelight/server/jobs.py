"""The job server: image jobs by the API in `job_api`, and in the older server's words.

Those come by POST on any path (reference/imgserve section 2) but the API's. Each HTTP worker does jobs of the
queue beside answering requests.
"""

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import structlog

from safelight.blob import MemoryBlob
from safelight.engine.base import Engine
from safelight.errors import ConfigError, StorageError
from safelight.jobs.acceptance import MAX_SOURCE_PIXELS, Acceptance
from safelight.jobs.location import shown
from safelight.jobs.notify import signing_key
from safelight.jobs.opening import open_queue
from safelight.jobs.perform import Outside, Performer
from safelight.jobs.policy import Policy
from safelight.jobs.queue import JobQueue
from safelight.jobs.reception import Reception
from safelight.jobs.record import State
from safelight.jobs.rules import LegacyJob, Refused, Unreadable, read_job
from safelight.jobs.settings import JobSettings
from safelight.jobs.worker import Worker
from safelight.model import Answer
from safelight.run import ReadBody
from safelight.server.answer import Stream
from safelight.server.app import METRICS, App
from safelight.server.exchange import Exchange
from safelight.server.health import HealthCheck
from safelight.server.hosting import HostSettings, Say, host
from safelight.server.job_api.access import Tokens, check_origin
from safelight.server.job_api.api import JobApi, is_open, is_ours
from safelight.server.job_api.problem import Refusal, problem_answer
from safelight.server.process import MakeApp, Seat
from safelight.server.user import find_user
from safelight.storage.s3.bucket import Client as S3Client

MAX_JOB_BYTES = 1 << 20
QUEUE_FILE = "jobs.db"
STOP_S = 20
"""What a stop leaves running jobs; they are given back then, and done after the next start."""
JOBS_PER_IMAGE_WORKER = 4
"""Most of a job's time is waiting for others."""
WAITING_S = 60
KEPT_DAYS = {State.DONE: 1, State.CANCELLED: 1, State.DEAD: 30}
"""How long a job that has ended is remembered; URLs of jobs may have passwords."""
FORGET_EVERY_S = 3600
NOT_FOUND = "404 Not Found - imgserve 0.2"

_log = structlog.get_logger("safelight.jobs")


@dataclass(frozen=True, slots=True)
class JobServer:
    """What to serve. `directory`: of the queue. `is_legacy`: answers and checks as the older server did.

    `has_api`: serve the API, too; else every path is the older server's.
    """

    settings: JobSettings
    directory: Path
    is_legacy: bool = False
    has_api: bool = True


class JobService:
    """Accepts jobs and does them."""

    banner = "Safelight image jobs"

    def __init__(self, engine: Engine, server: JobServer, spool_directory: Path | None) -> None:
        settings = server.settings
        self.engine = engine
        self._server = server
        self._schemes = settings.schemes
        self._tokens = Tokens(settings.tokens)
        self._content_type = "text/html" if server.is_legacy else "application/json"
        self._health = HealthCheck(engine, self.banner)
        self._clients = {
            account: S3Client(account, spool_directory) for account in set(settings.accounts.values())
        }
        buckets = {name: self._clients[account].bucket(name) for name, account in settings.accounts.items()}
        key = signing_key(settings.webhook_secret)
        self._outside = Outside(settings.policy, buckets, spool_directory, key)
        self._running: _Running | None = None

    async def start(self) -> None:
        """Start the engine, open the queue and begin to do what waits in it. Raises: SafelightError."""
        await self.engine.start()
        queue = await open_queue(self._server.settings.queue or self._server.directory / QUEUE_FILE)
        reception = Reception()
        performer = Performer(queue, self.engine, self._outside, reception)
        acceptance = Acceptance(
            queue, self.engine, self._outside, reception, is_strict=not self._server.is_legacy
        )
        settings = self._server.settings
        worker = Worker(queue, performer.perform, settings.pace, abandon=performer.abandon)
        self._running = _Running(
            queue,
            JobApi(queue, settings) if self._server.has_api else None,
            acceptance,
            worker,
            asyncio.create_task(worker.run()),
            asyncio.create_task(_forget(queue)),
        )

    async def answer(self, exchange: Exchange, read_body: ReadBody) -> Answer | Stream | None:
        """Serve the API, or take a job in the older server's words.

        Raises: any SafelightError for the API; else what says that this server cannot do its work now, such
        as Busy or StorageError, or that a token is missing.
        """
        running, raw_path = self._running, exchange.raw_path
        if running is None:
            return _html(NOT_FOUND, 404)
        has_api = running.api is not None
        if has_api and raw_path == METRICS and exchange.method != "POST":
            return None
        if not (has_api and is_open(raw_path)):
            self._check_sender(exchange)
        if running.api is not None and is_ours(raw_path):
            return await running.api.answer(exchange, read_body)
        if exchange.method != "POST":
            return _html(NOT_FOUND, 404)
        return await self._take(read_body, running.acceptance)

    def _check_sender(self, exchange: Exchange) -> None:
        """Raises: Refusal, also for web pages of other sites; the older server heeded those."""
        try:
            self._tokens.check(exchange.headers)
            if self._server.has_api and exchange.method not in ("GET", "HEAD"):
                check_origin(exchange.headers)
        except Refusal:
            exchange.explain = problem_answer
            raise

    async def _take(self, read_body: ReadBody, acceptance: Acceptance) -> Answer:
        """Every answer about a job in the older server's words is 200: clients look at what it holds."""
        try:
            job = await self._read(read_body)
            await acceptance.accept(job)
        except Unreadable as error:
            _log.info("job not understood", detail=error.detail)
            return self._json({"msg": error.message})
        except Refused as error:
            _log.info("job refused", code=int(error.code), detail=error.detail)
            return self._json({"msg": error.message, "code": int(error.code)})
        _log.info(
            "job accepted",
            kind=job.operation.kind,
            source=shown(job.source),
            destination=shown(job.delivery.url),
        )
        return self._json({"dstURL": job.destination})

    async def close(self) -> None:
        """Finish the jobs that run, if they do not take too long, and stop the engine."""
        if self._running is not None:
            await self._running.stop()
            self._running = None
        await self.engine.close()
        for client in self._clients.values():
            await client.close()

    async def check_health(self) -> Answer:
        """Process one tiny picture. Raises: what the engine raises."""
        return await self._health.answer()

    async def _read(self, read_body: ReadBody) -> LegacyJob:
        body = await read_body()
        if body.size > MAX_JOB_BYTES:
            raise Unreadable("request parse error", detail=f"more than {MAX_JOB_BYTES} bytes")
        return read_job(body.read(), self._schemes)

    def _json(self, reply: Mapping[str, object]) -> Answer:
        text = msgspec.json.encode(reply)
        return Answer(MemoryBlob(text), "application/json", facts=(("Content-Type", self._content_type),))


@dataclass(slots=True)
class _Running:
    """What there is from start to stop."""

    queue: JobQueue
    api: JobApi | None
    acceptance: Acceptance
    worker: Worker
    working: "asyncio.Task[None]"
    forgetting: "asyncio.Task[None]"

    async def stop(self) -> None:
        self.worker.stop()
        await asyncio.wait([self.working], timeout=STOP_S)
        for task in (self.working, self.forgetting):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self.api is not None:
            await self.api.close()
        await self.queue.close()


async def _forget(queue: JobQueue) -> None:
    """Forget old jobs now and then, for ever."""
    while True:
        for state, days in KEPT_DAYS.items():
            try:
                await queue.prune(state, datetime.now(UTC) - timedelta(days=days))
            except StorageError as error:
                _log.error("old jobs cannot be forgotten", reason=error.message, detail=error.detail)
        await asyncio.sleep(FORGET_EVERY_S)


def _html(text: str, status: int) -> Answer:
    """As the older server sent it; browsers are told nothing else than that it is a text."""
    return Answer(MemoryBlob(text.encode()), "text/plain", status, facts=(("Content-Type", "text/html"),))


def load_jobs(server: JobServer, settings: HostSettings, say: Say, user: str | None) -> MakeApp:
    """The application of each HTTP worker, which runs as `user` if that is not None.

    Raises: ConfigError when the directory of the queue cannot be made.
    """
    _make_directory(server.directory, user)
    settings = replace(
        settings,
        app=replace(
            settings.app,
            refuse_bad_escapes=False,
            takes_every_post=not server.has_api,
            request_timeout_s=max(settings.app.request_timeout_s, _answer_s(server.settings.policy)),
        ),
        images=replace(settings.images, max_pixels=MAX_SOURCE_PIXELS),
    )

    def make_app(seat: Seat) -> App:
        jobs = server.settings.workers(JOBS_PER_IMAGE_WORKER * seat.image_workers)
        spool = settings.app.spool_directory
        return host(
            lambda engine, _counters: JobService(engine, replace(server, settings=jobs), spool),
            settings,
            seat,
            say,
        )

    return make_app


def _answer_s(policy: Policy) -> float:
    """How long an answer may take: fetching, delivering the placeholder, and waiting in between."""
    return policy.fetch_timeout_s + policy.deliver_timeout_s + WAITING_S


def _make_directory(directory: Path, user: str | None) -> None:
    """Only its owner sees what is in it: URLs of jobs have passwords. Raises: ConfigError."""
    owner = find_user(user) if user is not None else None
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if owner is not None:
            os.chown(directory, owner.pw_uid, owner.pw_gid)
    except OSError as error:
        raise ConfigError(f"cannot use the directory '{directory}': {error.strerror}") from error
