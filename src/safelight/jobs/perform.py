"""Does one job: fetch, transform in one decode, deliver; or tell a webhook that another has ended.

What came of it is told as `worker.Perform` asks.

Jobs of the older server begin with a placeholder at their destination. Whoever performs the job puts it
there, under its lease, so that none is put over a result; the client waits for that, see `Reception`.
"""

from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from safelight.blob import Blob, MemoryBlob
from safelight.engine.base import Engine
from safelight.errors import (
    BadRequest,
    Busy,
    Forbidden,
    NotFound,
    SafelightError,
    TooLarge,
    UnsupportedMedia,
)
from safelight.image.result import Thumbnail
from safelight.image.spec import ThumbnailSpec
from safelight.jobs.deliver import deliver
from safelight.jobs.failure import DestinationError, TransferError
from safelight.jobs.fetch import fetch
from safelight.jobs.notify import notify
from safelight.jobs.operation import BLANK, FAILED, PROCESSING, operation_spec, picture_spec
from safelight.jobs.policy import Policy
from safelight.jobs.queue import JobQueue, LeaseLost
from safelight.jobs.reception import Reception
from safelight.jobs.record import (
    Delivery,
    Footprint,
    Job,
    Lease,
    LegacyOperation,
    Notice,
    Output,
    Placeholder,
)
from safelight.jobs.worker import Dead, Retry
from safelight.storage.base import Storage

_PERMANENT = (BadRequest, Forbidden, NotFound, TooLarge, UnsupportedMedia)

_log = structlog.get_logger("safelight.jobs")


@dataclass(frozen=True, slots=True)
class Outside:
    """What is beyond this server, and how it may be reached.

    `buckets`: storages of `s3` destinations by bucket. `spool_directory`: where large sources wait.
    `webhook_key`: what messages to webhooks are signed with.
    """

    policy: Policy
    buckets: Mapping[str, Storage]
    spool_directory: Path | None = None
    webhook_key: bytes = b""

    async def fetch(self, url: str) -> Blob:
        """The source, to be closed. Raises: SourceError."""
        return (await fetch(url, self.policy, self.spool_directory)).blob

    async def deliver(self, image: Thumbnail, delivery: Delivery) -> None:
        """Raises: DestinationError."""
        await deliver(delivery, MemoryBlob(image.data), image.mime_type, self.policy, self.buckets)

    async def notify(self, url: str, message_id: str, notice: Notice) -> None:
        """Raises: TransferError."""
        await notify(url, message_id, notice, self.webhook_key, self.policy)


