"""Requests signed and sent by ourselves: for keys that the library cannot express, and to find regions.

The request target goes out as it was signed: nothing on the way may resolve `//` or `./`.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import aclosing, contextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime

import httpx

from safelight.blob import CHUNK_BYTES, EMPTY, Blob
from safelight.connecting import connecting
from safelight.errors import StorageError
from safelight.storage.s3.account import Credentials, Patience
from safelight.storage.s3.address import escape_key
from safelight.storage.s3.signature import headers_v4
from safelight.storage.s3.transport import Unreachable, Upload, named_region, refusal, version_of

_REGION_HEADER = "x-amz-bucket-region"


class Direct:
    """One bucket in one region, through httpx."""

    def __init__(self, url: str, region: str, credentials: Credentials, patience: Patience) -> None:
        """`url`: where requests to the bucket go, the bucket included."""
        self._url = httpx.URL(url)
        self._region = region
        self._credentials = credentials
        self._patience = patience
        timeout = httpx.Timeout(patience.silence_s, connect=patience.connect_s)
        self._http = httpx.AsyncClient(timeout=timeout)
        self._upload_timeout = httpx.Timeout(None, connect=patience.connect_s)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def get(self, key: str) -> "_Found":
        with _translated():
            response = await self._http.send(self._request("GET", key), stream=True)
            try:
                await _check(response, key)
                return _Found(response)
            except BaseException:
                await response.aclose()
                raise

    async def version(self, key: str) -> str | None:
        with _translated():
            response = await self._http.send(self._request("HEAD", key))
            if response.status_code == 404:
                return None
            await _check(response, key)
        return _version(response)

    async def put(self, key: str, upload: Upload) -> None:
        named = {
            "content-type": upload.content_type,
            "cache-control": upload.cache_control,
            "x-amz-acl": upload.acl,
        }
        headers = {name: text for name, text in named.items() if text}
        await asyncio.to_thread(lambda: upload.data.sha256)
        with _translated():
            async with asyncio.timeout(self._patience.upload_s(upload.data.size)):
                response = await self._http.send(self._request("PUT", key, headers, upload.data))
                await _check(response, key)
        if "etag" not in response.headers:
            raise Unreachable(f"PUT {self._url} {key}: {response.status_code} without an ETag")

    async def delete(self, key: str) -> None:
        with _translated():
            await _check(await self._http.send(self._request("DELETE", key)), key)

    async def find_region(self) -> str | None:
        """The region that the store names for the bucket, to whom it may concern; None when it names none."""
        with _translated():
            response = await self._http.head(self._url)
        return named_region(response.headers.get(_REGION_HEADER))

    def _request(
        self, method: str, key: str, headers: dict[str, str] | None = None, body: Blob = EMPTY
    ) -> httpx.Request:
        target = f"{self._url.raw_path.decode().rstrip('/')}/{escape_key(key)}"
        signed = headers_v4(
            method,
            target,
            {"host": self._url.netloc.decode(), **(headers or {})},
            body.sha256,
            region=self._region,
            credentials=self._credentials,
            now=time.time(),
        )
        unsigned = {"accept-encoding": "identity"}
        if body.size:
            unsigned["content-length"] = str(body.size)
        return self._http.build_request(
            method,
            self._url,
            headers=signed | unsigned,
            content=_chunks(body) if body.size else b"",
            timeout=self._upload_timeout if method == "PUT" else httpx.USE_CLIENT_DEFAULT,
            extensions={"target": target.encode()},
        )


class _Found:
    """See `Found`."""

    def __init__(self, response: httpx.Response) -> None:
        self.size = int(response.headers.get("content-length", "0"))
        self.content_type: str | None = response.headers.get("content-type")
        self.modified = _unix_time(response.headers.get("last-modified"))
        self.version = _version(response)
        self._response = response

    async def read(self) -> bytes:
        """No more than one piece beyond `size`, whatever comes."""
        content = bytearray()
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                content += piece
                if len(content) > self.size:
                    break
        return bytes(content)

    async def pieces(self) -> AsyncGenerator[bytes]:
        with _translated():
            async for piece in self._response.aiter_raw():
                yield piece

    async def close(self) -> None:
        await self._response.aclose()


def _version(response: httpx.Response) -> str:
    headers = response.headers
    return version_of(headers.get("etag"), _unix_time(headers.get("last-modified")))


def _unix_time(date: str | None) -> float | None:
    """None for what is no time, or in no year from 1 to 9999."""
    try:
        return parsedate_to_datetime(date).astimezone(UTC).timestamp() if date else None
    except (ValueError, OverflowError):
        return None


async def _chunks(body: Blob) -> AsyncIterator[bytes]:
    """Raises: StorageError when the file of `body` has become shorter."""
    for offset in range(0, body.size, CHUNK_BYTES):
        piece = body.read_at(offset, CHUNK_BYTES)
        if len(piece) != min(CHUNK_BYTES, body.size - offset):
            raise StorageError("the data to store was cut short", detail=f"within {body.size} bytes")
        yield piece


async def _check(response: httpx.Response, key: str) -> None:
    """Raises: Refused."""
    if response.is_success:
        return
    body = (await response.aread()).decode(errors="replace")
    request = f"{response.request.method} {response.request.url} {key}"
    raise refusal(response.status_code, request, body, response.headers.get(_REGION_HEADER))


@contextmanager
def _translated() -> Generator[None]:
    try:
        with connecting():
            yield
    except (httpx.TimeoutException, TimeoutError) as error:
        raise Unreachable(repr(error), slow=True) from error
    except httpx.HTTPError as error:
        raise Unreachable(repr(error)) from error
