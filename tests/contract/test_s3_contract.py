"""S3 statements in whole configurations, on real object stores (reference/imagestore 2.3, 6.4 and 6.7)."""

import base64
import hmac
import io
import time
from functools import partial
from urllib.parse import parse_qs, quote, unquote, urlsplit

import httpx
import pytest
from fault_proxy import FaultProxy
from loopback_ports import free_ports
from PIL import Image

from safelight.errors import (
    ConfigError,
    ImageNotLoaded,
    MemoryLimitExceeded,
    NoSuchBucket,
    NoSuchKey,
    NotFound,
    OutsideOfRoot,
    PathNotDefined,
    PathRenderingError,
    S3AccessDenied,
    S3NotConfigured,
    SetupError,
    StorageUnreachable,
)
from safelight.storage.s3.account import Patience

TWENTY_YEARS_S = 630_720_000


def line(result) -> str:
    return result.text.removesuffix("\r\n")


def account(store, name: str = "", url: str | None = None, credentials=None) -> str:
    """The `s3` statement for an object store."""
    keys = credentials or store.admin
    return f's3 "{name}" key="{keys.access_key}" secret="{keys.secret_key}" endpoint="{url or store.url}"\n'


PATHS = """
path {
    "path" "#{path}"
    "a" "a"
    "b" "b"
    "in-bucket" "#{bucket}/#{image_name}"
    "undefined" "#{nope}"
}
"""


@pytest.fixture
def bucket(seaweed) -> str:
    return seaweed.make_bucket()


@pytest.fixture
def api(serve, seaweed, bucket):
    """Serve endpoints; `BUCKET` stands for a new bucket."""
    return lambda text: serve(account(seaweed) + PATHS + text.replace("BUCKET", bucket))


def sources(attributes: str = "") -> str:
    return f"""
        get {{
            source_s3 "o" bucket="BUCKET" path="path" {attributes}
            output_image "o"
        }}
    """


def stores(attributes: str = "", output: str = 'output_store_url "input"') -> str:
    return f"""
        put {{
            store_s3 "input" bucket="BUCKET" path="path" {attributes}
            {output}
        }}
    """


# The `s3` statement


@pytest.mark.covers("s030")
@pytest.mark.parametrize("written", ['"true"', '"false"', "true", "off", "null"])
def test_ssl_may_be_a_flag_or_its_name(serve, written):
    assert len(serve(f's3 key="K" secret="S" ssl={written}').config.statements) == 1


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        (
            's3 key="K" secret="S" ssl="yes"',
            "expected 'ssl' attribute value to be true or false or nil; got: \"yes\"",
        ),
        ('s3 key="K"', "expected 'secret' attribute to be set"),
        ('s3 secret="S"', "expected 'key' attribute to be set"),
        ('s3 key="K" secret=""', "expected 'secret' attribute to be set"),
        ('s3 key="" secret=""', "expected 'key' attribute to be set"),
        ('s3 key="K" secret="S" colour="red"', "unexpected attributes: 'colour'"),
        ('s3 key="K" secret="S" endpoint="ftp://x"', "expected the scheme http or https"),
        ('s3 key="K" secret="S"\ns3 key="K" secret="S"', "only one s3 type statement"),
        ('s3 "a" key="K" secret="S"\ns3 name="a" key="K" secret="S"', "only one s3 type statement"),
    ],
)
@pytest.mark.covers("s027", "s029")
def test_what_is_no_account(serve, statement, complaint):
    with pytest.raises(ConfigError) as refused:
        serve(statement)
    assert complaint in refused.value.message


@pytest.mark.covers("s157")
def test_no_account(serve):
    api = serve(f"{PATHS}{sources()}{stores()}delete {{ delete_s3 bucket=`b` path=`path` }}")
    results = [api.get("/x"), api.put("/x", b"data"), api.delete("/x")]
    assert {result.failed(S3NotConfigured) for result in results} == {"S3 client not configured"}
    assert [result.error_status for result in results] == [500, 500, 500]


def test_accounts_by_name(serve, seaweed, own_seaweed, bucket):
    """Equal buckets of two accounts hold different objects."""
    archive = own_seaweed()
    archive.client.create_bucket(Bucket=bucket)
    api = serve(f"""
        {account(seaweed)}
        {account(archive, "archive")}
        {PATHS}
        put {{
            store_s3 "input" bucket="{bucket}" path="path" s3="archive" prefix="old/" public=true
            output_store_url "input"
        }}
        get "new" {{
            source_s3 "o" bucket="{bucket}" path="path"
            output_image "o"
        }}
        get "old" {{
            source_s3 "o" bucket="{bucket}" path="path" prefix="old/" s3="archive"
            output_image "o"
        }}
    """)
    assert line(api.put("/x", b"data")) == f"{archive.url}/{bucket}/old/x"
    assert (archive.keys(bucket), seaweed.keys(bucket)) == (["old/x"], [])
    assert api.get("/old/x").body == b"data"
    assert api.get("/new/x").error_status == 404


