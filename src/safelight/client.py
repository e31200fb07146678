"""A client for Safelight servers, synchronous and asynchronous.

    from safelight.client import Store, Thumbnailer

    with Thumbnailer("http://127.0.0.1:3100") as thumbnailer:
        small = thumbnailer.thumbnail(photo, "crop,128,128,jpeg")
        print(small.width, small.height, len(small.data))

    with Store("http://127.0.0.1:3000") as store:
        (path,) = store.upload("/images", photo)
        small = store.get(f"/thumbnail/{path}/fit/300/300")

`AsyncThumbnailer` and `AsyncStore` have the same methods, to be awaited. What a server refuses arrives as an
error of `safelight.errors`; a server that cannot be reached is a StorageError. Redirects are not followed.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import httpx

from safelight.errors import SafelightError, StorageError
from safelight.image.result import ImageInfo, Thumbnail
from safelight.image.spec import ThumbnailSpec
from safelight.protocol import CONTENT_TYPE, Reply, read_identity, read_thumbnails, thumbnail_path
from safelight.signing import DEFAULT_DIGEST, SIGNATURE_PARAMETER, sign

__all__ = [
    "AsyncStore",
    "AsyncThumbnailer",
    "Download",
    "ImageInfo",
    "Signer",
    "Store",
    "Thumbnail",
    "Thumbnailer",
]

TIMEOUT_S = 60
EXPIRES_PARAMETER = "expires"

T = TypeVar("T")
Spec = str | ThumbnailSpec


@dataclass(frozen=True, slots=True)
class Download:
    """An image as a store sent it."""

    data: bytes
    mime_type: str


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs URLs as `validate_uri_hmac` wants them."""

    secret: str
    digest: str = DEFAULT_DIGEST
    parameter: str = SIGNATURE_PARAMETER
    expires_parameter: str = EXPIRES_PARAMETER

    def sign(self, path: str, expires_in_s: int | None = None) -> str:
        """`path` with its query, percent-encoded, with a signature and, if asked, the time it ends at."""
        if expires_in_s is not None:
            mark = "&" if "?" in path else "?"
            path = f"{path}{mark}{self.expires_parameter}={int(time.time()) + expires_in_s}"
        return sign(path, self.secret, self.digest, self.parameter)


@dataclass(frozen=True, slots=True)
class _Call(Generic[T]):
    """One request, and how to read its reply."""

    method: str
    path: str
    read: Callable[[Reply], T]
    body: bytes = b""
    content_type: str = ""

    def request(self, http: httpx.Client | httpx.AsyncClient, base: str) -> httpx.Request:
        headers = {"content-type": self.content_type} if self.content_type else {}
        return http.build_request(self.method, base + self.path, content=self.body, headers=headers)


def _thumbnails(image: bytes, specs: Sequence[Spec]) -> _Call[list[Thumbnail | SafelightError]]:
    parsed = [ThumbnailSpec.parse(spec) if isinstance(spec, str) else spec for spec in specs]

    def read(reply: Reply) -> list[Thumbnail | SafelightError]:
        return list(read_thumbnails(reply, len(parsed)).outputs)

    return _Call("PUT", thumbnail_path(parsed), read, image, CONTENT_TYPE)


def _identify(image: bytes) -> _Call[ImageInfo]:
    return _Call("PUT", "/identify", read_identity, image, CONTENT_TYPE)


def _upload(path: str, image: bytes, method: str) -> _Call[list[str]]:
    return _Call(method, path, _read_lines, image, "application/octet-stream")


def _get(path: str) -> _Call[Download]:
    return _Call("GET", path, _read_download)


def _delete(path: str) -> _Call[list[str]]:
    return _Call("DELETE", path, _read_lines)


def _read_lines(reply: Reply) -> list[str]:
    reply.check_status()
    return reply.body.decode().splitlines()


def _read_download(reply: Reply) -> Download:
    reply.check_status()
    return Download(reply.body, reply.content_type)


