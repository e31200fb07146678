"""What every storage can do. A key is relative and clean, its parts separated by `/`."""

from typing import Protocol

from safelight.blob import Blob


class Storage(Protocol):
    """Bytes under keys."""

    async def get(self, key: str, max_bytes: int) -> Blob:
        """Open what is stored under `key`.

        Raises: NotFound; Forbidden for a key that leaves the storage; MemoryLimitExceeded when it holds
        more than `max_bytes`; StorageError for anything else.
        """
        ...

    async def put(self, key: str, data: Blob) -> None:
        """Store `data` under `key`, replacing what was there. On return it is durable; a reader sees the old
        content or the new, never a part.

        Raises: Forbidden; BadRequest for a name that cannot be stored; StorageError.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove `key` durably. Raises: NotFound; Forbidden; StorageError."""
        ...
