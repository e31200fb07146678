"""The real image core inside the real jail."""

import asyncio
import sys
from collections.abc import AsyncIterator
from io import BytesIO

import pytest
import pytest_asyncio
from PIL import Image as PillowImage

from safelight.blob import MemoryBlob
from safelight.engine.pool import PoolEngine
from safelight.errors import UnsupportedMedia
from safelight.image.result import ImageInfo, Thumbnail
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec

FORMATS = ("jpeg", "png", "webp", "gif", "tiff", "avif")
SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30">
<rect width="40" height="30" fill="#fff"/>
<text x="2" y="25" font-size="30">W</text></svg>"""


def picture(name: str) -> MemoryBlob:
    file = BytesIO()
    PillowImage.linear_gradient("L").resize((40, 30)).convert("RGB").save(file, name)
    return MemoryBlob(file.getvalue())


pytestmark = pytest.mark.asyncio(loop_scope="module")  # one engine for all: its start takes longest


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[PoolEngine]:
    engine = PoolEngine(ImageSettings(), workers=1)
    await engine.start()
    yield engine
    await engine.close()


async def test_pictures_go_through_the_jail(engine: PoolEngine) -> None:
    for name in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "BMP"):
        specs = [ThumbnailSpec("fit", 20, 20, image_format) for image_format in FORMATS]
        result = await engine.thumbnail(picture(name), specs)
        assert (result.source.width, result.source.height) == (40, 30)
        for output in result.outputs:
            assert isinstance(output, Thumbnail), (name, output)
            assert (output.width, output.height) == (20, 15)
    assert await engine.identify(picture("PNG")) == ImageInfo("image/png", 40, 30)
    assert engine.status().restarts == {}


async def test_drawings_go_through_the_jail(engine: PoolEngine) -> None:
    (output,) = (await engine.thumbnail(MemoryBlob(SVG), [ThumbnailSpec("fit", 40, 30, "png")])).outputs
    assert isinstance(output, Thumbnail)
    assert PillowImage.open(BytesIO(output.data)).size == (40, 30)


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff\xe0" + b"x" * 1000])
async def test_what_is_no_image_is_refused_and_costs_no_worker(engine: PoolEngine, data: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        await engine.identify(MemoryBlob(data))
    with pytest.raises(UnsupportedMedia):
        await engine.thumbnail(MemoryBlob(data), [ThumbnailSpec("fit", 1, 1, "png")])
    assert engine.status().restarts == {}


async def test_the_server_process_loads_no_image_code() -> None:
    script = "import sys, safelight.engine.pool; sys.exit('pyvips' in sys.modules or 'PIL' in sys.modules)"
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    assert await server.wait() == 0
