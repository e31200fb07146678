"""Requests by obstore: a seventh of the CPU of other clients, for all keys that it can express.

It sends what a key says only when no part of it is empty, `.` or `..`, and when it has no control character:
see `expressible`.
"""

import asyncio
import os
import re
from collections.abc import AsyncGenerator
from contextlib import nullcontext
from datetime import timedelta
from mmap import mmap
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from safelight.blob import Blob
from safelight.errors import StorageError
from safelight.storage.s3.account import Credentials, Patience
from safelight.storage.s3.transport import Refused, TransportError, Unreachable, Upload, refusal, version_of

if TYPE_CHECKING:
    from obstore import GetResult

PIECE_BYTES = 1 << 20

os.environ.setdefault("TOKIO_WORKER_THREADS", "1")
"""The library moves bytes on threads of its own. With one for each HTTP worker, of which there is one for
eight cores, a small download takes an eighth less CPU than with one for each core: fewer threads to wake.
"""

_INEXPRESSIBLE = re.compile(r"(^|/)(\.{0,2})(/|$)|[\x00-\x1f\x7f\\]")
_ANSWER = re.compile(r" - Server returned non-2xx status code: (\d{3})[^:\n]*:? ?(.*)", re.DOTALL)
_CAUSE_CHARACTERS = 400
_FOREVER = timedelta(days=1)
"""The library wants a limit for whole transfers; ours are on silence and on the request."""


def expressible(key: str) -> bool:
    """Whether the library sends `key` as it is."""
    return not _INEXPRESSIBLE.search(key)


class Library:
    """One bucket in one region, through obstore."""

    def __init__(
        self, url: str, region: str, bucket: str, credentials: Credentials, patience: Patience
    ) -> None:
        """`url`: where requests to the bucket go, the bucket included."""
        self._patience = patience
        self._settings: dict[str, Any] = {
            "config": {
                "aws_endpoint_url_s3": url,  # as `endpoint` it would yield to AWS_ENDPOINT_URL_S3
                "region": region,
                "virtual_hosted_style_request": True,  # the URL names the bucket already
                "disable_bulk_delete": True,
                # what is not said here the library takes from the environment
                "skip_signature": False,
                "s3_express": False,
                "request_payer": False,
                "unsigned_payload": False,
            },
            "client_options": {
                "allow_http": True,
                "connect_timeout": timedelta(seconds=patience.connect_s),
                "read_timeout": timedelta(seconds=patience.silence_s),
                "timeout": _FOREVER,
            },
            "retry_config": {"max_retries": 0},
            "credential_provider": _provider(credentials),
        }
        self._bucket = bucket
        self._make_store: Any = S3Store
        self._store = self._made({})
        self._upload_stores: dict[tuple[str | None, bool], S3Store] = {}

    async def get(self, key: str) -> "_Found":
        with _translated:
            return _Found(await obstore.get_async(self._store, key))

    async def version(self, key: str) -> str | None:
        try:
            with _translated:
                meta = await obstore.head_async(self._store, key)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        return version_of(meta["e_tag"], meta["last_modified"].timestamp())

    async def put(self, key: str, upload: Upload) -> None:
        attributes = {"Content-Type": upload.content_type, "Cache-Control": upload.cache_control}
        given: Any = {name: text for name, text in attributes.items() if text}
        content, is_small = await _whole(upload.data), upload.data.size <= PIECE_BYTES
        store = self._upload_store(upload.acl, is_small)
        limit = nullcontext() if is_small else asyncio.timeout(self._patience.upload_s(upload.data.size))
        with _translated:
            async with limit:
                await obstore.put_async(store, key, content, attributes=given, use_multipart=False)

    async def delete(self, key: str) -> None:
        with _translated:
            await obstore.delete_async(self._store, key)

    def _upload_store(self, acl: str | None, is_small: bool) -> S3Store:
        """A client for uploads, which the library takes for silence as long as they last.

        So small ones need no timer of ours: they may take as long as the largest of them. The library signs
        an ACL only as a header of all requests, so each ACL has its own client.
        """
        store = self._upload_stores.get((acl, is_small))
        if store is None:
            headers = {} if acl is None else {"default_headers": {"x-amz-acl": acl}}
            limit = timedelta(seconds=self._patience.upload_s(PIECE_BYTES)) if is_small else _FOREVER
            store = self._upload_stores[acl, is_small] = self._made({"read_timeout": limit, **headers})
        return store

    def _made(self, options: dict[str, Any]) -> S3Store:
        """A client with `options` besides those of all."""
        settings = self._settings
        options = {**settings["client_options"], **options}
        return self._make_store(self._bucket, **{**settings, "client_options": options})


class _Found:
    """See `Found`."""

    def __init__(self, result: "GetResult") -> None:
        meta = result.meta
        self.size = meta["size"]
        self.content_type: str | None = result.attributes.get("Content-Type")
        self.modified: float | None = meta["last_modified"].timestamp()
        self.version = version_of(meta["e_tag"], self.modified)
        self._result = result

    async def read(self) -> bytes:
        with _translated:
            return bytes(await self._result.bytes_async())

    async def pieces(self) -> AsyncGenerator[bytes]:
        with _translated:
            async for piece in self._result.stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)

    async def close(self) -> None:
        """The connection ends with the last reference, which may be wherever a traceback still is."""
        del self._result


def _provider(credentials: Credentials) -> Any:
    """Credentials as the library asks for them; given otherwise, the environment would be mixed in."""

    def provide() -> dict[str, Any]:
        return {
            "access_key_id": credentials.key_id,
            "secret_access_key": credentials.secret,
            "token": credentials.session_token,
            "expires_at": None,
        }

    return provide


async def _whole(data: Blob) -> bytes | mmap:
    """The content of `data`; of a file of somebody else it is a copy, made in a thread.

    Raises: StorageError when that file has become shorter.
    """
    content = data.buffer() if data.fileno() is None else await asyncio.to_thread(data.buffer)
    if len(content) != data.size:
        raise StorageError("the data to store was cut short", detail=f"{len(content)} of {data.size} bytes")
    return content


class _Border:
    """The one border between the library's errors and ours; an object, as it is crossed on every request."""

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, (BaseError, OSError, ValueError)):
            raise _translation(error) from error


_translated = _Border()


def _translation(error: BaseError | OSError | ValueError) -> TransportError:
    """ValueError: a time in the answer that no calendar has."""
    if isinstance(error, TimeoutError):
        return Unreachable("no answer to an upload in time", slow=True)
    if isinstance(error, FileNotFoundError):
        return _refused(404, str(error))
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        return _refused(403, str(error))
    return _understood(str(error))


def _understood(text: str) -> TransportError:
    """The library tells what went wrong in words only."""
    said, _, debug = text.partition("\n\nDebug source:")
    answer = _ANSWER.search(said)
    if answer:
        return _refused(int(answer[1]), said)
    if "redirect without LOCATION" in said:
        return Refused(301, said)
    cause = " ".join(debug.rpartition("reqwest::Error ")[2].split())[:_CAUSE_CHARACTERS]
    return Unreachable(f"{said} ({cause})", slow="kind: Timeout" in debug or "TimedOut" in debug)


def _refused(status: int, text: str) -> Refused:
    said = text.partition("\n\nDebug source:")[0]
    answer = _ANSWER.search(said)
    return refusal(status, said[: answer.start()], answer[2]) if answer else Refused(status, said)
