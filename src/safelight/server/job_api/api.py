"""The API of image jobs: what its routes do with the queue."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any
from uuid import UUID

import msgspec
import structlog

from safelight.blob import Blob, MemoryBlob
from safelight.errors import NotFound
from safelight.jobs.queue import MAX_PAGE, BadCursor, Filter, JobQueue, NoSuchJob, Page
from safelight.jobs.record import Job, JobView, Order, State
from safelight.jobs.settings import JobSettings
from safelight.model import Answer
from safelight.run import ReadBody
from safelight.server.answer import Stream
from safelight.server.exchange import Exchange
from safelight.server.job_api.checking import Checker
from safelight.server.job_api.document import openapi
from safelight.server.job_api.events import Following, Sight
from safelight.server.job_api.messages import Accepted, BatchView, Chosen, JobPage, Listed, Retried
from safelight.server.job_api.problem import Refusal, malformed, problem_answer
from safelight.server.job_api.reading import MAX_BODY_BYTES, read_jobs, read_query, too_large
from safelight.server.job_api.routes import STREAM, Call, Reply, Route, Says, find_route, json_answer
from safelight.server.job_api.views import batch_view, job_view

DOCUMENT = "/openapi.json"
ROOMS = ("/jobs", "/batches", DOCUMENT)

_EVENT_HEADERS = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))

_log = structlog.get_logger("safelight.jobs")


def is_ours(raw_path: str) -> bool:
    """Whether a path belongs to the API; all others are the older server's."""
    return any(raw_path == room or raw_path.startswith(f"{room}/") for room in ROOMS)


def is_open(raw_path: str) -> bool:
    """Whether a path is served without a token."""
    return raw_path == DOCUMENT


class JobApi:
    """Serves the paths that are ours."""

    def __init__(self, queue: JobQueue, settings: JobSettings) -> None:
        self._queue = queue
        self._checker = Checker(settings)
        self._following = Following()
        self._routes = _routes(self)
        self._document = msgspec.json.encode(openapi(self._routes, needs_token=bool(settings.tokens)))

    async def answer(self, exchange: Exchange, read_body: ReadBody) -> Reply:
        """Serve a request. Raises: any SafelightError."""
        exchange.explain = problem_answer
        route, subject = find_route(self._routes, exchange.method, exchange.raw_path)
        query: Any = None if route.query is None else read_query(exchange.raw_query, route.query)
        return await route.serve(Call(exchange, read_body, subject, query))

    async def close(self) -> None:
        """End what runs beside the requests."""
        await self._following.close()

    # --- routes

    async def submit(self, call: Call) -> Answer:
        """Accept jobs, all or none; what a client is told is on the disk."""
        headers = call.exchange.headers
        if int(headers.get("content-length", "0")) > MAX_BODY_BYTES:
            raise too_large(f"more than {MAX_BODY_BYTES} bytes")
        body = await call.read_body()
        if body.size > MAX_BODY_BYTES:
            raise too_large(f"more than {MAX_BODY_BYTES} bytes")
        # Thousands of jobs take a while, and others want to be answered.
        orders, is_one = await asyncio.to_thread(self._orders, body, headers.get("content-type", ""))
        ids = await self._queue.submit(orders)
        _log.info("jobs accepted", count=len(ids), first=ids[0])
        if not is_one:
            return json_answer(Accepted(ids), HTTPStatus.ACCEPTED)
        view = job_view(await self._queue.get(ids[0]))
        return json_answer(view, HTTPStatus.ACCEPTED, (("Location", f"/jobs/{view.id}"),))

    async def find(self, call: Call) -> Answer:
        """List jobs, the latest first."""
        wanted: Listed = call.query
        try:
            page = await self._queue.find(_filter(wanted, wanted.state), wanted.limit, wanted.cursor)
        except BadCursor as error:
            raise malformed("query.cursor", error.message) from error
        return await asyncio.to_thread(_page_answer, page)  # a thousand jobs take 50 ms

    async def show(self, call: Call) -> Answer:
        """Show one job."""
        return json_answer(job_view(await self._get(call.subject)))

    async def cancel(self, call: Call) -> Answer:
        """Cancel one that waits or runs."""
        return json_answer(job_view(await self._queue.cancel(_job_id(call.subject))))

    async def retry(self, call: Call) -> Answer:
        """Let a dead one wait again."""
        job = await self._get(call.subject)
        if job.state is not State.DEAD:
            raise Refusal(HTTPStatus.CONFLICT, f"the job is {job.state}: only dead jobs can be retried")
        return json_answer(job_view(await self._queue.revive(job.id)))

    async def retry_all(self, call: Call) -> Answer:
        """Let all dead jobs of a filter wait again."""
        wanted = _filter(call.query, State.DEAD)
        retried, cursor = 0, None
        while True:
            page = await self._queue.find(wanted, MAX_PAGE, cursor)
            revived = await asyncio.gather(*(self._queue.revive(job.id) for job in page.jobs))
            retried += sum(job.state is not State.DEAD for job in revived)
            cursor = page.cursor
            if cursor is None:
                return json_answer(Retried(retried))

    async def show_batch(self, call: Call) -> Answer:
        """Count the jobs of one batch."""
        return json_answer(await self._batch(call.subject))

    async def follow(self, call: Call) -> Stream:
        """Tell what becomes of a job."""
        job_id = _job_id(call.subject)

        async def look() -> Sight:
            job = await self._queue.get(job_id)
            return Sight("job", job_view(job), job.ended_at is not None)

        return await self._stream(("job", job_id), look)

    async def follow_batch(self, call: Call) -> Stream:
        """Tell what becomes of a batch."""

        async def look() -> Sight:
            view = await self._batch(call.subject)
            return Sight("batch", view, view.ended)

        return await self._stream(("batch", call.subject), look)

    async def describe(self, _call: Call) -> Answer:
        """Show the document."""
        return Answer(MemoryBlob(self._document), "application/json", cache_control="no-cache")

    # --- their parts

    def _orders(self, body: Blob, content_type: str) -> tuple[list[Order], bool]:
        jobs, is_one = read_jobs(body.read(), content_type)
        return self._checker.orders(jobs), is_one

    async def _get(self, text: str) -> Job:
        return await self._queue.get(_job_id(text))

    async def _batch(self, name: str) -> BatchView:
        view = batch_view(name, await self._queue.counts(name))
        if not view.total:
            raise NotFound(f"no jobs are in a batch '{name}'")
        return view

    async def _stream(self, subject: tuple[str, str], look: Callable[[], Awaitable[Sight]]) -> Stream:
        return Stream(await self._following.follow(subject, look), STREAM, facts=_EVENT_HEADERS)