@pytest.mark.parametrize("written", ['s3 "archive"', 's3 name="archive"', 's3 "archive" name="archive"'])
def test_a_name_may_be_a_value_or_an_attribute(serve, written):
    (declared,) = serve(f'{written} key="K" secret="S"').config.statements
    assert (declared.client_name, declared.name, declared.name_attribute) == ("archive",) * 3
    with pytest.raises(ConfigError, match="two names are given: 'archive' and 'other'"):
        serve('s3 "archive" name="other" key="K" secret="S"')


def test_an_account_that_nobody_defined(serve, seaweed):
    """The author is told where; requests get the 500."""
    api = serve(f"""{account(seaweed, "archive")}{PATHS}put {{
    store_s3 "input" bucket="b" path="path" s3="archiv"
}}""")
    (warning,) = api.config.warnings
    assert "no 's3' statement is named 'archiv' (did you mean 'archive'?)" in warning.message
    assert (warning.severity, warning.position.column) == ("warning", 5)
    failure = api.put("/x", b"data")
    assert (failure.failed(S3NotConfigured), failure.error_status) == ("S3 client not configured", 500)


def test_account_and_endpoint_of_the_environment(serve, seaweed, bucket, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", seaweed.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://192.0.2.1")
    api = serve(f"s3\n{PATHS}{stores()}".replace("BUCKET", bucket))
    assert line(api.put("/x", b"data")).startswith(f"{seaweed.url}/{bucket}/x?AWSAccessKeyId=")
    assert seaweed.read(bucket, "x") == b"data"


def test_written_keys_win_over_those_of_the_environment(serve, seaweed, bucket, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNOBODY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "wrong")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://192.0.2.1")
    serve(f"{account(seaweed)}{PATHS}{stores()}".replace("BUCKET", bucket)).put("/x", b"data")
    assert seaweed.read(bucket, "x") == b"data"


def test_half_an_account_is_not_completed_by_the_environment(serve, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNOBODY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ConfigError, match="expected 'secret' attribute to be set"):
        serve('s3 key="K"')


# Sources


@pytest.mark.covers("s160")
@pytest.mark.parametrize("content_type", ["image/webp", "text/plain; charset=utf-8"])
def test_an_object_keeps_its_type(api, seaweed, bucket, content_type):
    seaweed.write(bucket, "x/y.dat", b"data", content_type)
    served = api(sources())
    answer = served.get("/x/y.dat")
    assert (answer.body, answer.content_type) == (b"data", content_type)
    assert served.counters.values["total_s3_source"] == 1
    assert served.counters.values["total_s3_source_bytes"] == 4


def test_an_object_is_an_image_like_others(api, seaweed, bucket, jpeg):
    seaweed.write(bucket, "x", jpeg, "image/jpeg")
    answer = api("""
        get {
            source_s3 "o" bucket="BUCKET" path="path"
            thumbnail "o" "t" operation="fit" width=32 height=32 format="png"
            output_image "t"
        }
    """).get("/x")
    assert (answer.content_type, Image.open(io.BytesIO(answer.body)).size) == ("image/png", (32, 24))


@pytest.mark.covers("s158", "s168")
def test_a_missing_key(api):
    failure = api(sources('prefix="pre/"')).get("/a%20b/c")
    assert failure.error_status == 404
    assert failure.failed(NoSuchKey).endswith("' does not contain key 'a b/c'")
    assert failure.failed(NoSuchKey).startswith("S3 bucket 'test-")


@pytest.mark.covers("s159")
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_missing_bucket(serve, moto, method):
    """SeaweedFS would make the bucket for an upload."""
    text = (account(moto) + PATHS + sources() + stores()).replace("BUCKET", "no-such-bucket")
    failure = serve(text).request(method, "/x", b"data")
    assert failure.failed(NoSuchBucket) == "S3 bucket 'no-such-bucket' does not exist"
    assert failure.error_status == 500


