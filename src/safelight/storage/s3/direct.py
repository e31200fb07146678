"""Requests signed and sent by ourselves: for keys that the library cannot express, and to find regions.

The request target goes out as it was signed: nothing on the way may resolve `//` or `./`.
"""

import hashlib
import re
import time
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager

import httpx

from safelight.storage.s3.account import Credentials, Patience
from safelight.storage.s3.address import escape_key
from safelight.storage.s3.signature import headers_v4
from safelight.storage.s3.transport import Found, Refused, Unreachable, Upload

_CODE = re.compile(r"<Code>(\w+)</Code>")
_REGION = re.compile(r"<Region>([\w-]+)</Region>")
_REGION_HEADER = "x-amz-bucket-region"
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class Direct:
    """One bucket in one region, through httpx."""

    def __init__(self, url: str, region: str, credentials: Credentials, patience: Patience) -> None:
        """`url`: where requests to the bucket go, the bucket included."""
        self._url = httpx.URL(url)
        self._region = region
        self._credentials = credentials
        timeout = httpx.Timeout(patience.silence_s, connect=patience.connect_s)
        self._http = httpx.AsyncClient(timeout=timeout)

    async def get(self, key: str) -> Found:
        with _translated():
            response = await self._http.send(self._request("GET", key), stream=True)
            await _check(response)
        size = int(response.headers.get("content-length", "0"))
        return Found(size, response.headers.get("content-type"), _pieces(response))

    async def exists(self, key: str) -> bool:
        with _translated():
            response = await self._http.send(self._request("HEAD", key))
            if response.status_code == 404:
                return False
            await _check(response)
        return True

    async def put(self, key: str, upload: Upload) -> None:
        named = {
            "content-type": upload.content_type,
            "cache-control": upload.cache_control,
            "x-amz-acl": upload.acl,
        }
        headers = {name: text for name, text in named.items() if text}
        with _translated():
            request = self._request("PUT", key, headers, upload.data.read())
            await _check(await self._http.send(request))

    async def delete(self, key: str) -> None:
        with _translated():
            await _check(await self._http.send(self._request("DELETE", key)))

    async def find_region(self) -> str | None:
        """The region that the store names for the bucket, to whom it may concern; None when it names none."""
        with _translated():
            response = await self._http.head(self._url)
        return response.headers.get(_REGION_HEADER)

    def _request(
        self, method: str, key: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> httpx.Request:
        target = f"{self._url.path.rstrip('/')}/{escape_key(key)}"
        digest = hashlib.sha256(body).hexdigest() if body else _EMPTY_SHA256
        signed = headers_v4(
            method,
            target,
            {"host": self._url.netloc.decode(), **(headers or {})},
            digest,
            region=self._region,
            credentials=self._credentials,
            now=time.time(),
        )
        return self._http.build_request(
            method, self._url, headers=signed, content=body, extensions={"target": target.encode()}
        )


async def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    with _translated():
        try:
            async for piece in response.aiter_raw():
                yield piece
        finally:
            await response.aclose()


async def _check(response: httpx.Response) -> None:
    """Raises: Refused."""
    if response.is_success:
        return
    body = (await response.aread()).decode(errors="replace")
    code, region = _CODE.search(body), _REGION.search(body)
    raise Refused(
        response.status_code,
        f"{response.request.method} {response.request.url}: {response.status_code} {body[:500]}",
        code=code[1] if code else "",
        region=response.headers.get(_REGION_HEADER) or (region[1] if region else None),
    )


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise Unreachable(repr(error), slow=True) from error
    except httpx.HTTPError as error:
        raise Unreachable(repr(error)) from error
