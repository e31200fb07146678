"""The code an engine runs on image data: named by a dotted path, loaded only where it runs."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol

from safelight.errors import (
    BadRequest,
    ConfigError,
    ImageError,
    MemoryLimitExceeded,
    SafelightError,
    SpecError,
    Timeout,
    TooLarge,
    UnsupportedMedia,
)
from safelight.image.result import ImageInfo, Thumbnails
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec

DEFAULT_HANDLER = "safelight.engine.handler:ImageHandler"

# The errors that image code may raise. Anything else that comes out of it, or claims to, becomes ImageError.
IMAGE_ERRORS: dict[str, type[SafelightError]] = {
    kind.__name__: kind
    for kind in (BadRequest, SpecError, TooLarge, MemoryLimitExceeded, UnsupportedMedia, ImageError, Timeout)
}
OUT_OF_MEMORY = "out of memory"


class Handler(Protocol):
    """Image code with its settings.

    Constructing it may import anything but must start no thread and run no libvips pipeline: workers are
    forked from the process that constructed it, and a fork after a pipeline hangs.
    """

    def warm_up(self) -> None:
        """Do once what would make the first request slow. Runs inside the jail, before any request."""
        ...

    def thumbnail(
        self, data: bytes | memoryview, specs: Sequence[ThumbnailSpec], granted_bytes: int | None = None
    ) -> Thumbnails:
        """As `Engine.thumbnail`. `data` is read-only and gone when the call returns: keep no reference.

        Raises: NotGranted, before anything is decoded, when more than `granted_bytes` of memory are needed.
        """
        ...

    def identify(self, data: bytes | memoryview) -> ImageInfo:
        """As `Engine.identify`, with the same condition on `data`."""
        ...


def error_name(error: SafelightError) -> str:
    """The class in `IMAGE_ERRORS` that an error belongs to: its own, or the nearest above it."""
    names = [kind.__name__ for kind in type(error).__mro__]
    return next((name for name in names if name in IMAGE_ERRORS), names[0])


def start_failure(error: Exception) -> str:
    """Why a handler cannot be loaded, as one line; errors of the configuration speak for themselves."""
    text = error.message if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
    return text.encode(errors="replace").decode()


def load_handler(path: str, settings: ImageSettings) -> Handler:
    """Import `package.module:factory` and call the factory. Raises: whatever these raise."""
    module_name, _, name = path.partition(":")
    factory: Callable[[ImageSettings], Handler] = getattr(import_module(module_name), name)
    return factory(settings)


def as_image_error(error: BaseException) -> SafelightError:
    """Translate what image code raised into an error that a caller may see."""
    if isinstance(error, SafelightError) and error_name(error) in IMAGE_ERRORS:
        return error
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or OUT_OF_MEMORY in detail:
        return TooLarge("image too large: out of memory", detail=detail)
    return ImageError("image processing failed", detail=detail)