@pytest.mark.covers("s159")
@pytest.mark.parametrize("name", ["", ".", "..", "/", "b/c"])
@pytest.mark.parametrize(
    "statement",
    [
        'get {\n source_s3 "o"',
        'put {\n store_s3 "input"',
        "delete {\n delete_s3",
        'get {\n source_failover {\n source_s3 "o"',
    ],
)
def test_what_names_no_bucket(serve, statement, name):
    """The first part of the key would be the bucket, which a delete removes with all that is in it."""
    text = f'{statement} bucket="{name}" path="path"\n{"}" * statement.count("{")}'
    with pytest.raises(ConfigError, match=r"expected 'bucket' attribute value to be the name of a bucket"):
        serve('s3 key="K" secret="S"\n' + PATHS + text)


def test_access_denied(serve, seaweed, bucket):
    seaweed.write(bucket, "old", b"old")
    reader = account(seaweed, credentials=seaweed.reader)
    served = serve((reader + PATHS + sources() + stores()).replace("BUCKET", bucket))
    failure = served.put("/new", b"data")
    assert failure.failed(S3AccessDenied) == f"access to S3 bucket '{bucket}' or key 'new' was denied"
    assert failure.error_status == 500
    assert served.get("/old").body == b"old"
    assert seaweed.keys(bucket) == ["old"]


def test_a_store_that_is_down_is_told_from_one_that_refuses(serve, monkeypatch):
    """The table of the design: 502, and not before it was tried again."""
    monkeypatch.setattr("safelight.storage.s3.bucket.Patience", partial(Patience, give_up_s=0.3))
    (port,) = free_ports(1)
    text = f's3 key="K" secret="S" endpoint="http://127.0.0.1:{port}"\n{PATHS}{sources()}'
    failure = serve(text.replace("BUCKET", "b")).get("/x")
    assert failure.error_status == 502
    assert failure.failed(StorageUnreachable) == "S3 bucket 'b': the object store cannot be reached"


def test_an_object_counts_against_the_memory_limit(serve, seaweed, bucket):
    seaweed.write(bucket, "x", b"12345678")
    text = (account(seaweed) + PATHS + sources()).replace("BUCKET", bucket)
    assert serve(text, max_bytes=8).get("/x").body == b"12345678"
    failure = serve(text, max_bytes=7).get("/x")
    assert (failure.failed(MemoryLimitExceeded), failure.error_status) == ("memory limit exceeded", 413)


@pytest.mark.parametrize("path", ["../x", "a/../b", "a%00b"])
def test_keys_that_could_leave_the_bucket(api, path):
    served = api(sources() + stores())
    for failure in (served.get(f"/{path}"), served.put(f"/{path}", b"data")):
        failure.failed(OutsideOfRoot)
        assert failure.error_status == 403


@pytest.mark.parametrize("key", ["a b+c%d/é~*.jpg", "(1),'2'!$&=;:@.jpg", "日本/写真.jpg", "a?b#c.jpg"])
def test_any_other_key_is_itself(api, seaweed, bucket, key):
    served = api(sources() + stores("public=true"))
    url = line(served.put("/" + quote(key), b"data"))
    assert urlsplit(url).path == f"/{bucket}/" + quote(key, safe="/")
    assert seaweed.keys(bucket) == [key]
    assert served.get("/" + quote(key)).body == b"data"


@pytest.mark.parametrize("key", ["/a", "a//b", "a\\b"])
def test_slashes_of_keys_are_kept(serve, moto, key):
    """Sharp edge S40. SeaweedFS would merge them, and take a backslash for one."""
    bucket = moto.make_bucket()
    served = serve((account(moto) + PATHS + sources() + stores("public=true")).replace("BUCKET", bucket))
    assert line(served.put(f"/{quote(key)}", b"data")) == f"{moto.url}/{bucket}/{quote(key)}"
    assert moto.keys(bucket) == [key]
    assert served.get(f"/{quote(key)}").body == b"data"


@pytest.mark.covers("s024", "s097")
@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("none", PathNotDefined, "path 'none' not defined"),
        (
            "undefined",
            PathRenderingError,
            "cannot generate path 'undefined' from template '#{nope}': variable 'nope' not defined",
        ),
    ],
)
def test_paths_that_cannot_be_made(api, path, kind, message):
    served = api(
        (sources() + stores() + 'delete { delete_s3 bucket="BUCKET" path="path"; }').replace(
            'path="path"', f'path="{path}"'
        )
    )
    for failure in (served.get("/x"), served.put("/x", b"data"), served.delete("/x")):
        assert (failure.failed(kind), failure.error_status) == (message, 500)
    assert {warning.severity for warning in served.config.warnings} == {"warning"}


