"""The work itself: a few more images in flight than there are workers, each opened, made and written."""

import asyncio
import os
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from tempfile import SpooledTemporaryFile
from typing import Generic, TypeVar

from safelight.batch.inputs import Found, Input, Skipped, Unreadable
from safelight.batch.naming import Job, Naming, Target
from safelight.batch.printable import printable
from safelight.batch.reading import opened, read_slowly
from safelight.batch.session import Stop, Stopped
from safelight.batch.survey import Survey
from safelight.batch.writing import AlreadyThere, Existing, already_there, write
from safelight.blob import Blob, MemoryBlob
from safelight.engine.base import Engine
from safelight.engine.pool import PoolEngine, PoolLimits
from safelight.errors import BadRequest, SafelightError
from safelight.image.result import ImageInfo, Thumbnail, Thumbnails
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec

CHUNK = 16
KEPT_BYTES = 1 << 20
NO_LIMIT_S = 1e9
NO_LIMIT = 1_000_000
EXISTS, MADE_HERE = "results exist", "results of this run"
"""Why an input is not worked on."""
PROBE = bytes.fromhex("47494638376101000100800000ffffffffffff2c00000000010001000002024401003b")
"""A GIF of one white pixel, to try specifications on."""
PROBE_SIDE = 8
WRITERS = 8
MAX_UNWRITTEN = 4 * WRITERS
_NO_SUCH_EDIT = "no edit with name"

Item = TypeVar("Item")


def create_engine(
    jobs: int, images: ImageSettings, *, max_bytes: int, transform_timeout_s: float
) -> PoolEngine:
    """A pool in which jobs wait as long as it takes; how many there are is up to the caller."""
    limits = PoolLimits(
        transform_timeout_s=transform_timeout_s,
        max_waiting=NO_LIMIT,
        max_wait_s=NO_LIMIT_S,
        memory_bytes=max_bytes,
    )
    return PoolEngine(images, workers=jobs, limits=limits)


def slots(jobs: int) -> int:
    """Images in flight: one in each worker, and as many that wait for one."""
    return 2 * jobs


async def check_specs(engine: Engine, specs: Sequence[ThumbnailSpec]) -> None:
    """Try them on one pixel, to find before any work what no image can cure. Raises: BadRequest."""
    for spec in specs:
        small = replace(spec, width=_shortened(spec.width), height=_shortened(spec.height))
        probes = [replace(small, edits=()), *(replace(small, edits=(edit,)) for edit in spec.edits)]
        for probe in probes:
            made = await engine.thumbnail(MemoryBlob(PROBE), [probe])
            error = made.outputs[0]
            if isinstance(error, BadRequest) and (not probe.edits or error.message.startswith(_NO_SUCH_EDIT)):
                raise error.reworded(f"{error.message} in spec '{spec}'")


def _shortened(side: int | None) -> int | None:
    return None if side is None else min(side, PROBE_SIDE)


class Tally:
    """What has become of the inputs. `pixels`: of the inputs that were read. Threads may count."""

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.skipped: Counter[str] = Counter()
        self.pixels = 0
        self._lock = threading.Lock()
        self._failures: SpooledTemporaryFile[str] | None = None

    @property
    def tried(self) -> int:
        """Inputs that are finished with, one way or the other."""
        return self.done + self.failed + self.skipped[EXISTS] + self.skipped[MADE_HERE]

    def succeed(self, source: ImageInfo) -> None:
        """Count one input whose results are all there."""
        with self._lock:
            self.done += 1
            self.pixels += source.width * source.height

    def fail(self, shown: str, reasons: Iterable[str], source: ImageInfo | None = None) -> None:
        """Count one failed input and keep the reasons, in a file when there are many."""
        with self._lock:
            self.failed += 1
            self.pixels += source.width * source.height if source else 0
            if self._failures is None:
                self._failures = SpooledTemporaryFile(KEPT_BYTES, "w+", encoding="utf-8", newline="\n")  # noqa: SIM115
            for reason in reasons:
                self._failures.write(printable(f"{shown}: {reason}") + "\n")

    def take_failures(self) -> Iterator[str]:
        """All reasons, a line each; they are forgotten then."""
        if self._failures is not None:
            with self._failures as lines:
                lines.seek(0)
                for line in lines:
                    yield line.rstrip("\n")
            self._failures = None


@dataclass(frozen=True, slots=True)
class Ready:
    """An input that is to be worked on.

    `targets`: for each job, if it is known. `data`: None if reading may take long. `problems`: known already.
    """

    item: Input
    jobs: Sequence[Job]
    targets: Sequence[Target | None]
    data: Blob | None
    problems: Sequence[str]


@dataclass(frozen=True, slots=True)
class Failed:
    """An input, or a directory, that cannot be worked on."""

    shown: str
    reasons: Sequence[str]


