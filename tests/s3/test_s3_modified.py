"""When an object was changed last, as its store says: the `Last-Modified` of the original that we deliver."""

from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from s3_clients import Clients
from s3_servers import S3Server

from safelight.storage.bounded import BoundedDirectory
from safelight.storage.cache import LAYOUT, CachedStorage, ObjectCache

LIMIT = 1 << 20


def told(server: S3Server, bucket: str, key: str) -> float:
    return parsedate_to_datetime(server.head(bucket, key)["last-modified"]).timestamp()


@pytest.mark.parametrize("key", ["plain", "not//plain"])
async def test_objects_know_when_they_changed(clients: Clients, seaweed: S3Server, key: str) -> None:
    bucket = seaweed.make_bucket()
    seaweed.write(bucket, key, b"data")
    stored = await clients(seaweed.url).bucket(bucket).get(key, LIMIT)
    assert stored.modified == told(seaweed, bucket, key)


async def test_copies_in_a_cache_know_it_too(clients: Clients, seaweed: S3Server, tmp_path: Path) -> None:
    bucket = seaweed.make_bucket()
    seaweed.write(bucket, "key", b"data")
    counted: list[str] = []
    cache = ObjectCache(BoundedDirectory(tmp_path, LAYOUT), counted.append)
    storage = CachedStorage(
        clients(seaweed.url).bucket(bucket), cache, lambda key: f"{bucket}/{key}", "private_url"
    )
    first, second = [await storage.get("key", LIMIT) for _ in range(2)]
    assert counted == ["total_s3_cache_misses", "total_s3_cache_hits"]
    assert first.modified == second.modified == told(seaweed, bucket, "key")
