"""The engine of production: jailed image workers, one job each, fed from one bounded line.

There is one process more than `workers`, and ordinary jobs never occupy more than `workers` of them. So an
urgent job (a health check) finds a free process although everything else hangs, and when a worker dies the
spare one takes its place while the next is forked. Idle processes are taken last in, first out, so the spare
one is usually never touched and shares nearly all of its memory with the template.

Ordinary jobs share a bounded amount of memory, see `memory.Grants`. Only a worker knows what a job takes,
once it has read the header; before it decodes, it compares that with what came along with the job. If that is
too little, it answers so, and the job goes back to the front of the line until there is enough. So nobody
waits while holding something, the server parses no image, and a job within its share costs no more messages.
"""

import asyncio
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from safelight.blob import Blob
from safelight.engine import notes, orders, wire
from safelight.engine.crew import Crew
from safelight.engine.handling import DEFAULT_HANDLER
from safelight.engine.inquest import Verdict
from safelight.engine.member import Job, Kind, Member
from safelight.engine.memory import Grants, default_limit_bytes
from safelight.engine.queue import PATIENCE, WaitingLine
from safelight.errors import Busy, ImageError, MemoryLimitExceeded, Timeout, TooLarge
from safelight.image.cost import BASE_BYTES
from safelight.image.result import ImageInfo, Thumbnails
from safelight.image.settings import MEBIBYTE, ImageSettings
from safelight.image.spec import ThumbnailSpec
from safelight.timing import spent

