"""The last words of a process: the end of its standard error, kept to explain its death."""

import asyncio
import os

KEPT_BYTES = 4 << 10
READ_BYTES = 16 << 10
PAUSE_S = 0.02
OUT_OF_MEMORY = (b"out of memory", b"failed to allocate", b"bad_alloc", b"Cannot allocate memory")


class Complaints:
    """A pipe whose end stays in memory. Give `writer` to the process, then close it with `close_writer`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tail = b""
        self._pause: asyncio.TimerHandle | None = None
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        loop.add_reader(self._reader, self._read)

    def close_writer(self) -> None:
        """Close our copy of the end that the process writes to."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def last_words(self) -> str:
        """What was written last, as printable text of at most 4 KiB."""
        self._read()
        return "".join(
            character if character.isprintable() or character == "\n" else "?"
            for character in self._tail.decode(errors="replace")
        ).strip()

    def lament_memory(self) -> bool:
        """Do the last words say that memory ran out?"""
        self._read()
        return any(phrase in self._tail for phrase in OUT_OF_MEMORY)

    def close(self) -> None:
        """Close both ends. What was read stays."""
        self.close_writer()
        if self._pause:
            self._pause.cancel()
        if self._reader >= 0:
            self._loop.remove_reader(self._reader)
            os.close(self._reader)
            self._reader = -1

    def _read(self) -> None:
        if self._reader < 0:
            return
        try:
            text = os.read(self._reader, READ_BYTES)
        except BlockingIOError:
            return
        self._tail = (self._tail + text)[-KEPT_BYTES:]
        if not text:
            self.close()
        elif len(text) == READ_BYTES:  # a flood must not keep the server busy: its author can wait
            self._loop.remove_reader(self._reader)
            self._pause = self._loop.call_later(PAUSE_S, self._resume)

    def _resume(self) -> None:
        self._loop.add_reader(self._reader, self._read)
