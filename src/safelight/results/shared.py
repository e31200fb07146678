"""Which answers hold although other machines change what they were made of.

An answer holds while everything that it has read has the same version, and the slots that it depends on have
the same marks, as when it was made. Versions are those of what was really read, and marks are noted before
anything is read, so a change or a purge that comes meanwhile makes the answer invalid.

An answer on this machine is taken to hold for `recheck_s` seconds after it was made or last checked. What a
check finds changed is marked in the logical times of the machine, so that its other processes, and other
answers that were made of the same, need not find out for themselves.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import partial
from itertools import islice
from time import monotonic, time

import msgspec
import structlog

from safelight.errors import (
    BadRequest,
    Forbidden,
    NoSuchBucket,
    S3AccessDenied,
    SetupError,
    StorageError,
    StorageUnreachable,
    Timeout,
)
from safelight.results.circuit import PAUSE_S, Circuit, Unavailable
from safelight.results.entry import Entry, Head, Read
from safelight.results.epochs import ALL, Epochs, place_slot
from safelight.results.reading import Origin, Reading
from safelight.results.shelf import Shelf
from safelight.results.tier import ASK_S, MAX_BYTES, Marks, Tier
from safelight.storage.flight import SingleFlight

_MAX_KNOWN = 1 << 16
_UNKNOWN = ""
_KEYS_THAT_FAIL = 3
"""One bad object must not keep the changes of others from being seen."""

_OUTAGES = (StorageUnreachable, Timeout, TimeoutError)
_REFUSALS = (Forbidden, BadRequest, SetupError, NoSuchBucket, S3AccessDenied)
"""Answers that are no versions: what was kept must not outlive the right to read it."""

_log = structlog.get_logger("safelight.results")


class _Foreign(Exception):
    """An answer that no machine with this configuration has made."""


class Shared:
    """What the machines share of the answers of one endpoint, which lie on `shelf` here.

    `origins`: all storages that they are made of.
    """

    def __init__(self, tier: Tier, shelf: Shelf, origins: Collection[Origin], recheck_s: float) -> None:
        self._tier = tier
        self._shelf = shelf
        self._origins: Mapping[str, _Asked] = {origin.name: _Asked(origin) for origin in origins}
        self._recheck_s = recheck_s
        self._trusted = _Trusted()
        self._checks = SingleFlight[tuple[str, int, int], bool]()

    def trusts(self, head: Head, url: int) -> bool:
        """Whether the answer was found to hold a short time ago. `url`: the slot of the URL asked for."""
        return self._trusted.has(head, url)

    def vouch(self, head: Head, url: int, since_s: float) -> None:
        """Trust the answer: at `since_s`, by `time.monotonic`, it was found to hold, or not yet made."""
        self._trusted.add(head, url, since_s + self._recheck_s)

    def is_late(self, reading: Reading) -> bool:
        """Whether what it has read may have been changed long enough ago that this must be seen."""
        return monotonic() - reading.began_s > self._recheck_s

    async def holds(self, entry: Entry, url: int) -> bool:
        """Whether an answer of this machine holds; that it does, where nobody can tell."""
        head = entry.head
        if self.trusts(head, url):
            return True
        return await self._checks.join((head.name, head.made, url), partial(self._check, head, url))

    async def find(
        self, name: str, reading: Reading, slots: Collection[int], is_usable: Callable[[Entry], bool]
    ) -> Entry | None:
        """The shared answer under `name`, if it `is_usable` and holds, as one of this machine.

        `reading`: has just begun, and is told the marks of `slots`, which the answer depends on.
        """
        marks, asked = Marks(self._tier), (ALL, *slots)
        try:
            entry, _ = await asyncio.gather(self._tier.entry(name), marks.note(asked))
        except Unavailable:
            return None
        reading.marks = marks
        if entry is None or entry.head.marks is None or not is_usable(entry):
            return None
        return await self._adopted(entry, reading, asked, marks)

    def offer(self, head: Head) -> None:
        """Share an answer that was made and kept on this machine, if it can be told when it is invalid."""
        is_known = head.marks is not None and all(read.version != _UNKNOWN for read in head.reads)
        if is_known and head.size < MAX_BYTES:
            self._tier.offer(head.name, partial(self._shelf.content, head.name))

    async def close(self) -> None:
        """Give up what is being shared."""
        await self._tier.close()

    async def _adopted(
        self, entry: Entry, reading: Reading, asked: Collection[int], marks: Marks
    ) -> Entry | None:
        """`entry`, if it holds, in the times of this machine: logical ones, and those of its clock."""
        head, own = entry.head, reading.slots
        reading.slots = [*own, *head.slots]  # from now on, who asks after a change of them does not join
        try:
            is_changing = any(map(reading.is_changing, head.slots))
            if not is_changing and not await self._overtaken(head, asked, marks):
                adopted = msgspec.structs.replace(
                    head, epochs=reading.identity, made=reading.made, kept_at=min(head.kept_at, time())
                )
                return Entry(adopted, entry.body)
        except (Unavailable, _Foreign):
            pass
        reading.slots = own
        return None

    async def _check(self, head: Head, url: int) -> bool:
        began_s = monotonic()
        try:
            overtaken = await self._overtaken(head, (ALL, url), Marks(self._tier))
        except Unavailable:
            self._trusted.add(head, url, monotonic() + min(PAUSE_S, self._recheck_s))
            return True
        except _Foreign:
            return False
        if head.marks is None:  # made while the marks could not be asked for, so nothing is known of it
            return False
        if overtaken:
            _mark(self._shelf.epochs, overtaken, head.made)
            return False
        self.vouch(head, url, began_s)
        return True

    async def _overtaken(self, head: Head, asked: Collection[int], marks: Marks) -> set[int]:
        """The slots of what is not any more as it was for `head`.

        Raises: Unavailable, _Foreign where something cannot be compared and all else is the same.
        """
        found = await asyncio.gather(
            _purged(head, asked, marks), *map(self._changed, head.reads), return_exceptions=True
        )
        overtaken = {slot for slots in found if isinstance(slots, set) for slot in slots}
        failures = [failure for failure in found if isinstance(failure, BaseException)]
        if failures and not overtaken:
            raise failures[0]
        return overtaken

    async def _changed(self, read: Read) -> set[int]:
        """The slot of what was read, if that is or may be another by now. Raises: Unavailable, _Foreign."""
        origin = self._origin(read)
        slot = origin.slot(read.key)
        is_same = await origin.version(read.key) == read.version != _UNKNOWN
        return set() if is_same else {slot}

    def _origin(self, read: Read) -> "_Asked":
        origin = self._origins.get(read.origin)
        if origin is None:
            raise _Foreign
        return origin


class _Trusted:
    """Answers that need no check, as what a URL is answered with; each until a time by `time.monotonic`."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[int, float, float]] = {}

    def has(self, head: Head, url: int) -> bool:
        known = self._known.get((head.name, url))
        return known is not None and known[:2] == (head.made, head.kept_at) and monotonic() < known[2]

    def add(self, head: Head, url: int, until_s: float) -> None:
        self._known.pop((head.name, url), None)
        self._known[head.name, url] = (head.made, head.kept_at, until_s)
        now = monotonic()
        for first in list(islice(self._known, 2)):  # they end first
            if self._known[first][2] <= now or len(self._known) > _MAX_KNOWN:
                del self._known[first]