class Performer:
    """Performs jobs of `queue`. `perform` and `abandon` are what a worker wants."""

    def __init__(self, queue: JobQueue, engine: Engine, outside: Outside, reception: Reception) -> None:
        self._queue = queue
        self._engine = engine
        self._outside = outside
        self._reception = reception

    async def perform(self, job: Job) -> None:
        """Raises: Retry, Dead; LeaseLost."""
        lease = _lease_of(job)
        with _judged():
            if job.order.notice is not None:
                await self._outside.notify(job.order.source, job.id, job.order.notice)
                return
            if job.order.legacy and job.footprint.placeholder is Placeholder.NONE:
                await self._put_placeholder(job, lease)
            with closing(await self._source(job)) as blob:
                images = await self._make(job, blob)
            await self._deliver(job, lease, images)

    async def abandon(self, job: Job, reason: str) -> None:
        """Put the failure picture where our own placeholder lies, once; if that fails, too, so be it."""
        _log.warning("a job is given up", job=job.id, reason=reason)
        try:
            if (await self._queue.get(job.id)).footprint.placeholder is Placeholder.LYING:
                await self._put_picture(job.order.outputs[0], FAILED)
                await self._queue.note(_lease_of(job), Footprint(Placeholder.FAILED))
        except SafelightError as error:
            _log.warning("no failure picture", job=job.id, reason=error.message, detail=error.detail)

    async def _put_placeholder(self, job: Job, lease: Lease) -> None:
        """Raises: Dead when it is not taken: nobody has been told that the job is accepted."""
        try:
            await self._put_picture(job.order.outputs[0], PROCESSING)
        except DestinationError as error:
            self._reception.refuse(job.order.key, error)
            raise Dead(error.message, detail=error.detail) from error
        await self._queue.note(lease, Footprint(Placeholder.LYING))
        self._reception.admit(job.order.key)

    async def _put_picture(self, output: Output, text: str) -> None:
        if isinstance(output.make, LegacyOperation):
            (picture,) = (await self._engine.thumbnail(BLANK, [picture_spec(output.make, text)])).outputs
            if isinstance(picture, SafelightError):
                raise picture
            await self._outside.deliver(picture, output.to)

    async def _source(self, job: Job) -> Blob:
        """What was fetched when the job was checked, if that was here; it is there for one attempt."""
        return self._reception.take(job.order.key) or await self._outside.fetch(job.order.source)

    async def _make(self, job: Job, blob: Blob) -> Mapping[int, Thumbnail | SafelightError]:
        """The images that are still wanted, by the index of their output."""
        wanted = job.undelivered
        specs = [await self._spec(job.order.outputs[index], blob) for index in wanted]
        made = await self._engine.thumbnail(blob, specs)
        return dict(zip(wanted, made.outputs, strict=True))

    async def _spec(self, output: Output, blob: Blob) -> ThumbnailSpec:
        if isinstance(output.make, str):
            return ThumbnailSpec.parse(output.make)
        return operation_spec(output.make, await self._engine.identify(blob))

    async def _deliver(
        self, job: Job, lease: Lease, images: Mapping[int, Thumbnail | SafelightError]
    ) -> None:
        """Bring every image to its destination; one that fails does not hold the others."""
        if job.order.legacy:
            await self._replace(job, lease, images[0])
            return
        delivered, failures = job.footprint.delivered, list[SafelightError]()
        for index, image in images.items():
            try:
                if isinstance(image, SafelightError):
                    raise image
                await self._check_held(lease)
                await self._outside.deliver(image, job.order.outputs[index].to)
            except LeaseLost:
                raise
            except SafelightError as error:
                failures.append(error)
                continue
            delivered += (index,)
            if len(delivered) < len(job.order.outputs):  # else the job is finished, which says the same
                await self._queue.note(lease, Footprint(delivered=delivered))
        if failures:
            raise next((error for error in failures if not _is_permanent(error)), failures[0])

    async def _check_held(self, lease: Lease) -> None:
        """The heart of the worker notices a job that was cancelled, too, but perhaps after its delivery.

        Raises: LeaseLost.
        """
        if (await self._queue.get(lease.job_id)).lease != lease:
            raise LeaseLost(lease)

    async def _replace(self, job: Job, lease: Lease, image: Thumbnail | SafelightError) -> None:
        """Deliver the result of the older server's job.

        The placeholder counts as replaced from before on: after a crash in between, nobody can know, and a
        failure picture must never take the place of a result.
        """
        if isinstance(image, SafelightError):
            raise image
        await self._queue.note(lease, Footprint(Placeholder.REPLACED))
        try:
            await self._outside.deliver(image, job.order.outputs[0].to)
        except DestinationError:
            await self._queue.note(lease, Footprint(Placeholder.LYING))
            raise


def _lease_of(job: Job) -> Lease:
    assert job.lease is not None  # noqa: S101 (workers perform what they have leased)
    return job.lease


@contextmanager
def _judged() -> Generator[None]:
    """Say of whatever fails inside whether trying again may help. Raises: Retry, Dead; LeaseLost."""
    try:
        yield
    except (Retry, Dead, LeaseLost):
        raise
    except SafelightError as error:
        if _is_permanent(error):
            raise Dead(error.message, detail=error.detail) from error
        raise Retry(error.message, after_s=_after_s(error), detail=error.detail) from error


def _is_permanent(error: SafelightError) -> bool:
    if isinstance(error, TransferError):
        return not error.temporary
    return isinstance(error, _PERMANENT)


def _after_s(error: SafelightError) -> float:
    if isinstance(error, TransferError):
        return error.after_s
    return error.retry_after_s if isinstance(error, Busy) else 0.0
