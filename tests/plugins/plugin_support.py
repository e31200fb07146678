"""Plugin files made on the spot, and engines that load them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent

from image_makers import save
from PIL import Image as PillowImage

from safelight.blob import MemoryBlob
from safelight.engine.base import Engine
from safelight.engine.inline import InlineEngine
from safelight.engine.pool import PoolEngine, PoolLimits
from safelight.errors import SafelightError
from safelight.image.result import Thumbnail, Thumbnails
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec

EXAMPLES = Path(__file__).parents[2] / "examples" / "plugins"
HEAD = "from safelight.plugin import *\nimport pyvips\n"


def write(directory: Path, **files: str) -> str:
    """Write `name=source` as `name.py`, behind the usual imports on two lines; `__` in a name is `/`."""
    for name, source in files.items():
        path = directory / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEAD + dedent(source))
    return str(directory)


@asynccontextmanager
async def running(kind: str, *directories: str | Path, timeout_s: float = 20) -> AsyncIterator[Engine]:
    """An engine of that kind with plugins."""
    settings = ImageSettings(plugins=tuple(map(str, directories)))
    engine: Engine
    if kind == "pool":
        engine = PoolEngine(settings, workers=1, limits=PoolLimits(transform_timeout_s=timeout_s))
    else:
        engine = InlineEngine(settings, transform_timeout_s=timeout_s)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def picture(width: int = 60, height: int = 40, colour: str = "#102030") -> bytes:
    """A PNG of one colour."""
    return save(PillowImage.new("RGB", (width, height), colour), "PNG")


async def ask(engine: Engine, *specs: str, data: bytes | None = None) -> Thumbnails:
    """Have specifications made."""
    image = MemoryBlob(picture() if data is None else data)
    return await engine.thumbnail(image, [ThumbnailSpec.parse(spec) for spec in specs])


async def one(engine: Engine, spec: str, data: bytes | None = None) -> Thumbnail:
    """The one output; a failure is raised."""
    (output,) = (await ask(engine, spec, data=data)).outputs
    if isinstance(output, SafelightError):
        raise output
    return output


async def failure(engine: Engine, spec: str, data: bytes | None = None) -> SafelightError:
    """The failure of the one output."""
    (output,) = (await ask(engine, spec, data=data)).outputs
    assert isinstance(output, SafelightError), output
    return output
