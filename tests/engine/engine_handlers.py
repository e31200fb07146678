"""Handlers that do to an engine what no image should. A template process imports them by dotted path.

The input says what to do: `verb argument`. Nothing here knows libvips.
"""

import hashlib
import time
from collections.abc import Sequence

from safelight.errors import ImageError, SpecError, TooLarge, UnsupportedMedia
from safelight.image.result import ImageInfo, Thumbnail, Thumbnails
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec

INFO = ImageInfo("image/x-test", 3, 2)


class ScriptHandler:
    """Does what its input says; what it does not know it hashes."""

    def __init__(self, settings: ImageSettings) -> None:
        self.settings = settings
        self.warm = False

    def warm_up(self) -> None:
        self.warm = True

    def thumbnail(self, data: bytes | memoryview, specs: Sequence[ThumbnailSpec]) -> Thumbnails:
        verb, _, argument = bytes(data[:200]).partition(b" ")
        act = getattr(self, "do_" + verb.decode("ascii", "replace"), None)
        made = act(argument.decode()) if act else None
        text = made if isinstance(made, bytes) else hashlib.sha256(data).digest()
        return Thumbnails(INFO, tuple(self.output(spec, text) for spec in specs))

    def output(self, spec: ThumbnailSpec, text: bytes) -> Thumbnail | ImageError | SpecError:
        if spec.method == "fail":
            return SpecError(f"no such method in spec '{spec}'")
        return Thumbnail(text + str(spec).encode(), "image/x-test", spec.width or 1, spec.height or 1)

    def identify(self, data: bytes | memoryview) -> ImageInfo:
        verb, _, argument = bytes(data[:200]).partition(b" ")
        if act := getattr(self, "do_" + verb.decode("ascii", "replace"), None):
            act(argument.decode())
        return ImageInfo("image/x-test", len(data), self.settings.jpeg_quality)

    def do_unsupported(self, argument: str) -> None:
        raise UnsupportedMedia("not an image", detail="detail for the log")

    def do_too_large(self, argument: str) -> None:
        raise TooLarge("image too large")

    def do_bug(self, argument: str) -> None:
        raise ZeroDivisionError("a bug")

    def do_memory_error(self, argument: str) -> None:
        raise MemoryError

    def do_sleep(self, argument: str) -> None:
        time.sleep(float(argument))

    def do_warm(self, argument: str) -> bytes:
        return str(self.warm).encode()

    def do_big(self, argument: str) -> bytes:
        return b"o" * int(argument)


class FailsToLoad:
    """Cannot even be constructed."""

    def __init__(self, settings: ImageSettings) -> None:
        raise RuntimeError("no codec here")


class FailsToWarmUp(ScriptHandler):
    """Loads, then fails in the worker."""

    def warm_up(self) -> None:
        raise RuntimeError("codec does not work")
