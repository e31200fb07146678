"""Specifications for the older server's operations, and what our engine makes of them (section 8)."""

import io
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from PIL import Image

from safelight.blob import MemoryBlob
from safelight.engine.inline import InlineEngine
from safelight.image.geometry import Box
from safelight.image.result import ImageInfo, Thumbnail
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec
from safelight.jobs.operation import BLANK, FAILED, PROCESSING, crop_box, operation_spec, picture_spec
from safelight.jobs.record import LegacyOperation

BOXES = {
    (600, 600): Box(0, 80, 600, 360),
    (800, 533): Box(0, 17, 800, 480),
    (604, 451): Box(0, 29, 604, 362),
    (900, 1166): Box(0, 208, 900, 540),
    (1000, 200): Box(333, 0, 333, 200),
    (200, 120): Box(0, 0, 200, 120),
}
"""For 200x120; the first four are those of reference/imgserve 8.1."""


@pytest.fixture
async def engine() -> AsyncIterator[InlineEngine]:
    made = InlineEngine(ImageSettings(), workers=1)
    await made.start()
    yield made
    await made.close()


async def make(engine: InlineEngine, data: bytes, spec: ThumbnailSpec) -> Image.Image:
    (made,) = (await engine.thumbnail(MemoryBlob(data), [spec])).outputs
    assert isinstance(made, Thumbnail), made
    image = Image.open(io.BytesIO(made.data))
    image.load()
    return image


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def coordinates(size: tuple[int, int]) -> Image.Image:
    """Every pixel says where it is: low bytes of x and y in red and green, high ones in blue."""
    width, height = size
    pixels = bytes(
        part
        for y in range(height)
        for x in range(width)
        for part in (x % 256, y % 256, x // 256 + 16 * (y // 256))
    )
    return Image.frombytes("RGB", size, pixels)


@pytest.mark.covers("j045")
@pytest.mark.parametrize("size", sorted(BOXES))
def test_crop_boxes(size: tuple[int, int]) -> None:
    assert crop_box(ImageInfo("image/png", *size), 200, 120) == BOXES[size]


@pytest.mark.covers("j045")
@pytest.mark.parametrize("size", sorted(BOXES))
async def test_exactly_these_pixels_are_cut(engine: InlineEngine, size: tuple[int, int]) -> None:
    source, box = coordinates(size), BOXES[size]
    whole = operation_spec(LegacyOperation("resize", 200, 120, "png"), ImageInfo("image/png", *size))
    only_cut = replace(whole, edits=whole.edits[:1])
    cut = await make(engine, encoded(source), only_cut)
    right, bottom = box.left + box.width, box.top + box.height
    assert cut.size == (box.width, box.height)
    assert cut.tobytes() == source.crop((box.left, box.top, right, bottom)).tobytes()
    assert (await make(engine, encoded(source), whole)).size == (200, 120)


@pytest.mark.covers("j045")
@pytest.mark.parametrize("width", [1, 2, 7, 199, 200])
@pytest.mark.parametrize("height", [1, 3, 120])
async def test_every_size_is_exact(engine: InlineEngine, width: int, height: int) -> None:
    for size in ((200, 120), (201, 333), (4000, 130)):
        info = ImageInfo("image/png", *size)
        box = crop_box(info, width, height)
        assert box.width >= 1
        assert box.height >= 1
        assert (box.left + box.width, box.top + box.height) <= size
        spec = operation_spec(LegacyOperation("resize", width, height, "png"), info)
        made = await make(engine, encoded(Image.new("RGB", size, "red")), spec)
        assert made.size == (width, height)


async def test_sources_that_became_smaller_or_are_very_large(engine: InlineEngine) -> None:
    """The size is right all the same."""
    for size in ((20, 20), (8000, 5000)):
        data = encoded(Image.new("L", size, 99), "JPEG")
        spec = operation_spec(LegacyOperation("resize", 200, 120, "jpeg"), ImageInfo("image/jpeg", *size))
        made = await make(engine, data, spec)
        assert (made.size, made.format) == ((200, 120), "JPEG")


@pytest.mark.covers("j046", "j047")
@pytest.mark.parametrize("kind", ["png", "gif", "jpeg"])
async def test_formats_and_alpha(engine: InlineEngine, kind: str) -> None:
    source = Image.new("RGBA", (40, 24), (255, 0, 0, 0))
    spec = operation_spec(LegacyOperation("resize", 20, 12, kind), ImageInfo("image/png", 40, 24))
    made = await make(engine, encoded(source), spec)
    assert made.format == kind.upper()
    corner = made.convert("RGBA").getpixel((0, 0))
    assert corner == ((255, 255, 255, 255) if kind == "jpeg" else (*corner[:3], 0))


@pytest.mark.covers("j048", "j049")
@pytest.mark.parametrize("side", [5, 90, 5000])
async def test_drawings_are_stretched_to_any_size(engine: InlineEngine, side: int) -> None:
    half = side / 2
    data = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{side}" height="{side}">'
        f'<circle cx="{half}" cy="{half}" r="{half}"/></svg>'
    ).encode()
    spec = operation_spec(
        LegacyOperation("rasterize", 200, 120, "png"), ImageInfo("image/svg+xml", side, side)
    )
    made = await make(engine, data, spec)
    alpha = made.getchannel("A")
    assert (made.mode, made.size) == ("RGBA", (200, 120))
    assert [alpha.getpixel(corner) for corner in ((0, 0), (199, 119))] == [0, 0]
    assert min(alpha.getpixel(edge) for edge in ((100, 1), (100, 118), (1, 60), (198, 60))) > 200


@pytest.mark.covers("j042")
@pytest.mark.parametrize("text", [PROCESSING, FAILED])
@pytest.mark.parametrize("kind", ["png", "jpeg", "gif"])
@pytest.mark.parametrize("size", [(200, 120), (1, 1), (30, 10), (3000, 20)])
async def test_pictures_of_ours(engine: InlineEngine, kind: str, text: str, size: tuple[int, int]) -> None:
    made = await make(engine, BLANK.read(), picture_spec(LegacyOperation("resize", *size, kind), text))
    assert (made.size, made.format) == (size, kind.upper())
    if kind == "png":
        assert made.mode == "RGB"
    if size == (200, 120):
        grey = made.convert("L")
        assert grey.getpixel((0, 0)) == 255
        dark = grey.point(lambda value: 255 * (value < 64)).getbbox()
        assert dark is not None
        left, top, right, bottom = dark
        assert abs(left - (200 - right)) <= 4, "centred"
        assert abs(top - (120 - bottom)) <= 4
        assert 10 <= bottom - top <= 20, "letters of 16 pixels"


def test_specifications_survive_their_text_form() -> None:
    operation = LegacyOperation("resize", 200, 120, "jpeg")
    for spec in (picture_spec(operation, PROCESSING), operation_spec(operation, ImageInfo("x", 333, 777))):
        assert ThumbnailSpec.parse(str(spec)) == spec
