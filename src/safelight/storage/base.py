"""What every storage can do. A key is relative and clean, its parts separated by `/`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from safelight.blob import Blob
from safelight.url import Url

MakeUrl = Callable[[], Url]
"""A signature takes a tenth of the time of a small upload, and most answers show no URL."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a storage holds under a key.

    `url`: makes the URL that clients are given for it, which may take a signature. `modified`: Unix time of
    the last change, None when only the data can tell, or nobody. `version`: what `Storage.version` says of
    exactly this content, empty when that cannot be told.
    """

    data: Blob
    url: MakeUrl
    content_type: str | None = None
    modified: float | None = None
    version: str = ""


class Storage(Protocol):
    """Bytes under keys."""

    def place(self, key: str) -> str:
        """A name of what `key` leads to: equal where two storages, or two keys, lead to the same thing.

        Raises: Forbidden, BadRequest for what cannot be a key.
        """
        ...

    async def get(self, key: str, max_bytes: int) -> Stored:
        """Open what is stored under `key`.

        Raises: NotFound; Forbidden for a key that leaves the storage; MemoryLimitExceeded when it holds
        more than `max_bytes`; StorageError for anything else; Busy or Timeout for a storage elsewhere.
        """
        ...

    async def version(self, key: str) -> str | None:
        """Tells what is stored under `key` from all that was or will be stored there, on whatever machine.

        None when nothing is stored; empty when the storage cannot tell.

        Raises: Forbidden, BadRequest, StorageError, Busy, Timeout.
        """
        ...

    async def put(self, key: str, data: Blob, content_type: str | None = None) -> MakeUrl:
        """Store `data` under `key`, replacing what was there. On return it is durable; a reader sees the old
        content or the new, never a part. Returns what makes the URL that clients are given for it.

        Raises: Forbidden; BadRequest for a name that cannot be stored; StorageError; Busy or Timeout.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove `key` durably. Raises: NotFound; Forbidden; StorageError; Busy or Timeout."""
        ...


@runtime_checkable
class Joining(Protocol):
    """A storage in which equal requests at the same time are one."""

    def separate(self, key: str, state: object) -> None:
        """Let nobody join a request under way, unless `state` is what this was told last of `key`.

        `state`: another one after each change of what is stored there, None while it is being changed.
        """
        ...
