"""Objects of a bucket as others see them: keys, bytes, headers, and whose credentials ask."""

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import pytest
from fault_proxy import Answer, FaultProxy
from s3_clients import Clients, content, put
from s3_servers import ADMIN, READER, Credentials, S3Server

from safelight.blob import Blob, FileBlob, MemoryBlob
from safelight.errors import BadRequest, Forbidden, S3AccessDenied, StorageError
from safelight.spool import Spool

T = TypeVar("T")

MEBIBYTE = 1 << 20
DATA = bytes(range(256)) * 40

KEYS = {
    "plain": "a",
    "space": "a b",
    "spaces around": " a ",
    "only a space": " ",
    "plus": "a+b",
    "percent": "100%",
    "percent-encoded slash": "a%2Fb",
    "percent-encoded dots": "%2e%2e/a",
    "percent-encoded space": "a%20b",
    "of every script": "zażółć/日本/🐈.jpg",
    "composed of two": "o\u0301",
    "line separator": "a\u2028b",
    "reserved": "?#&=;:@,$!*'()",
    "unsafe": '[x]{y}|^`<>"',
    "markup": "a&amp;b<c>]]>",
    "hidden": ".hidden",
    "dots that mean nothing": "..a/b../...",
    "double slash": "a//b",
    "slash in front": "/a",
    "slashes in front": "//a",
    "newline": "a\nb",
    "carriage return": "a\rb",
    "tab": "a\tb",
    "control": "\x01",
    "delete": "\x7f",
    "long parts": "/".join(["y" * 255] * 4),
    "longest": "/".join(["é" * 127] * 4) + "/abcd",
}

KEYS_IN_MOTO = {name: key for name, key in KEYS.items() if name != "newline"} | {
    "backslash": "a\\b",
    "one long part": "k" * 1024,
}
"""moto takes all of them as they are, also those for which SeaweedFS has another spelling; but no newline."""


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
async def test_keys(seaweed: S3Server, clients: Clients, bucket: str, key: str) -> None:
    assert len(key.encode()) <= 1024
    storage = clients(seaweed.url).bucket(bucket)
    await put(storage, key, DATA)
    assert seaweed.read(bucket, key) == DATA
    seaweed.write(bucket, key, b"theirs")
    assert await content(storage, key) == b"theirs"
    await storage.delete(key)
    assert seaweed.keys(bucket) == []


@pytest.mark.parametrize("key", KEYS_IN_MOTO.values(), ids=KEYS_IN_MOTO)
async def test_keys_are_the_same_bytes_there(moto: S3Server, clients: Clients, key: str) -> None:
    bucket = moto.make_bucket()
    storage = clients(moto.url).bucket(bucket)
    await put(storage, key, DATA)
    assert moto.client.list_objects_v2(Bucket=bucket)["Contents"][0]["Key"] == key
    assert await content(storage, key) == DATA
    await storage.delete(key)
    assert "Contents" not in moto.client.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize(("key", "there"), [("./a", "a"), ("a/./b", "a/b"), ("./././c", "c")])
async def test_single_dots_are_left_out_where_stores_refuse_them(
    seaweed: S3Server, clients: Clients, bucket: str, key: str, there: str
) -> None:
    storage = clients(seaweed.url).bucket(bucket)
    await put(storage, key, DATA)
    assert seaweed.keys(bucket) == [there]
    assert await content(storage, key) == DATA


@pytest.mark.parametrize(
    ("key", "refusal", "message"),
    [
        ("../other/secret", Forbidden, "it has a '..' segment"),
        ("a\0", Forbidden, "it has a NUL character"),
        ("k" * 1025, BadRequest, "it has 1025 bytes, more than 1024"),
        ("a/", BadRequest, "nothing can be stored under a name that ends in '/'"),
        ("", BadRequest, "it names nothing"),
        ("a/" + "y" * 300, BadRequest, "it is too long for the object store"),
    ],
    ids=["parent", "nul", "too long", "directory", "empty", "part too long"],
)
async def test_keys_that_are_refused(
    seaweed: S3Server,
    clients: Clients,
    bucket: str,
    key: str,
    refusal: type[Exception],
    message: str,
) -> None:
    with pytest.raises(refusal, match=f"^S3 key '.*' refused: {message}"):
        await put(clients(seaweed.url).bucket(bucket), key, DATA)
    assert seaweed.keys(bucket) == []


