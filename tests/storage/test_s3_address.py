"""Where objects are in S3 (reference/imagestore 6.4 and design, section 3)."""

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.errors import BadRequest, OutsideOfRoot
from safelight.storage.s3.address import (
    MAX_KEY_BYTES,
    Endpoint,
    endpoint_of,
    escape_key,
    is_dns_compatible,
    needs_region,
    object_key,
    object_url,
    regional_object_url,
    request_url,
)

AWS = endpoint_of(None, ssl=True, style=None)
LOCAL = endpoint_of("http://127.0.0.1:9000", ssl=True, style=None)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("text", "ssl", "style", "expected"),
    [
        (None, True, None, Endpoint("https", "s3.amazonaws.com", 443, "", "aws", True)),
        (None, False, None, Endpoint("http", "s3.amazonaws.com", 80, "", "aws", True)),
        (None, True, "path", Endpoint("https", "s3.amazonaws.com", 443, "", "path", True)),
        ("s3.local", True, None, Endpoint("https", "s3.local", 443, "", "path", False)),
        ("s3.local", False, None, Endpoint("http", "s3.local", 80, "", "path", False)),
        ("S3.Local:9000", True, None, Endpoint("https", "s3.local", 9000, "", "path", False)),
        ("HTTP://s3.local", True, None, Endpoint("http", "s3.local", 80, "", "path", False)),
        ("https://s3.local/", False, None, Endpoint("https", "s3.local", 443, "", "path", False)),
        ("http://s3.local:80/a/b//", True, None, Endpoint("http", "s3.local", 80, "/a/b", "path", False)),
        ("s3.local/a", True, "virtual", Endpoint("https", "s3.local", 443, "/a", "virtual", False)),
        ("s3.local", True, "aws", Endpoint("https", "s3.local", 443, "", "aws", False)),
        ("127.0.0.1:1", False, None, Endpoint("http", "127.0.0.1", 1, "", "path", False)),
        ("[::1]:65535", False, "path", Endpoint("http", "[::1]", 65535, "", "path", False)),
        ("http://seaweed", True, None, Endpoint("http", "seaweed", 80, "", "path", False)),
    ],
)
def test_endpoint(text: str | None, ssl: bool, style: str | None, expected: Endpoint) -> None:
    assert endpoint_of(text, ssl, style) == expected


