"""A client for Safelight servers, synchronous and asynchronous.

    from safelight.client import Store, Thumbnailer

    with Thumbnailer("http://127.0.0.1:3100") as thumbnailer:
        small = thumbnailer.thumbnail(Path("photo.jpg"), "crop,128,128,jpeg")
        print(small.width, small.height, len(small.data))

    with Store("http://127.0.0.1:3000") as store:
        (path,) = store.upload("/images", Path("photo.jpg"))
        small = store.get(f"/thumbnail/{path}/fit/300/300")

`AsyncThumbnailer` and `AsyncStore` have the same methods, to be awaited. An image is bytes, the path of a
file or an open binary file; files are sent in pieces. What a server refuses arrives as an error of
`safelight.errors` with the server's message; a server that cannot be reached is a StorageError. Redirects
are not followed.
"""

import asyncio
import io
import os
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Generic, Self, TypeVar
from urllib.parse import quote

import httpx

from safelight.connecting import connecting
from safelight.errors import (
    Busy,
    Forbidden,
    SafelightError,
    StorageError,
    UriTooLong,
)
from safelight.image.result import ImageInfo, Thumbnail
from safelight.image.spec import ThumbnailSpec
from safelight.protocol import (
    CONTENT_TYPE,
    THUMBNAILER,
    Meaning,
    Reply,
    read_identity,
    read_thumbnails,
    thumbnail_path,
)
from safelight.signing import DEFAULT_DIGEST, SIGNATURE_PARAMETER, sign

__all__ = [
    "AsyncStore",
    "AsyncThumbnailer",
    "Busy",
    "Download",
    "Image",
    "ImageInfo",
    "SafelightError",
    "Signer",
    "Spec",
    "Store",
    "Thumbnail",
    "Thumbnailer",
]

TIMEOUT_S = 60
EXPIRES_PARAMETER = "expires"
PIECE_BYTES = 1 << 18

T = TypeVar("T")
Spec = str | ThumbnailSpec
Image = bytes | Path | BinaryIO

_URI_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"
_REFUSALS: Mapping[int, type[SafelightError]] = {**THUMBNAILER.errors, 403: Forbidden, 414: UriTooLong}
_THUMBNAILER = Meaning(_REFUSALS, THUMBNAILER.other)
_STORE = Meaning(_REFUSALS, StorageError)


@dataclass(frozen=True, slots=True)
class Download:
    """An image as a store sent it."""

    data: bytes
    mime_type: str


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs URLs as `validate_uri_hmac` wants them."""

    secret: str = field(repr=False)
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
    body: Image = b""
    content_type: str = ""
    meaning: Meaning = _STORE

    def finish(self, reply: httpx.Response) -> T:
        return self.read(Reply(reply.status_code, reply.headers, reply.content, self.meaning))


def _thumbnails(image: Image, specs: Sequence[Spec]) -> _Call[list[Thumbnail | SafelightError]]:
    parsed = [ThumbnailSpec.parse(spec) if isinstance(spec, str) else spec for spec in specs]

    def read(reply: Reply) -> list[Thumbnail | SafelightError]:
        return list(read_thumbnails(reply, len(parsed)).outputs)

    return _Call("PUT", thumbnail_path(parsed), read, image, CONTENT_TYPE, _THUMBNAILER)


def _identify(image: Image) -> _Call[ImageInfo]:
    return _Call("PUT", "/identify", read_identity, image, CONTENT_TYPE, _THUMBNAILER)


def _upload(path: str, image: Image, method: str) -> _Call[list[str]]:
    return _Call(method, path, _read_lines, image, "application/octet-stream")


def _get(path: str) -> _Call[Download]:
    return _Call("GET", path, _read_download)


def _delete(path: str) -> _Call[list[str]]:
    return _Call("DELETE", path, _read_lines)


def _read_lines(reply: Reply) -> list[str]:
    reply.check_status()
    return reply.body.decode("utf-8", "replace").splitlines()


def _read_download(reply: Reply) -> Download:
    reply.check_status()
    return Download(reply.body, reply.content_type)


def _only(outputs: list[Thumbnail | SafelightError]) -> Thumbnail:
    (output,) = outputs
    if isinstance(output, SafelightError):
        raise output
    return output


class _Address:
    """Where a server is, and how its URLs are signed."""

    def __init__(self, url: str, signer: Signer | None) -> None:
        self.url = url.rstrip("/")
        self.signer = signer

    def prepared(self, call: _Call[T]) -> _Call[T]:
        """`call` with its path as it is sent."""
        path = _encoded(call.path)
        return replace(call, path=self.signer.sign(path) if self.signer else path)

    def signed_url(self, path: str, expires_in_s: int | None) -> str:
        if self.signer is None:
            raise ValueError("a store without a signer has no signed URLs")
        return self.url + self.signer.sign(_encoded(path), expires_in_s)

    def arguments(self, call: _Call[Any], size: int | None) -> dict[str, Any]:
        """How to tell the HTTP library. `target`: exactly what was signed, which it would normalize."""
        headers = {"content-type": call.content_type} if call.content_type else {}
        if size is not None:
            headers["content-length"] = str(size)
        target = httpx.URL(self.url).raw_path.rstrip(b"/") + call.path.encode()
        return {
            "method": call.method,
            "url": self.url + call.path,
            "headers": headers,
            "extensions": {"target": target},
        }

    @contextmanager
    def translated(self) -> Generator[None]:
        """Errors of the HTTP library as ours."""
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise StorageError(f"no answer from {self.url}: {error or type(error).__name__}") from error


class _Connection:
    """A blocking connection pool to one server."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, signer: Signer | None = None) -> None:
        """`timeout_s`: without any progress. `signer`: signs every request."""
        self._address = _Address(url, signer)
        self._http = httpx.Client(timeout=timeout_s, trust_env=False)

    @property
    def url(self) -> str:
        """The server's URL, without a slash at its end."""
        return self._address.url

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _run(self, call: _Call[T]) -> T:
        call = self._address.prepared(call)
        with _opened(call.body) as file, self._address.translated():
            content = call.body if isinstance(call.body, bytes) else _pieces(file)
            arguments = self._address.arguments(call, _size(call.body, file))
            reply = self._http.send(self._http.build_request(content=content, **arguments))
        return call.finish(reply)


