"""Buckets in other regions: found out once, by what the store says, unless the configuration names one."""

import asyncio
import re
from collections import Counter

import pytest
from fault_proxy import Answer, Choice, Delay, Fault, FaultProxy, Pass, SeenRequest
from s3_clients import HURRIED, IMPATIENT, Clients, content, put
from s3_servers import S3Server

from safelight.errors import S3AccessDenied, StorageError, Timeout

DATA = b"data"
HOME = "eu-west-1"
NAMED = (("x-amz-bucket-region", HOME),)
MALFORMED = f"<Error><Code>AuthorizationHeaderMalformed</Code><Region>{HOME}</Region></Error>".encode()
KEYS = pytest.mark.parametrize("key", ["a", "a//b"], ids=["library", "direct"])

REFUSALS = {
    "header of a redirect": Answer(301, b"<Error><Code>PermanentRedirect</Code></Error>", NAMED),
    "header of a temporary redirect": Answer(307, b"", NAMED),
    "body of a bad request": Answer(400, MALFORMED),
    "nothing": Answer(301),
}


def signed_for(seen: SeenRequest) -> str | None:
    """The region in the scope of a request's signature."""
    found = re.search(r"Credential=[^/]+/\d{8}/([^/]+)/s3/", seen.header("authorization") or "")
    return found[1] if found else None


def living_in(region: str, refusal: Answer) -> Choice:
    """As a bucket in `region`: it refuses so what is signed for others, and tells everybody where it is."""

    def choose(seen: SeenRequest) -> Fault:
        if signed_for(seen) is None and seen.method == "HEAD":
            return Answer(403, b"", (("x-amz-bucket-region", region),))
        return Pass() if signed_for(seen) == region else refusal

    return choose


@KEYS
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_the_region_is_found_and_remembered(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str, refusal: Answer
) -> None:
    proxy.fault = living_in(HOME, refusal)
    client = clients(proxy.url)
    storage = client.bucket(bucket)
    await put(storage, key, DATA)
    assert len(proxy.requests) <= 3  # refused, perhaps a question, stored
    extra = len(proxy.requests) - 1
    assert await content(storage, key) == DATA
    await put(client.bucket(bucket, prefix="b/"), key, DATA)
    await storage.delete(key)
    assert len(proxy.requests) == extra + 1 + 1 + 1 + 2
    assert [signed_for(seen) for seen in proxy.requests[extra:]] == [HOME] * 5
    assert seaweed.read(bucket, f"b/{key}") == DATA


@KEYS
@pytest.mark.parametrize("status", [301, 400])
async def test_a_deletion_finds_it_too(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str, status: int
) -> None:
    """It begins with a HEAD request, whose answers have no body."""
    seaweed.write(bucket, key, DATA)
    proxy.fault = living_in(HOME, Answer(status, MALFORMED))
    await clients(proxy.url).bucket(bucket).delete(key)
    assert seaweed.keys(bucket) == []


async def test_a_redirect_to_another_host(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str
) -> None:
    """Followed there without a signature, a request is denied although its credentials are right."""
    seaweed.write(bucket, "a", DATA)
    proxy.fault = living_in(HOME, Answer(307, b"", (("Location", f"{seaweed.url}/{bucket}/a"),)))
    assert await content(clients(proxy.url).bucket(bucket), "a") == DATA


async def test_all_who_ask_at_once_are_led_to_the_region(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str
) -> None:
    proxy.fault = living_in(HOME, Answer(301))
    storage = clients(proxy.url).bucket(bucket)
    await asyncio.gather(*(put(storage, f"a{number}", DATA) for number in range(10)))
    assert len(seaweed.keys(bucket)) == 10
    counts = Counter((seen.method, signed_for(seen)) for seen in proxy.requests)
    assert counts["HEAD", None] <= 2
    assert counts["PUT", HOME] == 10


