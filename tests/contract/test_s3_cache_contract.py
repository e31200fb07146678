"""`cache-root` in whole configurations: copies of objects on disk (reference/imagestore 6.5)."""

import hashlib
import os
import struct

import msgspec
import pytest
from fault_proxy import CutResponse, FaultProxy, Pass, times

from safelight.errors import ConfigError, MemoryLimitExceeded, NoSuchKey

PATHS = 'path "path" "#{path}"\n'


def line(result) -> str:
    return result.text.removesuffix("\r\n")


def account(store, url: str | None = None) -> str:
    return f's3 key="{store.access_key}" secret="{store.secret_key}" endpoint="{url or store.url}"\n'


@pytest.fixture
def bucket(seaweed) -> str:
    return seaweed.make_bucket()


@pytest.fixture
def cache(tmp_path):
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


@pytest.fixture
def watched(seaweed):
    """SeaweedFS, and every request that reaches it."""
    with FaultProxy(seaweed.url) as proxy:
        yield proxy


ENDPOINTS = """
get "image" {
    source_s3 "o" bucket="BUCKET" path="path" prefix="pre/" cache-root="cache"
    output_image "o"
}
get "url" {
    source_s3 "o" bucket="BUCKET" path="path" prefix="pre/" cache-root="cache"
    output_source_url "o"
}
get "public" {
    source_s3 "o" bucket="BUCKET" path="path" prefix="pre/" cache-root="cache" public=true
    output_source_url "o"
}
put "cached" {
    store_s3 "input" bucket="BUCKET" path="path" prefix="pre/" cache-root="cache"
    output_store_url "input"
}
put "uncached" {
    store_s3 "input" bucket="BUCKET" path="path" prefix="pre/"
}
delete {
    delete_s3 bucket="BUCKET" path="path" prefix="pre/"
}
"""


@pytest.fixture
def api(serve, seaweed, watched, bucket, cache):
    return serve(account(seaweed, watched.url) + PATHS + ENDPOINTS.replace("BUCKET", bucket))


def cache_file(cache, bucket: str, key: str):
    digits = hashlib.sha256(f"{bucket}/{key}".encode()).hexdigest()[:32]
    return cache / digits[:2] / digits[2:4] / digits[4:]


def taken_apart(content: bytes) -> tuple[dict[str, str], bytes]:
    """Head and data of a cache file."""
    (length,) = struct.unpack_from("<I", content)
    return msgspec.msgpack.decode(content[4 : 4 + length]), content[4 + length :]


def put_together(head: dict[str, str], data: bytes) -> bytes:
    encoded = msgspec.msgpack.encode(head)
    return struct.pack("<I", len(encoded)) + encoded + data


def write_copy(cache, bucket: str, key: str, content: bytes) -> None:
    file = cache_file(cache, bucket, key)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


# Reading through the cache


@pytest.mark.covers("s170", "s171", "s201")
def test_a_read_object_is_kept(api, seaweed, bucket, cache):
    seaweed.write(bucket, "pre/a/b.webp", b"data", "image/webp")
    answer = api.get("/image/a/b.webp")
    assert (answer.body, answer.content_type) == (b"data", "image/webp")
    head, data = taken_apart(cache_file(cache, bucket, "pre/a/b.webp").read_bytes())
    assert (head["content_type"], data) == ("image/webp", b"data")
    assert "public_url" not in head
    assert head["private_url"] == line(api.get("/url/a/b.webp"))
    assert api.counters.values["total_s3_cache_misses"] == 1
    assert api.counters.values["total_s3_cache_hits"] == 1


@pytest.mark.covers("s172", "s201")
def test_a_hit_asks_the_object_store_nothing(api, seaweed, watched, bucket):
    seaweed.write(bucket, "pre/x", b"data", "image/webp")
    first = line(api.get("/url/x"))
    asked = len(watched.requests)
    with watched.refusing():
        assert line(api.get("/url/x")) == first
        answer = api.get("/image/x")
        assert (answer.body, answer.content_type) == (b"data", "image/webp")
    assert len(watched.requests) == asked
    assert api.counters.values["total_s3_cache_hits"] == 2
    assert api.counters.values["total_s3_source"] == 3


def test_large_objects_are_kept_whole(api, seaweed, watched, bucket):
    data = os.urandom(3_000_001)
    seaweed.write(bucket, "pre/x", data)
    assert api.get("/image/x").body == data
    with watched.refusing():
        assert api.get("/image/x").body == data


