"""Requests by obstore: a seventh of the CPU of other clients, for all keys that it can express.

It sends what a key says only when no part of it is empty, `.` or `..`, and when it has no control character:
see `expressible`.
"""

import re
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from safelight.storage.s3.account import Credentials, Patience
from safelight.storage.s3.transport import Found, Refused, TransportError, Unreachable, Upload

if TYPE_CHECKING:
    from obstore import GetResult

PIECE_BYTES = 1 << 20

_INEXPRESSIBLE = re.compile(r"(^|/)(\.{0,2})(/|$)|[\x00-\x1f\x7f\\]")
_ANSWER = re.compile(r"status code: (\d{3})[^:\n]*(.*)", re.DOTALL)
_CODE = re.compile(r"<Code>(\w+)</Code>")
_REGION = re.compile(r"<Region>([\w-]+)</Region>")
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
        self._settings: dict[str, Any] = {
            "config": {
                "endpoint": url,
                "region": region,
                "virtual_hosted_style_request": True,  # the URL names the bucket already
                "disable_bulk_delete": True,
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
        self._stores: dict[str | None, S3Store] = {}

    async def get(self, key: str) -> Found:
        with _translated():
            result = await obstore.get_async(self._store(), key)
        return Found(result.meta["size"], result.attributes.get("Content-Type"), _pieces(result))

    async def exists(self, key: str) -> bool:
        try:
            with _translated():
                await obstore.head_async(self._store(), key)
        except Refused as refused:
            if refused.status == 404:
                return False
            raise
        return True

    async def put(self, key: str, upload: Upload) -> None:
        attributes = {"Content-Type": upload.content_type, "Cache-Control": upload.cache_control}
        given: Any = {name: text for name, text in attributes.items() if text}
        store = self._store(upload.acl)
        with _translated():
            await obstore.put_async(store, key, upload.data.buffer(), attributes=given, use_multipart=False)

    async def delete(self, key: str) -> None:
        with _translated():
            await obstore.delete_async(self._store(), key)

    def _store(self, acl: str | None = None) -> S3Store:
        """A client. The library signs an ACL only as a header of all requests, so each ACL has its own."""
        if acl not in self._stores:
            settings = self._settings
            if acl is not None:
                options = {**settings["client_options"], "default_headers": {"x-amz-acl": acl}}
                settings = {**settings, "client_options": options}
            self._stores[acl] = self._make_store(self._bucket, **settings)
        return self._stores[acl]


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


async def _pieces(result: "GetResult") -> AsyncIterator[bytes]:
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
    return Unreachable(said, slow="kind: Timeout" in debug or "TimedOut" in debug)


def _refused(status: int, text: str) -> Refused:
    said = text.partition("\n\nDebug source:")[0]
    answer = _ANSWER.search(said)
    body = answer[2] if answer else ""
    code, region = _CODE.search(body), _REGION.search(body)
    return Refused(status, said, code=code[1] if code else "", region=region[1] if region else None)
