"""Copies of stored objects on disk, in the format of httpimagestore's S3 object cache (reference 6.5).

A file is the length of its head (4 bytes, little-endian), the head, then the data up to the end of the file.
The head is a MessagePack map with string keys; ours are `content_type`, `private_url`, `public_url` and
`modified`, a Unix time, and `version`, which the older server does not know.
"""

import asyncio
import hashlib
import os
import struct
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from safelight.blob import Blob, FileBlob, MemoryBlob
from safelight.errors import ConfigError, MemoryLimitExceeded, SetupError, StorageError
from safelight.finish import to_the_end
from safelight.storage.base import Joining, MakeUrl, Storage, Stored
from safelight.storage.bounded import BoundedDirectory
from safelight.storage.flight import SharedCall
from safelight.storage.s3.signature import ends_at
from safelight.url import Url, parse_url

LAYOUT = ("[0-9a-f]{2}", "[0-9a-f]{2}", "[0-9a-f]{28}")
"""Names of the files of an object cache, for its `BoundedDirectory`."""

UrlKey = Literal["public_url", "private_url"]

_LENGTH = struct.Struct("<I")
_HEAD_MAX_BYTES = 1 << 16
_IN_MEMORY_BYTES = 1 << 16
"""Data up to this size is read at once; a read of that takes less than keeping the file open."""

_FIRST_S, _END_S = -62_135_596_800, 253_402_300_800
"""Unix times of the years 1 to 9999: what `Last-Modified` can say."""

_Head = dict[str, msgspec.Raw]
_head = msgspec.msgpack.Decoder(_Head)
_time = msgspec.msgpack.Decoder(float)
_log = structlog.get_logger("safelight.storage")


class _Damaged(Exception):
    """A cache file that nobody has written in this format, or not to its end."""


@dataclass(eq=False)
class Watch:
    """What somebody who is about to keep a copy sees. `overtaken`: the object has changed in the meantime."""

    overtaken: bool = False


def check_directory(directory: Path) -> str | None:
    """None if objects can be cached in `directory`; a warning if it is not there and the cache stays off.

    Raises: ConfigError when it is there but this process may not use it.
    """
    if not directory.is_dir():
        return f"S3 object cache directory '{directory}' does not exist or not a directory"
    for access, ability in ((os.X_OK, "readable"), (os.W_OK, "writable")):
        if not os.access(directory, access):
            raise ConfigError(f"S3 object cache directory '{directory}' is not {ability}")
    return None