class Feed(Generic[Item]):
    """Takes items from an iterator on a thread, some ahead, and gives them to any number of tasks."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._source = iter(items)
        self._here: deque[Item] = deque()
        self._lock = asyncio.Lock()
        self._coming = self._ask()

    def _ask(self) -> "asyncio.Task[list[Item]]":
        return asyncio.create_task(asyncio.to_thread(lambda: list(islice(self._source, CHUNK))))

    async def next(self) -> Item | None:
        """The next item, None after the last. Raises: whatever the iterator raises."""
        async with self._lock:
            if not self._here:
                self._here.extend(await self._coming)
                if self._here:
                    self._coming = self._ask()
            return self._here.popleft() if self._here else None

    async def close(self) -> None:
        """Wait for what was asked ahead."""
        await asyncio.gather(self._coming, return_exceptions=True)


@dataclass(slots=True)
class Batch:
    """One run: every input of a listing through the engine, every result to its file."""

    engine: Engine
    naming: Naming
    existing: Existing
    max_bytes: int
    survey: Survey
    stop: Stop
    tally: Tally = field(default_factory=Tally)
    _unwritten: deque[Future[None]] = field(default_factory=deque[Future[None]])
    _claimed: set[int] = field(default_factory=set[int])
    _claiming: threading.Lock = field(default_factory=threading.Lock)

    async def run(self, listing: Iterable[Found], slots: int) -> None:
        """Until the list is done, or a signal comes. Failures are counted, not raised."""
        feed = Feed(self._prepared(listing))
        with ThreadPoolExecutor(WRITERS, thread_name_prefix="safelight-write") as writers:
            try:
                await asyncio.gather(*(self._work(feed, writers) for _ in range(slots)))
                await self._settle(0)
            finally:
                await feed.close()

    async def _work(self, feed: "Feed[Ready | Skipped | Failed]", writers: Executor) -> None:
        while not self.stop.is_set() and (found := await feed.next()) is not None:
            match found:
                case Skipped(why=why):
                    self.tally.skipped[why] += 1
                case Failed(shown, reasons):
                    self.tally.fail(shown, reasons)
                case Ready():
                    await self._make(found, writers)

    # On a thread: what touches the file system before the work

    def _prepared(self, listing: Iterable[Found]) -> Iterator[Ready | Skipped | Failed]:
        for found in listing:
            if self.stop.is_set():
                return
            match found:
                case Skipped():
                    yield found
                case Unreadable(path, reason):
                    yield Failed(path, [reason])
                case Input():
                    yield self._prepare(found)

    def _prepare(self, item: Input) -> Ready | Skipped | Failed:
        if self.survey.is_result(item):
            return Skipped(item.path, MADE_HERE)
        jobs: list[Job] = []
        targets: list[Target | None] = []
        problems: list[str] = []
        for job in self.naming.jobs:
            try:
                target = self.naming.early(item, job)
                if self._is_wanted(target):
                    jobs.append(job)
                    targets.append(target)
            except SafelightError as error:
                problems.append(self._about(job, error))
        if not jobs:
            return Failed(item.shown, problems) if problems else Skipped(item.path, EXISTS)
        try:
            return Ready(item, jobs, targets, opened(item, self.max_bytes), problems)
        except SafelightError as error:
            return Failed(item.shown, [*problems, error.message])

    def _is_wanted(self, target: Target | None) -> bool:
        """Raises: AlreadyThere."""
        if target is None or self.existing is Existing.OVERWRITE or not os.path.lexists(target.path):
            return True
        if self.existing is Existing.REFUSE:
            raise already_there(target)
        return False

    # On the event loop

    async def _make(self, ready: Ready, writers: Executor) -> None:
        data = ready.data
        try:
            data = data or await self.stop.race(read_slowly(ready.item, self.max_bytes))
            made = await self.engine.thumbnail(data, [job.spec for job in ready.jobs])
        except (Stopped, SafelightError) as error:
            if data:
                data.close()
            if isinstance(error, SafelightError) and not self.stop.is_set():
                self.tally.fail(ready.item.shown, [*ready.problems, error.message])
            return
        self._unwritten.append(writers.submit(self._store, ready, data, made))
        await self._settle(MAX_UNWRITTEN)

    async def _settle(self, allowed: int) -> None:
        """Wait until at most so many results are still to be written; the disk is slower than we are."""
        while self._unwritten and (len(self._unwritten) > allowed or self._unwritten[0].done()):
            await asyncio.wrap_future(self._unwritten.popleft())

    # On the threads that write

    def _store(self, ready: Ready, data: Blob, made: Thumbnails) -> None:
        """Write what succeeded, note what did not."""
        problems = list(ready.problems)
        for job, target, output in zip(ready.jobs, ready.targets, made.outputs, strict=True):
            try:
                if isinstance(output, SafelightError):
                    raise output
                self._write(target or self._named(ready.item, job, data, made.source, output), output.data)
            except SafelightError as error:
                problems.append(self._about(job, error))
        data.close()
        if problems:
            self.tally.fail(ready.item.shown, problems, made.source)
        else:
            self.tally.succeed(made.source)

    def _named(self, item: Input, job: Job, data: Blob, source: ImageInfo, output: Thumbnail) -> Target:
        target = self.naming.late(item, job, data, source, output)
        self._claim(target)
        return target

    def _write(self, target: Target, data: bytes) -> None:
        try:
            write(target, data, overwrite=self.existing is Existing.OVERWRITE)
        except AlreadyThere:
            if self.existing is Existing.REFUSE:
                raise

    def _claim(self, target: Target) -> None:
        """Raises: BadRequest, if another input of this run has that name already."""
        name = hash(target.identity)
        with self._claiming:
            if name in self._claimed:
                raise BadRequest(f"'{target.path}' is the name of another result of this run")
            self._claimed.add(name)

    def _about(self, job: Job, error: SafelightError) -> str:
        return f"{job.spec}: {error.message}" if len(self.naming.jobs) > 1 else error.message