class _Asked:
    """An origin that is asked for versions."""

    def __init__(self, origin: Origin) -> None:
        self._storage = origin.storage
        self._circuit = Circuit(f"versions of {origin.name}", _OUTAGES, needed=_KEYS_THAT_FAIL)

    def slot(self, key: str) -> int:
        """Raises: _Foreign."""
        try:
            return place_slot(self._storage.place(key))
        except (Forbidden, BadRequest) as error:
            raise _Foreign from error

    async def version(self, key: str) -> str | None:
        """As `Storage.version` has it; unknown, too, where it refuses to tell. Raises: Unavailable."""
        return await self._circuit.call(lambda: self._told(key), ASK_S, key)

    async def _told(self, key: str) -> str | None:
        try:
            return await self._storage.version(key)
        except _REFUSALS:
            return _UNKNOWN


async def _purged(head: Head, asked: Collection[int], marks: Marks) -> set[int]:
    """Those of the slots of `head`, and of `asked`, whose marks are others by now. Raises: Unavailable."""
    then = dict(head.marks or ())
    slots = {*asked, *then}
    await marks.note(slots)
    return {slot for slot in slots if marks.known[slot] != then.get(slot, "")}


def _mark(epochs: Epochs, slots: Collection[int], since: int) -> None:
    """Make invalid, on this machine, what depends on `slots`, unless that was done after `since`."""
    try:
        for slot in slots:
            if epochs.unchanged((slot,), since):
                epochs.mark(slot)
    except StorageError as error:
        _log.warning("result cache: cannot mark what has changed", reason=error.detail or error.message)