@pytest.mark.covers("s172")
def test_a_copy_has_a_url_of_each_kind(api, seaweed, watched, bucket, cache):
    """What a copy lacks is asked for once, and the rest of the copy stays."""
    seaweed.write(bucket, "pre/x", b"data", "image/webp")
    private = line(api.get("/url/x"))
    assert line(api.get("/public/x")) == f"{watched.url}/{bucket}/pre/x"
    with watched.refusing():
        assert line(api.get("/url/x")) == private
        assert line(api.get("/public/x")) == f"{watched.url}/{bucket}/pre/x"
    head, _ = taken_apart(cache_file(cache, bucket, "pre/x").read_bytes())
    assert {"content_type", "private_url", "public_url"} <= set(head)


@pytest.mark.covers("s170", "s171", "s172")
def test_a_cache_of_the_older_server(api, watched, bucket, cache):
    """Its files are used: private URLs keep their expiry, default ports vanish. Sharp edges S42, S43."""
    url = "http://mybucket.s3.amazonaws.com:80/pre/a%2Bb?AWSAccessKeyId=AK&Expires=4000000000&Signature=a%2Fb%3D"
    head = {"private_url": url, "content_type": "image/png"}
    write_copy(cache, bucket, "pre/a+b", put_together(head, b"copy"))
    with watched.refusing():
        answer = api.get("/image/a+b")
        assert (answer.body, answer.content_type) == (b"copy", "image/png")
        assert line(api.get("/url/a+b")) == url.replace(":80", "")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", "https://my-bucket.s3.amazonaws.com/x?Signature=a"),
        ('port="443"', "https://my-bucket.s3.amazonaws.com/x?Signature=a"),
        ('scheme="http" port="80"', "http://my-bucket.s3.amazonaws.com/x?Signature=a"),
        ('scheme="ftp" port="21"', "ftp://my-bucket.s3.amazonaws.com/x?Signature=a"),
    ],
)
def test_rewritten_urls_of_copies(serve, cache, output, expected):
    """All default ports vanish, where uncached URLs lose only that of the scheme they came with (6.7)."""
    head = {"private_url": "https://my-bucket.s3.amazonaws.com/x?Signature=a", "content_type": "image/png"}
    write_copy(cache, "my-bucket", "x", put_together(head, b"copy"))
    api = serve(f"""
        s3 key="AKIDEXAMPLE" secret="made/up"
        {PATHS}
        get {{
            source_s3 "o" bucket="my-bucket" path="path" cache-root="cache"
            output_source_url "o" {output}
        }}
    """)
    assert line(api.get("/x")) == expected


@pytest.mark.covers("s173", "s201")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xff\xff\xff",
        struct.pack("<I", 20) + b"short",
        struct.pack("<I", 1) + b"\xc1data",
        put_together({"private_url": "no url", "content_type": "image/png"}, b"copy"),
        put_together({"private_url": "http://h/x", "content_type": "a\r\nb: c"}, b"copy"),
    ],
)
def test_a_damaged_copy(api, seaweed, bucket, cache, content):
    """S3 is asked, the copy is written anew, and the damage is counted."""
    seaweed.write(bucket, "pre/x", b"data", "image/webp")
    write_copy(cache, bucket, "pre/x", content)
    answer = api.get("/image/x")
    assert (answer.body, answer.content_type) == (b"data", "image/webp")
    assert api.counters.values["total_s3_cache_errors"] == 1
    assert taken_apart(cache_file(cache, bucket, "pre/x").read_bytes())[1] == b"data"
    assert api.get("/image/x").body == b"data"
    assert api.counters.values["total_s3_cache_hits"] == 1


@pytest.mark.covers("s158")
def test_a_missing_object_is_not_kept(api, bucket, cache):
    message = f"S3 bucket '{bucket}' does not contain key 'x'"
    assert api.get("/image/x").failed(NoSuchKey) == message
    assert [file for file in cache.rglob("*") if file.is_file()] == []


def test_a_copy_counts_against_the_memory_limit(serve, seaweed, bucket, cache):
    text = account(seaweed) + PATHS + ENDPOINTS.replace("BUCKET", bucket)
    seaweed.write(bucket, "pre/x", b"12345678")
    assert serve(text, max_bytes=8).get("/image/x").body == b"12345678"
    serve(text, max_bytes=7).get("/image/x").failed(MemoryLimitExceeded)


