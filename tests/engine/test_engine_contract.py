"""What every engine must do, whichever way it runs the image code."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from safelight.blob import Blob, FileBlob, MemoryBlob
from safelight.engine.base import Engine
from safelight.engine.inline import InlineEngine
from safelight.engine.pool import PoolEngine, PoolLimits
from safelight.errors import BadRequest, ImageError, SpecError, Timeout, TooLarge, UnsupportedMedia
from safelight.image.result import ImageInfo, Thumbnail
from safelight.image.settings import ImageSettings
from safelight.image.spec import Edit, ThumbnailSpec

SCRIPT = "engine_handlers:ScriptHandler"
SPEC = ThumbnailSpec("fit", 10, 20, "JPEG")
SETTINGS = ImageSettings(jpeg_quality=77)

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one engine of each kind for most of the tests


def make_engine(kind: str, *, handler: str = SCRIPT, timeout_s: float = 20) -> Engine:
    if kind == "pool":
        limits = PoolLimits(transform_timeout_s=timeout_s)
        return PoolEngine(SETTINGS, workers=2, limits=limits, handler=handler)
    return InlineEngine(SETTINGS, workers=2, transform_timeout_s=timeout_s, handler=handler)


@pytest.fixture(scope="module", params=["inline", "pool"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(kind: str) -> AsyncIterator[Engine]:
    engine = make_engine(kind)
    await engine.start()
    yield engine
    await engine.close()


async def one(engine: Engine, image: Blob | bytes, spec: ThumbnailSpec = SPEC) -> bytes:
    """The first output of a request with one specification."""
    result = await engine.thumbnail(MemoryBlob(image) if isinstance(image, bytes) else image, [spec])
    (output,) = result.outputs
    assert isinstance(output, Thumbnail)
    return output.data


def file_blob(path: Path, data: bytes) -> FileBlob:
    path.write_bytes(data)
    return FileBlob(os.open(path, os.O_RDONLY), len(data))


async def test_outputs_come_in_order_with_failures_in_their_place(engine: Engine) -> None:
    specs = [SPEC, ThumbnailSpec("fail", 1, 1, "PNG"), ThumbnailSpec("crop", None, 5, "PNG")]
    result = await engine.thumbnail(MemoryBlob(b"abc"), specs)
    first, second, third = result.outputs
    assert result.source == ImageInfo("image/x-test", 3, 2)
    assert first == Thumbnail(hashlib.sha256(b"abc").digest() + b"fit,10,20,JPEG", "image/x-test", 10, 20)
    assert isinstance(second, SpecError)
    assert second.message == "no such method in spec 'fail,1,1,PNG'"
    assert isinstance(third, Thumbnail)
    assert (third.width, third.height) == (1, 5)


async def test_specifications_arrive_whole(engine: Engine) -> None:
    spec = ThumbnailSpec(
        "pad",
        1,
        None,
        "PNG",
        {"background-color": "réd", "a": "\t\x00"},
        (Edit("crop", ("0.1", ""), {"k": "v"}),),
    )
    assert (await one(engine, b"abc", spec)).endswith(str(spec).encode())


async def test_identify(engine: Engine) -> None:
    assert await engine.identify(MemoryBlob(b"12345")) == ImageInfo("image/x-test", 5, 77)


async def test_a_file_is_as_good_as_bytes(engine: Engine, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    blob = file_blob(tmp_path / "image", data)
    expected = await one(engine, data)
    assert await one(engine, blob) == expected
    assert await one(engine, blob) == expected
    assert (await engine.identify(blob)).width == len(data)
    blob.close()


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 5_000_000])
async def test_sizes(engine: Engine, size: int) -> None:
    data = os.urandom(size)
    assert (await one(engine, data)).startswith(hashlib.sha256(data).digest())


async def test_an_output_can_be_empty_or_long(engine: Engine) -> None:
    assert await one(engine, b"big 0") == b"fit,10,20,JPEG"
    assert len(await one(engine, b"big 3000000")) == 3_000_014


async def test_no_specifications(engine: Engine) -> None:
    assert (await engine.thumbnail(MemoryBlob(b"abc"), [])).outputs == ()


async def test_warm_up_has_run(engine: Engine) -> None:
    assert (await one(engine, b"warm")).startswith(b"True")


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (b"unsupported", UnsupportedMedia, "not an image"),
        (b"too_large", TooLarge, "image too large"),
        (b"bug", ImageError, "image processing failed"),
        (b"memory_error", TooLarge, "image too large: out of memory"),
    ],
)
async def test_errors_keep_their_class(
    engine: Engine, image: bytes, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        await engine.thumbnail(MemoryBlob(image), [SPEC])
    assert type(caught.value) is error
    with pytest.raises(error, match=message):
        await engine.identify(MemoryBlob(image))
    assert await one(engine, b"big 0") == b"fit,10,20,JPEG"


async def test_deadline(kind: str) -> None:
    engine = make_engine(kind, timeout_s=0.4)
    await engine.start()
    with pytest.raises(Timeout):
        await engine.thumbnail(MemoryBlob(b"sleep 0.8"), [SPEC])
    assert await one(engine, b"big 0")
    await engine.close()


async def test_many_at_once_each_with_its_own_answer(engine: Engine) -> None:
    inputs = [b"%d" % number * 1000 for number in range(50)]
    answers = await asyncio.gather(*(one(engine, data) for data in inputs))
    assert [answer[:32] for answer in answers] == [hashlib.sha256(data).digest() for data in inputs]


async def test_an_urgent_request_overtakes(engine: Engine) -> None:
    slow = [asyncio.ensure_future(one(engine, b"sleep 1.5")) for _ in range(6)]
    await asyncio.sleep(0)
    await asyncio.wait_for(engine.thumbnail(MemoryBlob(b"x"), [SPEC], urgent=True), 1.2)
    assert not any(task.done() for task in slow)
    for task in slow:
        task.cancel()
    await asyncio.wait(slow)


@pytest.mark.parametrize("handler", ["FailsToLoad", "FailsToWarmUp", "NotThere"])
async def test_a_failed_boot_fails_start(kind: str, handler: str) -> None:
    engine = make_engine(kind, handler=f"engine_handlers:{handler}")
    with pytest.raises(ImageError):
        await engine.start()
    await engine.close()


async def test_a_closed_engine_refuses(kind: str) -> None:
    engine = make_engine(kind)
    await engine.start()
    await engine.close()
    with pytest.raises((ImageError, BadRequest)):
        await engine.thumbnail(MemoryBlob(b"x"), [SPEC])