class ObjectCache:
    """Copies of objects, by address: `<bucket>/<full key>`.

    A file that is damaged or that the system refuses is never an error: it is one warning and counts as
    `total_s3_cache_errors` by `count`. Within a process one directory should have one `ObjectCache`, so that
    nobody keeps an old copy of what another is replacing.
    """

    def __init__(self, directory: BoundedDirectory, count: Callable[[str], None]) -> None:
        self._directory = directory
        self._count = count
        self._watches: dict[str, list[Watch]] = {}
        self._keeping: SharedCall[tuple[str, UrlKey, int], None] = SharedCall()

    def get(self, address: str, url_key: UrlKey, max_bytes: int) -> Stored | None:
        """The copy of an object, if it is there with its content type and the URL called `url_key`.

        Reads at most 64 KiB of data, otherwise leaves the file open.
        Raises: MemoryLimitExceeded when the data is larger than `max_bytes`.
        """
        found = self._read(address, url_key)
        self._count("total_s3_cache_hits" if found else "total_s3_cache_misses")
        if found and found.data.size > max_bytes:
            found.data.close()
            raise MemoryLimitExceeded
        return found

    async def keep(
        self, address: str, stored: Stored, url_key: UrlKey, watch: Watch, *, replaced: bool
    ) -> None:
        """Keep a copy, unless `watch` says that it is old. When that fails, no copy remains.

        Those who share the data of one download write it once. `replaced`: the object is new,
        so nothing of an older copy's head applies to it.
        """
        # To the end, as what drops it: the thread of a request that is given up may write after that.
        start = partial(self._keep, address, stored, url_key, watch, replaced)
        await to_the_end(self._keeping.join((address, url_key, id(stored.data)), start))

    async def drop(self, address: str) -> None:
        """Forget an object because it was changed or deleted, or may have been."""
        self.overtake(address)
        await to_the_end(asyncio.to_thread(self._remove, address))

    @contextmanager
    def watched(self, address: str) -> Generator[Watch]:
        """Learn whether somebody in this process changes the object meanwhile."""
        watch = Watch()
        with self._told(address, watch):
            yield watch

    def overtake(self, address: str, by: Watch | None = None) -> None:
        """Tell all who watch `address`, but `by` itself, that the object has changed."""
        for watch in self._watches.get(address, ()):
            watch.overtaken = watch.overtaken or watch is not by

    async def settle(self, address: str, url_key: UrlKey, version: str | None) -> None:
        """Drop a copy that is not known to be of the `version` that is stored now."""
        copy = self._read(address, url_key)
        if copy is not None:
            copy.data.close()
            if not copy.version or copy.version != version:
                await self.drop(address)

    async def _keep(
        self, address: str, stored: Stored, url_key: UrlKey, watch: Watch, replaced: bool
    ) -> None:
        with self._told(address, watch):  # also when who began to watch has been cancelled
            if not watch.overtaken:
                await asyncio.to_thread(self._write, address, stored, url_key, replaced)
            if watch.overtaken:
                await asyncio.to_thread(self._remove, address)

    @contextmanager
    def _told(self, address: str, watch: Watch) -> Generator[None]:
        """Let `watch` see the changes of an object."""
        self._watches.setdefault(address, []).append(watch)
        try:
            yield
        finally:
            self._watches[address].remove(watch)
            if not self._watches[address]:
                del self._watches[address]

    def _read(self, address: str, url_key: UrlKey) -> Stored | None:
        try:
            descriptor = self._directory.open(_name(address))
            return None if descriptor is None else _stored(descriptor, url_key)
        except (_Damaged, StorageError, OSError) as error:
            self._count("total_s3_cache_errors")
            self._warn("cannot use S3 object cache file", address, error)
            return None

    def _write(self, address: str, stored: Stored, url_key: UrlKey, replaced: bool) -> None:
        head = {} if replaced else self._kept_head(address)
        ours: dict[str, object] = {"content_type": stored.content_type, url_key: str(stored.url())}
        if stored.modified is not None:
            ours["modified"] = stored.modified
        if stored.version:
            ours["version"] = stored.version
        for name in ("modified", "version"):  # of what the older copy held
            head.pop(name, None)
        encoded = msgspec.msgpack.encode({**head, **ours})
        try:
            start = MemoryBlob(_LENGTH.pack(len(encoded)) + encoded)
            self._directory.write(_name(address), [start, stored.data])
        except StorageError as error:
            self._warn("cannot write S3 object cache file", address, error)
            self._remove(address)

    def _kept_head(self, address: str) -> _Head:
        """The head of an older copy; nothing if there is none that can be read."""
        try:
            descriptor = self._directory.open(_name(address))
            if descriptor is None:
                return {}
            try:
                return _read_head(descriptor)[0]
            finally:
                os.close(descriptor)
        except (_Damaged, StorageError, OSError):
            return {}

    def _remove(self, address: str) -> None:
        try:
            self._directory.remove(_name(address))
        except StorageError as error:
            self._count("total_s3_cache_errors")
            self._warn("cannot remove S3 object cache file", address, error)

    def _warn(self, what: str, address: str, error: Exception) -> None:
        file = f"{self._directory.root}/{_name(address)}"
        _log.warning(what, object=address, file=file, reason=str(error))


class CachedStorage:
    """A storage whose objects are read from an `ObjectCache` where it has them.

    `address` turns a key into the address of its object. `url_key` says which of an object's URLs `inner`
    gives.
    """

    def __init__(
        self, inner: Storage, cache: ObjectCache, address: Callable[[str], str], url_key: UrlKey
    ) -> None:
        self._inner = inner
        self._cache = cache
        self._address = address
        self._url_key: UrlKey = url_key

    def place(self, key: str) -> str:
        """See `Storage.place`."""
        return self._inner.place(key)

    async def get(self, key: str, max_bytes: int) -> Stored:
        """See `Storage.get`. A copy is served without asking the storage for anything."""
        address = self._address(key)
        if found := self._cache.get(address, self._url_key, max_bytes):
            return found
        with self._cache.watched(address) as watch:
            fetched = await self._inner.get(key, max_bytes)
            url = _as_cached(fetched.url())
            stored = replace(fetched, url=lambda: url)
            await self._cache.keep(address, stored, self._url_key, watch, replaced=False)
        return stored

    def separate(self, key: str, state: object) -> None:
        """See `Joining`."""
        if isinstance(self._inner, Joining):
            self._inner.separate(key, state)

    async def version(self, key: str) -> str | None:
        """See `Storage.version`: of what is stored now. A copy of another version is dropped."""
        version = await self._inner.version(key)
        await self._cache.settle(self._address(key), self._url_key, version)
        return version

    async def put(self, key: str, data: Blob, content_type: str | None = None) -> MakeUrl:
        """See `Storage.put`. The copy is written once the storage has the object."""
        address = self._address(key)
        with self._cache.watched(address) as watch:
            try:
                make_url = await self._inner.put(key, data, content_type)
            except BaseException:  # whatever the storage holds now
                await self._cache.drop(address)
                raise
            self._cache.overtake(address, by=watch)
            url = _as_cached(make_url())
            stored = Stored(data, lambda: url, content_type)
            await self._cache.keep(address, stored, self._url_key, watch, replaced=True)
        return stored.url

    async def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        try:
            await self._inner.delete(key)
        finally:
            await self._cache.drop(self._address(key))


