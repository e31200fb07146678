"""What image code has to say, carried from where it runs to the log of the server."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated

import msgspec
from msgspec import Meta

LOADING, WORKING = "safelight.plugins", "safelight.image"
MAX_NOTES, MAX_CHARACTERS = 100, 300  # as JSON far less than `orders.MAX_BYTES`


class Note(msgspec.Struct, frozen=True):
    """One line of the log. `level` is a number of `logging`."""

    level: int
    text: Annotated[str, Meta(max_length=MAX_CHARACTERS)]


class _Collector(logging.Handler):
    def __init__(self, notes: list[Note]) -> None:
        super().__init__()
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._notes) < MAX_NOTES:
            text = record.getMessage().encode(errors="replace").decode()
            self._notes.append(Note(record.levelno, text[:MAX_CHARACTERS]))


@contextmanager
def collected(name: str) -> Generator[list[Note]]:
    """What a logger is told in this block, as notes instead of lines on standard error."""
    notes: list[Note] = []
    logger, collector = logging.getLogger(name), _Collector(notes)
    level = logger.level
    logger.addHandler(collector)
    logger.setLevel(logging.INFO)
    try:
        yield notes
    finally:
        logger.setLevel(level)
        logger.removeHandler(collector)


def report(notes: list[Note]) -> None:
    """Write notes to the log of this process."""
    import structlog  # where notes are taken, there is no log, and this would be a quarter of its start

    log = structlog.get_logger("safelight.engine")
    for note in notes:
        log.log(note.level, note.text)