def _routes(api: JobApi) -> tuple[Route, ...]:
    accepted = Says("One job: its view, and where it is in `Location`. Several: `ids`.", (JobView, Accepted))
    job, ended = Says("The job", (JobView,)), Says("The job, which may have ended before", (JobView,))
    events = Says("An event `job` now and at each change, with the job as data", is_stream=True)
    counted = Says("The batch", (BatchView,))
    counts = Says("An event `batch` now and at each change, with the batch as data", is_stream=True)
    return (
        Route(
            "POST",
            "/jobs",
            "submitJobs",
            "Accept jobs, all or none",
            api.submit,
            {202: accepted},
            refuses=(400, 403, 413, 415),
            takes_jobs=True,
        ),
        Route(
            "GET",
            "/jobs",
            "listJobs",
            "List jobs, the latest first",
            api.find,
            {200: Says("A page", (JobPage,))},
            refuses=(400,),
            query=Listed,
        ),
        Route(
            "POST",
            "/jobs/retry",
            "retryJobs",
            "Let all dead jobs of a filter wait again",
            api.retry_all,
            {200: Says("How many", (Retried,))},
            refuses=(400,),
            query=Chosen,
        ),
        Route("GET", "/jobs/{id}", "getJob", "Show a job", api.show, {200: job}, refuses=(404,)),
        Route("DELETE", "/jobs/{id}", "cancelJob", "Cancel a job", api.cancel, {200: ended}, refuses=(404,)),
        Route(
            "POST",
            "/jobs/{id}/retry",
            "retryJob",
            "Let a dead job wait again",
            api.retry,
            {200: job},
            refuses=(404, 409),
        ),
        Route(
            "GET",
            "/jobs/{id}/events",
            "followJob",
            "Tell what becomes of a job, until it has ended",
            api.follow,
            {200: events},
            refuses=(404,),
        ),
        Route(
            "GET",
            "/batches/{name}",
            "getBatch",
            "Count the jobs of a batch",
            api.show_batch,
            {200: counted},
            refuses=(404,),
        ),
        Route(
            "GET",
            "/batches/{name}/events",
            "followBatch",
            "Tell what becomes of a batch, until it has ended",
            api.follow_batch,
            {200: counts},
            refuses=(404,),
        ),
        Route(
            "GET",
            DOCUMENT,
            "describe",
            "This document",
            api.describe,
            {200: Says("OpenAPI 3.1")},
            needs_token=False,
        ),
    )


def _page_answer(page: Page) -> Answer:
    return json_answer(JobPage([job_view(job) for job in page.jobs], page.cursor))


def _job_id(text: str) -> str:
    """Raises: NoSuchJob for what can be no id, without asking the database."""
    try:
        if str(UUID(text)) == text:
            return text
    except ValueError:
        pass
    raise NoSuchJob(text)


def _filter(wanted: Chosen, state: State | None) -> Filter:
    return Filter(state, wanted.batch, wanted.host, wanted.created_from, wanted.created_before)