MAX_ATTEMPTS = 2
IDLE_ADDRESS_SPACE_BYTES = 384 * MEBIBYTE
"""Program and libraries of a worker: 320 MiB, measured."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of a pool.

    `transform_timeout_s`: seconds for one job from when a worker has it.
    `abandoned_timeout_s`: seconds that remain to a running job whose client has gone.
    `max_waiting`, `max_wait_s`: jobs in line, and predicted seconds in line, past which a new job is refused.
    `memory_bytes`: largest input, and largest sum of outputs, of one job.
    `total_memory_bytes`: what all jobs in flight may take together, as far as it can be predicted; None: half
    of what the machine or its control group has.
    `address_space_bytes`: what a worker may map, besides that.
    `recycle_rss_bytes`, `recycle_requests`: a worker with more private memory, or after so many jobs (and up
    to a tenth more, so that they do not all go at once), is replaced between jobs.
    """

    transform_timeout_s: float = 20
    abandoned_timeout_s: float = 1
    max_waiting: int = 256
    max_wait_s: float = 5
    memory_bytes: int = 128 * MEBIBYTE
    total_memory_bytes: int | None = None
    address_space_bytes: int = 1024 * MEBIBYTE
    recycle_rss_bytes: int = 256 * MEBIBYTE
    recycle_requests: int = 5_000


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A pool at this moment, and what it has counted since it was started.

    `workers`: live processes, the spare one included. `restarts`: processes replaced, by reason: crash,
    memory, timeout, abandoned, protocol, template, rss, count, boot. `missing`: what this kernel or this user
    denies to the jail; empty when it is complete. `admitted_bytes`: memory granted to the jobs in flight, of
    `memory_limit_bytes`.
    """

    workers: int
    busy: int
    waiting: int
    requests: int
    restarts: Mapping[str, int]
    missing: Sequence[str]
    admitted_bytes: int
    memory_limit_bytes: int


class PoolEngine:
    """An `Engine` on `workers` processes (default: one per core) and a spare one."""

    def __init__(
        self,
        settings: ImageSettings,
        *,
        workers: int | None = None,
        limits: PoolLimits | None = None,
        handler: str = DEFAULT_HANDLER,
    ) -> None:
        self._workers = workers or len(os.sched_getaffinity(0))
        self._limits = limits or PoolLimits()
        total_bytes = self._limits.total_memory_bytes
        self._grants = Grants(default_limit_bytes() if total_bytes is None else total_bytes, self._workers)
        memory_bytes = self._limits.memory_bytes
        # Should a prediction be wrong, the request fails before the machine does.
        address_space_bytes = memory_bytes + min(
            self._limits.address_space_bytes, IDLE_ADDRESS_SPACE_BYTES + self._grants.limit_bytes
        )
        boot = orders.Boot(handler, settings, memory_bytes, address_space_bytes)
        self._crew = Crew(
            boot,
            size=self._workers + 1,
            on_idle=self._dispatch,
            on_message=self._deliver,
            on_death=self._answer_for_the_dead,
        )
        self._line = WaitingLine[Job](
            workers=self._workers, max_waiting=self._limits.max_waiting, max_wait_s=self._limits.max_wait_s
        )
        self._numbers = itertools.count(1)
        self._requests = 0
        self._is_running = False

    # The engine protocol

    async def start(self) -> None:
        """Start all processes and wait until they are warm. Call it on the main thread.

        The kernel ends the template when the thread that started it ends. Raises: ImageError.
        """
        self._loop = asyncio.get_running_loop()
        await self._crew.start()
        self._is_running = True

    async def thumbnail(
        self, image: Blob, specs: Sequence[ThumbnailSpec], *, urgent: bool = False
    ) -> Thumbnails:
        """As `Engine.thumbnail`."""
        answer = await self._submit("thumbnail", image, specs, urgent)
        assert isinstance(answer, Thumbnails)  # noqa: S101 (see `_read`)
        return answer

    async def identify(self, image: Blob) -> ImageInfo:
        """As `Engine.identify`."""
        answer = await self._submit("identify", image, (), False)
        assert isinstance(answer, ImageInfo)  # noqa: S101 (see `_read`)
        return answer

    async def close(self) -> None:
        """Refuse what waits and what runs, end and reap every process."""
        self._is_running = False
        for job in self._line.clear():
            job.fail(Busy("server is shutting down"))
        await self._crew.close()

    def status(self) -> PoolStatus:
        """Numbers for the statistics and the health page."""
        return PoolStatus(
            workers=sum(member.hello.done() for member in self._crew.members),
            busy=sum(member.job is not None for member in self._crew.members),
            waiting=len(self._line),
            requests=self._requests,
            restarts=dict(self._crew.restarts),
            missing=self._crew.missing,
            admitted_bytes=sum(self._granted_bytes()),
            memory_limit_bytes=self._grants.limit_bytes,
        )

    # One job

    async def _submit(
        self, kind: Kind, image: Blob, specs: Sequence[ThumbnailSpec], urgent: bool
    ) -> Thumbnails | ImageInfo:
        if not self._is_running:
            raise ImageError("engine is not running")
        self._requests += 1
        if image.size > self._limits.memory_bytes:
            raise MemoryLimitExceeded
        if _least_bytes(kind, image.size) > self._grants.limit_bytes:
            raise self._beyond_limit(_least_bytes(kind, image.size))
        number = next(self._numbers)
        message = wire.encode_request(number, kind, image.size, specs)
        joined, answer = self._loop.time(), self._loop.create_future()
        job = Job(number, kind, image, message, len(specs), urgent, joined, answer)
        if self._crew.idle and self._line.first() is None and self._admit(job):
            self._give(self._crew.idle.pop(), job)
        else:
            self._line.join(number, job, urgent=urgent)
            self._set_patience(job)
            self._dispatch()
        try:
            return await job.answer
        except asyncio.CancelledError:
            self._abandon(job)
            raise
        finally:
            waited_s = perf_counter() - job.asked if job.waited_s is None else job.waited_s
            spent("waiting for an image worker", job.asked, waited_s)

    def _admit(self, job: Job) -> bool:
        """May this job start, if a process is idle? Then it is granted memory."""
        least_bytes = _least_bytes(job.kind, job.image.size)
        if job.urgent:  # tiny, and needed most when there is no memory left
            job.granted_bytes = self._grants.limit_bytes
            return True
        grants = self._granted_bytes()
        if len(grants) >= self._workers:
            return False
        needed_bytes = least_bytes if job.kind == "identify" else job.needed_bytes
        granted_bytes = self._grants.offer(sum(grants), least_bytes, needed_bytes)
        if granted_bytes is None:
            return False
        job.granted_bytes = granted_bytes
        return True

    def _granted_bytes(self) -> list[int]:
        """What the ordinary jobs that workers have may take."""
        jobs = [member.job for member in self._crew.members if member.job is not None]
        return [job.granted_bytes for job in jobs if not job.urgent]

    def _dispatch(self) -> None:
        """Start jobs in turn while there are idle processes and what the next one needs."""
        while self._crew.idle and (job := self._line.first()) is not None and self._admit(job):
            self._give(self._crew.idle.pop(), self._line.take())

    def _return_to_line(self, job: Job) -> None:
        """It has had its turn in vain."""
        job.stop_timer()
        job.started = 0
        self._line.join_in_front(job.number, job, urgent=job.urgent)
        self._set_patience(job)

    def _set_patience(self, job: Job) -> None:
        job.timer = self._loop.call_at(job.joined + PATIENCE * self._limits.max_wait_s, self._give_up, job)

    def _give(self, member: Member, job: Job) -> None:
        job.stop_timer()
        try:
            member.give(job)
        except (BrokenPipeError, ConnectionResetError):  # it has died idle; its end of file is on the way
            self._return_to_line(job)
            self._dispatch()
            return
        except (OSError, ValueError) as error:  # the file is closed already, or cannot be read
            self._crew.idle.append(member)
            job.fail(ImageError("image cannot be read", detail=str(error)))
            return
        job.attempts += 1
        job.waited_s = perf_counter() - job.asked  # the time of the loop is too coarse to be told
        job.started = self._loop.time()
        job.deadline = job.started + self._limits.transform_timeout_s
        job.timer = self._loop.call_at(job.deadline, self._expire, member, job)

    def _abandon(self, job: Job) -> None:
        """The client has gone: give the place in line free; let a running job end, but soon.

        Most end within milliseconds, cheaper than a new process. The answer reaches nobody: the worker keeps
        the job, and counts as busy, until it has answered under the job's number or is killed.
        """
        self._line.leave(job.number)
        was_waiting = job.started == 0
        job.stop_timer()
        member = next((member for member in self._crew.members if member.job is job), None)
        if was_waiting or member is None:
            self._dispatch()  # it may have been the one whose memory the next ones have waited for
            return
        soon = self._loop.time() + self._limits.abandoned_timeout_s
        job.timer = self._loop.call_at(min(soon, job.deadline), self._expire, member, job)

    def _give_up(self, job: Job) -> None:
        """The prediction was too good: somebody has waited too long. The next may need less."""
        self._line.leave(job.number)
        job.fail(self._line.refusal())
        self._dispatch()

    def _expire(self, member: Member, job: Job) -> None:
        """The deadline of a running job: answer, kill, replace."""
        reason = "abandoned" if job.answer.cancelled() else "timeout"
        job.fail(Timeout("image processing took too long"))
        self._note_service(job)
        self._crew.dismiss(member, reason)
        self._dispatch()

    def _answer_for_the_dead(self, job: Job, verdict: Verdict) -> None:
        """A worker has died with this job; the spare one takes its place."""
        self._note_service(job)
        if verdict.error is not None:
            job.fail(verdict.error)
        elif job.attempts >= MAX_ATTEMPTS or not self._is_running:
            job.fail(ImageError("image processing failed", detail=verdict.how))
        elif not job.answer.done():
            self._return_to_line(job)
        self._dispatch()

    # One answer

    def _deliver(self, member: Member, message: memoryview) -> None:
        """Take a reply. Raises: ProtocolError, if it is not one to the job that this worker has."""
        reply = wire.decode_reply(message)
        job = member.job
        if job is None or reply.number != job.number:
            raise wire.ProtocolError("answer to a request that it does not have")
        if job.answer.done():
            job.stop_timer()
        elif reply.failure is not None:
            job.fail(reply.failure.error())
        elif reply.needed_bytes is not None:
            self._reconsider(job, reply.needed_bytes)
            self._release(member, reply)
            return
        else:
            answer = _read(job, reply, member.arena.body)
            notes.report(wire.warnings(reply))
            job.stop_timer()
            job.answer.set_result(answer)
        self._note_service(job)
        self._release(member, reply)

    def _reconsider(self, job: Job, needed_bytes: int) -> None:
        """A worker has read the header and wants more memory. Raises: ProtocolError if it has that much."""
        if job.kind != "thumbnail" or needed_bytes <= job.granted_bytes or job.needed_bytes is not None:
            raise wire.ProtocolError("wants memory that it has been granted")
        if needed_bytes > self._grants.limit_bytes:
            job.fail(self._beyond_limit(needed_bytes))
        else:
            job.needed_bytes = needed_bytes
            self._return_to_line(job)

    def _beyond_limit(self, needed_bytes: int) -> TooLarge:
        needed, limit = -(-needed_bytes // MEBIBYTE), self._grants.limit_bytes // MEBIBYTE
        return TooLarge(
            f"image too large: it takes {needed} MiB of memory to process, {limit} MiB are allowed"
        )

    def _release(self, member: Member, reply: wire.Reply) -> None:
        """A job is done: recycle the process or give it the next one."""
        member.job = None
        member.served += 1
        member.arena.touched(wire.output_bytes(reply))
        member.arena.shrink()
        reason = self._reason_to_recycle(member, reply)
        if reason is None:
            self._crew.idle.append(member)
        else:
            self._crew.dismiss(member, reason)
        self._dispatch()

    def _reason_to_recycle(self, member: Member, reply: wire.Reply) -> str | None:
        if reply.rss_bytes > self._limits.recycle_rss_bytes:
            return "rss"
        limit = self._limits.recycle_requests * member.stamina
        return "count" if member.served >= limit else None

    def _note_service(self, job: Job) -> None:
        if not job.urgent:
            self._line.served(self._loop.time() - job.started)
            for hopeless in self._line.take_hopeless():
                hopeless.fail(self._line.refusal())


def _least_bytes(kind: Kind, input_bytes: int) -> int:
    """Without so much memory no worker can even look at an input; some decoders copy it for its header."""
    return BASE_BYTES + (2 if kind == "identify" else 1) * input_bytes


def _read(job: Job, reply: wire.Reply, arena: memoryview) -> Thumbnails | ImageInfo:
    """Raises: ProtocolError."""
    if job.kind == "thumbnail":
        return wire.thumbnails(reply, job.outputs, arena)
    return wire.info(reply)