def test_the_bucket_is_a_variable_of_its_paths(api, seaweed, bucket):
    served = api("""
        put {
            store_s3 "input" bucket="BUCKET" path="in-bucket" if-variable-matches="bucket:BUCKET"
            output_store_path "input"
        }
        get {
            source_s3 "input" bucket="BUCKET" path="in-bucket"
            output_image "input"
        }
        delete {
            delete_s3 bucket="BUCKET" path="of-bucket"
        }
        path "of-bucket" "#{bucket}/input"
    """)
    assert served.config.warnings == ()
    assert line(served.put("/", b"data")) == f"{bucket}/input"
    assert seaweed.keys(bucket) == [f"{bucket}/input"]
    assert served.get("/").body == b"data"
    assert line(served.delete("/")) == "OK"
    assert seaweed.keys(bucket) == []


# Stores


@pytest.fixture
def watched(seaweed):
    """SeaweedFS, and every request that reaches it."""
    with FaultProxy(seaweed.url) as proxy:
        yield proxy


@pytest.mark.covers("s161", "s162", "s169")
@pytest.mark.parametrize(
    ("attributes", "acl", "cache_control"),
    [
        ("", "private", None),
        ("public=false", "private", None),
        ('public="false"', "private", None),
        ("public=true", "public-read", None),
        ('public="true"', "public-read", None),
        ('public=true cache-control="public, max-age=9"', "public-read", "public, max-age=9"),
    ],
)
def test_what_a_store_sends(serve, seaweed, watched, bucket, attributes, acl, cache_control):
    """One PUT request; the type of what nobody has looked at is not guessed. Sharp edge S2."""
    text = account(seaweed, url=watched.url) + PATHS + stores(attributes)
    serve(text.replace("BUCKET", bucket)).put("/x.jpg", b"data")
    (seen,) = watched.requests
    assert (seen.method, seen.target) == ("PUT", f"/{bucket}/x.jpg")
    assert seen.header("x-amz-acl") == acl
    assert seen.header("cache-control") == cache_control
    assert seen.header("content-type") is None


@pytest.mark.parametrize("written", ['"yes"', '"True"', "1", '""'])
def test_public_is_a_flag_or_its_name(api, written):
    """Sharp edge S2: nothing becomes public because of how it was spelt."""
    with pytest.raises(
        ConfigError, match="expected 'public' attribute value to be true or false or nil; got: "
    ):
        api(stores(f"public={written}"))


def test_public_access_is_no_attribute(api):
    with pytest.raises(ConfigError, match="unexpected attributes: 'public_access'"):
        api(stores("public_access=true"))


@pytest.mark.covers("s160", "s162")
def test_a_known_type_is_stored(api, seaweed, bucket, jpeg):
    served = api("""
        put {
            thumbnail "input" "t" width=10 height=10 format="png"
            store_s3 "input" bucket="BUCKET" path="a" cache-control="max-age=1"
            store_s3 "t" bucket="BUCKET" path="b"
        }
    """)
    assert line(served.put("/", jpeg)) == "OK"
    heads = {key: seaweed.head(bucket, key) for key in "ab"}
    assert [heads[key]["content-type"] for key in "ab"] == ["image/jpeg", "image/png"]
    assert [heads[key].get("cache-control") for key in "ab"] == ["max-age=1", None]
    assert seaweed.read(bucket, "a") == jpeg
    counted = served.counters.values
    assert counted["total_s3_store"] == 2
    assert counted["total_s3_store_bytes"] == len(jpeg) + int(heads["b"]["content-length"])


@pytest.mark.covers("s168")
def test_a_prefix_is_part_of_keys_and_urls_only(api, seaweed, bucket):
    attributes = 'prefix="pre" public=true'
    assert line(api(stores(attributes, 'output_store_path "input"')).put("/x/y", b"1")) == "x/y"
    assert line(api(stores(attributes)).put("/x/y", b"2")) == f"{seaweed.url}/{bucket}/prex/y"
    uri = api(stores(attributes, 'output_store_uri "input"')).put("/x/y", b"3")
    assert (line(uri), uri.content_type) == (f"/{bucket}/prex/y", "text/uri-list")
    assert seaweed.keys(bucket) == ["prex/y"]
    sourced = sources(attributes).replace('output_image "o"', 'output_source_path "o"')
    assert line(api(sourced).get("/x/y")) == "x/y"


def test_a_store_whose_condition_fails(api, seaweed, bucket):
    served = api("""
        put ":names" {
            store_s3 "input" bucket="BUCKET" path="a" if-image-name-on="#{names}"
            store_s3 "input" bucket="BUCKET" path="b" if-variable-matches="names:x"
            output_store_path { "input" if-image-name-on="#{names}"
            }
        }
    """)
    assert served.put("/x", b"data").text == "\r\n"
    assert line(served.put("/input", b"data")) == "a"
    assert seaweed.keys(bucket) == ["a", "b"]


