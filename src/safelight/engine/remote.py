"""An engine on another server that speaks the thumbnailer protocol, ours or the original."""

from collections.abc import AsyncIterator, Sequence

import httpx

from safelight.blob import CHUNK_BYTES, Blob
from safelight.errors import EngineUnreachable
from safelight.image.result import ImageInfo, Thumbnails
from safelight.image.spec import ThumbnailSpec
from safelight.protocol import CONTENT_TYPE, Reply, read_identity, read_thumbnails, thumbnail_path
from safelight.xid import current_xid

TIMEOUT_S = 300
CONNECT_TIMEOUT_S = 10


class RemoteEngine:
    """Sends every job to the server at `url`, over connections that are kept alive where it lets us."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.url = url
        self._timeout = httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))
        self._client: httpx.AsyncClient

    async def start(self) -> None:
        """Open the client. The server behind `url` may come and go: nothing is asked of it here."""
        self._client = httpx.AsyncClient(timeout=self._timeout, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def thumbnail(
        self, image: Blob, specs: Sequence[ThumbnailSpec], *, urgent: bool = False
    ) -> Thumbnails:
        """As `Engine.thumbnail`; the remote server knows no urgency."""
        return read_thumbnails(await self._put(thumbnail_path(specs), image), len(specs))

    async def identify(self, image: Blob) -> ImageInfo:
        """As `Engine.identify`."""
        return read_identity(await self._put("/identify", image))

    async def _put(self, path: str, image: Blob) -> Reply:
        """Send `image` to `path`. Raises: EngineUnreachable when no reply comes."""
        headers = {"content-type": CONTENT_TYPE, "content-length": str(image.size), **current_xid()}
        try:
            reply = await self._client.put(self.url + path, content=_pieces(image), headers=headers)
        except httpx.TimeoutException as error:
            raise EngineUnreachable(
                f"thumbnailer did not answer in time ({self.url})", detail=repr(error)
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise EngineUnreachable(f"{error} ({self.url})", detail=repr(error)) from error
        return Reply(reply.status_code, reply.headers, reply.content)


async def _pieces(image: Blob) -> AsyncIterator[bytes]:
    offset = 0
    while piece := image.read_at(offset, CHUNK_BYTES):
        yield piece
        offset += len(piece)
