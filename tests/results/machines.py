"""Several machines in this process: sites with caches of their own that share answers in one bucket.

    async def test_something(machines):
        machines.store("a", b"content")
        one, two = machines.start(2)
        await one.get("/objects/a")
        await machines.settled(1)           # one shared object
        assert await two.state("/objects/a") == "hit"

They reach images through one proxy and answers through another one, of a real object store.
"""

import asyncio
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from results_site import Site, Sites
from s3_servers import S3Server

API = """
s3 key="KEY" secret="SECRET" endpoint="IMAGES_URL" region="us-east-1"
s3 "tier" key="KEY" secret="SECRET" endpoint="ANSWERS_URL" region="us-east-1"
path "name" "#{path}"
get "objects" {
    cache SHARED tag="of-#{path}, all"
    source_s3 "object" bucket="BUCKET" prefix="PREFIX/images/" path="name" OBJECTS
    output_image "object" cache-control="public, max-age=60"
}
get "files" {
    cache SHARED
    source_file "file" root="files" path="name"
    output_image "file"
}
get "either" {
    cache SHARED
    source_failover {
        source_s3 "found" bucket="BUCKET" prefix="PREFIX/images/first-" path="name"
        source_file "found" root="files" path="name"
    }
    output_image "found"
}
put "objects" { store_s3 "input" bucket="BUCKET" prefix="PREFIX/images/" path="name" OBJECTS; }
delete "objects" { delete_s3 bucket="BUCKET" prefix="PREFIX/images/" path="name"; }
put "files" { store_file "input" root="files" path="name"; }
delete "urls" { purge_cache url="/objects/#{path}"; }
delete "tags" { purge_cache tag="#{path}"; }
delete "sources" { purge_cache bucket="BUCKET" prefix="PREFIX/images/" path="name"; }
"""
WAIT_S = 60
PATIENT_S = 30
RECHECK_S = 1
SLACK_S = 4
"""What a loaded machine may take longer."""


def set_patience(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """How long requests wait for what machines share."""
    for module in ("tier", "shared"):
        monkeypatch.setattr(f"safelight.results.{module}.ASK_S", seconds)


class Machines:
    """Starts sites, and changes what lies in the bucket behind their backs.

    `directory`: of all of them, with a cache for each.
    """

    def __init__(
        self,
        seaweed: S3Server,
        bucket: str,
        proxies: tuple[FaultProxy, FaultProxy],
        sites: Sites,
        directory: Path,
    ) -> None:
        self.seaweed = seaweed
        self.bucket = bucket
        self.prefix = uuid.uuid4().hex
        self.images, self.answers = proxies
        self.directory = directory
        self.site = sites
        self._started = 0

    def configuration(self, cache: str, recheck: str = f"{RECHECK_S}s", more: str = "", **words: str) -> str:
        """`more`: attributes of the caches. `words`: what to replace in the configuration besides."""
        shared = f'bucket="BUCKET" prefix="PREFIX/" s3="tier" recheck="{recheck}"'
        text = API.replace("SHARED", f'root="{cache}" {shared} {more}')
        values = {
            "OBJECTS": "",
            **words,
            "KEY": self.seaweed.access_key,
            "SECRET": self.seaweed.secret_key,
            "IMAGES_URL": self.images.url,
            "ANSWERS_URL": self.answers.url,
            "BUCKET": self.bucket,
            "PREFIX": self.prefix,
        }
        for name, value in values.items():
            text = text.replace(name, value)
        return text

    def start(
        self, count: int = 2, recheck: str = f"{RECHECK_S}s", more: str = "", **words: str
    ) -> list[Site]:
        return [self.another(recheck, more, **words) for _ in range(count)]

    def another(self, recheck: str = f"{RECHECK_S}s", more: str = "", **words: str) -> Site:
        self._started += 1
        number = str(self._started)
        given = {name: text.replace("NUMBER", number) for name, text in words.items()}
        return self.site(self.configuration(f"cache-{number}", recheck, more, **given))

    # Behind their backs

    def store(self, key: str, data: bytes, content_type: str = "image/png") -> None:
        self.seaweed.write(self.bucket, f"{self.prefix}/images/{key}", data, content_type)

    def delete(self, key: str) -> None:
        self.seaweed.delete(self.bucket, f"{self.prefix}/images/{key}")

    def write_file(self, name: str, data: bytes) -> None:
        """A file that nobody has touched for a while."""
        path = self.directory / "files" / name
        path.parent.mkdir(exist_ok=True)
        aside = path.with_suffix(".aside")
        aside.write_bytes(data)
        long_ago_s = time.time() - 3600
        os.utime(aside, (long_ago_s, long_ago_s))
        aside.replace(path)

    def objects(self) -> list[str]:
        """The keys of the shared answers, without the prefix."""
        pages = self.seaweed.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"{self.prefix}/answers/"
        )
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return sorted(key.removeprefix(f"{self.prefix}/answers/") for key in keys)

    def read_object(self, name: str) -> bytes:
        return self.seaweed.read(self.bucket, f"{self.prefix}/answers/{name}")

    def write_object(self, name: str, data: bytes) -> None:
        self.seaweed.write(self.bucket, f"{self.prefix}/answers/{name}", data)

    async def settled(self, count: int) -> list[str]:
        """Wait for so many shared answers."""
        await eventually(lambda: len(self.objects()) == count)
        return self.objects()

    async def replaced(self, name: str, former: bytes) -> None:
        """Wait until a shared answer is another one."""
        await eventually(lambda: self.read_object(name) != former)

    def fetched(self, key: str) -> int:
        """How often an image was asked for."""
        return sum(
            seen.method == "GET" and seen.target.partition("?")[0].endswith(f"/images/{key}")
            for seen in self.images.requests
        )


async def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it does not come true"
        await asyncio.sleep(0.02)


async def seen(site: Site, target: str, content: bytes | None, within_s: float = RECHECK_S + SLACK_S) -> None:
    """Wait until `target` is answered with `content`; None: until there is nothing. Nothing older follows."""
    deadline = time.monotonic() + within_s
    while True:
        answer = await site.get(target)
        if (answer.content == content) if content is not None else (answer.status_code == 404):
            return
        assert time.monotonic() < deadline, f"{target}: {answer.status_code} {answer.content!r}"
        await asyncio.sleep(0.02)