def test_an_image_that_was_never_loaded(api):
    served = api('get { store_s3 "other" bucket="BUCKET" path="a"; }')
    assert served.get("/").failed(ImageNotLoaded) == "image 'other' not loaded"


def test_stores_of_one_request(api, seaweed, bucket, tmp_path, jpeg):
    """They run at the same time, the answer is in the order of the output, whatever was fastest."""
    names = [f"t{number}" for number in range(6)]
    specs = "\n".join(
        f'"{name}" width={8 + number} height=8 format="png"' for number, name in enumerate(names)
    )
    stored = "\n".join(f'store_s3 "{name}" bucket="BUCKET" path="in-bucket" public=true' for name in names)
    served = api(f"""
        put {{
            thumbnail "input" {{
                {specs}
            }}
            {stored}
            store_file "input" root="files" path="a"
            output_store_url {{
                "input"
                {chr(10).join(f'"{name}"' for name in reversed(names))}
            }}
        }}
    """)
    base = f"{seaweed.url}/{bucket}/{bucket}"
    assert served.put("/", jpeg).text.split() == ["file:/a", *(f"{base}/{name}" for name in reversed(names))]
    assert seaweed.keys(bucket) == [f"{bucket}/{name}" for name in names]
    assert (tmp_path / "files" / "a").read_bytes() == jpeg


@pytest.mark.parametrize("attempt", range(3))
def test_of_two_stores_under_one_key_the_last_in_the_file_wins(api, seaweed, bucket, jpeg, attempt):
    served = api("""
        put {
            thumbnail "input" "t" width=10 height=10 format="png"
            store_s3 "t" bucket="BUCKET" path="a"
            store_s3 "input" bucket="BUCKET" path="a"
            store_s3 "t" bucket="BUCKET" path="b"
            output_store_path { "input"; "t"; }
        }
    """)
    assert served.put("/", jpeg).text == "a\r\nb\r\n"
    assert seaweed.read(bucket, "a") == jpeg
    assert seaweed.head(bucket, "a")["content-type"] == "image/jpeg"


def test_an_image_stored_twice_is_told_where_it_was_last(api, seaweed, bucket):
    served = api("""
        put {
            store_s3 "input" bucket="BUCKET" path="b"
            store_s3 "input" bucket="BUCKET" path="a"
            output_store_path "input"
        }
    """)
    assert line(served.put("/", b"data")) == "a"
    assert seaweed.keys(bucket) == ["a", "b"]


def test_one_store_that_fails_fails_the_request(serve, moto):
    """The first failure in file order is told, and nothing that looks like success."""
    bucket = moto.make_bucket()
    served = serve(f"""
        {account(moto)}{PATHS}
        put {{
            store_s3 "input" bucket="{bucket}" path="a"
            store_s3 "input" bucket="no-such-bucket-1" path="a"
            store_s3 "input" bucket="no-such-bucket-2" path="a"
            output_store_url "input"
        }}
    """)
    failure = served.put("/", b"data")
    assert failure.failed(NoSuchBucket) == "S3 bucket 'no-such-bucket-1' does not exist"
    assert moto.read(bucket, "a") == b"data"
    assert served.counters.values["total_s3_store"] == 1


def test_a_directory_of_the_object_store_is_no_object(api, seaweed, bucket):
    """SeaweedFS shows one as an empty object, and says that it has deleted it."""
    seaweed.write(bucket, "album/x", b"data")
    served = api("""
        path "directory" "#{path}/"
        get {
            source_s3 "o" bucket="BUCKET" path="directory"
            output_image "o"
        }
        delete {
            delete_s3 bucket="BUCKET" path="directory"
        }
    """)
    for answer in (served.get("/album"), served.delete("/album"), served.delete("/album")):
        assert answer.failed(NoSuchKey) == f"S3 bucket '{bucket}' does not contain key 'album/'"
    assert seaweed.keys(bucket) == ["album/x"]


def test_deleting(api, seaweed, bucket):
    seaweed.write(bucket, "pre/x/y", b"data")
    served = api("""
        delete "&:really?" {
            delete_s3 bucket="BUCKET" path="path" prefix="pre/" if-variable-matches="really:yes"
            output_text "deleted"
        }
    """)
    assert line(served.delete("/x/y")) == "deleted"
    assert seaweed.keys(bucket) == ["pre/x/y"]
    assert line(served.delete("/x/y?really=yes")) == "deleted"
    assert seaweed.keys(bucket) == []
    gone = served.delete("/x/y?really=yes")
    assert gone.failed(NoSuchKey) == f"S3 bucket '{bucket}' does not contain key 'x/y'"
    assert gone.error_status == 404


