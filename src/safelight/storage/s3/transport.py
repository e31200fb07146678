"""What a bucket needs from a client of the S3 protocol, and how its failures look."""

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from safelight.blob import Blob

_CODE = re.compile(r"<Code>(\w{1,100})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
_REGION = re.compile(r"<Region>([\w-]+)</Region>", re.ASCII)
_NAME = re.compile(r"[\w-]+", re.ASCII)
_SHOWN_CHARACTERS = 200


class TransportError(Exception):
    """One attempt that failed; the text is for the log."""


class Unreachable(TransportError):
    """No answer, or only a part of one. `slow`: it was waited for too long."""

    def __init__(self, detail: str, *, slow: bool = False) -> None:
        super().__init__(detail)
        self.slow = slow


class Refused(TransportError):
    """An answer that says no: its status, the error code in it, and the region that it sends us to."""

    def __init__(self, status: int, detail: str, *, code: str = "", region: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.region = region


def refusal(status: int, request: str, body: str, region: str | None = None) -> Refused:
    """What an error answer to `request` says. `region`: what its header names.

    For the log there are only its code and message: stores that explain a wrong signature repeat all that was
    signed, of which a session token is a part.
    """
    code, message = _found(_CODE, body), _found(_MESSAGE, body)
    said = f"{code} {message}".strip() if code else body[:_SHOWN_CHARACTERS]
    region = named_region(region) or _found(_REGION, body) or None
    return Refused(status, f"{request}: {status} {said}".rstrip(), code=code, region=region)


def named_region(header: str | None) -> str | None:
    """The region that a header of an answer names. What cannot be one could not be signed for."""
    return header if header and _NAME.fullmatch(header) else None


def _found(pattern: re.Pattern[str], body: str) -> str:
    found = pattern.search(body)
    return found[1] if found else ""


def version_of(etag: str | None, modified: float | None) -> str:
    """The version of an object, empty without an `ETag`. Equal data stored anew may have another type."""
    return f"{etag} {modified}" if etag else ""


class Found(Protocol):
    """An object whose content is on its way. `size` in bytes, `modified` as Unix time; `version` as
    `Storage.version` has it.

    Whoever has it closes it. The content comes once, either way; both raise Unreachable when it breaks off,
    and may end early or late instead: compare with `size`.
    """

    size: int
    content_type: str | None
    modified: float | None
    version: str

    async def read(self) -> bytes:
        """All of it, for objects that are small."""
        ...

    def pieces(self) -> AsyncGenerator[bytes]: ...

    async def close(self) -> None:
        """Let go of what has not been received."""
        ...


@dataclass(frozen=True, slots=True)
class Upload:
    """An object to be written. `acl`: a canned ACL, None to send none."""

    data: Blob
    content_type: str | None
    cache_control: str | None
    acl: str | None


class Transport(Protocol):
    """One attempt at one request to one bucket in one region. All raise: Unreachable, Refused."""

    async def get(self, key: str) -> Found: ...

    async def version(self, key: str) -> str | None:
        """None when there is no such object."""
        ...

    async def put(self, key: str, upload: Upload) -> None:
        """Raises also: StorageError when the data was cut short."""
        ...

    async def delete(self, key: str) -> None: ...
