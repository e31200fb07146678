"""The one job of an engine: an image and specifications in, encoded images and metadata out."""

from collections.abc import Sequence
from typing import Protocol

from safelight.blob import Blob
from safelight.image.result import ImageInfo, Thumbnails
from safelight.image.spec import ThumbnailSpec


class Engine(Protocol):
    """Runs the image core somewhere. All methods may be called concurrently on one event loop."""

    async def start(self) -> None:
        """Get ready to serve. Raises: ImageError when that is impossible; the server then must not boot."""
        ...

    async def thumbnail(
        self, image: Blob, specs: Sequence[ThumbnailSpec], *, urgent: bool = False
    ) -> Thumbnails:
        """Decode `image` once and make every specified output.

        `urgent` requests (health checks) have a lane of their own.
        Raises: UnsupportedMedia, TooLarge, BadRequest for the input as a whole; Busy when the queue is full;
        Timeout past the deadline; ImageError otherwise. What fails for one specification only is an entry
        of the result.
        """
        ...

    async def identify(self, image: Blob) -> ImageInfo:
        """Type and size of `image`. Raises: as `thumbnail`."""
        ...

    async def close(self) -> None:
        """Stop and leave no process behind."""
        ...