async def test_a_redirect_ends_a_silence(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request that tries is not held back when it comes to the region that it was sent to."""
    seaweed.write(bucket, "a", DATA)
    storage = clients(proxy.url, patience=HURRIED).bucket(bucket)
    proxy.fault = Delay(None)
    with pytest.raises(Timeout):
        await content(storage, "a")
    proxy.fault = living_in(HOME, Answer(301, b"", NAMED))
    monkeypatch.setattr("safelight.storage.s3.outlook.TRIAL_S", 0.4)
    await asyncio.sleep(0.1)
    assert await content(storage, "a") == DATA


async def test_every_bucket_has_a_region_of_its_own(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str
) -> None:
    other = seaweed.make_bucket()
    here = living_in("us-east-1", Answer(301))
    there = living_in("ap-south-1", Answer(301))
    assert callable(here)
    assert callable(there)
    proxy.fault = lambda seen: (there if other in seen.target else here)(seen)
    client = clients(proxy.url)
    for name in (bucket, other, bucket, other):
        await put(client.bucket(name), "a", DATA)
    regions = [(bucket in seen.target, signed_for(seen)) for seen in proxy.requests if seen.method == "PUT"]
    assert regions == [
        (True, "us-east-1"),
        (False, "us-east-1"),
        (False, "ap-south-1"),
        (True, "us-east-1"),
        (False, "ap-south-1"),
    ]


@KEYS
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_a_given_region_is_never_changed(
    proxy: FaultProxy, clients: Clients, bucket: str, key: str, refusal: Answer
) -> None:
    proxy.fault = living_in(HOME, refusal)
    storage = clients(proxy.url, patience=IMPATIENT, region="us-west-2").bucket(bucket)
    for _ in range(2):
        with pytest.raises(StorageError, match=f"^S3 bucket '{bucket}': the object store answered [34]"):
            await put(storage, key, DATA)
    assert [signed_for(seen) for seen in proxy.requests] == ["us-west-2"] * 2


@KEYS
async def test_regions_that_point_at_each_other(
    proxy: FaultProxy, clients: Clients, bucket: str, key: str
) -> None:
    def elsewhere(seen: SeenRequest) -> Fault:
        other = "us-east-1" if signed_for(seen) == HOME else HOME
        return Answer(400, MALFORMED.replace(HOME.encode(), other.encode()))

    proxy.fault = elsewhere
    with pytest.raises(StorageError, match="answered 400 AuthorizationHeaderMalformed"):
        await content(clients(proxy.url, patience=IMPATIENT).bucket(bucket), key)
    assert [signed_for(seen) for seen in proxy.requests] == ["us-east-1", HOME, "us-east-1"]


@KEYS
@pytest.mark.parametrize("refusal", [Answer(301), Answer(307), Answer(400)], ids=["301", "307", "400"])
async def test_nowhere_to_go(
    proxy: FaultProxy, clients: Clients, bucket: str, key: str, refusal: Answer
) -> None:
    proxy.fault = refusal
    with pytest.raises(StorageError, match=f"^S3 bucket '{bucket}': the object store answered [34]0."):
        await content(clients(proxy.url, patience=IMPATIENT).bucket(bucket), key)
    assert [seen.method for seen in proxy.requests] == ["GET", "HEAD"]


@KEYS
async def test_wrong_credentials_ask_for_the_region_once(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str
) -> None:
    storage = clients(proxy.url, seaweed.reader, IMPATIENT).bucket(bucket)
    for _ in range(3):
        with pytest.raises(S3AccessDenied):
            await put(storage, key, DATA)
    assert [seen.method for seen in proxy.requests] == ["PUT", "HEAD", "PUT", "PUT"]


async def test_links_of_version_4_are_signed_for_the_region_of_the_bucket(
    proxy: FaultProxy, clients: Clients, bucket: str
) -> None:
    proxy.fault = living_in(HOME, Answer(301))
    url = await put(clients(proxy.url, url_signature="v4").bucket(bucket), "a", DATA)
    assert f"%2F{HOME}%2Fs3%2F" in url
