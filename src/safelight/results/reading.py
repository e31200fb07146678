"""What an answer that is being made depends on, and whether that is still so when it is to be kept."""

from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from safelight.errors import StorageError
from safelight.results.circuit import Unavailable
from safelight.results.entry import Read
from safelight.results.epochs import ALL, Epochs, place_slot
from safelight.results.tier import Marks
from safelight.storage.base import Joining, Storage

_MAX_MARKS = 64
"""Marks that nothing asks for are kept as well, while they are few: see `Reading.marks_of`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A storage that answers are made of. `name` tells it from others, on all machines that make them."""

    name: str
    storage: Storage


class Witness(Protocol):
    """Is told what is read of storages."""

    async def begins(self, origin: Origin, key: str) -> None:
        """Something is about to be read. Raises: Forbidden, BadRequest for what cannot be a key."""
        ...

    def ends(self, origin: Origin, key: str, version: str | None) -> None:
        """It was read; `version`: as `Storage.version` has it. Not told of what failed to be read."""
        ...

    def misses(self) -> None:
        """Something failed to be read that could be read another time; another source may stand in for it."""
        ...


class Nobody:
    """The witness of requests whose answers are not kept."""

    async def begins(self, origin: Origin, key: str) -> None: ...

    def ends(self, origin: Origin, key: str, version: str | None) -> None: ...

    def misses(self) -> None: ...


class Reading:
    """What a computation depends on, noted while it runs. `url`: the slot of the URL that was asked for.

    `began_s`: by `time.monotonic`. `is_makeshift`: what comes of it is only right while a source fails that
    comes before the one that worked. `marks`: of answers that machines share, from before anything was read.
    """

    def __init__(self, epochs: Epochs, url: int) -> None:
        """Raises: StorageError."""
        self._epochs = epochs
        self._is_uncertain = False
        self._begun: list[Read] = []
        self._ended: list[Read] = []
        self.is_makeshift = False
        self.began_s = monotonic()
        self.identity = epochs.identity
        self.made = epochs.now()
        self.url = url
        self.slots: list[int] = [url]
        self.marks: Marks | None = None

    async def begins(self, origin: Origin, key: str) -> None:
        """See `Witness`. It must be certain whether the old or the new is read."""
        slot = place_slot(origin.storage.place(key))
        self.slots.append(slot)
        self._begun.append(Read(origin.name, key, ""))
        is_changing = self.is_changing(slot)
        self._is_uncertain = self._is_uncertain or is_changing
        if isinstance(origin.storage, Joining):  # another process may have stored since somebody began here
            state = None if is_changing else (self.identity, self._epochs.changed_at(slot))
            origin.storage.separate(key, state)
        if self.marks is not None:
            try:
                await self.marks.note((slot,))
            except Unavailable:
                self.marks = None

    def ends(self, origin: Origin, key: str, version: str | None) -> None:
        """See `Witness`."""
        self._begun.remove(Read(origin.name, key, ""))
        self._ended.append(Read(origin.name, key, version))

    def misses(self) -> None:
        """See `Witness`."""
        self.is_makeshift = True

    @property
    def reads(self) -> tuple[Read, ...]:
        """All that was read; what failed to be read has an empty version."""
        return (*self._ended, *self._begun)

    def marks_of(self, slots: frozenset[int]) -> tuple[tuple[int, str], ...] | None:
        """The marks of `slots`, and a few others; None when some are not known.

        An answer may be asked for under several URLs. It remembers the marks of those as well under which its
        predecessors were made, so that URLs that were purged once do not take it from each other.
        """
        known = self.marks.known if self.marks is not None else {}
        if not slots <= known.keys():
            return None
        return tuple((slot, known[slot]) for slot in (known if len(known) <= _MAX_MARKS else slots))

    def is_changing(self, slot: int) -> bool:
        """Whether somebody on this machine may be about to change what has this slot."""
        try:
            return self._epochs.is_changing(slot)
        except StorageError:
            return True

    def is_current(self, *more: int) -> bool:
        """Whether what was read is still what is stored, and nothing with the slots `more` was dropped."""
        try:
            is_same_file = self._epochs.identity == self.identity
        except StorageError:
            return False
        slots = (ALL, *self.slots, *more)
        return is_same_file and not self._is_uncertain and self._epochs.unchanged(slots, self.made)