@pytest.mark.parametrize("operation", ["get", "put", "delete"])
@pytest.mark.parametrize(
    "code", ["XMinioInvalidObjectName", "XMinioInvalidResourceName", "InvalidObjectName"]
)
async def test_a_key_that_the_store_takes_for_no_name_is_the_fault_of_who_sent_it(
    proxy: FaultProxy, clients: Clients, operation: str, code: str
) -> None:
    """As MinIO answers to `a//b` and `a/./b`; the third is what Ceph says."""
    proxy.fault = Answer(400, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())
    bucket = clients(proxy.url).bucket("photos")
    requests = {
        "get": lambda: bucket.get("a", 1 << 20),
        "put": lambda: put(bucket, "a", DATA),
        "delete": lambda: bucket.delete("a"),
    }
    with pytest.raises(BadRequest, match=r"^S3 key 'a' refused: it is no name for the object store$"):
        await requests[operation]()
    methods = [seen.method for seen in proxy.requests]
    assert methods.count("PUT" if operation == "put" else "GET") == 1


@pytest.mark.parametrize("key", ["..\\{other}\\secret", "a\\..\\..\\{other}\\secret", "..%2f{other}/secret"])
async def test_no_spelling_of_a_key_leads_to_another_bucket(
    seaweed: S3Server, clients: Clients, bucket: str, key: str
) -> None:
    other = seaweed.make_bucket()
    seaweed.write(other, "secret", b"secret")
    storage = clients(seaweed.url).bucket(bucket)
    await asyncio.gather(
        content(storage, key.format(other=other)),
        put(storage, key.format(other=other), b"overwritten"),
        storage.delete(key.format(other=other)),
        return_exceptions=True,
    )
    assert seaweed.keys(other) == ["secret"]
    assert seaweed.read(other, "secret") == b"secret"


@pytest.mark.covers("s168")
@pytest.mark.parametrize("prefix", ["thumbnails/", "no-slash-", "é +/"])
async def test_a_prefix_stands_in_front_of_the_key_and_in_urls(
    seaweed: S3Server, clients: Clients, bucket: str, prefix: str
) -> None:
    storage = clients(seaweed.url).bucket(bucket, prefix=prefix, public=True)
    url = await put(storage, "a/b", DATA)
    assert seaweed.keys(bucket) == [f"{prefix}a/b"]
    assert url == f"{seaweed.url}/{bucket}/{prefix.replace('é +', '%C3%A9%20%2B')}a/b"
    assert await content(storage, "a/b") == DATA
    await storage.delete("a/b")
    assert seaweed.keys(bucket) == []


@pytest.mark.parametrize("key", ["a", "a//b"], ids=["library", "direct"])
@pytest.mark.parametrize("size", [0, 1, MEBIBYTE - 1, MEBIBYTE, MEBIBYTE + 1])
async def test_sizes(
    seaweed: S3Server, clients: Clients, bucket: str, tmp_path: Path, key: str, size: int
) -> None:
    storage = clients(seaweed.url).bucket(bucket)
    data = os.urandom(size)
    await storage.put(key, await spooled(data, tmp_path), "image/png")
    assert seaweed.read(bucket, key) == data
    assert await content(storage, key, size) == data


async def spooled(data: bytes, directory: Path) -> Blob:
    spool = Spool(directory)
    for offset in range(0, len(data), 65_536):
        await spool.add(data[offset : offset + 65_536])
    return await spool.finish()


