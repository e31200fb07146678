"""Failed requests to an object store: whether they may succeed another time, and what to say of them."""

from safelight.errors import (
    BadRequest,
    Busy,
    NoSuchBucket,
    NoSuchKey,
    S3AccessDenied,
    SafelightError,
    StorageError,
    StorageUnreachable,
    Timeout,
)
from safelight.storage.s3.transport import Refused, TransportError, Unreachable

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})

_SLOW_SENDER = "RequestTimeout"
"""Amazon S3, "Error responses": a connection was idle; the status is 400."""

_BAD_NAMES = {
    "KeyTooLongError": "it is too long",
    **dict.fromkeys(
        ("XMinioInvalidObjectName", "XMinioInvalidResourceName", "InvalidObjectName"), "it is no name"
    ),
}


def may_pass(failure: TransportError) -> bool:
    """Whether the same request may succeed a moment later."""
    if not isinstance(failure, Refused):
        return True
    return failure.status in _TRANSIENT or failure.code == _SLOW_SENDER


def explained(failure: TransportError, bucket: str, key: str) -> SafelightError:
    """`failure` in the words of the reference, where it has some (reference/imagestore 6.4).

    `key`: without its prefix, as clients know it.
    """
    place, detail = f"S3 bucket '{bucket}'", str(failure)
    if _was_slow(failure):
        return Timeout(f"{place}: the object store does not answer in time", detail=detail)
    if not isinstance(failure, Refused):
        return StorageUnreachable(f"{place}: the object store cannot be reached", detail=detail)
    if failure.code == "NoSuchBucket":
        return NoSuchBucket(f"{place} does not exist", detail=detail)
    if failure.status == 404:
        return NoSuchKey(f"{place} does not contain key '{key}'", detail=detail)
    if failure.status in (401, 403):
        return S3AccessDenied(f"access to {place} or key '{key}' was denied", detail=detail)
    if fault := _BAD_NAMES.get(failure.code):
        return BadRequest(f"S3 key '{key}' refused: {fault} for the object store", detail=detail)
    if failure.status in (429, 503):
        return Busy(f"{place}: the object store is overloaded", retry_after_s=2, detail=detail)
    code = f" {failure.code}" if failure.code else ""
    kind = StorageUnreachable if failure.status >= 500 else StorageError
    return kind(f"{place}: the object store answered {failure.status}{code}", detail=detail)


def _was_slow(failure: TransportError) -> bool:
    if isinstance(failure, Refused):
        return failure.status in (408, 504) or failure.code == _SLOW_SENDER
    return isinstance(failure, Unreachable) and failure.slow