def _name(address: str) -> str:
    digits = hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{digits[:2]}/{digits[2:4]}/{digits[4:32]}"


def _as_cached(url: Url) -> Url:
    """As it will be read from the cache, where the default ports of all schemes vanish (reference 6.7)."""
    return parse_url(str(url))


def _stored(descriptor: int, url_key: UrlKey) -> Stored | None:
    """What a cache file holds; None when the URL or the content type is missing. Takes over `descriptor`.

    Raises: _Damaged; OSError.
    """
    try:
        head, start = _read_head(descriptor)
        url, content_type, modified = _url(head, url_key), _content_type(head), _modified(head)
        version = _text_value(head, "version") or ""
        if url is None or "content_type" not in head:
            return None
        size = os.fstat(descriptor).st_size - start
        if size > _IN_MEMORY_BYTES:
            data: Blob = FileBlob(os.dup(descriptor), size, start)
        else:
            data = MemoryBlob(os.pread(descriptor, size, start))
        return Stored(data, lambda: url, content_type, modified, version)
    finally:
        os.close(descriptor)


def _read_head(descriptor: int) -> tuple[_Head, int]:
    """The map, and where the data begins. Raises: _Damaged; OSError."""
    content = os.pread(descriptor, _LENGTH.size, 0)
    if len(content) < _LENGTH.size:
        raise _Damaged("the file is shorter than its length field")
    (length,) = _LENGTH.unpack(content)
    if length > _HEAD_MAX_BYTES:
        raise _Damaged(f"a head of {length} bytes")
    content = os.pread(descriptor, length, _LENGTH.size)
    if len(content) < length:
        raise _Damaged(f"the file ends within its head of {length} bytes")
    try:
        return _head.decode(content), _LENGTH.size + length
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Damaged(f"the head is no map: {error}") from error


def _url(head: _Head, key: UrlKey) -> Url | None:
    """None also for a link that opens nothing any more. Raises: _Damaged."""
    text = _text_value(head, key)
    try:
        url = None if text is None else parse_url(text)
        return None if url is None or ends_at(url) <= time.time() else url
    except SetupError as error:
        raise _Damaged(f"{key}: {error.message}") from error


def _content_type(head: _Head) -> str | None:
    """Raises: _Damaged. Ends in a header of answers, so nothing may hide in it."""
    text = _text_value(head, "content_type")
    if text is not None and not (text.isascii() and text.isprintable()):
        raise _Damaged("content_type holds characters that no header may hold")
    return text


def _modified(head: _Head) -> float | None:
    """Raises: _Damaged. Ends in a header of answers as well."""
    if "modified" not in head:
        return None
    try:
        modified = _time.decode(head["modified"])
    except msgspec.DecodeError as error:
        raise _Damaged(f"modified: {error}") from error
    if not _FIRST_S <= modified < _END_S:
        raise _Damaged(f"modified: {modified} is no time")
    return modified


def _text_value(head: _Head, key: str) -> str | None:
    """Raises: _Damaged. Ruby writes strings without a known encoding as bytes."""
    if key not in head:
        return None
    try:
        value: object = msgspec.msgpack.decode(head[key])
        text = value.decode() if isinstance(value, bytes) else value
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Damaged(f"{key}: {error}") from error
    if not isinstance(text, str | None):
        raise _Damaged(f"{key} is no text")
    return text
