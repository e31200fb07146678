"""The stateless thumbnailer: images in, thumbnails out (reference/thumbnailer sections 1 to 5).

Paths are never percent-decoded: what separates specifications is what the client has written.
"""

import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import msgspec
import structlog

from safelight.blob import MemoryBlob
from safelight.engine.base import Engine
from safelight.errors import BadRequest, SafelightError
from safelight.image.counts import IDENTIFIED, CountName
from safelight.image.result import ImageInfo, Thumbnail, Thumbnails
from safelight.image.spec import MAX_SPECS, ThumbnailSpec, split
from safelight.model import Answer, Counters
from safelight.multipart import Part, join
from safelight.run import ReadBody
from safelight.server.errors import status_of, text_answer
from safelight.server.exchange import Exchange
from safelight.server.hosting import HostSettings, Say, host
from safelight.server.process import MakeApp
from safelight.timing import measured

SINGLE = "/thumbnail/"
SEVERAL = "/thumbnails/"
IDENTIFY = "/identify"

STATISTICS = (
    "workers",
    "total_requests",
    "total_errors",
    "calling",
    "writing",
    "total_images_loaded",
    "total_images_reloaded",
    "total_images_downsampled",
    "total_thumbnails_created",
    "images_loaded",
    "max_images_loaded",
    "max_images_loaded_worker",
    "total_images_created",
    "total_images_destroyed",
    "total_images_created_from_blob",
    "total_images_created_initialize",
    "total_images_created_initialize_copy",
    "total_images_created_resize",
    "total_images_created_crop",
    "total_images_created_sample",
    "total_images_created_blur_image",
    "total_images_created_composite",
    "total_images_created_rotate",
    "total_write_multipart",
    "total_write",
    "total_write_part",
    "total_write_error",
    "total_write_error_part",
)
"""Names in the order of `/stats` (reference/thumbnailer section 9)."""

STATISTIC_OF: Mapping[CountName, str] = {
    "images_loaded": "total_images_loaded",
    "reloaded": "total_images_reloaded",
    "downsampled": "total_images_downsampled",
    "thumbnails_created": "total_thumbnails_created",
    "created_from_blob": "total_images_created_from_blob",
    "created_initialize": "total_images_created_initialize",
    "created_initialize_copy": "total_images_created_initialize_copy",
    "created_resize": "total_images_created_resize",
    "created_crop": "total_images_created_crop",
    "created_sample": "total_images_created_sample",
    "created_blur_image": "total_images_created_blur_image",
    "created_composite": "total_images_created_composite",
    "created_rotate": "total_images_created_rotate",
    "created_total": "total_images_created",
    "destroyed_total": "total_images_destroyed",
}
"""Where the counts of the image core are added."""

_log = structlog.get_logger("safelight.thumbnailer")


class ThumbnailerService:
    """The routes of the thumbnailer, on one engine."""

    banner = "HTTP Thumbnailer"

    def __init__(self, engine: Engine, counters: Counters) -> None:
        self.engine = engine
        self._count = counters.add

    async def start(self) -> None:
        """Start the engine. Raises: what the engine raises."""
        await self.engine.start()

    async def close(self) -> None:
        """Stop the engine."""
        await self.engine.close()

    async def check_health(self) -> Answer:
        """Says that the server answers; asks nothing of the engine, as the original does."""
        return text_answer(f"{self.banner} OK")

    async def answer(self, exchange: Exchange, read_body: ReadBody) -> Answer | None:
        """Serve one of the three routes, None for anything else. Raises: any SafelightError."""
        path = exchange.raw_path
        if exchange.method != "PUT":
            return None
        if path.startswith(SINGLE):
            return await self._thumbnail(path.removeprefix(SINGLE), read_body)
        if path.startswith(SEVERAL):
            return await self._thumbnails(path.removeprefix(SEVERAL), read_body)
        if path == IDENTIFY or path.startswith(IDENTIFY + "/"):
            return await self._identify(read_body)
        return None

    async def _thumbnail(self, text: str, read_body: ReadBody) -> Answer:
        spec = ThumbnailSpec.parse(text)
        _log.info("thumbnailing image to single spec: %s", text)
        made = await self._make([spec], text, read_body)
        (output,) = made.outputs
        if isinstance(output, SafelightError):
            raise output
        facts = (*_size_facts(output), *_source_facts(made.source))
        return Answer(MemoryBlob(output.data), output.mime_type, facts=facts)

    async def _thumbnails(self, text: str, read_body: ReadBody) -> Answer:
        """Parsing ends before the body is read: a bad specification wins over a bad image."""
        specs = _parsed(split(text, "/"))
        _log.info("thumbnailing image to multiple specs: %s", text)
        made = await self._make(specs, text, read_body)
        boundary = str(uuid.uuid4())
        body = join(map(self._part, made.outputs), boundary)
        content_type = f'multipart/mixed; boundary="{boundary}"'
        return Answer(MemoryBlob(body), content_type, facts=_source_facts(made.source))

    async def _make(self, specs: Sequence[ThumbnailSpec], text: str, read_body: ReadBody) -> Thumbnails:
        body = await read_body()
        with self._image_loaded(), measured("thumbnailing image", text):
            made = await self.engine.thumbnail(body, specs)
        self._add(made.counts)
        return made

    @contextmanager
    def _image_loaded(self) -> Generator[None]:
        """Count one image more for as long as this lasts."""
        self._count("images_loaded")
        try:
            yield
        finally:
            self._count("images_loaded", -1)

    def _add(self, counts: Mapping[CountName, int]) -> None:
        for name, count in counts.items():
            self._count(STATISTIC_OF[name], count)

    def _part(self, output: Thumbnail | SafelightError) -> Part:
        self._count("total_write_part")
        if isinstance(output, SafelightError):
            self._count("total_write_error_part")
            _log.warning("sending error in multipart response part: %s", output.message)
            text = output.message.replace("\r\n", "\n").replace("\n", "\r\n")
            return Part("text/plain", text.encode(), {"Status": str(status_of(output))})
        return Part(output.mime_type, output.data, dict(_size_facts(output)))

    async def _identify(self, read_body: ReadBody) -> Answer:
        _log.info("identifying image")
        body = await read_body()
        with self._image_loaded(), measured("identifying"):
            info = await self.engine.identify(body)
        self._add(IDENTIFIED)
        found = {"mimeType": info.mime_type, "width": info.width, "height": info.height}
        return Answer(MemoryBlob(msgspec.json.encode(found)), "application/json")


def thumbnailer(settings: HostSettings, say: Say) -> MakeApp:
    """The application of each HTTP worker. Nothing is decoded here, so no escape can be wrong."""
    settings = replace(settings, app=replace(settings.app, refuse_bad_escapes=False))
    return lambda seat: host(ThumbnailerService, settings, seat, say)


def _parsed(texts: Sequence[str]) -> list[ThumbnailSpec]:
    if len(texts) > MAX_SPECS:
        raise BadRequest(f"too many thumbnail specs: {len(texts)}, at most {MAX_SPECS} are allowed")
    return [ThumbnailSpec.parse(text) for text in texts]


def _size_facts(output: Thumbnail) -> tuple[tuple[str, str], ...]:
    return (("X-Image-Width", str(output.width)), ("X-Image-Height", str(output.height)))


def _source_facts(source: ImageInfo) -> tuple[tuple[str, str], ...]:
    return (
        ("X-Input-Image-Mime-Type", source.mime_type),
        ("X-Input-Image-Width", str(source.width)),
        ("X-Input-Image-Height", str(source.height)),
    )
