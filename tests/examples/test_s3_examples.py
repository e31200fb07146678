"""The examples that are written for S3, used as their comments say; on files they do the same."""

import base64
from pathlib import Path

from example_places import Buckets
from example_support import DIGEST, PICTURE, SIZE, Ask, example, opened, picture


@example("s3.sdl")
async def test_s3(ask: Ask) -> None:
    name = f"{DIGEST}.jpg"
    made = await ask("PUT", "/pictures", PICTURE)
    assert (made.status, made.text) == (200, f"{name}\r\n")
    (key,) = ask.place.keys("pictures")
    assert ask.place.read("pictures", key) == PICTURE

    small = await ask("GET", f"/thumbnail/{name}/fit/60/60")
    assert (small.status, small.image.size, small.content_type) == (200, (60, 40), "image/jpeg")
    assert (await ask("GET", f"/link/{name}")).addresses == [ask.place.url("pictures", key)]

    assert (await ask("DELETE", f"/pictures/{name}")).text == "OK\r\n"
    assert ask.place.keys("pictures") == []
    assert (await ask("GET", f"/thumbnail/{name}/fit/60/60")).status == 404
    assert (await ask("DELETE", f"/pictures/{name}")).status == 404


@example("s3.sdl")
async def test_s3_reads_originals_from_its_cache(ask: Ask) -> None:
    if not isinstance(ask.place, Buckets):
        return
    await ask("PUT", "/pictures", PICTURE)
    assert ask.place.keys("pictures") == [f"original/{DIGEST}.jpg"]
    first = await ask("GET", f"/thumbnail/{DIGEST}.jpg/crop/20/20")
    assert len(list(Path("cache").glob("??/??/*"))) == 1
    ask.place.remove("pictures", f"original/{DIGEST}.jpg")
    assert (await ask("GET", f"/thumbnail/{DIGEST}.jpg/crop/20/20")).body == first.body


@example("two-accounts.sdl")
async def test_two_accounts(ask: Ask) -> None:
    made = await ask("PUT", "/pictures/2019/cat.jpg", PICTURE)
    assert made.text == "2019/cat.jpg\r\n"
    roots = ("pictures", "archived-pictures")
    assert [ask.place.read(root, "2019/cat.jpg") for root in roots] == [PICTURE] * 2

    assert (await ask("DELETE", "/pictures/2019/cat.jpg")).text == "OK\r\n"
    assert [ask.place.keys(root) for root in roots] == [[], ["2019/cat.jpg"]]
    assert (await ask("GET", "/small/2019/cat.jpg")).image.size == (200, 133)
    ask.place.remove("archived-pictures", "2019/cat.jpg")
    missing = await ask("GET", "/small/2019/cat.jpg")
    assert missing.status == 404
    assert [ask.place.name(root) in missing.text for root in roots] == [True, True]


@example("flexible-s3.sdl")
async def test_flexible_s3(ask: Ask) -> None:
    png = picture("PNG")
    (as_sent,) = (await ask("PUT", "/pictures", png)).addresses
    (limited,) = (await ask("PUT", "/pictures?keep=limited", png)).addresses
    assert [as_sent, limited] == [as_sent[:-4] + ".png", as_sent[:-4] + ".jpg"]
    assert as_sent.startswith("/p/")
    assert (await ask("GET", as_sent)).body == png
    jpeg = await ask("GET", limited)
    assert (jpeg.image.format, jpeg.image.size) == ("JPEG", SIZE)

    assert (await ask("GET", f"{limited}?width=60")).image.size == (60, 40)
    cropped = await ask("GET", f"{as_sent}?operation=crop&width=30&height=20&format=webp&quality=60")
    assert (cropped.content_type, cropped.image.size) == ("image/webp", (30, 20))
    kind, _, data = (await ask("GET", limited.replace("/p/", "/placeholder/"))).text.partition(",")
    assert (kind, opened(base64.b64decode(data)).size) == ("data:image/webp;base64", (24, 16))


@example("flexible-s3.sdl")
async def test_objects_keep_their_type(ask: Ask) -> None:
    (as_sent,) = (await ask("PUT", "/pictures", PICTURE)).addresses
    kind = "image/jpeg" if isinstance(ask.place, Buckets) else "application/octet-stream"
    assert (await ask("GET", as_sent)).content_type == kind


@example("cdn-s3.sdl")
async def test_cdn_s3(ask: Ask) -> None:
    made = await ask("PUT", "/upload", PICTURE)
    base = "https://img.example.com"
    assert made.text.split() == [f"{base}/{DIGEST}/large.jpg", f"{base}/{DIGEST}/small.webp"]
    assert ask.stored("delivered", f"{DIGEST}/small.webp").size == (240, 160)
    if isinstance(ask.place, Buckets):
        head = ask.place.store.head(ask.place.name("delivered"), f"{DIGEST}/large.jpg")
        assert (head["content-type"], head["cache-control"]) == ("image/jpeg", "public, max-age=31557600")


@example("compatibility.sdl")
async def test_compatibility(ask: Ask) -> None:
    made = await ask("PUT", "/thumbnail/search,brochure", PICTURE)
    keys = [f"{DIGEST}.jpg", f"{DIGEST}/search.jpg", f"{DIGEST}/brochure.jpg"]
    assert made.content_type == "text/uri-list"
    assert made.text == "".join(ask.place.url("pictures", key) + "\r\n" for key in keys)
    assert ask.place.read("pictures", keys[0]) == PICTURE
    assert [ask.stored("pictures", key).size for key in keys[1:]] == [(162, 162), (264, 264)]

    named = await ask("PUT", "/thumbnail/original/shop/chair.jpg", PICTURE)
    keys = [f"shop/{DIGEST}/chair.jpg", f"shop/{DIGEST}/chair-original.jpg"]
    assert named.text.split() == [ask.place.url("pictures", key) for key in keys]
    assert ask.stored("pictures", keys[1]).size == SIZE


@example("compatibility.sdl")
async def test_compatibility_on_demand(ask: Ask) -> None:
    made = await ask("PUT", "/v1/original", PICTURE)
    assert (made.text, ask.place.keys("originals")) == (f"{DIGEST}.jpg\r\n", [f"{DIGEST}.jpg"])
    small = await ask("GET", f"/v1/thumbnail/{DIGEST}.jpg/fit/60/1000")
    assert (small.image.size, small.content_type) == ((60, 40), "image/jpeg")
    assert small.cache_control == "public, max-age=31557600, s-maxage=0"

    other = picture("PNG")
    name = (await ask("PUT", "/thumbnail/none", other)).addresses[0].rpartition("/")[2]
    migrated = await ask(
        "GET", f"/v1/thumbnail/{name.replace('.png', '.jpg')}/crop/20/20/background-color:red"
    )
    assert migrated.image.size == (20, 20)
