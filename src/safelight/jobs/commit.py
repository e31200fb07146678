"""Group commit: whatever is asked for while one transaction goes to the disk shares the next one's fsync."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from safelight.errors import StorageError
from safelight.jobs.schema import storage_error

T = TypeVar("T")
MAX_GROUP = 256
"""Changes in one transaction at most: others wait for it, in this process and in others."""


@dataclass(frozen=True, slots=True)
class _Change:
    """Work to do inside a transaction, and the future that hears of it when that is durable."""

    work: Callable[[sqlite3.Connection], Any]
    future: "Future[Any]"


class Committer:
    """Runs changes on one connection, in a thread, many to a transaction and each whole or not at all."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._changes: SimpleQueue[_Change | None] = SimpleQueue()
        self._closed = False
        # A daemon, so that a program which dies of an error does not wait for its queue.
        self._thread = threading.Thread(target=self._run, name="job-queue", daemon=True)
        self._thread.start()

    async def change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, once it is on the disk.

        Raises: whatever `work` raised; StorageError. Nothing of it was done then.
        """
        if self._closed:
            raise StorageError("the job queue is closed", detail=str(self._path))
        future: Future[T] = Future()
        self._changes.put(_Change(work, future))
        return await asyncio.wrap_future(future)

    async def close(self) -> None:
        """Do what was asked for before and end the thread; the connection stays open."""
        if not self._closed:
            self._closed = True
            self._changes.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        going = True
        while going:
            group, going = self._next_group()
            if group:
                self._commit(group)

    def _next_group(self) -> tuple[list[_Change], bool]:
        """Wait for a change and take along what is there already; False when this was the last."""
        group: list[_Change] = []
        change = self._changes.get()
        while change is not None:
            if change.future.set_running_or_notify_cancel():
                group.append(change)
            if len(group) == MAX_GROUP:
                return group, True
            try:
                change = self._changes.get_nowait()
            except Empty:
                return group, True
        return group, False

    def _commit(self, group: list[_Change]) -> None:
        """Tell every change its outcome, after the commit; a failed commit is everybody's outcome."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._attempt(change.work) for change in group]
            self._connection.execute("COMMIT")
        except Exception as error:
            self._roll_back()
            known = isinstance(error, sqlite3.Error | OSError)
            outcome = storage_error(self._path, error) if known else error
            for change in group:
                change.future.set_exception(outcome)
            return
        for change, (value, failure) in zip(group, outcomes, strict=True):
            if failure is None:
                change.future.set_result(value)
            else:
                change.future.set_exception(failure)

    def _attempt(self, work: Callable[[sqlite3.Connection], Any]) -> tuple[Any, Exception | None]:
        """Result or error of one change, which has left no trace in the second case."""
        self._connection.execute("SAVEPOINT change")
        try:
            value = work(self._connection)
        except Exception as error:
            if not self._connection.in_transaction:  # SQLite gave up the whole transaction
                raise
            self._connection.execute("ROLLBACK TO change")
            self._connection.execute("RELEASE change")
            return None, storage_error(self._path, error) if isinstance(error, sqlite3.Error) else error
        self._connection.execute("RELEASE change")
        return value, None

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):  # an error that has rolled back already, or a disk that is gone
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
