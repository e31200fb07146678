"""What to expect of the buckets of a store, by how the last requests about them ended.

While a store is down only the first requests wait for it: others fail, or come to their next source, at once.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic

import structlog

from safelight.storage.s3.transport import TransportError, Unreachable

HOPELESS_S = 30
"""For how long requests make one attempt only after others were in vain."""

TRIAL_S = 10
"""While a bucket keeps silent, one request in this time finds out whether it still does."""

TRIAL_ANSWER_S = 1
"""How long others wait for what that request finds out: a store that works answers sooner."""

_log = structlog.get_logger("safelight.storage")


@dataclass(slots=True)
class _Silence:
    trial_began: float
    is_over: asyncio.Event = field(default_factory=asyncio.Event)


class Outlook:
    """Of all buckets of one account. `give_up_s`: how long requests go on trying where there is hope."""

    def __init__(self, give_up_s: float) -> None:
        self._give_up_s = give_up_s
        self._heard: dict[str, float] = {}
        self._hopeless_until: dict[str, float] = {}
        self._silences: dict[str, _Silence] = {}
        self._rounds: Counter[str] = Counter()

    def give_up_s(self, bucket: str) -> float:
        """How long to go on trying: not at all where that was in vain a moment ago."""
        is_hopeless = bucket in self._silences or monotonic() < self._hopeless_until.get(bucket, 0)
        return 0 if is_hopeless else self._give_up_s

    def round(self, bucket: str) -> int:
        """Another one begins with a silence and with each request that tries. Who comes then is not to wait
        for what an earlier request is waiting for: that may take its whole time-out.
        """
        return self._rounds[bucket]

    async def admit(self, bucket: str) -> None:
        """Hold back requests for a bucket that keeps silent, but for one that tries.

        Raises: Unreachable, when that one is not answered soon.
        """
        silence = self._silences.get(bucket)
        if silence is None:
            return
        now = monotonic()
        if now >= silence.trial_began + TRIAL_S:
            silence.trial_began = now
            self._rounds[bucket] += 1
            return
        try:
            async with asyncio.timeout(silence.trial_began + TRIAL_ANSWER_S - now):
                await silence.is_over.wait()
        except TimeoutError:
            raise Unreachable("not asked: it kept silent when it was asked last", slow=True) from None

    def note_heard(self, bucket: str) -> None:
        """Remember that something of an answer about `bucket` has come: it is not silent."""
        self._heard[bucket] = monotonic()
        self._end_silence(bucket, "answers again")

    def note_answered(self, bucket: str) -> None:
        """Remember that a request about `bucket` was answered for good, be it with a refusal."""
        self.note_heard(bucket)
        self._hopeless_until.pop(bucket, None)

    def note_given_up(self, bucket: str, began: float, failure: TransportError, *, at_once: bool) -> None:
        """Remember that it was in vain to go on trying since `began`, on the clock `monotonic`.

        One request without any answer counts for nothing if others had theirs. `at_once`: as for `admit`ted
        requests; what is slow otherwise tells nothing of silence.
        """
        self._hopeless_until[bucket] = monotonic() + HOPELESS_S
        if not isinstance(failure, Unreachable):
            return
        if not failure.slow:
            self._end_silence(bucket, "is no longer silent, but cannot be reached")
        elif at_once:
            self._note_silent(bucket, began)

    def note_left(self, bucket: str, began: float) -> None:
        """Remember that nobody waits any longer for what was asked at `began`: clients may have less patience
        than we, and the silence would never be noticed.
        """
        if monotonic() - began >= TRIAL_S:
            self._note_silent(bucket, began)

    def _note_silent(self, bucket: str, since: float) -> None:
        if bucket not in self._silences and self._heard.get(bucket, 0) < since:
            self._silences[bucket] = _Silence(since)
            self._rounds[bucket] += 1
            _log.warning(f"S3 bucket '{bucket}' keeps silent: one request in {TRIAL_S} s tries, others fail")

    def _end_silence(self, bucket: str, what: str) -> None:
        if silence := self._silences.pop(bucket, None):
            silence.is_over.set()
            _log.warning(f"S3 bucket '{bucket}' {what}")
