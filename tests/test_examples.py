"""Every file in `examples/`, loaded without a warning and used as its comments say."""

import base64
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import numpy
import pytest
from PIL import Image
from tally import Tally

from safelight.api import build, load_config
from safelight.blob import MemoryBlob
from safelight.engine.inline import InlineEngine
from safelight.errors import SafelightError
from safelight.image.settings import ImageSettings
from safelight.model import Answer, Api, Request
from safelight.run import run
from safelight.server.errors import error_answer
from safelight.signing import sign
from safelight.uri import parse_query

EXAMPLES = Path(__file__).parent.parent / "examples"
SIZE = (120, 80)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client sees."""

    status: int
    content_type: str
    cache_control: str | None
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def image(self) -> Image.Image:
        return opened(self.body)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def stored(path: str) -> Image.Image:
    return opened(Path(path).read_bytes())


Ask = Callable[..., Awaitable[Reply]]


async def ask_api(api: Api, method: str, target: str, body: bytes = b"") -> Reply:
    """One request, without a socket."""

    async def read_body() -> MemoryBlob:
        return MemoryBlob(body)

    path, _, query = target.partition("?")
    request = Request(method, path, query, parse_query(query), {})
    found = api.match(request)
    assert found is not None, f"no endpoint for {method} {target}"
    try:
        answer: Answer = await run(*found, request, read_body, 1 << 27)
    except SafelightError as error:
        answer = error_answer(error)
    return Reply(answer.status, answer.content_type, answer.cache_control, answer.body.read())


@pytest.fixture
async def ask(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ask]:
    """Requests to the example that the test is about, its files in a directory of their own."""
    monkeypatch.chdir(tmp_path)
    name: str = request.param
    engine = InlineEngine(ImageSettings(), workers=1)
    api = build(load_config((EXAMPLES / name).read_text(), name), engine, Tally())
    await engine.start()

    async def ask(method: str, target: str, body: bytes = b"") -> Reply:
        return await ask_api(api, method, target, body)

    yield ask
    await engine.close()


def example(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("ask", [name], indirect=True)


def picture(image_format: str = "JPEG") -> bytes:
    """120 x 80 pixels, black on the left to red on the right."""
    columns = numpy.tile(numpy.linspace(0, 255, SIZE[0]).astype("uint8"), (SIZE[1], 1))
    pixels = numpy.dstack([columns, columns // 4, columns // 8])
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, image_format, quality=95)
    return data.getvalue()


PICTURE = picture()
DIGEST = sha256(PICTURE).hexdigest()[:16]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.sdl")), ids=lambda path: path.name)
def test_examples_load_without_a_complaint(path: Path) -> None:
    assert load_config(path.read_text(), path.name).warnings == ()


def test_every_example_is_used_below() -> None:
    used = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.glob("*.sdl") if f'@example("{path.name}")' not in used] == []


def test_the_built_in_example_is_the_one_shown() -> None:
    built_in = files("safelight").joinpath("example.sdl").read_text("utf-8")
    assert built_in == (EXAMPLES / "example.sdl").read_text()


@example("example.sdl")
async def test_example(ask: Ask) -> None:
    made = await ask("PUT", "/images", PICTURE)
    assert (made.status, made.text) == (200, f"{DIGEST}.jpg\r\n")
    assert Path(f"images/{DIGEST}.jpg").read_bytes() == PICTURE

    original = await ask("GET", f"/images/{DIGEST}.jpg")
    assert (original.content_type, original.body) == ("image/jpeg", PICTURE)
    assert (await ask("GET", f"/info/{DIGEST}.jpg")).text == "jpg 120x80\r\n"

    small = await ask("GET", f"/thumbnail/{DIGEST}.jpg/fit/60/60")
    assert (small.content_type, small.image.size, small.image.format) == ("image/jpeg", (60, 40), "JPEG")
    assert small.cache_control == "public, max-age=31557600"
    padded = await ask(
        "GET", f"/thumbnail/{DIGEST}.jpg/pad/60/60/background-color:lime,quality:70?format=webp"
    )
    assert (padded.image.size, padded.image.format) == ((60, 60), "WEBP")
    assert padded.image.convert("RGB").getpixel((30, 2)) == pytest.approx((0, 255, 0), abs=40)

    assert (await ask("DELETE", f"/images/{DIGEST}.jpg")).text == "OK\r\n"
    assert not Path(f"images/{DIGEST}.jpg").exists()
    assert (await ask("GET", f"/images/{DIGEST}.jpg")).status == 404
    assert (await ask("DELETE", f"/images/{DIGEST}.jpg")).status == 404


@example("example.sdl")
async def test_example_refuses(ask: Ask) -> None:
    await ask("PUT", "/images", PICTURE)
    assert (await ask("PUT", "/images", b"no image at all")).status == 415
    assert (await ask("PUT", "/images")).status == 400
    assert (await ask("GET", f"/thumbnail/{DIGEST}.jpg/squeeze/60/60")).status == 400
    assert (await ask("GET", f"/thumbnail/{DIGEST}.jpg/fit/60/tall")).status == 400
    assert (await ask("GET", "/images/..%2F..%2Fetc%2Fpasswd")).status == 403
    assert sorted(Path("images").iterdir()) == [Path(f"images/{DIGEST}.jpg")]


@example("on-demand.sdl")
async def test_on_demand(ask: Ask) -> None:
    made = await ask("PUT", "/v1/original", picture("PNG"))
    name = made.text.strip()
    assert (made.status, Path(f"originals/{name}").exists()) == (200, True)
    assert name.endswith(".jpg")
    small = await ask("GET", f"/v1/thumbnail/{name}/pad/100/100/background-color:red")
    assert (small.status, small.image.size, small.content_type) == (200, (100, 100), "image/jpeg")
    assert small.cache_control == "public, max-age=31557600, s-maxage=0"


@example("classes.sdl")
async def test_classes(ask: Ask) -> None:
    made = await ask("PUT", "/thumbnail/search,brochure", PICTURE)
    assert made.content_type == "text/uri-list"
    assert made.text.split("\r\n") == [
        f"file:/{DIGEST}.jpg",
        f"file:/{DIGEST}/search.jpg",
        f"file:/{DIGEST}/brochure.jpg",
        "",
    ]
    assert stored(f"pictures/{DIGEST}/search.jpg").size == (162, 162)
    assert stored(f"pictures/{DIGEST}/brochure.jpg").size == (264, 264)
    assert stored(f"originals/{DIGEST}.jpg").size == SIZE

    named = await ask("PUT", "/thumbnail/original/shop/chair.jpg", PICTURE)
    assert named.text.split() == [f"file:/shop/{DIGEST}/chair.jpg", f"file:/shop/{DIGEST}/chair-original.jpg"]
    assert stored(f"pictures/shop/{DIGEST}/chair-original.jpg").size == SIZE


@example("signed.sdl")
async def test_signed(ask: Ask) -> None:
    writing, links = "replace-me-secret-for-writing", "replace-me-secret-for-links"
    assert (await ask("PUT", "/images/cat.jpg", PICTURE)).status == 403
    assert (await ask("PUT", sign("/images/cat.jpg", links, "sha256"), PICTURE)).status == 403
    assert not Path("images").exists()
    assert (await ask("PUT", sign("/images/cat.jpg", writing, "sha256"), PICTURE)).text == "cat.jpg\r\n"

    later, earlier = int(time.time()) + 600, int(time.time()) - 1
    url = sign(f"/thumbnail/60/60/cat.jpg?expires={later}", links, "sha256")
    small = await ask("GET", url)
    assert (small.status, small.image.size, small.image.format) == (200, (60, 60), "WEBP")
    assert (await ask("GET", url.replace("/60/60/", "/90/90/"))).status == 403
    assert (await ask("GET", url.replace(f"{later}", f"{later + 1}"))).status == 403
    expired = await ask("GET", sign(f"/thumbnail/60/60/cat.jpg?expires={earlier}", links, "sha256"))
    assert (expired.status, "expired" in expired.text) == (403, True)


@example("failover.sdl")
async def test_failover(ask: Ask) -> None:
    await ask("PUT", "/pictures/2019/cat.jpg", PICTURE)
    assert Path("fast-disk/2019/cat.jpg").read_bytes() == Path("archive/2019/cat.jpg").read_bytes() == PICTURE
    assert (await ask("GET", "/small/2019/cat.jpg")).image.size == (200, 133)
    Path("fast-disk/2019/cat.jpg").unlink()
    assert (await ask("GET", "/small/2019/cat.jpg")).image.size == (200, 133)
    Path("archive/2019/cat.jpg").unlink()
    missing = await ask("GET", "/small/2019/cat.jpg")
    assert missing.status == 404
    assert [root in missing.text for root in ("fast-disk", "archive")] == [True, True]


@example("data-uri.sdl")
async def test_data_uri(ask: Ask) -> None:
    await ask("PUT", "/pictures/cat.jpg", PICTURE)
    kind, _, data = (await ask("GET", "/placeholder/cat.jpg")).text.partition(",")
    assert (kind, opened(base64.b64decode(data)).size) == ("data:image/webp;base64", (24, 16))
    assert len(data) < 1000
    kind, _, data = (await ask("PUT", "/icon", PICTURE)).text.partition(",")
    assert (kind, opened(base64.b64decode(data)).size) == ("data:image/png;base64", (32, 32))
    assert not Path("icon").exists()


@example("cdn.sdl")
async def test_cdn(ask: Ask) -> None:
    made = await ask("PUT", "/upload", PICTURE)
    assert made.text.split() == [
        f"https://img.example.com/p/{DIGEST}/large.jpg",
        f"https://img.example.com/p/{DIGEST}/small.webp",
    ]
    assert stored(f"delivered/{DIGEST}/small.webp").size == (240, 160)
    assert (await ask("PUT", "/upload/plain", PICTURE)).text == f"/p/{DIGEST}/large.jpg\r\n"


@example("flexible.sdl")
async def test_flexible(ask: Ask) -> None:
    await ask("PUT", "/pictures/a/cat.jpg", PICTURE)
    url = "/pictures/a/cat.jpg"
    assert (await ask("GET", url)).body == PICTURE
    assert (await ask("GET", f"{url}?width=60")).image.size == (60, 40)
    padded = await ask("GET", f"{url}?operation=pad&width=60&height=60&background-color=blue&format=png")
    assert (padded.image.size, padded.image.getpixel((30, 2))[:3]) == ((60, 60), (0, 0, 255))
    webp = [await ask("GET", f"{url}?width=100&format=webp&quality={quality}") for quality in (10, 90)]
    assert len(webp[0].body) < len(webp[1].body)
    edited = await ask("GET", "/edited/a/cat.jpg?edits=rotate,90!crop,0.25,0.25,0.5,0.5")
    assert edited.image.size == (40, 60)
    assert (await ask("GET", "/edited/a/cat.jpg?edits=sparkle")).status == 400


@example("redaction.sdl")
@pytest.mark.parametrize("style", ["rectangle", "pixelate", "blur"])
async def test_redaction(ask: Ask, style: str) -> None:
    region = "x=0.5&y=0&width=0.5&height=1"
    made = await ask("PUT", f"/redacted/{style}?{region}", PICTURE)
    assert (made.status, made.text.strip().endswith(".jpg")) == (200, True)
    published = await ask("GET", f"/published/{made.text.strip()}")
    before = numpy.asarray(opened(PICTURE).convert("RGB")).astype(int)
    after = numpy.asarray(published.image.convert("RGB")).astype(int)
    assert after.shape == before.shape
    changed = numpy.abs(after - before).max(axis=2)
    assert changed[:, :52].max() < 24, "outside of the region, only the JPEG encoder may change something"
    assert changed[:, 64:].max() > (200 if style == "rectangle" else 2)
    if style == "rectangle":
        assert after[:, 64:].max() < 12


@example("redaction.sdl")
async def test_redaction_takes_known_styles_only(ask: Ask) -> None:
    with pytest.raises(AssertionError, match="no endpoint"):
        await ask("PUT", "/redacted/sparkle?x=0&y=0&width=1&height=1", PICTURE)
