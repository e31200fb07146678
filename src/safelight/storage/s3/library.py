"""Requests by obstore: a seventh of the CPU of other clients, for all keys that it can express.

It sends what a key says only when no part of it is empty, `.` or `..`, and when it has no control character:
see `expressible`.
"""

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from mmap import mmap
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from safelight.blob import Blob
from safelight.errors import StorageError
from safelight.storage.s3.account import Credentials, Patience
from safelight.storage.s3.transport import Found, Refused, TransportError, Unreachable, Upload, refusal

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
        self._upload_stores: dict[str | None, S3Store] = {}

    @asynccontextmanager
    async def get(self, key: str) -> AsyncGenerator[Found]:
        with _translated():
            result = await obstore.get_async(self._store, key)
        modified = result.meta["last_modified"].timestamp()
        size, content_type = result.meta["size"], result.attributes.get("Content-Type")
        pieces = _pieces(result)
        del result  # the connection is closed with the last reference, and tracebacks hold this frame
        try:
            yield Found(size, content_type, modified, pieces)
        finally:
            await pieces.aclose()

    async def exists(self, key: str) -> bool:
        try:
            with _translated():
                await obstore.head_async(self._store, key)
        except Refused as refused:
            if refused.status == 404:
                return False
            raise
        return True

    async def put(self, key: str, upload: Upload) -> None:
        attributes = {"Content-Type": upload.content_type, "Cache-Control": upload.cache_control}
        given: Any = {name: text for name, text in attributes.items() if text}
        store, content = self._upload_store(upload.acl), await _whole(upload.data)
        with _translated():
            async with asyncio.timeout(self._patience.upload_s(upload.data.size)):
                await obstore.put_async(store, key, content, attributes=given, use_multipart=False)

    async def delete(self, key: str) -> None:
        with _translated():
            await obstore.delete_async(self._store, key)

    def _upload_store(self, acl: str | None) -> S3Store:
        """A client for uploads, which the library takes for silence as long as they last.

        It signs an ACL only as a header of all requests, so each ACL has its own client.
        """
        if acl not in self._upload_stores:
            headers = {} if acl is None else {"default_headers": {"x-amz-acl": acl}}
            self._upload_stores[acl] = self._made({"read_timeout": _FOREVER, **headers})
        return self._upload_stores[acl]

    def _made(self, options: dict[str, Any]) -> S3Store:
        """A client with `options` besides those of all."""
        settings = self._settings
        options = {**settings["client_options"], **options}
        return self._make_store(self._bucket, **{**settings, "client_options": options})


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


async def _pieces(result: "GetResult") -> AsyncGenerator[bytes]:
    with _translated():
        if result.meta["size"] <= PIECE_BYTES:
            yield bytes(await result.bytes_async())
            return
        async for piece in result.stream(min_chunk_size=PIECE_BYTES):
            yield bytes(piece)


@contextmanager
def _translated() -> Generator[None]:
    """The one border between the library's errors and ours."""
    try:
        yield
    except TimeoutError as error:
        raise Unreachable("no answer to an upload in time", slow=True) from error
    except FileNotFoundError as error:
        raise _refused(404, str(error)) from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise _refused(403, str(error)) from error
    except (BaseError, OSError) as error:
        raise _understood(str(error)) from error


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
