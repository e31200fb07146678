"""An engine on another server that speaks the thumbnailer protocol, ours or the original."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import cast

import httpx

from safelight import __version__
from safelight.blob import CHUNK_BYTES, Blob
from safelight.connecting import connecting
from safelight.errors import EngineUnreachable, ImageError, MemoryLimitExceeded
from safelight.image import speed
from safelight.image.result import ImageInfo, Thumbnails
from safelight.image.spec import ThumbnailSpec
from safelight.protocol import CONTENT_TYPE, Reply, read_identity, read_thumbnails, thumbnail_path
from safelight.timing import onward_headers
from safelight.xid import current_xid

TIMEOUT_S = 300
CONNECT_TIMEOUT_S = 10
IDLE_CONNECTIONS = 20
IDLE_S = 30
MAX_REPLY_BYTES = 128 << 20
MAX_TEXT_BYTES = 64 << 10
"""For replies that are no images, and for what frames images in a multipart reply."""


class RemoteEngine:
    """Sends every job to the server at `url`, over connections that are kept alive where it lets us.

    `timeout_s`: for a whole exchange. `max_reply_bytes`: image data of one reply.
    """

    def __init__(
        self, url: str, *, timeout_s: float = TIMEOUT_S, max_reply_bytes: int = MAX_REPLY_BYTES
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._max_reply_bytes = max_reply_bytes
        self._keeping: httpx.AsyncClient
        self._single: httpx.AsyncClient

    async def start(self) -> None:
        """Open the clients. The server behind `url` may come and go: nothing is asked of it here.

        Raises: ImageError when `url` can lead to no server.
        """
        _check_url(self.url)
        self._keeping = self._client(IDLE_CONNECTIONS)
        self._single = self._client(0)

    async def close(self) -> None:
        await self._keeping.aclose()
        await self._single.aclose()

    async def thumbnail(
        self, image: Blob, specs: Sequence[ThumbnailSpec], *, urgent: bool = False
    ) -> Thumbnails:
        """As `Engine.thumbnail`; the remote server knows no urgency."""
        path = thumbnail_path([_without_speed(spec) for spec in specs])
        return read_thumbnails(await self._put(path, image), len(specs))

    async def identify(self, image: Blob) -> ImageInfo:
        """As `Engine.identify`."""
        return read_identity(await self._put("/identify", image))

    def _client(self, idle_connections: int) -> httpx.AsyncClient:
        """Without a bound on connections: the other server decides how much it takes on, and answers 503."""
        return httpx.AsyncClient(
            timeout=httpx.Timeout(self._timeout_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s)),
            limits=httpx.Limits(max_keepalive_connections=idle_connections, keepalive_expiry=IDLE_S),
            headers={"user-agent": f"safelight/{__version__}", "accept-encoding": "identity"},
            trust_env=False,
        )

    async def _put(self, path: str, image: Blob) -> Reply:
        """Send `image` to `path`.

        Raises: EngineUnreachable when no whole reply comes; MemoryLimitExceeded when it is too long.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._exchange(path, image)
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise EngineUnreachable(
                f"{_explained(error)} ({_shown(self.url)})", detail=repr(error)
            ) from error

    async def _exchange(self, path: str, image: Blob) -> Reply:
        """Ask once more, on a new connection, when the server has just closed the idle one that was used."""
        progress = _Progress()
        try:
            return await self._ask(self._keeping, path, image, progress)
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            if not progress.was_stale():
                raise
        return await self._ask(self._single, path, image, progress)

    async def _ask(self, client: httpx.AsyncClient, path: str, image: Blob, progress: "_Progress") -> Reply:
        sending = client.stream(
            "PUT",
            self.url + path,
            content=_pieces(image),
            headers=_headers(image),
            extensions={"trace": progress.note},
        )
        with connecting():
            async with sending as reply:
                return await self._read(reply)

    async def _read(self, reply: httpx.Response) -> Reply:
        """Leaving before the end, for whatever reason, closes the connection."""
        if reply.headers.get("content-encoding", "identity") != "identity":
            raise ImageError("thumbnailer sent an encoded reply")
        head = Reply(reply.status_code, reply.headers)
        if not head.has_images():
            return Reply(reply.status_code, reply.headers, await _beginning(reply))
        limit = self._max_reply_bytes + MAX_TEXT_BYTES
        if _announced(reply) > limit:
            raise MemoryLimitExceeded
        return Reply(reply.status_code, reply.headers, await _whole(reply, limit))