class _AsyncConnection:
    """A non-blocking connection pool to one server."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, signer: Signer | None = None) -> None:
        """`timeout_s`: without any progress. `signer`: signs every request."""
        self._address = _Address(url, signer)
        self._http = httpx.AsyncClient(timeout=timeout_s, trust_env=False)

    @property
    def url(self) -> str:
        """The server's URL, without a slash at its end."""
        return self._address.url

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def _run(self, call: _Call[T]) -> T:
        call = self._address.prepared(call)
        with _opened(call.body) as file, self._address.translated():
            content = call.body if isinstance(call.body, bytes) else _async_pieces(file)
            arguments = self._address.arguments(call, _size(call.body, file))
            with connecting():
                reply = await self._http.send(self._http.build_request(content=content, **arguments))
        return call.finish(reply)


@contextmanager
def _opened(image: Image) -> Generator[BinaryIO]:
    """The file to read `image` from; one that the caller has opened stays open. Raises: OSError."""
    if isinstance(image, bytes):
        yield io.BytesIO()
    elif isinstance(image, Path):
        with image.open("rb") as file:
            yield file
    else:
        yield image


def _size(image: Image, file: BinaryIO) -> int | None:
    """Bytes from where `file` stands to its end, None when nobody can tell: then it is sent in chunks."""
    if isinstance(image, bytes) or not file.seekable():
        return None
    here = file.tell()
    size = file.seek(0, os.SEEK_END) - here
    file.seek(here)
    return size


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece


async def _async_pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
        yield piece


def _encoded(path: str) -> str:
    """`path` with what no URL can hold percent-encoded, and a slash in front."""
    encoded = quote(path, safe=_URI_CHARACTERS)
    return encoded if encoded.startswith("/") else f"/{encoded}"


class Thumbnailer(_Connection):
    """Client of a stateless thumbnailer."""

    def thumbnail(self, image: Image, spec: Spec) -> Thumbnail:
        """One thumbnail. Raises: SafelightError."""
        return _only(self._run(_thumbnails(image, [spec])))

    def thumbnails(self, image: Image, specs: Sequence[Spec]) -> list[Thumbnail | SafelightError]:
        """One result per specification, an error in place of each that failed. Raises: SafelightError."""
        return self._run(_thumbnails(image, specs))

    def identify(self, image: Image) -> ImageInfo:
        """Type and size in pixels. Raises: SafelightError."""
        return self._run(_identify(image))


class AsyncThumbnailer(_AsyncConnection):
    """Client of a stateless thumbnailer."""

    async def thumbnail(self, image: Image, spec: Spec) -> Thumbnail:
        """One thumbnail. Raises: SafelightError."""
        return _only(await self._run(_thumbnails(image, [spec])))

    async def thumbnails(self, image: Image, specs: Sequence[Spec]) -> list[Thumbnail | SafelightError]:
        """One result per specification, an error in place of each that failed. Raises: SafelightError."""
        return await self._run(_thumbnails(image, specs))

    async def identify(self, image: Image) -> ImageInfo:
        """Type and size in pixels. Raises: SafelightError."""
        return await self._run(_identify(image))


class Store(_Connection):
    """Client of an image store. Paths are those of its configured endpoints, percent-encoded.

    With a `signer` every request is signed.
    """

    def upload(self, path: str, image: Image, *, method: str = "PUT") -> list[str]:
        """Send an image; the lines of the answer: paths or URLs. Raises: SafelightError."""
        return self._run(_upload(path, image, method))

    def get(self, path: str) -> Download:
        """Fetch an original or a thumbnail. Raises: SafelightError."""
        return self._run(_get(path))

    def delete(self, path: str) -> None:
        """Remove an image. Raises: SafelightError."""
        self._run(_delete(path))

    def signed_url(self, path: str, expires_in_s: int | None = None) -> str:
        """The URL of `path`, for somebody who has no secret. Raises: ValueError without a signer."""
        return self._address.signed_url(path, expires_in_s)


class AsyncStore(_AsyncConnection):
    """Client of an image store, see `Store`."""

    async def upload(self, path: str, image: Image, *, method: str = "PUT") -> list[str]:
        """Send an image; the lines of the answer: paths or URLs. Raises: SafelightError."""
        return await self._run(_upload(path, image, method))

    async def get(self, path: str) -> Download:
        """Fetch an original or a thumbnail. Raises: SafelightError."""
        return await self._run(_get(path))

    async def delete(self, path: str) -> None:
        """Remove an image. Raises: SafelightError."""
        await self._run(_delete(path))

    def signed_url(self, path: str, expires_in_s: int | None = None) -> str:
        """The URL of `path`, for somebody who has no secret. Raises: ValueError without a signer."""
        return self._address.signed_url(path, expires_in_s)
