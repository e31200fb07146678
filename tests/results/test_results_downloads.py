"""Downloads that requests share: what was under way before a store must not be kept after it."""

import asyncio

import pytest
from results_site import Sites

from safelight.blob import MemoryBlob
from safelight.storage.s3.bucket import Bucket, _Content
from safelight.storage.s3.transport import Transport, Upload

TIMEOUT_S = 30
OLD, NEW = b"old content", b"new!"
API = """
s3 key="KEY" secret="SECRET" endpoint="http://127.0.0.1:9" region="us-east-1"
path "name" "#{path}"
get "sized" ":size" {
    cache root="cache"
    source_s3 "object" bucket="objects" path="name"
    output_image "object"
    header "X-Size" "#{size}"
}
put "objects" { store_s3 "input" bucket="objects" path="name"; }
"""


class Objects:
    """The one object that a store has. A download has begun when it was read, and ends when it may."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.content = OLD
        self.begun = 0
        self.may_end = asyncio.Event()
        self._has_begun = asyncio.Event()
        objects = self

        async def receive(_bucket: Bucket, _by: Transport, _key: str, _max_bytes: int) -> _Content:
            content = objects.content
            objects.begun += 1
            objects._has_begun.set()
            await objects.may_end.wait()
            return _Content(MemoryBlob(content), "image/png", None, "")

        async def upload(_bucket: Bucket, _by: Transport, _key: str, data: Upload) -> None:
            objects.content = data.data.read()

        monkeypatch.setattr(Bucket, "_receive", receive)
        monkeypatch.setattr(Bucket, "_upload", upload)

    async def until_begun(self) -> None:
        await asyncio.wait_for(self._has_begun.wait(), TIMEOUT_S)


async def test_requests_for_different_answers_share_a_download(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, site = Objects(monkeypatch), sites(API)
    waiting = [asyncio.create_task(site.get(f"/sized/{size}/a")) for size in range(5)]
    await objects.until_begun()
    await asyncio.sleep(0.1)
    objects.may_end.set()
    assert [(await task).content for task in waiting] == [OLD] * 5
    assert objects.begun == 1


async def test_what_was_being_downloaded_before_a_store_is_not_kept_after_it(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is made by another process; who asks after it joins the download all the same."""
    objects = Objects(monkeypatch)
    one, two = sites(API), sites(API)
    first = asyncio.create_task(one.get("/sized/1/a"))
    await objects.until_begun()
    assert (await two.put("/objects/a", NEW)).status_code == 200
    second = asyncio.create_task(one.get("/sized/2/a"))
    await asyncio.sleep(0.1)
    objects.may_end.set()
    assert [(await task).content for task in (first, second)] == [OLD, NEW]
    for size in (1, 2):
        assert (await one.get(f"/sized/{size}/a")).content == NEW
