"""What an answer that is being made depends on, and whether that is still so when it is to be kept."""

from safelight.errors import StorageError
from safelight.results.epochs import ALL, Epochs, place_slot


class Reading:
    """What a computation depends on, noted while it runs. `url`: the slot of the URL that was asked for."""

    def __init__(self, epochs: Epochs, url: int) -> None:
        """Raises: StorageError."""
        self._epochs = epochs
        self._is_uncertain = False
        self.identity = epochs.identity
        self.made = epochs.now()
        self.slots: list[int] = [url]

    def note(self, place: str) -> None:
        """Something stored is about to be read; it must be certain whether that is the old or the new."""
        slot = place_slot(place)
        self.slots.append(slot)
        try:
            self._is_uncertain = self._is_uncertain or self._epochs.is_changing(slot)
        except StorageError:
            self._is_uncertain = True

    def is_current(self) -> bool:
        """Whether what was read is still what is stored."""
        try:
            is_same_file = self._epochs.identity == self.identity
        except StorageError:
            return False
        return (
            is_same_file and not self._is_uncertain and self._epochs.unchanged((ALL, *self.slots), self.made)
        )
