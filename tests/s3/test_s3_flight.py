"""Downloads that several want at the same time: one request, and never an old answer."""

import asyncio
import os

import pytest
from fault_proxy import Answer, Delay, Fault, FaultProxy, Pass, SeenRequest, times
from s3_clients import IMPATIENT, Clients, content, put
from s3_servers import S3Server
from slow_store import serving

from safelight.errors import Busy, MemoryLimitExceeded

DATA = os.urandom(3_000_000)
KEYS = pytest.mark.parametrize("key", ["a", "a//b"], ids=["library", "direct"])


async def arrived(proxy: FaultProxy, count: int) -> None:
    """Wait for so many requests."""
    await asyncio.to_thread(proxy.wait_until, lambda proxy: len(proxy.requests) >= count)


@KEYS
async def test_many_at_once_are_one_request(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str
) -> None:
    seaweed.write(bucket, key, DATA, "image/webp")
    client = clients(proxy.url)
    private, public = client.bucket(bucket), client.bucket(bucket, public=True)
    got = await asyncio.gather(*(storage.get(key, 1 << 24) for storage in (private, public) * 10))
    assert [(stored.data.read(), stored.content_type) for stored in got] == [(DATA, "image/webp")] * 20
    assert [bool(stored.url().query) for stored in got] == [True, False] * 10
    assert len(proxy.requests) == 1
    assert await content(private, key) == DATA
    assert len(proxy.requests) == 2


async def test_other_objects_are_requests_of_their_own(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str
) -> None:
    other = seaweed.make_bucket()
    client = clients(proxy.url)
    for name, key, data in ((bucket, "a", b"1"), (bucket, "b", b"2"), (other, "a", b"3")):
        seaweed.write(name, key, data)
    here, there = client.bucket(bucket), client.bucket(other)
    got = await asyncio.gather(content(here, "a"), content(here, "b"), content(there, "a"))
    assert got == [b"1", b"2", b"3"]
    assert len(proxy.requests) == 3


async def test_another_account_is_a_request_of_its_own(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str
) -> None:
    """What one may read the other may not."""
    seaweed.write(bucket, "a", DATA)
    storages = [clients(proxy.url, key).bucket(bucket) for key in (seaweed.admin, seaweed.reader)]
    assert await asyncio.gather(*(content(storage, "a") for storage in storages)) == [DATA, DATA]
    assert len(proxy.requests) == 2


@KEYS
@pytest.mark.parametrize("leaving", [0, 2])
async def test_who_leaves_harms_nobody(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str, leaving: int
) -> None:
    seaweed.write(bucket, key, DATA)
    proxy.fault = Delay(0.3)
    storage = clients(proxy.url).bucket(bucket)
    tasks = [asyncio.create_task(content(storage, key)) for _ in range(3)]
    await arrived(proxy, 1)
    left = tasks.pop(leaving)
    left.cancel()
    assert await asyncio.gather(*tasks) == [DATA] * 2
    assert left.cancelled()
    assert len(proxy.requests) == (2 if leaving == 0 else 1), "who goes on after the first begins anew"


async def begin_to_answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A thousandth of an object of a megabyte."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nETag: e\r\n"
    writer.write(head + b"Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n" + b"x" * 1000)


@KEYS
async def test_a_download_that_nobody_wants_any_more_is_stopped(clients: Clients, key: str) -> None:
    async with serving(begin_to_answer) as store:
        storage = clients(store.url).bucket("bucket")
        tasks = [asyncio.create_task(content(storage, key)) for _ in range(3)]
        await store.arrived.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.until_left()
    assert [task.cancelled() for task in tasks] == [True] * 3


@KEYS
@pytest.mark.parametrize("change", ["put", "delete and put"])
async def test_after_a_change_nobody_joins_an_older_download(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str, change: str
) -> None:
    seaweed.write(bucket, key, b"old")
    storage = clients(proxy.url).bucket(bucket)
    proxy.fault = times(1, Delay(None))
    before = asyncio.create_task(content(storage, key))
    await arrived(proxy, 1)
    if change != "put":
        await storage.delete(key)
    await put(storage, key, b"new")
    assert await content(storage, key) == b"new"
    assert not before.done()
    before.cancel()


async def test_after_a_change_that_failed_neither(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str
) -> None:
    """The store may have made it."""
    seaweed.write(bucket, "a", b"old")
    storage = clients(proxy.url, patience=IMPATIENT).bucket(bucket)
    proxy.fault = times(1, Delay(None))
    before = asyncio.create_task(content(storage, "a"))
    await arrived(proxy, 1)

    def made_but_not_acknowledged(seen: SeenRequest) -> Fault:
        if seen.method == "GET":
            return Pass()
        seaweed.write(bucket, "a", b"new")
        return Answer(503)

    proxy.fault = made_but_not_acknowledged
    with pytest.raises(Busy):
        await put(storage, "a", b"new")
    assert await content(storage, "a") == b"new"
    before.cancel()


@KEYS
async def test_everybody_has_a_limit_of_his_own(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str
) -> None:
    """However little whoever began it can take, and however much."""
    seaweed.write(bucket, key, DATA)
    storage = clients(proxy.url).bucket(bucket)
    limits = [1, len(DATA), len(DATA) - 1, len(DATA) + 1]
    for first in range(len(limits)):
        order = limits[first:] + limits[:first]
        results = await asyncio.gather(
            *(content(storage, key, limit) for limit in order), return_exceptions=True
        )
        for limit, result in zip(order, results, strict=True):
            if limit < len(DATA):
                assert isinstance(result, MemoryLimitExceeded)
            else:
                assert result == DATA


@KEYS
async def test_what_is_too_large_is_asked_for_once_and_not_received(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str
) -> None:
    seaweed.write(bucket, key, DATA)
    storage = clients(proxy.url).bucket(bucket)
    for _ in range(3):
        with pytest.raises(MemoryLimitExceeded):
            await content(storage, key, 1000)
    assert len(proxy.requests) == 3


@KEYS
async def test_a_download_that_is_too_large_is_stopped(clients: Clients, key: str) -> None:
    async with serving(begin_to_answer) as store:
        with pytest.raises(MemoryLimitExceeded):
            await content(clients(store.url).bucket("bucket"), key, 1000)
        await store.until_left()
