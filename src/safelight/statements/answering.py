"""Answering from a result cache: what was kept, what is made and kept, and what serves although it is old."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic, time
from typing import Any

import structlog

from safelight.errors import BadRequest, SafelightError, SetupError, StorageError, Timeout, is_passing
from safelight.model import Answer, Compute, Counters, RequestState, Standing
from safelight.results.entry import Entry, Head, checksum
from safelight.results.epochs import ALL, tag_slots, url_slot
from safelight.results.memory import Key
from safelight.results.reading import Reading
from safelight.results.shared import Shared
from safelight.results.shelf import Shelf, name_of
from safelight.statements.fingerprint import Fingerprint
from safelight.statements.kept import Freshness, age_of, fit_to_keep, forwarded, hit, may_be_kept, shown_again
from safelight.storage.flight import SingleFlight
from safelight.template import Template
from safelight.timing import current_account
from safelight.uri import decode

PAUSE_AFTER_FAILURE_S = 5.0
"""How long old answers are served without another attempt to make a new one."""

RENEWAL_S = 60.0
"""Longest that renewing an answer behind a request may take."""

_PATIENCE = 0.9
"""For which part of its time a request waits for a new answer, where an old one may serve instead."""

_MAX_FAILURES = 1024
_log = structlog.get_logger("safelight.results")


class KeptAnswers:
    """The `AnswerCache` of one endpoint: its answers lie on `shelf`.

    `tags`: comma-separated names by which answers can be dropped. `shared`: what other machines know of them.
    `request_timeout_s`: how long a request may take, if there is a limit.
    """

    def __init__(
        self,
        shelf: Shelf,
        fingerprint: Fingerprint,
        freshness: Freshness,
        key: Template | None,
        tags: Template | None,
        counters: Counters,
        shared: Shared | None = None,
        request_timeout_s: float | None = None,
    ) -> None:
        self._shelf = shelf
        self._fingerprint = fingerprint
        self._freshness = freshness
        self._key = key
        self._tags = tags
        self._count = counters.add
        self._shared = shared
        self._patience_s = None if request_timeout_s is None else _PATIENCE * request_timeout_s
        self._flights = SingleFlight[Key, _Made]()
        self._readings: dict[Key, Reading] = {}
        self._renewals: dict[Key, asyncio.Task[None]] = {}
        self._failures: dict[Key, _Failure] = {}

    async def answer(self, state: RequestState, compute: Compute) -> Answer:
        """See `AnswerCache`. Raises: what `compute` raises, unless an old answer may be served instead."""
        key = self._fingerprint.key(state)
        if self._key is not None:
            key = (*key, self._key.render(state.variables.lookup))
        url, now, began_s = url_slot(_path(state)), time(), monotonic()
        freshness = self._freshness
        try:
            entry = await self._kept(key, url, now)
            if entry is None:
                return await self._new(key, url, state, compute, "miss")
            age_s = age_of(entry, now)
            if age_s <= freshness.max_age_s:
                self._note("hit", "total_result_cache_hits")
                return self.shown(entry, age_s, _Standing(self, key, url))
            if age_s <= freshness.max_age_s + freshness.while_revalidate_s:
                self._renew_behind(key, url, state, compute)
                return self._old(entry, age_s, "REVALIDATING")
            if age_s > freshness.max_age_s + freshness.if_error_s:
                return await self._new(key, url, state, compute, "stale")
            return await self._new_or_old(key, url, state, compute, entry, began_s)
        except BaseException:
            self._note("miss", "total_result_cache_misses")
            raise

    async def close(self) -> None:
        """Give up what is being renewed or shared."""
        renewals = list(self._renewals.values())
        for task in renewals:
            task.cancel()
        await asyncio.gather(*renewals, return_exceptions=True)
        if self._shared is not None:
            await self._shared.close()

    def fresh_at_hand(self, key: Key, url: int) -> tuple[Entry, float] | None:
        """An answer in memory that may be served, and its age in seconds."""
        entry = self._shelf.at_hand(key, url)
        if entry is None or (self._shared is not None and not self._shared.trusts(entry.head, url)):
            return None
        now = time()
        age_s = age_of(entry, now)
        return (entry, age_s) if age_s <= self._freshness.max_age_s and not _is_spent(entry, now) else None

    def shown(self, entry: Entry, age_s: float, standing: Standing | None = None) -> Answer:
        """A fresh `entry` as an answer."""
        return hit(entry, age_s, self._freshness.ttl(age_s), standing)

    def _old(self, entry: Entry, age_s: float, reason: str) -> Answer:
        self._note("stale", "total_result_cache_stale")
        return hit(entry, age_s, f"{self._freshness.ttl(age_s)}; detail={reason}")

    async def _new_or_old(
        self, key: Key, url: int, state: RequestState, compute: Compute, entry: Entry, began_s: float
    ) -> Answer:
        """A new answer, or `entry` where making one fails or has just failed, or takes too long.

        `began_s`: when the request did, by `monotonic`.
        """
        failure = self._late_failure(key)
        if failure is None or not failure.is_passing:
            try:
                return await self._in_time(self._new(key, url, state, compute, "stale"), key, began_s)
            except SafelightError as error:
                # an answer that was dropped is never served
                if not is_passing(error) or not self._shelf.is_valid(entry, url):
                    raise
                _log.warning("result cache: serving an old answer", reason=error.message)
        return self._old(entry, age_of(entry, time()), "ERROR")

    async def _new(self, key: Key, url: int, state: RequestState, compute: Compute, why: str) -> Answer:
        """What is made now, or by somebody who has begun already."""
        reading = self._readings.get(key)
        if reading is not None and self._is_overtaken(reading, url):
            del self._readings[key]
            self._flights.leave(key)  # a change came in between; who asks after it must see it
        made = await self._flights.join(key, partial(self._fly, key, url, state, compute))
        if made.shared is not None:
            self._note("shared", "total_result_cache_shared")
            age_s = age_of(made.shared, time())
            return hit(made.shared, age_s, f"{self._freshness.ttl(age_s)}; detail=SHARED")
        self._note("miss", "total_result_cache_misses")
        shown = "; collapsed" if made.by is not state else "; stored" if made.is_kept else ""
        return forwarded(made.answer, f"{why}{shown}")

    async def _in_time(self, making: Coroutine[Any, Any, Answer], key: Key, began_s: float) -> Answer:
        """What comes of `making` while the request has time left. Raises: Timeout; what `making` raises."""
        left_s = None if self._patience_s is None else self._patience_s - (monotonic() - began_s)
        try:
            async with asyncio.timeout(left_s):
                return await making
        except TimeoutError as error:
            late = Timeout("making a new one takes too long")
            self._remember_failure(key, late)
            raise late from error

    def _is_overtaken(self, reading: Reading, url: int) -> bool:
        """Whether something has changed since, or may have where nobody tells this machine.

        `url`: the slot of the URL that is asked for now, which may be another one.
        """
        is_late = self._shared is not None and self._shared.is_late(reading)
        return is_late or not reading.is_current(url)

    async def _fly(self, key: Key, url: int, state: RequestState, compute: Compute) -> "_Made":
        async with self._shelf.flights.alone(name_of(key), wait=True):
            found = await self._fresh(key, url)
            if found is not None:
                return _Made(shown_again(found, ()), None, is_kept=True)
            return await self._compute(key, url, state, compute)

    async def _kept(self, key: Key, url: int, now: float) -> Entry | None:
        """What this machine has kept and nobody has changed, however old."""
        entry = self._shelf.get(key, url, now - self._freshness.max_age_s)
        if entry is not None and _is_spent(entry, now):
            return None
        if entry is None or self._shared is None:
            return entry
        holds = await self._shared.holds(entry, url)
        return entry if holds and self._shelf.is_valid(entry, url) else None  # it may have changed meanwhile

    async def _fresh(self, key: Key, url: int) -> Entry | None:
        """What another process has kept in the meantime."""
        entry = await self._kept(key, url, time())
        return entry if entry is not None and self._is_fresh(entry) else None

    def _is_fresh(self, entry: Entry) -> bool:
        return age_of(entry, time()) <= self._freshness.max_age_s

    async def _compute(self, key: Key, url: int, state: RequestState, compute: Compute) -> "_Made":
        try:
            reading = Reading(self._shelf.epochs, url)
        except StorageError as error:
            _log.warning("result cache: answering without it", reason=error.message)
            return _Made(await compute(state), state, is_kept=False)
        with suppress(SetupError):  # tags made of facts of images: told when the answer has been made
            reading.slots += self._tag_slots(state)
        self._readings[key] = reading
        try:
            found = await self._find_shared(key, reading)
            if found is not None:
                self._failures.pop(key, None)
                return _Made(shown_again(found, ()), None, is_kept=True, shared=found)
            answer = await compute(replace(state, reading=reading))
            self._failures.pop(key, None)
            return await self._keep(key, answer, reading, state)
        except SafelightError as error:
            if is_passing(error):
                self._remember_failure(key, error)
            raise
        finally:
            if self._readings.get(key) is reading:
                del self._readings[key]

    async def _find_shared(self, key: Key, reading: Reading) -> Entry | None:
        """What another machine has made; kept here, too."""
        if self._shared is None:
            return None
        found = await self._shared.find(name_of(key), reading, tuple(reading.slots), self._is_fresh)
        if found is not None and reading.is_current() and await self._shelf.keep(key, found):
            self._shared.vouch(found.head, reading.url, reading.began_s)
        return found

    async def _keep(self, key: Key, answer: Answer, reading: Reading, state: RequestState) -> "_Made":
        if not may_be_kept(answer) or (reading.is_makeshift and self._has_better(key, reading.url)):
            return _Made(answer, state, is_kept=False)
        answer = await fit_to_keep(answer)
        entry = Entry(self._head(key, answer, reading, state), answer.body)
        is_kept = reading.is_current() and await self._shelf.keep(key, entry)
        if is_kept and self._shared is not None:
            self._shared.vouch(entry.head, reading.url, reading.began_s)
            self._shared.offer(entry.head)
        return _Made(answer, state, is_kept)

    def _has_better(self, key: Key, url: int) -> bool:
        """Whether an old answer is kept that stands in for nothing, and is not too old for all uses."""
        former = self._shelf.get(key, url, 0)
        if former is None or former.head.is_makeshift:
            return False
        return age_of(former, time()) <= self._freshness.useful_s

    def _head(self, key: Key, answer: Answer, reading: Reading, state: RequestState) -> Head:
        """Raises: SetupError for tags that cannot be rendered."""
        slots = frozenset((*reading.slots, *self._tag_slots(state)))
        return Head(
            name=name_of(key),
            epochs=reading.identity,
            made=reading.made,
            slots=tuple(slots),
            kept_at=time(),
            content_type=answer.content_type,
            cache_control=answer.cache_control,
            facts=answer.facts,
            etag=answer.etag or "",
            modified=answer.modified,
            size=answer.body.size,
            is_makeshift=reading.is_makeshift,
            checksum=checksum(answer.body),
            reads=reading.reads if self._shared is not None else (),
            marks=reading.marks_of(slots | {ALL}),
        )

    def _tag_slots(self, state: RequestState) -> list[int]:
        """Raises: SetupError."""
        if self._tags is None:
            return []
        return tag_slots(self._tags.render(state.variables.lookup))

    # Behind requests

    def _renew_behind(self, key: Key, url: int, state: RequestState, compute: Compute) -> None:
        """Make a new answer while an old one is served; only one process of the machine does."""
        if key not in self._renewals and self._late_failure(key) is None:
            renewing = self._renew(key, url, state, compute)
            task = self._renewals[key] = asyncio.create_task(renewing, context=Context())
            task.add_done_callback(lambda _: self._renewals.pop(key))

    async def _renew(self, key: Key, url: int, state: RequestState, compute: Compute) -> None:
        try:
            async with (
                asyncio.timeout(RENEWAL_S),
                self._shelf.flights.alone(name_of(key), wait=False) as is_alone,
            ):
                if is_alone and await self._fresh(key, url) is None:
                    made = await self._compute(key, url, state, compute)
                    if not made.is_kept:
                        self._remember_failure(key, StorageError("the new answer could not be kept"))
        except (SafelightError, TimeoutError) as error:
            self._remember_failure(key, error)
            reason = error.message if isinstance(error, SafelightError) else "it took too long"
            _log.warning("result cache: an answer could not be renewed", reason=reason)
        except Exception as error:
            self._remember_failure(key, error)
            _log.error("result cache: an answer could not be renewed", exc_info=error)

    def _late_failure(self, key: Key) -> "_Failure | None":
        """Why no answer was made in the last seconds."""
        failure = self._failures.get(key)
        return failure if failure is not None and failure.until > monotonic() else None

    def _remember_failure(self, key: Key, error: Exception) -> None:
        now = monotonic()
        if len(self._failures) >= _MAX_FAILURES:
            self._failures = {known: late for known, late in self._failures.items() if late.until > now}
        passes = not isinstance(error, SafelightError) or is_passing(error)
        self._failures[key] = _Failure(now + PAUSE_AFTER_FAILURE_S, passes)

    def _note(self, state: str, statistic: str) -> None:
        """Count for the statistics and for the line of the request."""
        self._count(statistic)
        if (noted := current_account()) is not None:
            noted.cache = state


@dataclass(frozen=True, slots=True)
class _Failure:
    """`until`, by `monotonic`, nothing is renewed; `is_passing`: it says nothing about what was asked for."""

    until: float
    is_passing: bool


@dataclass(frozen=True, slots=True)
class _Made:
    """What came of making an answer. `by`: for which request; None when another process has made it.
    `shared`: the same, if another machine has.
    """

    answer: Answer
    by: RequestState | None
    is_kept: bool
    shared: Entry | None = None


def _is_spent(entry: Entry, now: float) -> bool:
    """Whether what stands in for a source that was down has done so for long enough to ask that again."""
    return entry.head.is_makeshift and age_of(entry, now) > PAUSE_AFTER_FAILURE_S


def _path(state: RequestState) -> str:
    """What `purge_cache url=...` and the command compare: the decoded path."""
    raw_path = state.request.raw_path
    try:
        return decode(raw_path)
    except BadRequest:  # matched by an endpoint that does not look at all of it
        return raw_path


class _Standing:
    """See `Standing`. An equal question under another URL may have replaced the answer that was told."""

    def __init__(self, answers: KeptAnswers, key: Key, url: int) -> None:
        self._answers = answers
        self._key = key
        self._url = url
        self._told: Head | None = None

    def body(self) -> bytes | None:
        found = self._answers.fresh_at_hand(self._key, self._url)
        return found[0].body.read() if found is not None and found[0].head is self._told else None

    def answer(self) -> Answer | None:
        found = self._answers.fresh_at_hand(self._key, self._url)
        if found is None:
            return None
        self._told = found[0].head
        return self._answers.shown(*found)
