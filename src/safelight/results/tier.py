"""Answers that several machines share, as objects of one bucket.

An object is what a file of `results.entry` is, `answers/<name>`. Beside them lie marks, `purged/<slot>`: who
drops answers on all machines writes the mark of a slot anew, with random content, so its version changes.
Nothing here compares times: machines may disagree about them. Answers may vanish at any time, marks may not:
without its mark, an answer that was dropped would hold again.
"""

import asyncio
import secrets
from collections.abc import Callable, Collection, Iterable
from contextvars import Context

import structlog

from safelight.blob import Blob, MemoryBlob
from safelight.errors import (
    MemoryLimitExceeded,
    NotFound,
    SafelightError,
    StorageError,
    StorageUnreachable,
)
from safelight.results.circuit import Circuit, Unavailable
from safelight.results.entry import Damaged, Entry, unpacked
from safelight.storage.base import Storage

MAX_BYTES = 32 << 20
"""Larger answers stay on their machine."""

ASK_S = 2.0
"""Longest that a request waits for an object or a mark."""

PURGE_S = 10.0
"""Longest that writing a mark may take: who purges waits for it."""

ANSWERS, MARKS = "answers/", "purged/"
"""How the keys of objects begin."""

_ANSWERS_THAT_FAIL = 3
"""So many one after the other, and no more are fetched for a while: each would hold up its request."""

_PUT_S = 60.0
_PUTS_AT_ONCE = 4
_MAX_WAITING = 256
"""Puts under way, or waiting for their turn, of one process; more answers than that are not shared."""

_ONLY_HERE = "dropped on this machine, but other machines may not know"
_TYPE = "application/octet-stream"
_log = structlog.get_logger("safelight.results")


class Tier:
    """The bucket, or a part of it, behind `storage`. `name`: in the log. It belongs to one event loop."""

    def __init__(self, storage: Storage, name: str) -> None:
        self.name = name
        self._storage = storage
        self._asking = Circuit(f"{name}{MARKS}")
        self._fetching = Circuit(f"{name}{ANSWERS}", needed=_ANSWERS_THAT_FAIL)
        self._putting = Circuit(f"{name}, for writing")
        self._turns = asyncio.Semaphore(_PUTS_AT_ONCE)
        self._puts: set[asyncio.Task[None]] = set()

    async def entry(self, name: str) -> Entry | None:
        """The answer under `name`, whether it holds or not; None also for what is damaged, foreign or slow.

        One that is slow says nothing about others, and none says anything about marks.
        """
        if self._asking.is_paused:
            return None
        try:
            stored = await self._fetching.call(lambda: self._storage.get(_key(name), MAX_BYTES), ASK_S, name)
            return unpacked(stored.data, name)
        except (NotFound, Unavailable):
            return None
        except (Damaged, MemoryLimitExceeded, OSError) as error:
            _log.warning(
                "result cache: cannot use an object", object=f"{self.name}{_key(name)}", reason=str(error)
            )
            return None

    async def mark(self, slot: int) -> str:
        """The version of the mark of `slot`; empty when nothing with this slot was ever dropped.

        Raises: Unavailable.
        """
        return await self._asking.call(lambda: self._mark(slot), ASK_S)

    async def purge(self, slot: int) -> None:
        """Make invalid, for all machines, what depends on `slot`; within `PURGE_S` seconds.

        Raises: StorageError, Busy, Timeout.
        """
        mark = MemoryBlob(secrets.token_hex(16).encode())
        try:
            async with asyncio.timeout(PURGE_S):
                await self._storage.put(_mark_key(slot), mark, "text/plain")
        except TimeoutError as error:
            message = f"'{self.name}' cannot be reached within {PURGE_S:.0f} seconds"
            raise StorageUnreachable(message) from error

    def offer(self, name: str, content: Callable[[], Blob | None]) -> None:
        """Put, behind the requests, what `content` returns when its turn comes."""
        if len(self._puts) < _MAX_WAITING:
            task = asyncio.create_task(self._put(name, content), context=Context())
            self._puts.add(task)
            task.add_done_callback(self._puts.discard)

    async def close(self) -> None:
        """Give up what is being put. An object is there as a whole or not at all."""
        puts = list(self._puts)
        for task in puts:
            task.cancel()
        await asyncio.gather(*puts, return_exceptions=True)

    async def _mark(self, slot: int) -> str:
        version = await self._storage.version(_mark_key(slot))
        if version == "":
            raise StorageError("the object store tells no ETag, by which marks of purges are known")
        return version or ""

    async def _put(self, name: str, content: Callable[[], Blob | None]) -> None:
        async with self._turns:
            try:
                data = content()
                if data is not None and data.size <= MAX_BYTES:
                    await self._putting.call(lambda: self._storage.put(_key(name), data, _TYPE), _PUT_S)
            except Unavailable:
                return
            except Exception as error:
                _log.error("result cache: an answer could not be shared", exc_info=error)


class Marks:
    """The marks of a tier, each as it was when it was noted first."""

    def __init__(self, tier: Tier) -> None:
        self.known: dict[int, str] = {}
        self._tier = tier

    async def note(self, slots: Iterable[int]) -> None:
        """Ask for those of `slots` that are not known, all at the same time. Raises: Unavailable."""
        missing = [slot for slot in dict.fromkeys(slots) if slot not in self.known]
        found = await asyncio.gather(*map(self._tier.mark, missing))
        self.known.update(zip(missing, found, strict=True))


async def purge_all(tiers: Iterable[Tier], slots: Collection[int]) -> None:
    """Make invalid, for all machines, what depends on `slots`. All of `tiers` are tried, at the same time.

    Raises: StorageUnreachable saying that other machines may not know.
    """
    outcomes = await asyncio.gather(*(_purge(tier, slots) for tier in tiers), return_exceptions=True)
    failures = [outcome for outcome in outcomes if outcome is not None]
    if not failures:
        return
    expected = [failure for failure in failures if isinstance(failure, SafelightError)]
    if len(expected) < len(failures):
        raise next(failure for failure in failures if failure not in expected)
    message = f"{_ONLY_HERE}: {'; '.join(failure.message for failure in expected)}"
    detail = "; ".join(failure.detail for failure in expected if failure.detail)
    raise StorageUnreachable(message, detail=detail or None) from expected[0]


async def _purge(tier: Tier, slots: Collection[int]) -> None:
    """Given up at the first failure, or it would take as long again for each slot."""
    for slot in slots:
        await tier.purge(slot)


def _key(name: str) -> str:
    return f"{ANSWERS}{name}"


def _mark_key(slot: int) -> str:
    return f"{MARKS}{slot}"
