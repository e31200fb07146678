"""Buckets of an object store as storages: keys, retries, regions and errors (reference/imagestore 6.4)."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from safelight.blob import Blob, MemoryBlob
from safelight.errors import (
    BadRequest,
    MemoryLimitExceeded,
    NoSuchKey,
    StorageError,
)
from safelight.spool import MEMORY_BYTES, Spool
from safelight.storage.base import MakeUrl, Stored
from safelight.storage.flight import SharedCall
from safelight.storage.s3 import address, signature
from safelight.storage.s3.account import Account, Patience
from safelight.storage.s3.failure import explained, may_pass
from safelight.storage.s3.library import Library, expressible
from safelight.storage.s3.outlook import Outlook
from safelight.storage.s3.transport import Found, Refused, Transport, TransportError, Unreachable, Upload
from safelight.url import Url

if TYPE_CHECKING:
    from safelight.storage.s3.direct import Direct

T = TypeVar("T")

STANDARD_REGION = "us-east-1"

_REDIRECTED = frozenset({301, 307})
_ELSEWHERE = _REDIRECTED | {400, 403}
"""What stores answer in a wrong region; 403 where the library followed a redirect without its signature."""

_LIBRARY_ENDS_S = 0.05
"""When an answer is here, a thread of the library is still letting go of objects of the interpreter. A
process that ends at that very moment is aborted: one of fifteen that ended at once after an upload.
"""

_MAX_STATES = 4096
_NO_ACLS = frozenset({"AccessControlListNotSupported", "NotImplemented"})
_DIRECTORY = "application/x-directory"

_log = structlog.get_logger("safelight.storage")


@dataclass(frozen=True, slots=True)
class _Content:
    """What an object holds."""

    data: Blob
    content_type: str | None
    modified: float | None
    version: str


class _Larger(Exception):
    """An object has more bytes than whoever began its download can take."""

    def __init__(self, size: int) -> None:
        self.size = size


class Client:
    """One account: its connections, what it learned of its buckets, and the downloads under way.

    It belongs to one event loop. `spool_directory`: where large objects wait, None for the system's
    temporary directory. `states`: of the objects that were asked for last, see `Joining`.
    """

    def __init__(
        self, account: Account, spool_directory: Path | None = None, patience: Patience | None = None
    ) -> None:
        self.account = account
        self.spool_directory = spool_directory
        self.patience = patience or Patience()
        self.outlook = Outlook(self.patience.give_up_s)
        self.downloads: SharedCall[tuple[str, str, int], _Content] = SharedCall()
        self.states: dict[tuple[str, str], object] = {}
        self._regions: dict[str, str] = {}
        self._region_requests: SharedCall[str, str | None] = SharedCall()
        self._without_acls: set[str] = set()
        self._libraries: dict[tuple[str, str], Library] = {}
        self._directs: dict[tuple[str, str], Direct] = {}

    async def close(self) -> None:
        """Close its connections; those of the library close themselves."""
        for direct in self._directs.values():
            await direct.close()
        if self._libraries:
            await asyncio.sleep(_LIBRARY_ENDS_S)

    def bucket(
        self, name: str, *, prefix: str = "", public: bool = False, cache_control: str | None = None
    ) -> "Bucket":
        """A bucket as a storage. `prefix` stands in front of all keys; `public` objects are for everybody."""
        return Bucket(self, name, prefix, public, cache_control)

    def region(self, bucket: str) -> str:
        """The region of `bucket` as far as we know."""
        return self.account.region or self._regions.get(bucket, STANDARD_REGION)

    async def find_region(self, bucket: str) -> str:
        """The region of `bucket`, asked for once. The standard one when the store names none."""
        if self.account.region is None and bucket not in self._regions:
            try:
                self._regions[bucket] = await self._ask_region(bucket) or STANDARD_REGION
            except TransportError as error:
                _log.warning(f"region of S3 bucket '{bucket}' cannot be found out", detail=str(error))
        return self.region(bucket)

    async def follow(self, bucket: str, tried: str, refused: Refused) -> bool:
        """Whether a refusal in the region `tried` sends us to another one, which is then remembered.

        Raises: Unreachable, Refused when the store cannot be asked for it.
        """
        if self.account.region is not None or refused.status not in _ELSEWHERE:
            return False
        if self.region(bucket) == tried:
            region = refused.region
            if region is None and (refused.status in _REDIRECTED or bucket not in self._regions):
                region = await self._ask_region(bucket)
            self._regions[bucket] = region or tried
        return self.region(bucket) != tried

    def takes_acls(self, bucket: str) -> bool:
        return bucket not in self._without_acls

    def note_without_acls(self, bucket: str) -> None:
        """Remember that `bucket` refuses ACLs: who may read is the business of its policy."""
        _log.warning(f"S3 bucket '{bucket}' takes no ACLs: its policy alone says who may read its objects")
        self._without_acls.add(bucket)

    def transport(self, bucket: str, key: str) -> Transport:
        """What can send requests about `key`."""
        return self._library(bucket) if expressible(key) else self._direct(bucket)

    async def _ask_region(self, bucket: str) -> str | None:
        """Raises: Unreachable, Refused."""
        return await self._region_requests.join(bucket, self._direct(bucket).find_region)

    def _library(self, bucket: str) -> Library:
        region = self.region(bucket)
        library = self._libraries.get((bucket, region))
        if library is None:
            url = address.request_url(self.account.endpoint, bucket, region)
            library = Library(url, region, bucket, self.account.credentials, self.patience)
            self._libraries[bucket, region] = library
        return library

    def _direct(self, bucket: str) -> "Direct":
        from safelight.storage.s3.direct import Direct  # seldom used; httpx takes long to import

        region = self.region(bucket)
        if (bucket, region) not in self._directs:
            url = address.request_url(self.account.endpoint, bucket, region)
            self._directs[bucket, region] = Direct(url, region, self.account.credentials, self.patience)
        return self._directs[bucket, region]


class Bucket:
    """One bucket under one prefix. Keys of the storage are without the prefix, and so are messages."""

    def __init__(
        self, client: Client, name: str, prefix: str, public: bool, cache_control: str | None
    ) -> None:
        self._client = client
        self._name = name
        self._prefix = prefix
        self._public = public
        self._cache_control = cache_control

    def full_key(self, key: str) -> str:
        """The object's key in the bucket. Raises: Forbidden, BadRequest for what cannot be one."""
        return address.object_key(self._prefix, key, keeps_dots=self._client.account.endpoint.is_aws)

    def place(self, key: str) -> str:
        """See `Storage.place`."""
        endpoint = self._client.account.endpoint
        return f"s3:{endpoint.host}:{endpoint.port}{endpoint.base_path}/{self._name}/{self.full_key(key)}"

    async def get(self, key: str, max_bytes: int) -> Stored:
        """See `Storage.get`. Equal requests at the same time are one; the content is here when it returns."""
        full_key = self.full_key(key)
        content = await self._shared(full_key, max_bytes, partial(self._download, key, full_key, max_bytes))
        if content.data.size > max_bytes:
            raise MemoryLimitExceeded
        make_url = await self._url(full_key)
        return Stored(content.data, make_url, content.content_type, content.modified, content.version)

    async def version(self, key: str) -> str | None:
        """See `Storage.version`: the ETag and the time of the last change, by one HEAD request."""
        full_key = self.full_key(key)
        return await self._attempts(key, full_key, lambda transport: transport.version(full_key))

    async def put(self, key: str, data: Blob, content_type: str | None = None) -> MakeUrl:
        """See `Storage.put`: one PUT request, acknowledged by the store."""
        full_key = self.full_key(key)
        if full_key.endswith("/") and not self._client.account.endpoint.is_aws:
            # SeaweedFS makes a directory of it, drops the data and says 200
            raise BadRequest(f"S3 key '{key}' refused: nothing can be stored under a name that ends in '/'")
        if content_type is None or not _fits_header(content_type):
            _log.warning(f"storing '{key}' in S3 bucket '{self._name}' without a content type")
            content_type = None
        upload = Upload(data, content_type, self._cache_control, "public-read" if self._public else "private")
        try:
            await self._attempts(
                key, full_key, lambda transport: self._upload(transport, full_key, upload), at_once=False
            )
        except NoSuchKey as error:  # no object store says so of an upload
            message = f"S3 bucket '{self._name}': the object store answered 404"
            raise StorageError(message, detail=error.detail) from error
        finally:
            self._changed(full_key)
        return await self._url(full_key)

    async def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        full_key = self.full_key(key)
        was_there = False

        async def delete(transport: Transport) -> None:
            """After the first attempt a missing object is one that we have deleted."""
            nonlocal was_there
            if not was_there:
                await self._be_there(transport, full_key)
            seen, was_there = was_there, True
            try:
                await transport.delete(full_key)
            except Refused as refused:
                if not seen or refused.status != 404:
                    raise

        try:
            await self._attempts(key, full_key, delete)
        finally:
            self._changed(full_key)

    async def _shared(
        self, full_key: str, max_bytes: int, download: Callable[[], Coroutine[None, None, _Content]]
    ) -> _Content:
        """Join a download of the object, or begin it. Raises: what `download` raises."""
        while True:
            try:
                return await self._client.downloads.join(self._flight(full_key), download)
            except _Larger as larger:
                if larger.size > max_bytes:
                    raise MemoryLimitExceeded from None

    async def _download(self, key: str, full_key: str, max_bytes: int) -> _Content:
        return await self._attempts(
            key, full_key, lambda transport: self._receive(transport, full_key, max_bytes)
        )

    async def _receive(self, transport: Transport, full_key: str, max_bytes: int) -> _Content:
        """The whole object or nothing. Raises: _Larger, StorageError, Unreachable, Refused."""
        found = await self._found(transport, full_key)
        try:
            if found.size > max_bytes:
                self._client.outlook.note_heard(self._name)
                raise _Larger(found.size)
            small = found.size <= MEMORY_BYTES
            data = MemoryBlob(await found.read()) if small else await self._spooled(found.pieces())
            if data.size != found.size:
                raise Unreachable(f"{data.size} instead of {found.size} bytes of '{full_key}' arrived")
            return _Content(data, found.content_type, found.modified, found.version)
        finally:
            await found.close()

    async def _be_there(self, transport: Transport, full_key: str) -> None:
        """Raises: Unreachable; Refused, unless the object exists.

        A GET says whether the key or its bucket is missing, whether the name is none, or a directory; a HEAD
        has no words for it.
        """
        try:
            is_there = not full_key.endswith("/") and await transport.version(full_key) is not None
        except Refused as refused:
            if refused.status != 400:
                raise
            is_there = False
        if not is_there:
            found = await self._found(transport, full_key)
            await found.close()

    async def _found(self, transport: Transport, full_key: str) -> Found:
        """Raises: Unreachable; Refused, also for a directory, which SeaweedFS shows as an empty object."""
        found = await transport.get(full_key)
        is_directory = full_key.endswith("/") and found.content_type == _DIRECTORY
        if is_directory and not self._client.account.endpoint.is_aws:
            await found.close()
            raise Refused(404, f"GET {full_key}: a directory")
        return found

    async def _spooled(self, arriving: AsyncGenerator[bytes]) -> Blob:
        """Raises: StorageError, Unreachable."""
        spool = Spool(self._client.spool_directory)
        try:
            async with aclosing(arriving) as pieces:
                async for piece in pieces:
                    self._client.outlook.note_heard(self._name)
                    await spool.add(piece)
            return await spool.finish()
        finally:
            spool.close()

    async def _upload(self, transport: Transport, full_key: str, upload: Upload) -> None:
        if not self._client.takes_acls(self._name):
            upload = replace(upload, acl=None)
        try:
            await transport.put(full_key, upload)
        except Refused as refused:
            if upload.acl is None or refused.code not in _NO_ACLS:
                raise
            await transport.put(full_key, replace(upload, acl=None))
            self._client.note_without_acls(self._name)

    def separate(self, key: str, state: object) -> None:
        """See `Joining`. Where it is not remembered what was told last, nobody joins either."""
        full_key, states = self.full_key(key), self._client.states
        place = self._name, full_key
        if states.pop(place, None) != state or state is None:
            self._changed(full_key)
        if state is not None:
            states[place] = state
            if len(states) > _MAX_STATES:
                del states[next(iter(states))]

    def _changed(self, full_key: str) -> None:
        """Downloads under way may hold what was there before."""
        self._client.downloads.leave(self._flight(full_key))

    def _flight(self, full_key: str) -> tuple[str, str, int]:
        """What equal downloads have in common. Nobody joins those of an earlier round any more."""
        return self._name, full_key, self._client.outlook.round(self._name)

    async def _attempts(
        self,
        key: str,
        full_key: str,
        attempt: Callable[[Transport], Awaitable[T]],
        *,
        at_once: bool = True,
    ) -> T:
        """Attempt again what may succeed another time, with growing pauses, while there is patience.

        `at_once`: whether a store that works begins to answer at once, as it does all but uploads.

        Raises: what `attempt` raises of ours; the last failure in our words.
        """
        client, patience, outlook = self._client, self._client.patience, self._client.outlook
        began = time.monotonic()
        give_up_at = began + outlook.give_up_s(self._name)
        pause_s = patience.backoff_s
        left_regions: set[str] = set()
        while True:
            region = client.region(self._name)
            try:
                transport = client.transport(self._name, full_key)
                result = await (self._asked(attempt, transport) if at_once else attempt(transport))
                outlook.note_answered(self._name)
                return result
            except Refused as refused:
                outlook.note_heard(self._name)
                failure: TransportError = refused
                if region not in left_regions and await self._follow(region, refused):
                    left_regions.add(region)
                    continue
            except Unreachable as unreachable:
                failure = unreachable
            if not may_pass(failure):
                outlook.note_answered(self._name)
                raise explained(failure, self._name, key) from failure
            if time.monotonic() + pause_s > give_up_at:
                outlook.note_given_up(self._name, began, failure, at_once=at_once)
                raise explained(failure, self._name, key) from failure
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 (no secret)
            pause_s = min(2 * pause_s, patience.max_backoff_s)

    async def _asked(self, attempt: Callable[[Transport], Awaitable[T]], transport: Transport) -> T:
        """One attempt, unless the store keeps silent. Raises: Unreachable, what `attempt` raises."""
        outlook = self._client.outlook
        await outlook.admit(self._name)
        began = time.monotonic()
        try:
            return await attempt(transport)
        except asyncio.CancelledError:
            outlook.note_left(self._name, began)
            raise

    async def _follow(self, tried: str, refused: Refused) -> bool:
        try:
            return await self._client.follow(self._name, tried, refused)
        except TransportError:
            return False

    async def _url(self, full_key: str) -> MakeUrl:
        """Makes the URL that clients are given. The region is found out where it depends on that."""
        account, name = self._client.account, self._name
        regional = account.url_signature == "v4" and not self._public
        region = self._client.region(name)
        if regional or address.needs_region(account.endpoint, name):
            region = await self._client.find_region(name)
        return partial(self._made_url, full_key, region, regional=regional)

    def _made_url(self, full_key: str, region: str, *, regional: bool) -> Url:
        """Plain for public objects, signed for the others."""
        account, name = self._client.account, self._name
        object_url = address.regional_object_url if regional else address.object_url
        url = object_url(account.endpoint, name, full_key, region)
        if self._public:
            return url
        query = signature.private_query(account, name, full_key, url, region, time.time())
        return Url(url.scheme, url.path, url.host, url.port, query, url.original_scheme)


def _fits_header(text: str) -> bool:
    """Whether all clients can send `text` in a header."""
    return text.isascii() and text.isprintable()