def _only(outputs: list[Thumbnail | SafelightError]) -> Thumbnail:
    (output,) = outputs
    if isinstance(output, SafelightError):
        raise output
    return output


class _Connection:
    """A blocking connection pool to one server."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, signer: Signer | None = None) -> None:
        self.url = url.rstrip("/")
        self.signer = signer
        self._http = httpx.Client(timeout=timeout_s, trust_env=False)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _run(self, call: _Call[T]) -> T:
        call = _signed(call, self.signer)
        try:
            reply = self._http.send(call.request(self._http, self.url))
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from error
        return call.read(Reply(reply.status_code, reply.headers, reply.content))


class _AsyncConnection:
    """A non-blocking connection pool to one server."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, signer: Signer | None = None) -> None:
        self.url = url.rstrip("/")
        self.signer = signer
        self._http = httpx.AsyncClient(timeout=timeout_s, trust_env=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def _run(self, call: _Call[T]) -> T:
        call = _signed(call, self.signer)
        try:
            reply = await self._http.send(call.request(self._http, self.url))
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from error
        return call.read(Reply(reply.status_code, reply.headers, reply.content))


def _signed(call: _Call[T], signer: Signer | None) -> _Call[T]:
    if signer is None:
        return call
    return _Call(call.method, signer.sign(call.path), call.read, call.body, call.content_type)


def _unreachable(url: str, error: httpx.HTTPError) -> StorageError:
    return StorageError(f"no answer from {url}: {error or type(error).__name__}")


class Thumbnailer(_Connection):
    """Client of a stateless thumbnailer."""

    def thumbnail(self, image: bytes, spec: Spec) -> Thumbnail:
        """One thumbnail. Raises: SafelightError."""
        return _only(self._run(_thumbnails(image, [spec])))

    def thumbnails(self, image: bytes, specs: Sequence[Spec]) -> list[Thumbnail | SafelightError]:
        """One result per specification, an error in place of each that failed. Raises: SafelightError."""
        return self._run(_thumbnails(image, specs))

    def identify(self, image: bytes) -> ImageInfo:
        """Type and size in pixels. Raises: SafelightError."""
        return self._run(_identify(image))


class AsyncThumbnailer(_AsyncConnection):
    """Client of a stateless thumbnailer."""

    async def thumbnail(self, image: bytes, spec: Spec) -> Thumbnail:
        """One thumbnail. Raises: SafelightError."""
        return _only(await self._run(_thumbnails(image, [spec])))

    async def thumbnails(self, image: bytes, specs: Sequence[Spec]) -> list[Thumbnail | SafelightError]:
        """One result per specification, an error in place of each that failed. Raises: SafelightError."""
        return await self._run(_thumbnails(image, specs))

    async def identify(self, image: bytes) -> ImageInfo:
        """Type and size in pixels. Raises: SafelightError."""
        return await self._run(_identify(image))


class Store(_Connection):
    """Client of an image store. Paths are those of its configured endpoints, percent-encoded.

    With a `signer` every request is signed.
    """

    def upload(self, path: str, image: bytes, *, method: str = "PUT") -> list[str]:
        """Send an image; the lines of the answer: paths or URLs. Raises: SafelightError."""
        return self._run(_upload(path, image, method))

    def get(self, path: str) -> Download:
        """Fetch an original or a thumbnail. Raises: SafelightError."""
        return self._run(_get(path))

    def delete(self, path: str) -> None:
        """Remove an image. Raises: SafelightError."""
        self._run(_delete(path))


class AsyncStore(_AsyncConnection):
    """Client of an image store, see `Store`."""

    async def upload(self, path: str, image: bytes, *, method: str = "PUT") -> list[str]:
        """Send an image; the lines of the answer: paths or URLs. Raises: SafelightError."""
        return await self._run(_upload(path, image, method))

    async def get(self, path: str) -> Download:
        """Fetch an original or a thumbnail. Raises: SafelightError."""
        return await self._run(_get(path))

    async def delete(self, path: str) -> None:
        """Remove an image. Raises: SafelightError."""
        await self._run(_delete(path))