# URLs


@pytest.mark.covers("s163", "s164", "s165")
def test_a_private_url(api, seaweed, bucket):
    before = int(time.time())
    url = line(api(stores()).put("/x/a%20b%2B.jpg", b"data"))
    after = int(time.time())
    address, _, query = url.partition("?")
    assert address == f"{seaweed.url}/{bucket}/x/a%20b%2B.jpg"
    assert [pair.partition("=")[0] for pair in query.split("&")] == ["AWSAccessKeyId", "Expires", "Signature"]
    values = {name: unquote(text) for name, _, text in (pair.partition("=") for pair in query.split("&"))}
    assert values["AWSAccessKeyId"] == seaweed.access_key
    assert before + TWENTY_YEARS_S <= int(values["Expires"]) <= after + TWENTY_YEARS_S
    signed = f"GET\n\n\n{values['Expires']}\n/{bucket}/x/a%20b%2B.jpg".encode()
    signature = base64.b64encode(hmac.digest(seaweed.secret_key.encode(), signed, "sha1")).decode()
    assert values["Signature"] == signature


@pytest.mark.covers("s163")
@pytest.mark.parametrize("signature", ["v2", "v4"])
def test_a_private_url_opens_the_object(serve, seaweed, bucket, signature):
    statement = account(seaweed).rstrip() + f' url-signature="{signature}" url-expires="1h"\n'
    url = line(serve((statement + PATHS + stores()).replace("BUCKET", bucket)).put("/a%20b/c.jpg", b"data"))
    with httpx.Client(trust_env=False) as http:
        assert http.get(url).content == b"data"
        assert http.get(url.replace("/c.jpg", "/d.jpg")).status_code == 403


@pytest.mark.covers("s161", "s163")
def test_everybody_may_read_a_public_object(serve, moto):
    """Of the two stores only this one follows access lists."""
    bucket = moto.make_bucket()
    api = serve(f"""
        {account(moto)}{PATHS}
        put {{
            store_s3 "input" bucket="{bucket}" path="path" public=true cache-control="max-age=5"
            output_store_url "input"
        }}
        post {{
            store_s3 "input" bucket="{bucket}" path="path"
            output_store_url "input"
        }}
    """)
    url = line(api.put("/x", b"data"))
    private = line(api.request("POST", "/y", b"data"))
    assert url == f"{moto.url}/{bucket}/x"
    with httpx.Client(trust_env=False) as http:
        answer = http.get(url)
        assert (answer.content, answer.headers["cache-control"]) == (b"data", "max-age=5")
        assert http.get(private.partition("?")[0]).status_code == 403
        assert http.get(private).content == b"data"


AMAZON = 's3 key="AKIDEXAMPLE" secret="made/up" ssl=false\n'


@pytest.mark.covers("s163", "s166", "s167")
@pytest.mark.parametrize(
    ("name", "region", "base"),
    [
        ("my-bucket", None, "http://my-bucket.s3.amazonaws.com/"),
        ("my-bucket-eu", "eu-west-1", "http://my-bucket-eu.s3.amazonaws.com/"),
        ("my.bucket", None, "http://s3.amazonaws.com/my.bucket/"),
        ("my.bucket.eu", "eu-west-1", "http://s3-eu-west-1.amazonaws.com/my.bucket.eu/"),
        ("my_bucket", None, "http://s3.amazonaws.com/my_bucket/"),
    ],
)
def test_urls_of_amazon(serve, amazon, name, region, base):
    """Objects are stored and read there; the region of a bucket is found out."""
    amazon.client.create_bucket(
        Bucket=name, **({"CreateBucketConfiguration": {"LocationConstraint": region}} if region else {})
    )
    text = AMAZON + PATHS + stores("public=true") + sources()
    served = serve(text.replace("BUCKET", name))
    url = line(served.put("/a/b.jpg", b"data"))
    assert url == f"{base}a/b.jpg"
    assert served.get("/a/b.jpg").body == b"data"
    assert amazon.read(name, "a/b.jpg") == b"data"
    private = line(serve((AMAZON + PATHS + stores()).replace("BUCKET", name)).put("/c.jpg", b"data"))
    assert private.startswith(f"{base}c.jpg?AWSAccessKeyId=AKIDEXAMPLE&Expires=")


def test_a_key_of_amazon_keeps_its_dot(serve, amazon):
    """Sharp edge S39."""
    bucket = amazon.make_bucket()
    served = serve(f"""
        {AMAZON}
        path "structured" "#{{dirname}}/x/#{{basename}}"
        put {{
            store_s3 "input" bucket="{bucket}" path="structured" public=true
            output_store_url "input"
        }}
    """)
    assert line(served.put("/a.jpg", b"data")) == f"http://{bucket}.s3.amazonaws.com/./x/a"
    assert amazon.keys(bucket) == ["./x/a"]