@pytest.mark.parametrize(
    ("text", "style", "message"),
    [
        ("", None, "bad S3 endpoint '': '' is no host name or address"),
        ("http://", None, "bad S3 endpoint 'http://': '' is no host name or address"),
        ("ftp://h", None, "bad S3 endpoint 'ftp://h': expected the scheme http or https, not 'ftp'"),
        ("://h", None, "bad S3 endpoint '://h': expected the scheme http or https, not ''"),
        ("h:", None, "bad S3 endpoint 'h:': '' is no port number"),
        ("h:0", None, "bad S3 endpoint 'h:0': '0' is no port number"),
        ("h:65536", None, "bad S3 endpoint 'h:65536': '65536' is no port number"),
        ("h:٣", None, "bad S3 endpoint 'h:٣': '٣' is no port number"),
        ("a b", None, "bad S3 endpoint 'a b': 'a b' is no host name or address"),
        ("a..b", None, "bad S3 endpoint 'a..b': 'a..b' is no host name or address"),
        ("-a", None, "bad S3 endpoint '-a': '-a' is no host name or address"),
        ("żółw.pl", None, "bad S3 endpoint 'żółw.pl': 'żółw.pl' is no host name or address"),
        ("[::1", None, "bad S3 endpoint '[::1': expected http(s)://host[:port][/path] or host[:port][/path]"),
        ("[::g]", None, "bad S3 endpoint '[::g]': '[::g]' is no host name or address"),
        ("[::1%lo]", None, "bad S3 endpoint '[::1%lo]': '[::1%lo]' is no host name or address"),
        ("h\n", None, "bad S3 endpoint 'h\n': 'h\n' is no host name or address"),
        ("h?a", None, "bad S3 endpoint 'h?a': expected http(s)://host[:port][/path] or host[:port][/path]"),
        (
            "h/a b",
            None,
            "bad S3 endpoint 'h/a b': the path '/a b' may hold names of A-Z a-z 0-9 - . _ ~ only",
        ),
        (
            "h/../a",
            None,
            "bad S3 endpoint 'h/../a': the path '/../a' may hold names of A-Z a-z 0-9 - . _ ~ only",
        ),
        ("h//a", None, "bad S3 endpoint 'h//a': the path '//a' may hold names of A-Z a-z 0-9 - . _ ~ only"),
        ("http://u:pw@h", None, "bad S3 endpoint: no user name or password may stand in it"),
        ("h", "Path", "bad S3 URL style 'Path': expected 'path', 'virtual' or 'aws'"),
        (None, "", "bad S3 URL style '': expected 'path', 'virtual' or 'aws'"),
        (
            "10.0.0.1",
            "virtual",
            "bad S3 endpoint '10.0.0.1': "
            "no bucket can stand before the address '10.0.0.1': use the style 'path'",
        ),
        (
            "[::1]",
            "aws",
            "bad S3 endpoint '[::1]': no bucket can stand before the address '[::1]': use the style 'path'",
        ),
    ],
)
def test_what_is_no_endpoint(text: str | None, style: str | None, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        endpoint_of(text, ssl=True, style=style)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("bucket", "compatible"),
    [
        ("abc", True),
        ("a-b.c0", True),
        ("1.2.3", True),
        ("a" * 63, True),
        ("ab", False),
        ("a" * 64, False),
        ("Abc", False),
        ("a_b", False),
        ("-ab", False),
        ("ab-", False),
        (".ab", False),
        ("ab.", False),
        ("a..b", False),
        ("a-.b", False),
        ("a.-b", False),
        ("1.2.3.4", False),
        ("999.2.3.4", False),
        ("abć", False),
        ("abc\n", False),
    ],
)
def test_dns_compatible(bucket: str, compatible: bool) -> None:
    assert is_dns_compatible(bucket) is compatible


@pytest.mark.parametrize(
    ("key", "escaped"),
    [
        ("azAZ09-_.~/", "azAZ09-_.~/"),
        ("a/b c+é~*.jpg", "a/b%20c%2B%C3%A9~%2A.jpg"),
        ("%2F?#&=:@!$'(),;", "%252F%3F%23%26%3D%3A%40%21%24%27%28%29%2C%3B"),
        ("/./../", "/./../"),
        ("o\u0301", "o%CC%81"),
        ("\n", "%0A"),
    ],
)
def test_escaping(key: str, escaped: str) -> None:
    assert escape_key(key) == escaped


@given(TEXT)
def test_escaping_loses_nothing(key: str) -> None:
    assert unquote(escape_key(key), errors="strict") == key


