"""The examples that are written for files, used as their comments say; on S3 they do the same."""

import base64
import io
import time
from importlib.resources import files
from pathlib import Path

import numpy
import pytest
from example_support import DIGEST, EXAMPLES, PICTURE, SIZE, Ask, example, opened, picture

from safelight.api import load_config
from safelight.signing import sign


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.sdl")), ids=lambda path: path.name)
def test_examples_load_without_a_complaint(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cache").mkdir()
    assert load_config(path.read_text(), path.name).warnings == ()


def test_every_example_is_used() -> None:
    used = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    assert [path.name for path in EXAMPLES.glob("*.sdl") if f'@example("{path.name}")' not in used] == []


def test_the_built_in_example_is_the_one_shown() -> None:
    built_in = files("safelight").joinpath("example.sdl").read_text("utf-8")
    assert built_in == (EXAMPLES / "example.sdl").read_text()


@example("example.sdl")
async def test_example(ask: Ask) -> None:
    made = await ask("PUT", "/images", PICTURE)
    assert (made.status, made.text) == (200, f"{DIGEST}.jpg\r\n")
    assert ask.place.read("images", f"{DIGEST}.jpg") == PICTURE

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
    assert ask.place.keys("images") == []
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
    assert ask.place.keys("images") == [f"{DIGEST}.jpg"]


@example("on-demand.sdl")
async def test_on_demand(ask: Ask) -> None:
    made = await ask("PUT", "/v1/original", picture("PNG"))
    name = made.text.strip()
    assert (made.status, ask.place.keys("originals")) == (200, [name])
    assert name.endswith(".jpg")
    small = await ask("GET", f"/v1/thumbnail/{name}/pad/100/100/background-color:red")
    assert (small.status, small.image.size, small.content_type) == (200, (100, 100), "image/jpeg")
    assert small.cache_control == "public, max-age=31557600, s-maxage=0"


@example("cached.sdl")
async def test_cached(ask: Ask) -> None:
    """The second picture is the first one turned by a quarter."""
    await ask("PUT", "/images/2026/cup.jpg", PICTURE)
    first = await ask("GET", "/thumbnail/60/2026/cup.jpg")
    assert (first.status, first.image.size, first.content_type) == (200, (60, 40), "image/jpeg")
    ask.place.remove("images", "2026/cup.jpg")
    assert (await ask("GET", "/thumbnail/60/2026/cup.jpg")).body == first.body
    turned = io.BytesIO()
    opened(PICTURE).rotate(90, expand=True).save(turned, "JPEG")
    await ask("PUT", "/images/2026/cup.jpg", turned.getvalue())
    assert (await ask("GET", "/thumbnail/60/2026/cup.jpg")).image.size == (40, 60)
    ask.place.remove("images", "2026/cup.jpg")
    assert (await ask("DELETE", "/thumbnails/2026/cup.jpg")).status == 200
    assert (await ask("GET", "/thumbnail/60/2026/cup.jpg")).status == 404
    await ask("PUT", "/images/2026/cup.jpg", PICTURE)
    assert (await ask("GET", "/thumbnail/60/2026/cup.jpg")).status == 200
    assert (await ask("DELETE", "/images/2026/cup.jpg")).status == 200
    assert (await ask("GET", "/thumbnail/60/2026/cup.jpg")).status == 404


@example("classes.sdl")
async def test_classes(ask: Ask) -> None:
    made = await ask("PUT", "/thumbnail/search,brochure", PICTURE)
    assert made.content_type == "text/uri-list"
    keys = [f"{DIGEST}.jpg", f"{DIGEST}/search.jpg", f"{DIGEST}/brochure.jpg"]
    assert made.addresses == [ask.place.url("pictures", key) for key in keys]
    assert made.text.endswith("\r\n")
    assert ask.stored("pictures", f"{DIGEST}/search.jpg").size == (162, 162)
    assert ask.stored("pictures", f"{DIGEST}/brochure.jpg").size == (264, 264)
    assert ask.stored("originals", f"{DIGEST}.jpg").size == SIZE

    named = await ask("PUT", "/thumbnail/original/shop/chair.jpg", PICTURE)
    keys = [f"shop/{DIGEST}/chair.jpg", f"shop/{DIGEST}/chair-original.jpg"]
    assert named.addresses == [ask.place.url("pictures", key) for key in keys]
    assert ask.stored("pictures", keys[1]).size == SIZE


@example("signed.sdl")
async def test_signed(ask: Ask) -> None:
    writing, links = "replace-me-secret-for-writing", "replace-me-secret-for-links"
    assert (await ask("PUT", "/images/cat.jpg", PICTURE)).status == 403
    assert (await ask("PUT", sign("/images/cat.jpg", links, "sha256"), PICTURE)).status == 403
    assert ask.place.keys("images") == []
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
    assert [ask.place.read(root, "2019/cat.jpg") for root in ("fast-disk", "archive")] == [PICTURE] * 2
    assert (await ask("GET", "/small/2019/cat.jpg")).image.size == (200, 133)
    ask.place.remove("fast-disk", "2019/cat.jpg")
    assert (await ask("GET", "/small/2019/cat.jpg")).image.size == (200, 133)
    ask.place.remove("archive", "2019/cat.jpg")
    missing = await ask("GET", "/small/2019/cat.jpg")
    assert missing.status == 404
    assert [ask.place.name(root) in missing.text for root in ("fast-disk", "archive")] == [True, True]


@example("data-uri.sdl")
async def test_data_uri(ask: Ask) -> None:
    await ask("PUT", "/pictures/cat.jpg", PICTURE)
    kind, _, data = (await ask("GET", "/placeholder/cat.jpg")).text.partition(",")
    assert (kind, opened(base64.b64decode(data)).size) == ("data:image/webp;base64", (24, 16))
    assert len(data) < 1000
    kind, _, data = (await ask("PUT", "/icon", PICTURE)).text.partition(",")
    assert (kind, opened(base64.b64decode(data)).size) == ("data:image/png;base64", (32, 32))
    assert ask.place.keys("pictures") == ["cat.jpg"]


@example("cdn.sdl")
async def test_cdn(ask: Ask) -> None:
    made = await ask("PUT", "/upload", PICTURE)
    assert made.addresses == [
        ask.place.moved(f"https://img.example.com/p/{DIGEST}/large.jpg"),
        ask.place.moved(f"https://img.example.com/p/{DIGEST}/small.webp"),
    ]
    assert ask.stored("delivered", f"{DIGEST}/small.webp").size == (240, 160)
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