def test_a_dot_is_dropped_elsewhere(api, seaweed, bucket):
    served = api("""
        path "structured" "#{dirname}/x/#{basename}"
        put {
            store_s3 "input" bucket="BUCKET" path="structured" public=true
            output_store_url "input"
        }
        get {
            source_s3 "o" bucket="BUCKET" path="structured"
            output_image "o"
        }
    """)
    assert line(served.put("/a.jpg", b"data")) == f"{seaweed.url}/{bucket}/x/a"
    assert seaweed.keys(bucket) == ["x/a"]
    assert served.get("/a.jpg").body == b"data"


# Outputs


def rewritten(api, output: str, attributes: str = "public=true") -> str:
    served = api(
        stores(attributes, f'output_store_url "input" {output}')
        + """
        path "copy" "copies/#{path}"
        path "taken-apart" "#{scheme}/#{host}/#{path}"
        path "odd" "a b?c%é.jpg"
        """
    )
    return line(served.put("/x/d.jpg", b"data"))


@pytest.mark.covers("s143", "s147")
@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ('scheme="HTTPS"', "https://127.0.0.1:PORT/BUCKET/x/d.jpg"),
        ('host="img.example.com"', "http://img.example.com:PORT/BUCKET/x/d.jpg"),
        ('host="img.example.com" port="80"', "http://img.example.com/BUCKET/x/d.jpg"),
        ('scheme="https" host="img.example.com" port="443"', "https://img.example.com:443/BUCKET/x/d.jpg"),
        ('scheme="https" host="img.example.com" port="80"', "https://img.example.com/BUCKET/x/d.jpg"),
        ('port="#{path}"', "http://127.0.0.1/BUCKET/x/d.jpg"),
        ('path="copy"', "http://127.0.0.1:PORT/copies/x/d.jpg"),
        ('path="taken-apart"', "http://127.0.0.1:PORT/http/127.0.0.1/x/d.jpg"),
        ('path="odd"', "http://127.0.0.1:PORT/a%20b%3Fc%25%C3%A9.jpg"),
    ],
)
def test_rewritten_urls(api, seaweed, bucket, output, expected):
    """Only the default port of the scheme that the URL came with vanishes, whatever the scheme becomes."""
    expected = expected.replace("PORT", str(seaweed.port)).replace("BUCKET", bucket)
    assert rewritten(api, output) == expected


def test_a_rewritten_private_url_keeps_its_query(api, bucket):
    url = urlsplit(rewritten(api, 'scheme="https" host="img.example.com" path="copy"', ""))
    assert (url.scheme, url.hostname, url.path) == ("https", "img.example.com", "/copies/x/d.jpg")
    assert set(parse_qs(url.query)) == {"AWSAccessKeyId", "Expires", "Signature"}


@pytest.mark.covers("s147")
@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", "http://B.s3.amazonaws.com/x"),
        ('scheme="https"', "https://B.s3.amazonaws.com/x"),
        ('scheme="https" port="443"', "https://B.s3.amazonaws.com:443/x"),
        ('scheme="ftp" port="21"', "ftp://B.s3.amazonaws.com:21/x"),
        ('port="8080"', "http://B.s3.amazonaws.com:8080/x"),
        ('host="CDN.example.com" path="a"', "http://cdn.example.com/a"),
    ],
)
def test_rewritten_urls_of_amazon(serve, amazon, output, expected):
    bucket = amazon.make_bucket()
    served = serve(
        AMAZON + PATHS + stores("public=true", f'output_store_url "input" {output}').replace("BUCKET", bucket)
    )
    assert line(served.put("/x", b"data")) == expected.replace("B.", f"{bucket}.")


@pytest.mark.covers("s148")
def test_uris_have_no_query(api, bucket):
    served = api(stores("", 'output_store_uri "input" scheme="https" host="h"'))
    assert line(served.put("/x/d.jpg", b"data")) == f"/{bucket}/x/d.jpg"


@pytest.mark.covers("s149", "s150", "s151")
def test_lists(api, seaweed, bucket):
    served = api("""
        put ":names" {
            store_s3 "input" bucket="BUCKET" path="a" public=true
            output_store_url {
                "input" if-image-name-on="#{names}"
                "input" if-image-name-on="#{names}" host="h" port="80"
            }
        }
    """)
    listed = served.put("/input", b"data")
    assert listed.text == f"{seaweed.url}/{bucket}/a\r\nhttp://h/{bucket}/a\r\n"
    assert listed.content_type == "text/uri-list"
    assert served.put("/none", b"data").text == "\r\n"


