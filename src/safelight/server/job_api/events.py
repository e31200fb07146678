"""Server-sent events: what is followed is looked at in rounds, and told to its followers when it changes.

The queue is asked, because jobs are also done by other processes and on other machines. However many follow,
rounds take about a tenth of the time.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

import msgspec
import structlog
from msgspec import Struct

from safelight.errors import NotFound, SafelightError

ROUND_S = 0.25
PAUSE_PER_ROUND = 9
KEEP_ALIVE_S = 15.0
COMMENT = b":\n\n"

_log = structlog.get_logger("safelight.jobs")


class Sight(NamedTuple):
    """What was seen of a job or a batch. `has_ended`: nothing more will happen to it."""

    event: str
    view: Struct
    has_ended: bool

    def written(self) -> bytes:
        """As an event (WHATWG HTML, section 9.2.5); JSON has no line ends."""
        return b"event: %s\ndata: %s\n\n" % (self.event.encode(), msgspec.json.encode(self.view))


Look = Callable[[], Awaitable[Sight]]
"""Raises: NotFound when it is gone; StorageError."""


class _Subject:
    """Something that is followed."""

    def __init__(self, look: Look, seen: Sight) -> None:
        self.look = look
        self.seen: Sight | None = seen
        self.followers = 0
        self._changed = asyncio.Event()

    async def look_again(self) -> None:
        """Look, and wake the followers if there is something new."""
        try:
            self.note(await self.look())
        except NotFound:
            self.note(None)

    def note(self, sight: Sight | None) -> None:
        """This was seen just now; None: it is gone."""
        if sight != self.seen:
            self.seen = sight
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    async def change(self) -> None:
        """Wait for one."""
        await self._changed.wait()


class Following:
    """Everything that is followed in this process."""

    def __init__(self) -> None:
        self._subjects: dict[tuple[str, str], _Subject] = {}
        self._looking: asyncio.Task[None] | None = None

    async def follow(self, subject: tuple[str, str], look: Look) -> AsyncGenerator[bytes]:
        """The events of one subject: the present state, every change, and a comment now and then.

        They end with the event in which it has ended. Nothing is followed before the first one is asked for.
        Raises: what `look` raises.
        """
        return self._events(subject, look, await look())

    async def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    async def _events(self, key: tuple[str, str], look: Look, sight: Sight) -> AsyncGenerator[bytes]:
        subject = self._enter(key, look, sight)
        told: Sight | None = None
        try:
            while subject.seen is not None:
                if subject.seen == told:
                    yield COMMENT
                else:
                    told = subject.seen
                    yield told.written()
                    if told.has_ended:
                        return
                if subject.seen == told:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(KEEP_ALIVE_S):
                            await subject.change()
        finally:
            self._leave(key, subject)

    def _enter(self, key: tuple[str, str], look: Look, sight: Sight) -> _Subject:
        subject = self._subjects.setdefault(key, _Subject(look, sight))
        subject.note(sight)
        subject.followers += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_around())
        return subject

    def _leave(self, key: tuple[str, str], subject: _Subject) -> None:
        subject.followers -= 1
        if not subject.followers:
            del self._subjects[key]

    async def _look_around(self) -> None:
        """In rounds, as long as anybody follows anything."""
        clock = asyncio.get_running_loop().time
        while self._subjects:
            began = clock()
            for subject in list(self._subjects.values()):
                try:
                    await subject.look_again()
                except SafelightError as error:
                    _log.error("jobs cannot be followed", reason=error.message, detail=error.detail)
                    break
            await asyncio.sleep(max(ROUND_S, PAUSE_PER_ROUND * (clock() - began)))
