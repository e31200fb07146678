"""A storage whose changes reach the caches that others read from."""

from collections.abc import Callable, Sequence

from safelight.blob import Blob
from safelight.storage.base import MakeUrl, Storage, Stored
from safelight.storage.cache import ObjectCache

CopyPlace = tuple[ObjectCache, Callable[[str], str]]
"""A cache, and what makes the address under which it may hold the object of a key."""


class Forgetting:
    """`inner`, with `copies` that must hold nothing of an object that has changed."""

    def __init__(self, inner: Storage, copies: Sequence[CopyPlace]) -> None:
        self._inner = inner
        self._copies = copies

    def place(self, key: str) -> str:
        return self._inner.place(key)

    async def get(self, key: str, max_bytes: int) -> Stored:
        return await self._inner.get(key, max_bytes)

    async def version(self, key: str) -> str | None:
        return await self._inner.version(key)

    async def put(self, key: str, data: Blob, content_type: str | None = None) -> MakeUrl:
        try:
            return await self._inner.put(key, data, content_type)
        finally:
            await self._forget(key)

    async def delete(self, key: str) -> None:
        try:
            await self._inner.delete(key)
        finally:
            await self._forget(key)

    async def _forget(self, key: str) -> None:
        """Also after a failure: what a store did before it failed is not known."""
        for cache, address in self._copies:
            await cache.drop(address(key))
