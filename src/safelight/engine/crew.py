"""The processes of a pool: hired from the template, replaced when they go, explained when they die."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from safelight.engine import inquest, orders, wire
from safelight.engine.inquest import Verdict
from safelight.engine.launcher import Template
from safelight.engine.member import Job, Member
from safelight.errors import Busy, ImageError

log = structlog.get_logger("safelight.engine")

HELLO_TIMEOUT_S = 30
QUICK_RESPAWNS = 3
MAX_BACKOFF_S = 5


class Crew:
    """`size` places, each with a process or waiting for the next one.

    `idle`: processes without a job; who takes one out gives it a job, and puts it back afterwards.
    `restarts`: processes replaced, by reason. `missing`: what the jail lacks here, empty if nothing.
    """

    def __init__(
        self,
        boot: orders.Boot,
        *,
        size: int,
        on_idle: Callable[[], None],
        on_message: Callable[[Member, memoryview], None],
        on_death: Callable[[Job, Verdict], None],
    ) -> None:
        """`on_idle`: `idle` has grown. `on_message` may raise ProtocolError. `on_death`: a job was hit."""
        self.members: set[Member] = set()
        self.idle: list[Member] = []
        self._leaving: set[Member] = set()
        self.restarts: Counter[str] = Counter()
        self.missing: tuple[str, ...] = ()
        self._boot = boot
        self._size = size
        self._on_idle = on_idle
        self._on_message = on_message
        self._on_death = on_death
        self._template: Template | None = None
        self._template_lock = asyncio.Lock()
        self._template_failures = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._buffer = bytearray(wire.MAX_REPLY_BYTES)
        self._oom_kills = inquest.count_oom_kills()

    async def start(self) -> None:
        """Fill every place. Raises: ImageError, with nothing left behind."""
        try:
            results = await asyncio.gather(*(self._hire() for _ in range(self._size)), return_exceptions=True)
            hired = [_or_raise(result) for result in results]
        except BaseException as error:
            await self.close()
            if isinstance(error, ImageError):
                log.error("image workers cannot start", detail=error.detail)
            raise
        if self.missing:
            log.warning("image workers are jailed less tightly", missing=self.missing)
        for member in hired:
            self._spawn(self._keep_filled(member))
            self.idle.append(member)

    async def close(self) -> None:
        """End and reap every process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for member in [*self.members, *self._leaving]:
            if member.job:
                member.job.fail(Busy("server is shutting down"))
            self._withdraw(member)
            self._bury(member)
        if self._template:
            await self._template.close()

    def dismiss(self, member: Member, reason: str, cause: str = "") -> None:
        """End a process at once and replace it; if it has a job, that is answered already."""
        self._withdraw(member)
        member.kill()
        self.restarts[reason] += 1
        if member.job is None and not cause:
            self._bury(member)
            log.info("image worker recycled", reason=reason, pid=member.forked.pid, served=member.served)
        else:
            self._spawn(self._record(member, Verdict(reason, "killed by us", cause, None)))

    # Filling places

    async def _keep_filled(self, member: Member | None) -> None:
        failures = 0
        while True:
            if member is not None:
                await member.gone
                # No back-off after a death at work: a flood of deadly images would close the pool to all.
                failures = 0 if member.given else failures + 1
            await asyncio.sleep(_backoff_s(failures))
            try:
                member = await self._hire()
            except ImageError as error:
                self.restarts["boot"] += 1
                failures += 1
                log.error("image worker cannot start", detail=error.detail)
                member = None
                continue
            self.idle.append(member)
            self._on_idle()

    async def _hire(self) -> Member:
        """A new process that has said hello. Raises: ImageError."""
        try:
            member = await Member.hire(await self._live_template(), self._boot.arena_bytes)
        except OSError as error:
            raise ImageError("image workers cannot start", detail=str(error)) from error
        self.members.add(member)
        member.listen(self._on_readable)
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):  # not wait_for, which may swallow our end in `close`
                hello = await asyncio.shield(member.hello)
            if hello.failure is not None:
                raise ImageError("image workers cannot start", detail=hello.failure)
        except (TimeoutError, ImageError) as error:
            self._withdraw(member)
            self._bury(member)
            detail = error.detail if isinstance(error, ImageError) else "no sign of life"
            raise ImageError("image workers cannot start", detail=detail) from error
        self.missing = tuple(hello.missing)
        return member

    async def _live_template(self) -> Template:
        """The template, started again if it has died. Raises: ImageError."""
        async with self._template_lock:
            if self._template and self._template.is_alive:
                return self._template
            if self._template:
                await self._template.close()
                await asyncio.sleep(_backoff_s(self._template_failures))
            self._template_failures += 1
            self._template = Template(self._boot, self._on_template_death)
            await self._template.start()
            self._template_failures = 0
            return self._template

    def _on_template_death(self, last_words: str) -> None:
        """All its workers die with it: give none of them a job any more."""
        log.error("template of the image workers died", last_words=last_words)
        for member in list(self.members):
            self._lose(member)

    def _withdraw(self, member: Member) -> None:
        """Expect no more work and no more words of this process."""
        member.hang_up()
        self.members.discard(member)
        self._leaving.add(member)
        if member in self.idle:
            self.idle.remove(member)
        if not member.gone.done():
            member.gone.set_result(None)

    def _bury(self, member: Member) -> None:
        """Nothing more is to be learnt from it."""
        self._leaving.discard(member)
        member.kill()
        member.close()

    # Listening

    def _on_readable(self, member: Member) -> None:
        try:
            message = member.receive(self._buffer)
            if message is None:
                return
            if not message:
                self._lose(member)
            elif not member.hello.done():
                member.hello.set_result(wire.decode_hello(message))
            else:
                self._on_message(member, message)
        except wire.ProtocolError as error:
            if member.job:
                member.job.fail(ImageError("image processing failed", detail=str(error)))
            self.dismiss(member, "protocol", str(error))

    def _lose(self, member: Member) -> None:
        """It has hung up: it is dead or dying, and nobody has killed it on purpose."""
        self._withdraw(member)
        if member.job:
            member.job.stop_timer()
        if member.hello.done():
            self._spawn(self._mourn(member))
        else:
            words = member.complaints.last_words() or "died before its first word"
            member.hello.set_exception(ImageError("image workers cannot start", detail=words))

    async def _mourn(self, member: Member) -> None:
        """Explain a death to the request that it hit, then to the log."""
        verdict = await inquest.examine(member, self._oom_kills)
        self._oom_kills = inquest.count_oom_kills()
        self.restarts[verdict.reason] += 1
        if member.job:
            self._on_death(member.job, verdict)
        await self._record(member, verdict)

    async def _record(self, member: Member, verdict: Verdict) -> None:
        log.warning(
            "image worker died",
            reason=verdict.reason,
            how=verdict.how,
            pid=member.forked.pid,
            served=member.served,
            phase=member.arena.phase,
            input_sha256=await inquest.digest(member),
            input_bytes=member.job and member.job.image.size,
            last_words=verdict.last_words,
        )
        self._bury(member)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _backoff_s(failures: int) -> float:
    """None for the first few in a row, then doubling."""
    return (
        0 if failures < QUICK_RESPAWNS else min(MAX_BACKOFF_S, 0.05 * 2 ** min(failures - QUICK_RESPAWNS, 10))
    )


def _or_raise(result: Member | BaseException) -> Member:
    if isinstance(result, BaseException):
        raise result
    return result