@pytest.mark.covers("s152")
@pytest.mark.parametrize(("form", "what"), [("path", "path"), ("url", "URL"), ("uri", "URL")])
def test_an_image_that_was_not_stored(api, form, what):
    served = api(f"""
        put {{
            store_s3 "input" bucket="BUCKET" path="a" if-variable-matches="nope"
            output_store_{form} "input"
        }}
    """)
    assert served.put("/", b"data").failed(SetupError) == f"store {what} not set for image 'input'"


@pytest.mark.covers("s153", "s155", "s156")
def test_data_uris_of_objects(api, seaweed, bucket, png):
    served = api("""
        get {
            source_s3 "o" bucket="BUCKET" path="path"
            output_data_uri_image "o" cache-control="max-age=3"
        }
    """)
    seaweed.write(bucket, "typed", png, "image/png")
    answer = served.get("/typed")
    assert answer.text == "data:image/png;base64," + base64.b64encode(png).decode()
    assert (answer.content_type, answer.cache_control) == ("text/uri-list", "max-age=3")


@pytest.mark.covers("s214")
@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("path", "x/y"),
        ("file", "x/y"),
        ("url", "URL/BUCKET/pre/x/y"),
        ("uri", "/BUCKET/pre/x/y"),
    ],
)
def test_where_objects_came_from(api, seaweed, bucket, output, expected):
    seaweed.write(bucket, "pre/x/y", b"data")
    served = api(f"""
        get {{
            source_s3 "o" bucket="BUCKET" path="path" prefix="pre/" public=true
            output_source_{output} "o"
        }}
    """)
    assert line(served.get("/x/y")) == expected.replace("URL", seaweed.url).replace("BUCKET", bucket)


# Failover


@pytest.mark.covers("s176")
def test_failover_to_another_bucket(api, seaweed, bucket, tmp_path):
    served = api("""
        get {
            source_failover {
                source_s3 "o" bucket="no-such-bucket" path="path"
                source_s3 "o" bucket="BUCKET" path="path" prefix="new/"
                source_s3 "o" bucket="BUCKET" path="path" prefix="old/"
                source_file "o" root="archive" path="path"
            }
            output_image "o"
        }
    """)
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "x").write_bytes(b"archived")
    assert served.get("/x").body == b"archived"
    seaweed.write(bucket, "old/x", b"old")
    assert served.get("/x").body == b"old"
    seaweed.write(bucket, "new/x", b"new")
    assert served.get("/x").body == b"new"


def failed(bucket: str, name: str, message: str, prefix: str = "") -> str:
    source = f"S3Source[image_name: 'o' bucket: '{bucket}' prefix: '{prefix}' path_spec: 'path']"
    return f"{source}(Configuration::{name}: {message})"


@pytest.mark.covers("s177", "s178")
@pytest.mark.parametrize("missing_first", [True, False])
def test_all_sources_failed(serve, seaweed, bucket, missing_first):
    """404 if what failed first was a missing object; every failure is named as the older server did."""
    stranger = account(seaweed, "stranger").replace(seaweed.access_key, "AKIDNOBODY")
    sources = [
        f'source_s3 "o" bucket="{bucket}" path="path" prefix="pre/"',
        'source_s3 "o" bucket="no-such-bucket" path="path"',
        f'source_s3 "o" bucket="{bucket}" path="path" s3="stranger"',
        f'source_s3 "o" bucket="{bucket}" path="path" s3="nobody"',
    ]
    causes = [
        failed(bucket, "S3NoSuchKeyError", f"S3 bucket '{bucket}' does not contain key 'x'", "pre/"),
        failed("no-such-bucket", "S3NoSuchBucketError", "S3 bucket 'no-such-bucket' does not exist"),
        failed(bucket, "S3AccessDenied", f"access to S3 bucket '{bucket}' or key 'x' was denied"),
        failed(bucket, "S3NotConfiguredError", "S3 client not configured"),
    ]
    order = (0, 1, 2, 3) if missing_first else (1, 0, 2, 3)
    newline = "\n"
    served = serve(f"""
        {account(seaweed)}{stranger}{PATHS}
        get {{
            source_failover {{
                {newline.join(sources[number] for number in order)}
            }}
        }}
    """)
    failure = served.get("/x")
    message = failure.failed(NotFound if missing_first else SetupError)
    assert message == "all sources failed: " + ", ".join(causes[number] for number in order)
    assert failure.error_status == (404 if missing_first else 500)
