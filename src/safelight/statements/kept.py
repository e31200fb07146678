"""Answers as they are kept and shown again: their validators, their age, and what is said of the cache."""

import asyncio
import math
import os
from dataclasses import dataclass, replace
from time import time

from safelight.blob import Blob, MemoryBlob
from safelight.errors import StorageError
from safelight.etag import entity_tag
from safelight.model import Answer, Facts, Standing
from safelight.results.entry import IN_MEMORY_BYTES, Entry

_HASH_INLINE_BYTES = 1 << 18
_CLOCK_SLACK_S = 60
"""An answer kept further in the future than that is not trusted: somebody has set the clock."""

_AGE_MAX_S = 1 << 31
"""RFC 9111, section 1.2.2."""

_CACHE = "safelight"
_OK = 200


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old answers may be, in seconds: always (perhaps without end), and how much older while they are
    renewed, and where that fails.
    """

    max_age_s: float
    while_revalidate_s: float
    if_error_s: float

    @property
    def useful_s(self) -> float:
        """How old an answer may be to be served for any reason."""
        return self.max_age_s + max(self.while_revalidate_s, self.if_error_s)

    def ttl(self, age_s: float) -> str:
        """For `Cache-Status`: for how long an answer is fresh; nothing where only changes end that, or where
        nobody knows.
        """
        left_s = self.max_age_s - age_s
        return f"; ttl={math.floor(left_s)}" if math.isfinite(left_s) else ""


def age_of(entry: Entry, now: float) -> float:
    """Seconds; endless where the clock was set back."""
    age_s = now - entry.head.kept_at
    return max(0.0, age_s) if age_s > -_CLOCK_SLACK_S else math.inf


def hit(entry: Entry, age_s: float, shown: str, standing: Standing | None = None) -> Answer:
    """`shown`: what `Cache-Status` says after that it is a hit (RFC 9211)."""
    age = int(min(age_s, _AGE_MAX_S))
    return shown_again(entry, (("Age", f"{age}"), ("Cache-Status", f"{_CACHE}; hit{shown}")), standing)


def shown_again(entry: Entry, facts: Facts, standing: Standing | None = None) -> Answer:
    head = entry.head
    return Answer(
        entry.body,
        head.content_type,
        _OK,
        head.cache_control,
        head.facts + facts,
        head.etag,
        head.modified,
        standing,
    )


def forwarded(answer: Answer, why: str) -> Answer:
    """An answer that was made, or waited for; `why`: what `Cache-Status` says of that."""
    return replace(answer, facts=(*answer.facts, ("Cache-Status", f"{_CACHE}; fwd={why}")))


def may_be_kept(answer: Answer) -> bool:
    """Whether it is a success, and its output says nothing else (RFC 9111, section 5.2.2.5)."""
    return answer.status == _OK and "no-store" not in (answer.cache_control or "").lower()


async def fit_to_keep(answer: Answer) -> Answer:
    """`answer` with what must hold wherever it is kept. Raises: StorageError when its file became shorter."""
    return await _validated(_held(answer))


def _held(answer: Answer) -> Answer:
    """With a small body in memory: what is kept must not depend on a file that somebody may write to.

    Raises: StorageError when that file became shorter.
    """
    body = answer.body
    if body.size > IN_MEMORY_BYTES or body.fileno() is None:
        return answer
    data = body.read()
    if len(data) < body.size:
        raise StorageError("the file was cut short while it was read")
    return replace(answer, body=MemoryBlob(data), modified=answer.modified or _file_time(body))


async def _validated(answer: Answer) -> Answer:
    """With validators that hold wherever its body is kept, and the time of its change if it is a file."""
    body, etag, modified = answer.body, answer.etag, answer.modified
    if etag is None:
        if body.size > _HASH_INLINE_BYTES:
            await asyncio.to_thread(lambda: body.sha256)
        etag = entity_tag(body.sha256, answer.content_type)
    if modified is None:
        modified = _file_time(body)
    return replace(answer, etag=etag, modified=modified)


def _file_time(body: Blob) -> float | None:
    """Unix time of the last change of a file that has a name."""
    descriptor = body.fileno()
    status = None if descriptor is None else os.fstat(descriptor)
    return min(status.st_mtime, time()) if status is not None and status.st_nlink else None