@pytest.mark.parametrize("key", ["a", "a//b"], ids=["library", "direct"])
async def test_memory_does_not_hold_large_objects(
    seaweed: S3Server, clients: Clients, bucket: str, tmp_path: Path, key: str
) -> None:
    storage = clients(seaweed.url).bucket(bucket)
    await put(storage, key, DATA)
    assert await content(storage, key) == DATA
    spool = Spool(tmp_path)
    for number in range(32):
        await spool.add(bytes([number]) * MEBIBYTE)
    blob = await spool.finish()
    _, grown = await watched(storage.put(key, blob, "image/png"))
    assert grown < 12 * MEBIBYTE
    stored, grown = await watched(storage.get(key, 32 * MEBIBYTE))
    assert grown < 12 * MEBIBYTE
    assert stored.data.sha256 == blob.sha256
    assert seaweed.read(bucket, key) == blob.read()


async def watched(work: Awaitable[T]) -> tuple[T, int]:
    """What `work` returns, and by how many bytes the anonymous memory of this process grew meanwhile."""
    before = most = anonymous_bytes()
    task = asyncio.ensure_future(work)
    while not task.done():
        await asyncio.wait([task], timeout=0.005)
        most = max(most, anonymous_bytes())
    return task.result(), most - before


def anonymous_bytes() -> int:
    """RssAnon of proc_pid_status(5)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


@pytest.mark.covers("s160")
@pytest.mark.parametrize("key", ["a", "a//b"], ids=["library", "direct"])
async def test_content_types(seaweed: S3Server, clients: Clients, bucket: str, key: str) -> None:
    storage = clients(seaweed.url).bucket(bucket)
    await put(storage, key, DATA, "image/webp")
    assert seaweed.head(bucket, key)["content-type"] == "image/webp"
    assert (await storage.get(key, MEBIBYTE)).content_type == "image/webp"
    seaweed.write(bucket, key, DATA, "image/x-theirs; a=b")
    assert (await storage.get(key, MEBIBYTE)).content_type == "image/x-theirs; a=b"


@pytest.mark.covers("s169")
@pytest.mark.parametrize("key", ["a", "a//b"], ids=["library", "direct"])
async def test_no_content_type_is_sent_when_it_is_not_known(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str
) -> None:
    storage = clients(proxy.url).bucket(bucket)
    await put(storage, key, DATA, None)
    await put(storage, key, DATA, "image/png")
    assert [seen.header("content-type") for seen in proxy.requests] == [None, "image/png"]
    assert seaweed.read(bucket, key) == DATA


@pytest.mark.covers("s162")
@pytest.mark.parametrize("key", ["a", "a//b"], ids=["library", "direct"])
async def test_cache_control(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str
) -> None:
    client = clients(proxy.url)
    await put(client.bucket(bucket), key, DATA)
    assert "cache-control" not in seaweed.head(bucket, key)
    assert proxy.requests[0].header("cache-control") is None
    await put(client.bucket(bucket, cache_control="public, max-age=60"), key, DATA)
    assert seaweed.head(bucket, key)["cache-control"] == "public, max-age=60"


@pytest.mark.parametrize("key", ["text.txt", "a//text.txt"], ids=["library", "direct"])
async def test_text_comes_as_it_was_stored(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str
) -> None:
    """Stores compress what looks like text for those who allow it."""
    text = b"<svg/>" * 10_000
    storage = clients(proxy.url).bucket(bucket)
    await put(storage, key, text, "image/svg+xml")
    assert await content(storage, key) == text
    seaweed.write(bucket, key, text, "text/plain")
    assert await content(storage, key) == text
    assert {seen.header("accept-encoding") for seen in proxy.requests if seen.method == "GET"} <= {
        None,
        "identity",
    }


async def test_a_deletion_asks_whether_the_object_is_there(
    proxy: FaultProxy, clients: Clients, bucket: str
) -> None:
    storage = clients(proxy.url).bucket(bucket)
    await put(storage, "a", DATA)
    await storage.delete("a")
    assert [seen.method for seen in proxy.requests] == ["PUT", "HEAD", "DELETE"]


async def test_an_upload_is_one_request_and_so_is_a_download(
    proxy: FaultProxy, clients: Clients, bucket: str
) -> None:
    storage = clients(proxy.url).bucket(bucket)
    await put(storage, "a", os.urandom(9 * MEBIBYTE))
    await content(storage, "a")
    assert [(seen.method, seen.target) for seen in proxy.requests] == [
        ("PUT", f"/{bucket}/a"),
        ("GET", f"/{bucket}/a"),
    ]
    assert proxy.requests[0].body_bytes == 9 * MEBIBYTE


async def test_several_accounts_at_once(
    seaweed: S3Server, moto: S3Server, clients: Clients, bucket: str
) -> None:
    other = moto.make_bucket()
    writer = clients(seaweed.url, ADMIN).bucket(bucket)
    reader = clients(seaweed.url, READER).bucket(bucket)
    elsewhere = clients(moto.url, Credentials("AKIDOTHER", "other")).bucket(other)
    await asyncio.gather(
        *(put(storage, f"a{number}", DATA) for number in range(5) for storage in (writer, elsewhere))
    )
    denied = await asyncio.gather(
        *(put(reader, f"a{number}", b"x") for number in range(5)), return_exceptions=True
    )
    assert [type(error) for error in denied] == [S3AccessDenied] * 5
    assert await asyncio.gather(*(content(reader, f"a{number}") for number in range(5))) == [DATA] * 5
    assert moto.keys(other) == seaweed.keys(bucket) == [f"a{number}" for number in range(5)]


ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "LEAKED",
    "AWS_SECRET_ACCESS_KEY": "LEAKED",
    "AWS_SESSION_TOKEN": "LEAKED",
    "AWS_REGION": "leaked-1",
    "AWS_DEFAULT_REGION": "leaked-1",
    "AWS_PROFILE": "leaked",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    "AWS_SKIP_SIGNATURE": "true",
    "AWS_UNSIGNED_PAYLOAD": "true",
    "AWS_REQUEST_PAYER": "true",
    "AWS_S3_EXPRESS": "true",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/leaked",
    "AWS_ROLE_ARN": "arn:aws:iam::1:role/leaked",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/leaked",
}


@pytest.mark.parametrize("key", ["a", "a//b"], ids=["library", "direct"])
async def test_the_environment_changes_nothing_about_an_account(
    monkeypatch: pytest.MonkeyPatch, proxy: FaultProxy, clients: Clients, bucket: str, key: str
) -> None:
    for name, text in ENVIRONMENT.items():
        monkeypatch.setenv(name, text)
    storage = clients(proxy.url).bucket(bucket)
    assert "LEAKED" not in await put(storage, key, DATA)
    assert await content(storage, key) == DATA
    await storage.delete(key)
    for seen in proxy.requests:
        authorization = seen.header("authorization") or ""
        assert f"{ADMIN.access_key}/" in authorization
        assert "/us-east-1/s3/" in authorization
        assert {"x-amz-security-token", "x-amz-request-payer"}.isdisjoint(
            name.lower() for name, _ in seen.headers
        )
        assert seen.header("x-amz-content-sha256") != "UNSIGNED-PAYLOAD"


@pytest.mark.parametrize("key", ["a", "a//b"], ids=["library", "direct"])
async def test_a_session_token_is_sent(moto: S3Server, clients: Clients, key: str) -> None:
    bucket = moto.make_bucket()
    with FaultProxy(moto.url) as proxy:
        storage = clients(proxy.url, session_token="TOKEN/+=").bucket(bucket)
        url = await put(storage, key, DATA)
        assert await content(storage, key) == DATA
        await storage.delete(key)
    assert {seen.header("x-amz-security-token") for seen in proxy.requests} == {"TOKEN/+="}
    assert all(
        "x-amz-security-token" in (seen.header("authorization") or "").split("SignedHeaders=")[1]
        for seen in proxy.requests
    )
    assert url.endswith("&x-amz-security-token=TOKEN%2F%2B%3D")


@pytest.mark.parametrize("key", ["a", "a//b", "a b+%"], ids=["library", "direct", "escaped"])
async def test_virtual_style(
    monkeypatch: pytest.MonkeyPatch, seaweed: S3Server, clients: Clients, bucket: str, key: str
) -> None:
    """Through a forward proxy, since not every resolver knows the names below `localhost`."""
    domain = f"http://{seaweed.virtual_host_domain}"
    with FaultProxy(seaweed.url) as proxy:
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        storage = clients(domain, style="virtual").bucket(bucket, public=True)
        url = await put(storage, key, DATA)
        assert await content(storage, key) == DATA
    assert url == f"http://{bucket}.{seaweed.virtual_host_domain}/{key.replace(' b+%', '%20b%2B%25')}"
    assert {seen.header("host") for seen in proxy.requests} == {f"{bucket}.{seaweed.virtual_host_domain}"}
    monkeypatch.undo()
    assert seaweed.read(bucket, key) == DATA


SIGNED = b"x-amz-security-token:SESSION-TOKEN\nhost;x-amz-security-token"


@pytest.mark.parametrize("key", ["a", "a//b"], ids=["library", "direct"])
async def test_secrets_are_never_shown(
    proxy: FaultProxy,
    clients: Clients,
    bucket: str,
    key: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also when the store repeats what was signed, as Amazon's answer to a wrong signature does."""
    body = b"<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message><CanonicalRequest>%b</Error>"
    proxy.fault = Answer(403, body % SIGNED)
    client = clients(proxy.url, Credentials("AKIDSHOWN", "SECRET-KEY"), session_token="SESSION-TOKEN")
    storage = client.bucket(bucket)
    for request in (content(storage, key), put(storage, key, DATA, None), storage.delete(key)):
        with pytest.raises(S3AccessDenied) as caught:
            await request
        shown = f"{caught.value} {caught.value.detail} {caught.value!r} {caught.value.__cause__!r}"
        assert "SECRET-KEY" not in shown
        assert "SESSION-TOKEN" not in shown
    shown = f"{client.account!r} {client!r} {storage!r} {vars(client)} {''.join(capsys.readouterr())}"
    assert "AKIDSHOWN" in shown
    assert "SECRET-KEY" not in shown
    assert "SESSION-TOKEN" not in shown