@pytest.mark.covers("s163", "s166", "s167")
@pytest.mark.parametrize(
    ("endpoint", "bucket", "key", "region", "text"),
    [
        (AWS, "mybucket", "a", "us-east-1", "https://mybucket.s3.amazonaws.com/a"),
        (AWS, "mybucket", "a", "eu-west-1", "https://mybucket.s3.amazonaws.com/a"),
        (endpoint_of(None, False, None), "mybucket", "a", "us-east-1", "http://mybucket.s3.amazonaws.com/a"),
        (AWS, "my.bucket", "a", "us-east-1", "https://s3.amazonaws.com/my.bucket/a"),
        (AWS, "my.bucket", "a", "eu-west-1", "https://s3-eu-west-1.amazonaws.com/my.bucket/a"),
        (endpoint_of(None, False, None), "my.b", "a", "us-east-1", "http://s3.amazonaws.com/my.b/a"),
        (AWS, "My_Bucket", "a", "eu-west-1", "https://s3-eu-west-1.amazonaws.com/My_Bucket/a"),
        (
            endpoint_of(None, True, "path"),
            "mybucket",
            "a",
            "us-east-1",
            "https://s3.amazonaws.com/mybucket/a",
        ),
        (endpoint_of(None, True, "virtual"), "my.b", "a", "us-east-1", "https://my.b.s3.amazonaws.com/a"),
        (
            AWS,
            "mybucket",
            "a/b c+é~*.jpg",
            "us-east-1",
            "https://mybucket.s3.amazonaws.com/a/b%20c%2B%C3%A9~%2A.jpg",
        ),
        (AWS, "mybucket", "./x", "us-east-1", "https://mybucket.s3.amazonaws.com/./x"),
        (AWS, "mybucket", "/x", "us-east-1", "https://mybucket.s3.amazonaws.com//x"),
        (AWS, "my.bucket", "//x", "us-east-1", "https://s3.amazonaws.com/my.bucket///x"),
        (LOCAL, "mybucket", "a", "us-east-1", "http://127.0.0.1:9000/mybucket/a"),
        (LOCAL, "my.bucket", "/a", "eu-west-1", "http://127.0.0.1:9000/my.bucket//a"),
        (endpoint_of("s3.local/st/", True, None), "mybucket", "a", "x", "https://s3.local/st/mybucket/a"),
        (
            endpoint_of("s3.local/st/", True, "virtual"),
            "mybucket",
            "a",
            "x",
            "https://mybucket.s3.local/st/a",
        ),
        (endpoint_of("s3.local:80", False, "virtual"), "my.b", "/a", "x", "http://my.b.s3.local//a"),
        (endpoint_of("s3.local:443", False, "virtual"), "My_B", "a", "x", "http://s3.local:443/My_B/a"),
        (endpoint_of("s3.local", False, "aws"), "my.b", "a", "x", "http://s3.local/my.b/a"),
        (endpoint_of("s3.local", False, "aws"), "mybucket", "a", "x", "http://mybucket.s3.local/a"),
    ],
)
def test_object_url(endpoint: Endpoint, bucket: str, key: str, region: str, text: str) -> None:
    assert str(object_url(endpoint, bucket, key, region)) == text


def test_rewriting_an_object_url() -> None:
    """Only the default port of the original scheme vanishes (reference/imagestore 6.7)."""
    url = object_url(AWS, "mybucket", "a", "us-east-1")
    assert (url.scheme, url.host, url.port) == ("https", "mybucket.s3.amazonaws.com", 443)
    assert str(url.with_scheme("http").with_port("80")) == "http://mybucket.s3.amazonaws.com:80/a"
    assert str(url.with_scheme("http")) == "http://mybucket.s3.amazonaws.com/a"
    assert str(url.with_host("cdn.example.com").with_port("443")) == "https://cdn.example.com/a"


@pytest.mark.parametrize(
    ("endpoint", "bucket", "base"),
    [
        (AWS, "mybucket", "https://mybucket.s3.eu-west-1.amazonaws.com"),
        (AWS, "my.bucket", "https://s3.eu-west-1.amazonaws.com/my.bucket"),
        (endpoint_of(None, False, None), "mybucket", "http://mybucket.s3.eu-west-1.amazonaws.com"),
        (LOCAL, "mybucket", "http://127.0.0.1:9000/mybucket"),
        (endpoint_of("s3.local/st", True, None), "my_b", "https://s3.local/st/my_b"),
        (endpoint_of("s3.local/st", True, "virtual"), "mybucket", "https://mybucket.s3.local/st"),
        (endpoint_of("[::1]:9000", False, None), "mybucket", "http://[::1]:9000/mybucket"),
    ],
)
def test_where_requests_go(endpoint: Endpoint, bucket: str, base: str) -> None:
    assert request_url(endpoint, bucket, "eu-west-1") == base
    assert str(regional_object_url(endpoint, bucket, "/a b", "eu-west-1")) == f"{base}//a%20b"


@pytest.mark.parametrize("style", ["path", "virtual", "aws"])
@pytest.mark.parametrize("bucket", ["mybucket", "my.bucket", "My_Bucket"])
@pytest.mark.parametrize("text", [None, "s3.local"])
def test_urls_need_a_region_where_they_differ_by_it(text: str | None, bucket: str, style: str) -> None:
    endpoint = endpoint_of(text, ssl=True, style=style)
    urls = {str(object_url(endpoint, bucket, "a", region)) for region in ("us-east-1", "eu-west-1")}
    assert needs_region(endpoint, bucket) is (len(urls) == 2)


