"""URLs of objects, opened by somebody without credentials."""

import asyncio
import time
from urllib.parse import parse_qsl, quote, urlsplit

import httpx
import pytest
from s3_clients import Clients, content, put
from s3_servers import S3Server

from safelight.storage.s3.account import TWENTY_YEARS_S, UrlSignature

DATA = bytes(range(256)) * 40
KEYS = ["a", "a b+c/é%20~*.jpg", "a//b", "/a", "?#&=x"]


def opened(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False, timeout=60)


@pytest.mark.parametrize("url_signature", ["v2", "v4"])
@pytest.mark.parametrize("key", KEYS)
async def test_a_private_url_opens_without_credentials(
    seaweed: S3Server, clients: Clients, bucket: str, key: str, url_signature: UrlSignature
) -> None:
    storage = clients(seaweed.url, url_signature=url_signature).bucket(bucket)
    url = await put(storage, key, DATA)
    assert opened(url).content == DATA
    assert opened(str((await storage.get(key, len(DATA))).url())).content == DATA


@pytest.mark.parametrize("url_signature", ["v2", "v4"])
async def test_a_changed_private_url_opens_nothing(
    seaweed: S3Server, clients: Clients, bucket: str, url_signature: UrlSignature
) -> None:
    storage = clients(seaweed.url, url_signature=url_signature).bucket(bucket)
    url = await put(storage, "a/b", DATA)
    await put(storage, "a/c", b"another")
    name = "X-Amz-Signature" if url_signature == "v4" else "Signature"
    signature = dict(parse_qsl(urlsplit(url).query))[name]
    other = ("a" if signature[0] != "a" else "b") + signature[1:]
    changed = url.replace(quote(signature, safe=""), quote(other, safe=""))
    assert changed != url
    for other in (changed, url.replace("/a/b?", "/a/c?"), url.partition("?")[0]):
        assert opened(other).status_code == 403
    assert opened(url).status_code == 200


@pytest.mark.parametrize("url_signature", ["v2", "v4"])
async def test_a_private_url_ends(
    seaweed: S3Server, clients: Clients, bucket: str, url_signature: UrlSignature
) -> None:
    storage = clients(seaweed.url, url_signature=url_signature, url_expires_s=1).bucket(bucket)
    url = await put(storage, "a", DATA)
    assert await asyncio.to_thread(status_in_the_end, url) == 403


def status_in_the_end(url: str) -> int:
    """The first that is not 200, else that."""
    deadline = time.monotonic() + 60
    while (status := opened(url).status_code) == 200 and time.monotonic() < deadline:
        time.sleep(0.2)
    return status


@pytest.mark.covers("s163", "s164")
async def test_what_a_private_url_says(seaweed: S3Server, clients: Clients, bucket: str) -> None:
    storage = clients(seaweed.url, url_expires_s=TWENTY_YEARS_S).bucket(bucket, prefix="in/")
    before = int(time.time())
    url = urlsplit(await put(storage, "a b", DATA))
    after = int(time.time())
    names, values = zip(*parse_qsl(url.query), strict=True)
    assert names == ("AWSAccessKeyId", "Expires", "Signature")
    assert values[0] == seaweed.access_key
    assert before + 630_720_000 <= int(values[1]) <= after + 630_720_000
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{seaweed.url}/{bucket}/in/a%20b"
    assert opened(url.geturl()).content == DATA


@pytest.mark.covers("s161", "s163")
async def test_access_lists(moto: S3Server, clients: Clients) -> None:
    """A public object is for everybody and its URL is plain, a private one only for who has its link."""
    bucket = moto.make_bucket()
    client = clients(moto.url)
    public = await put(client.bucket(bucket, public=True), "public", DATA)
    private = await put(client.bucket(bucket), "private", DATA)
    assert public == f"{moto.url}/{bucket}/public"
    assert opened(public).content == DATA
    assert private.startswith(f"{moto.url}/{bucket}/private?")
    assert opened(private.partition("?")[0]).status_code == 403
    assert opened(private).content == DATA


async def test_an_object_changes_sides_when_it_is_stored_again(moto: S3Server, clients: Clients) -> None:
    bucket = moto.make_bucket()
    client = clients(moto.url)
    url = await put(client.bucket(bucket, public=True), "a", DATA)
    assert opened(url).status_code == 200
    await put(client.bucket(bucket), "a", DATA)
    assert opened(url).status_code == 403
    assert await content(client.bucket(bucket, public=True), "a") == DATA