@pytest.mark.parametrize("key", ["a", "a//b"], ids=["library", "direct"])
async def test_a_file_that_became_shorter_is_not_stored(
    seaweed: S3Server, clients: Clients, bucket: str, tmp_path: Path, key: str
) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(b"data" * 1_000_000)
    blob = FileBlob(os.open(source, os.O_RDONLY), 4_000_000)
    os.truncate(source, 3_999_999)
    with pytest.raises(StorageError, match="the data to store was cut short"):
        await clients(seaweed.url).bucket(bucket).put(key, blob, "image/png")
    assert seaweed.keys(bucket) == []


@pytest.mark.parametrize("key", ["a", "a//b"], ids=["library", "direct"])
@pytest.mark.parametrize("content_type", ["image/png\r\nX-Evil: yes", "image/\0", "imagé/png"])
async def test_no_content_type_can_add_a_header(
    seaweed: S3Server, proxy: FaultProxy, clients: Clients, bucket: str, key: str, content_type: str
) -> None:
    await put(clients(proxy.url).bucket(bucket), key, DATA, content_type)
    (upload,) = proxy.requests
    assert (upload.header("content-type"), upload.header("x-evil")) == (None, None)
    assert seaweed.read(bucket, key) == DATA


async def test_a_missing_content_type_is_logged(
    seaweed: S3Server, clients: Clients, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await clients(seaweed.url).bucket(bucket).put("a/b", MemoryBlob(DATA))
    assert f"storing 'a/b' in S3 bucket '{bucket}' without a content type" in capsys.readouterr().out