def _without_speed(spec: ThumbnailSpec) -> ThumbnailSpec:
    """How much work goes into an image is the other server's affair; older ones do not know the option."""
    options = {key: text for key, text in spec.options.items() if key != speed.OPTION}
    return replace(spec, options=options)


class _Progress:
    """How far a request has come, told by the client's trace."""

    def __init__(self) -> None:
        self._events: set[str] = set()

    async def note(self, event: str, _details: object) -> None:
        self._events.add(event)

    def was_stale(self) -> bool:
        """Whether a connection of an earlier request was used, and nothing of a reply has come back."""
        return not self._events & {
            "connection.connect_tcp.started",
            "http11.receive_response_headers.complete",
        }


def _headers(image: Blob) -> list[tuple[bytes, bytes]]:
    own = {"content-type": CONTENT_TYPE, "content-length": str(image.size)}
    headers = {**own, **current_xid(), **onward_headers()}
    return [(name.encode("latin-1"), text.encode("latin-1", "replace")) for name, text in headers.items()]


async def _pieces(image: Blob) -> AsyncIterator[bytes]:
    offset = 0
    try:
        while piece := image.read_at(offset, CHUNK_BYTES):
            yield piece
            offset += len(piece)
    except OSError as error:
        raise ImageError("image cannot be read", detail=str(error)) from error
    if offset < image.size:
        raise ImageError("image cannot be read", detail=f"{offset} of {image.size} bytes are left of it")


def _announced(reply: httpx.Response) -> int:
    return int(reply.headers.get("content-length", "0"))


async def _beginning(reply: httpx.Response) -> bytes:
    """At most so much as any text that we understand takes."""
    data = b""
    async for piece in reply.aiter_raw():
        data += piece
        if len(data) > MAX_TEXT_BYTES:
            break
    return data[:MAX_TEXT_BYTES]


async def _whole(reply: httpx.Response, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in reply.aiter_raw():
        size += len(piece)
        if size > limit:
            raise MemoryLimitExceeded
        pieces.append(piece)
    return b"".join(pieces)


def _check_url(url: str) -> None:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ImageError(f"thumbnailer URL '{_shown(url)}' is not valid: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ImageError(f"thumbnailer URL '{_shown(url)}' does not begin with http://HOST or https://HOST")


def _shown(url: str) -> str:
    """`url` without user and password: clients may read it."""
    scheme, mark, rest = url.partition("://")
    return scheme + mark + rest.rpartition("@")[2]


def _explained(error: Exception) -> str:
    """What clients are told; a refused connection in the words of the original (reference 5.5, 9.6)."""
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return "thumbnailer did not answer in time"
    reason = _system_message(error)
    if reason:
        return f"{reason} - connect(2)" if isinstance(error, httpx.ConnectError) else reason
    if isinstance(error, httpx.RemoteProtocolError | httpx.NetworkError):
        return "thumbnailer sent no complete reply"
    return "thumbnailer cannot be asked"


def _system_message(error: BaseException) -> str:
    """What the operating system has said that led to `error`, if anything."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return os.strerror(seen.errno) if seen.errno and seen.errno > 0 else seen.strerror
        if isinstance(seen, BaseExceptionGroup):  # one for each address of a host
            group = cast("BaseExceptionGroup[BaseException]", seen)
            return _system_message(group.exceptions[-1])
        seen = seen.__cause__ or seen.__context__
    return ""
