"""What can go wrong, as one tree. No HTTP numbers here: see `server.errors` for the status table.

`message` is for the caller and may be shown to anybody; `detail` is for the log.
"""

import copy
from typing import Self


class SafelightError(Exception):
    """Base of every error that Safelight raises on purpose. `causes`: all failures that have led to it."""

    causes: "tuple[SafelightError, ...]" = ()

    def __init__(self, message: str, *, detail: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail

    def reworded(self, message: str) -> Self:
        """The same error with another message, to be raised `from` this one."""
        other = copy.copy(self)
        other.message = message
        other.args = (message,)
        return other


class ConfigError(SafelightError):
    """The configuration file cannot be used; the message holds every complaint, a line each."""


class BadRequest(SafelightError):
    """The request itself is wrong: its URL, its parameters or its image specification."""


class SpecError(BadRequest):
    """A thumbnail specification, option list or edit that does not parse."""


class UriTooLong(BadRequest):
    """The request target is longer than we accept."""


class Forbidden(SafelightError):
    """The request is understood and refused."""


class OutsideOfRoot(Forbidden):
    """A storage key that would leave its root directory."""


class NotFound(SafelightError):
    """What the request names does not exist."""


class NoSuchFile(NotFound):
    """No file under that key."""


class NoSuchKey(NotFound):
    """No object under that key of a bucket."""


class TooLarge(SafelightError):
    """More bytes or pixels than a limit allows."""


class MemoryLimitExceeded(TooLarge):
    """The image data of one request exceeds its memory limit."""

    def __init__(self, message: str = "memory limit exceeded", *, detail: str | None = None) -> None:
        super().__init__(message, detail=detail)


class UnsupportedMedia(SafelightError):
    """Input that no decoder accepts."""


class ImageError(SafelightError):
    """The image core failed on an input that it should have mastered."""


class EngineUnreachable(ImageError):
    """The server that should process images does not answer."""


class StorageError(SafelightError):
    """A storage refused or failed for a reason that is not the client's fault."""


class NoSuchBucket(StorageError):
    """An object store does not know the bucket."""


class S3AccessDenied(StorageError):
    """An object store refuses our credentials, or what they ask for."""


class StorageUnreachable(StorageError):
    """A storage elsewhere does not answer, or fails again and again."""


class Busy(SafelightError):
    """No capacity now; worth repeating after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: int = 1, detail: str | None = None) -> None:
        super().__init__(message, detail=detail)
        self.retry_after_s = retry_after_s


class Timeout(SafelightError):
    """A deadline has passed."""


class SetupError(SafelightError):
    """The configuration asks for something that this request does not have."""


class VariableNotDefined(SetupError):
    """A template or condition names a variable that nothing sets."""


class PathNotDefined(SetupError):
    """A statement names a `path` that the configuration does not define."""


class PathRenderingError(SetupError):
    """A variable of a path template cannot be computed."""


class ImageNotLoaded(SetupError):
    """A statement names an image that no earlier statement has provided."""


class S3NotConfigured(SetupError):
    """An S3 statement without an `s3` client to use."""


def is_passing(error: SafelightError) -> bool:
    """Whether it says nothing about what was asked for: another attempt may succeed.

    Of several causes one is enough. What a storage refuses is none, or what was kept would outlive the right
    to read it.
    """
    if error.causes:
        return any(map(is_passing, error.causes))
    is_refusal = isinstance(error, NoSuchBucket | S3AccessDenied)
    return isinstance(error, StorageError | Busy | Timeout | ImageError) and not is_refusal