# Writing through the cache


@pytest.mark.covers("s174")
def test_a_stored_object_is_kept(api, watched, bucket, cache):
    url = line(api.put("/cached/x", b"data"))
    with watched.refusing():
        answer = api.get("/image/x")
        assert (answer.body, answer.content_type) == (b"data", "application/octet-stream")
        assert line(api.get("/url/x")) == url
    head, data = taken_apart(cache_file(cache, bucket, "pre/x").read_bytes())
    assert (head["private_url"], data) == (url, b"data")


def test_a_store_that_fails_leaves_no_copy(serve, seaweed, bucket, cache):
    seaweed.write(bucket, "pre/x", b"old")
    reader = f's3 key="{seaweed.reader.access_key}" secret="{seaweed.reader.secret_key}" '
    api = serve(f'{reader} endpoint="{seaweed.url}"\n{PATHS}{ENDPOINTS}'.replace("BUCKET", bucket))
    assert api.get("/image/x").body == b"old"
    assert api.put("/cached/x", b"new").error_status == 500
    assert not cache_file(cache, bucket, "pre/x").exists()
    assert api.get("/image/x").body == b"old"


@pytest.mark.parametrize("how", ["cached", "uncached"])
def test_a_new_object_replaces_the_copy(api, seaweed, bucket, how):
    """Whichever statement stores it."""
    api.put("/cached/x", b"old")
    assert api.get("/image/x").body == b"old"
    api.put(f"/{how}/x", b"new")
    assert seaweed.read(bucket, "pre/x") == b"new"
    assert api.get("/image/x").body == b"new"


def test_a_deleted_object_is_not_served_from_the_cache(api, bucket, cache):
    api.put("/cached/x", b"data")
    assert line(api.delete("/x")) == "OK"
    assert api.get("/image/x").error_status == 404
    assert not cache_file(cache, bucket, "pre/x").exists()
    assert api.delete("/x").error_status == 404


def test_deleting_what_is_only_in_the_cache(api, seaweed, bucket, cache):
    """Somebody else deleted the object; the request is answered 404 and the copy goes."""
    api.put("/cached/x", b"data")
    seaweed.delete(bucket, "pre/x")
    assert api.get("/image/x").body == b"data"
    assert api.delete("/x").error_status == 404
    assert api.get("/image/x").error_status == 404


def test_accounts_do_not_share_copies(serve, seaweed, moto, bucket, cache):
    """Buckets of one name at two accounts are two buckets, also in a directory that both use."""
    moto.client.create_bucket(Bucket=bucket)
    moto.write(bucket, "x", b"of the archive")
    seaweed.write(bucket, "x", b"ours")
    archive = account(moto).replace("s3 ", 's3 "archive" ')
    api = serve(f"""
        {account(seaweed)}{archive}{PATHS}
        get "ours" {{
            source_s3 "o" bucket="{bucket}" path="path" cache-root="cache"
            output_image "o"
        }}
        get "archive" {{
            source_s3 "o" bucket="{bucket}" path="path" cache-root="cache" s3="archive"
            output_image "o"
        }}
    """)
    for _ in range(2):
        assert api.get("/ours/x").body == b"ours"
        assert api.get("/archive/x").body == b"of the archive"
    assert api.counters.values["total_s3_cache_hits"] == 2


@pytest.mark.parametrize(
    ("change", "kept"), [("put", ""), ("put", 'cache-root="cache"'), ("delete", "")], ids=repr
)
@pytest.mark.usefixtures("cache")
def test_a_change_through_another_account_of_the_store(serve, seaweed, bucket, change, kept):
    """One account reads, another one writes: what the first has in its cache is as old as ever."""
    writer = account(seaweed).replace("s3 ", 's3 "writer" ')
    api = serve(f"""
        {account(seaweed)}{writer}{PATHS}
        get {{
            source_s3 "o" bucket="{bucket}" path="path" cache-root="cache"
            output_image "o"
        }}
        put {{
            store_s3 "input" bucket="{bucket}" path="path" s3="writer" {kept}
        }}
        delete {{
            delete_s3 bucket="{bucket}" path="path" s3="writer"
        }}
    """)
    seaweed.write(bucket, "x", b"old")
    assert api.get("/x").body == b"old"
    if change == "put":
        api.put("/x", b"new")
        assert api.get("/x").body == b"new"
    else:
        api.delete("/x")
        assert api.get("/x").error_status == 404


