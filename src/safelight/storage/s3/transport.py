"""What a bucket needs from a client of the S3 protocol, and how its failures look."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from safelight.blob import Blob


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


@dataclass(frozen=True, slots=True)
class Found:
    """An object whose content is on its way. `size` in bytes."""

    size: int
    content_type: str | None
    pieces: AsyncIterator[bytes]


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

    async def exists(self, key: str) -> bool: ...

    async def put(self, key: str, upload: Upload) -> None: ...

    async def delete(self, key: str) -> None: ...
