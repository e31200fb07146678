"""From a job in the older server's words to one in the queue, begun (reference/imgserve 4.2 and 4.3)."""

import asyncio
import secrets

from safelight.blob import Blob
from safelight.engine.base import Engine
from safelight.errors import TooLarge, UnsupportedMedia
from safelight.image.result import ImageInfo
from safelight.jobs.failure import DestinationError, SourceError
from safelight.jobs.perform import Outside
from safelight.jobs.queue import JobQueue
from safelight.jobs.reception import Reception
from safelight.jobs.record import Job, LegacyOperation, Order, Output, Placeholder, State
from safelight.jobs.rules import Code, LegacyJob, Refused

MAX_SOURCE_PIXELS = 100_000_000
FOREMOST = 100
"""Priority of jobs that a client waits for; back-fill may wait."""
LOOK_AGAIN_S = 0.25
SVG = "image/svg+xml"


class Acceptance:
    """Checks jobs, keeps them durably and waits until a worker, of this process or another, has begun them.

    `is_strict`: refuse what is no SVG instead of delivering the failure picture for it, as the older server
    did.
    """

    def __init__(
        self, queue: JobQueue, engine: Engine, outside: Outside, reception: Reception, *, is_strict: bool
    ) -> None:
        self._queue = queue
        self._engine = engine
        self._outside = outside
        self._reception = reception
        self._is_strict = is_strict

    async def accept(self, job: LegacyJob) -> str:
        """Return the id of the job once it is durable and its placeholder lies at the destination.

        A job may be begun although nobody is told so, if the server is killed or the caller gives up.

        Raises: Refused; StorageError when the queue fails; Busy, Timeout, ImageError of the engine.
        """
        source = await self._checked_source(job)
        order = Order(
            source=job.source,
            outputs=(Output(job.operation, job.delivery),),
            priority=FOREMOST,
            key=f"imgserve {secrets.token_hex(16)}",
            legacy=True,
        )
        with self._reception.visit(order.key or "", source) as begun:
            (job_id,) = await self._queue.submit([order])
            await self._until_begun(job_id, begun)
        return job_id

    async def _checked_source(self, job: LegacyJob) -> Blob:
        """The source, to be closed. Raises: Refused, and what the engine raises about itself."""
        try:
            blob = await self._outside.fetch(job.source)
        except SourceError as error:
            raise Refused(Code.NOT_FETCHED, detail=_shown(error)) from error
        try:
            await self._check(job.operation, blob)
        except BaseException:
            blob.close()
            raise
        return blob

    async def _check(self, operation: LegacyOperation, blob: Blob) -> None:
        if operation.kind == "rasterize" and not self._is_strict:
            return
        code = Code.NO_IMAGE if operation.kind == "resize" else Code.NO_SVG
        try:
            info = await self._engine.identify(blob)
        except (UnsupportedMedia, TooLarge) as error:
            raise Refused(code, detail=error.detail or error.message) from error
        if (info.mime_type == SVG) != (operation.kind == "rasterize"):
            raise Refused(code, detail=f"the source is {info.mime_type}")
        if operation.kind == "resize":
            _check_size(operation, info)

    async def _until_begun(self, job_id: str, begun: "asyncio.Future[None]") -> None:
        """Raises: Refused when the placeholder was not taken."""
        while True:
            await asyncio.wait([begun], timeout=LOOK_AGAIN_S)
            if begun.done():
                try:
                    begun.result()
                except DestinationError as error:
                    raise Refused(Code.NOT_DELIVERED, detail=_shown(error)) from error
                return
            if _is_begun(await self._queue.get(job_id)):
                return


def _check_size(operation: LegacyOperation, info: ImageInfo) -> None:
    if info.width * info.height > MAX_SOURCE_PIXELS:
        raise Refused(Code.NO_IMAGE, detail=f"{info.width}x{info.height} pixels are too many")
    if info.width < operation.width or info.height < operation.height:
        raise Refused(Code.TOO_SMALL, detail=f"the source has {info.width}x{info.height} pixels")


def _is_begun(job: Job) -> bool:
    """Raises: Refused when the job has ended without ever having begun."""
    if job.footprint.placeholder is not Placeholder.NONE or job.state is State.DONE:
        return True
    if job.state in (State.DEAD, State.CANCELLED):
        raise Refused(Code.NOT_DELIVERED, detail=job.reason or "the job was cancelled")
    return False


def _shown(error: SourceError | DestinationError) -> str:
    return f"{error.message} ({error.detail})" if error.detail else error.message