# The directory


def source(attributes: str = "") -> str:
    return f"""
        get {{
            source_s3 "o" bucket="BUCKET" path="path" cache-root="cache" {attributes}
            output_image "o"
        }}
    """


@pytest.mark.covers("s175")
def test_a_missing_directory_turns_the_cache_off(serve, seaweed, bucket):
    seaweed.write(bucket, "x", b"data")
    api = serve((account(seaweed) + PATHS + source()).replace("BUCKET", bucket))
    (warning,) = api.config.warnings
    assert warning.message == "S3 object cache directory 'cache' does not exist or not a directory"
    assert warning.position.line == 5
    assert api.get("/x").body == b"data"
    assert "total_s3_cache_misses" not in api.counters.values


@pytest.mark.covers("s175")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every directory")
@pytest.mark.parametrize(("mode", "ability"), [(0o600, "readable"), (0o500, "writable")])
def test_a_directory_that_may_not_be_used_stops_the_load(serve, cache, mode, ability):
    cache.chmod(mode)
    with pytest.raises(ConfigError, match=f"S3 object cache directory 'cache' is not {ability}"):
        serve('s3 key="K" secret="S"' + PATHS + source())


def test_a_cache_that_breaks_later_costs_no_request(serve, seaweed, bucket, cache):
    api = serve((account(seaweed) + PATHS + source()).replace("BUCKET", bucket))
    cache.rmdir()
    cache.write_bytes(b"a file now")
    seaweed.write(bucket, "x", b"data")
    assert api.get("/x").body == b"data"
    assert api.get("/x").body == b"data"


def test_a_bound_for_the_directory(serve, seaweed, bucket, cache):
    """The least recently used copies go first; what goes is fetched again."""
    api = serve((account(seaweed) + PATHS + source('cache-max-size="100KB"')).replace("BUCKET", bucket))
    for number in range(8):
        seaweed.write(bucket, f"x{number}", bytes(30_000))
        assert api.get(f"/x{number}").body == bytes(30_000)
    kept = [file.stat().st_size for file in cache.rglob("*") if file.is_file()]
    assert sum(kept) <= 100_000
    assert cache_file(cache, bucket, "x7").exists()
    assert not cache_file(cache, bucket, "x0").exists()
    assert api.get("/x0").body == bytes(30_000)


@pytest.mark.parametrize("written", ["./cache", "cache/", "CACHE", "link"])
def test_a_directory_is_one_however_it_is_written(serve, seaweed, bucket, cache, written):
    """So there is one bound, the smallest, and nobody keeps an old copy of what another one replaces."""
    (cache.parent / "link").symlink_to(cache)
    root = written.replace("CACHE", str(cache))
    api = serve(f"""
        {account(seaweed)}{PATHS}
        get "bounded" {{
            source_s3 "o" bucket="{bucket}" path="path" cache-root="cache" cache-max-size="100KB"
            output_image "o"
        }}
        put {{
            store_s3 "input" bucket="{bucket}" path="path" cache-root="{root}"
        }}
    """)
    for number in range(8):
        api.put(f"/x{number}", bytes(30_000))
    kept = [file.stat().st_size for file in cache.rglob("*") if file.is_file()]
    assert sum(kept) <= 100_000


@pytest.mark.parametrize("written", ['"big"', "0", '"-1GB"'])
def test_what_is_no_bound(serve, cache, written):
    with pytest.raises(ConfigError, match="expected 'cache-max-size' attribute value to be a size such as"):
        serve('s3 key="K" secret="S"\n' + PATHS + source(f"cache-max-size={written}"))


def test_an_object_that_arrives_cut_is_not_kept(serve, seaweed, watched, bucket, cache):
    seaweed.write(bucket, "x", bytes(50_000), "image/webp")
    watched.fault = times(1, CutResponse(20_000), then=Pass())
    api = serve((account(seaweed, watched.url) + PATHS + source()).replace("BUCKET", bucket))
    assert api.get("/x").body == bytes(50_000)
    assert taken_apart(cache_file(cache, bucket, "x").read_bytes())[1] == bytes(50_000)
