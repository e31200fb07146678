"""What uploads say about who may read, and buckets that take no such word."""

import asyncio

import pytest
from fault_proxy import Answer, Choice, Fault, FaultProxy, Pass, SeenRequest
from s3_clients import IMPATIENT, Clients, put
from s3_servers import S3Server

from safelight.errors import StorageError

DATA = b"data"
KEYS = pytest.mark.parametrize("key", ["a", "a//b"], ids=["library", "direct"])


@pytest.mark.covers("s161")
@KEYS
@pytest.mark.parametrize(("public", "acl"), [(True, "public-read"), (False, "private")])
async def test_every_upload_names_its_access_list_and_signs_it(
    proxy: FaultProxy, clients: Clients, bucket: str, key: str, public: bool, acl: str
) -> None:
    await put(clients(proxy.url).bucket(bucket, public=public), key, DATA)
    (upload,) = proxy.requests
    assert upload.header("x-amz-acl") == acl
    assert "x-amz-acl" in (upload.header("authorization") or "").split("SignedHeaders=")[1].split(";")


@KEYS
async def test_only_uploads_name_one(proxy: FaultProxy, clients: Clients, bucket: str, key: str) -> None:
    storage = clients(proxy.url).bucket(bucket, public=True)
    await put(storage, key, DATA)
    await storage.get(key, 100)
    await storage.delete(key)
    assert [seen.header("x-amz-acl") for seen in proxy.requests] == ["public-read", None, None, None]


def refusing(code: str, status: int) -> Choice:
    """As a bucket whose owner has switched access lists off."""
    answer = Answer(status, f"<Error><Code>{code}</Code><Message>no lists</Message></Error>".encode())

    def choose(seen: SeenRequest) -> Fault:
        return answer if seen.header("x-amz-acl") else Pass()

    return choose


@KEYS
@pytest.mark.parametrize(
    ("code", "status"), [("AccessControlListNotSupported", 400), ("NotImplemented", 501)]
)
async def test_a_bucket_without_access_lists_is_stored_to_without_and_remembered(
    seaweed: S3Server,
    proxy: FaultProxy,
    clients: Clients,
    bucket: str,
    key: str,
    code: str,
    status: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    proxy.fault = refusing(code, status)
    client = clients(proxy.url)
    await put(client.bucket(bucket), key, DATA)
    await put(client.bucket(bucket, public=True), f"{key}2", DATA)
    assert [seaweed.read(bucket, name) for name in (key, f"{key}2")] == [DATA, DATA]
    uploads = [seen.header("x-amz-acl") for seen in proxy.requests if seen.method == "PUT"]
    assert uploads == ["private", None, None]
    assert capsys.readouterr().out.count("takes no ACLs") == 1


async def test_other_buckets_are_still_told(
    proxy: FaultProxy, clients: Clients, seaweed: S3Server, bucket: str
) -> None:
    other = seaweed.make_bucket()
    refuse = refusing("AccessControlListNotSupported", 400)
    assert callable(refuse)
    proxy.fault = lambda seen: refuse(seen) if bucket in seen.target else Pass()
    client = clients(proxy.url)
    await asyncio.gather(put(client.bucket(bucket), "a", DATA), put(client.bucket(other), "a", DATA))
    await put(client.bucket(other), "b", DATA)
    told = [seen.header("x-amz-acl") for seen in proxy.requests if other in seen.target]
    assert told == ["private", "private"]


@KEYS
async def test_an_access_list_is_dropped_for_no_other_reason(
    proxy: FaultProxy, clients: Clients, bucket: str, seaweed: S3Server, key: str
) -> None:
    proxy.fault = refusing("InvalidArgument", 400)
    with pytest.raises(StorageError, match="answered 400 InvalidArgument"):
        await put(clients(proxy.url, patience=IMPATIENT).bucket(bucket), key, DATA)
    assert seaweed.keys(bucket) == []