@given(TEXT, st.sampled_from(["mybucket", "my.bucket"]), st.sampled_from([AWS, LOCAL]))
def test_an_object_url_holds_the_key_and_nothing_else(key: str, bucket: str, endpoint: Endpoint) -> None:
    url = urlsplit(str(object_url(endpoint, bucket, key, "us-east-1")))
    assert url.netloc in ("mybucket.s3.amazonaws.com", "s3.amazonaws.com", "127.0.0.1:9000")
    before = "/" if url.netloc.startswith("mybucket") else f"/{bucket}/"
    assert unquote(url.path, errors="strict") == before + key
    assert (url.query, url.fragment) == ("", "")


@pytest.mark.covers("s168")
@pytest.mark.parametrize(
    ("prefix", "path", "dots", "no_dots"),
    [
        ("", "a", "a", "a"),
        ("pre", "a", "prea", "prea"),
        ("pre/", "a", "pre/a", "pre/a"),
        ("pre/", "/a", "pre//a", "pre//a"),
        ("", "/a", "/a", "/a"),
        ("", "./abc/x.jpg", "./abc/x.jpg", "abc/x.jpg"),
        ("pre/", "./x", "pre/./x", "pre/x"),
        ("pre", "./x", "pre./x", "pre./x"),
        ("", "a/./b/.", "a/./b/.", "a/b/"),
        ("pre/", ".", "pre/.", "pre/"),
        ("", "a/", "a/", "a/"),
        ("", "...", "...", "..."),
        ("", "a..b/..c/d..", "a..b/..c/d..", "a..b/..c/d.."),
        ("", "%2e%2e/x", "%2e%2e/x", "%2e%2e/x"),
        ("", "é" * (MAX_KEY_BYTES // 2), "é" * 512, "é" * 512),
    ],
)
def test_keys(prefix: str, path: str, dots: str, no_dots: str) -> None:
    assert object_key(prefix, path, keeps_dots=True) == dots
    assert object_key(prefix, path, keeps_dots=False) == no_dots


@pytest.mark.parametrize("keeps_dots", [True, False])
@pytest.mark.parametrize(
    ("prefix", "path", "error", "message"),
    [
        ("", "..", OutsideOfRoot, "S3 key '..' refused: it has a '..' segment"),
        ("pre/", "../a", OutsideOfRoot, "S3 key '../a' refused: it has a '..' segment"),
        ("", "a/../../b", OutsideOfRoot, "S3 key 'a/../../b' refused: it has a '..' segment"),
        ("", "/..", OutsideOfRoot, "S3 key '/..' refused: it has a '..' segment"),
        ("pre/.", "./a", OutsideOfRoot, "S3 key './a' refused: it has a '..' segment"),
        ("", "a\0b", OutsideOfRoot, "S3 key 'a\\0b' refused: it has a NUL character"),
        ("", "", BadRequest, "S3 key '' refused: it names nothing"),
        ("", "a\udcff", BadRequest, "S3 key 'a\\udcff' refused: it is not valid UTF-8"),
        (
            "p",
            "é" * 512,
            BadRequest,
            f"S3 key '{'é' * 100}...' refused: it has 1025 bytes, more than 1024",
        ),
    ],
)
def test_what_is_no_key(
    prefix: str, path: str, error: type[Exception], message: str, keeps_dots: bool
) -> None:
    with pytest.raises(error) as caught:
        object_key(prefix, path, keeps_dots=keeps_dots)
    assert type(caught.value) is error
    assert str(caught.value) == message


@pytest.mark.parametrize("path", [".", "./", "././"])
def test_dots_alone_name_nothing_where_they_are_dropped(path: str) -> None:
    with pytest.raises(BadRequest, match="names nothing"):
        object_key("", path, keeps_dots=False)


PATHS = st.lists(st.sampled_from(["/", ".", "a", "é", " ", "%2e"]), min_size=1).map("".join)


@given(PATHS, st.booleans())
def test_a_key_stays_below_its_prefix(path: str, keeps_dots: bool) -> None:
    try:
        key = object_key("pre/", path, keeps_dots=keeps_dots)
    except OutsideOfRoot:
        assert ".." in path.split("/")
        return
    segments = key.split("/")
    assert key.startswith("pre/")
    assert ".." not in segments
    assert keeps_dots or "." not in segments
