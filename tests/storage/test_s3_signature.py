"""Signatures of S3 requests against published examples and against botocore's signers.

Sources of the fixed examples: reference/imagestore 6.4; Amazon S3 Developer Guide, "Query string request
authentication alternative"; Amazon S3 API Reference, "Signature Calculations for the Authorization Header"
and "Authenticating Requests: Using Query Parameters".
"""

import hashlib
import math
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from unittest import mock
from urllib.parse import parse_qs, parse_qsl

import pytest
from botocore.auth import HmacV1QueryAuth, S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from safelight.storage.s3.account import TWENTY_YEARS_S, Account, Credentials
from safelight.storage.s3.address import Endpoint, endpoint_of, escape_key, object_url
from safelight.storage.s3.signature import (
    MAX_EXPIRES_S,
    ends_at,
    headers_v4,
    private_query,
    signed_v2,
    signed_v4,
)
from safelight.url import Url

AWS = endpoint_of(None, ssl=True, style=None)
EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
EXAMPLE_NOW = datetime(2013, 5, 24, tzinfo=UTC).timestamp()
EXAMPLE_URL = Url("https", "/test.txt", "examplebucket.s3.amazonaws.com", 443)
TOKEN = "FQoGZXIvYXdzE+/a==tok en"  # with every kind of character that a query encodes
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@pytest.mark.covers("s163", "s165")
@pytest.mark.parametrize(
    ("bucket", "key", "query"),
    [
        (
            "mybucket",
            "a",
            "AWSAccessKeyId=AK&Expires=2000000000&Signature=wxtdWFkJji0chjHMnDUTRKr7To8%3D",
        ),
        (
            "mybucket",
            "a/b c+é~*.jpg",
            "AWSAccessKeyId=AK&Expires=2000000000&Signature=Z3hc2ms%2B9zcTbvxg8HP7WkTILiU%3D",
        ),
    ],
)
def test_v2_vectors_of_the_reference(bucket: str, key: str, query: str) -> None:
    assert signed_v2(bucket, key, Credentials("AK", "SK"), 2000000000) == query


def test_v2_example_of_amazon() -> None:
    """The bucket of the first edition: later ones renamed it and kept the signature."""
    assert signed_v2("johnsmith", "photos/puppy.jpg", EXAMPLE, 1175139620) == (
        "AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires=1175139620&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D"
    )


def test_v4_link_of_amazon() -> None:
    query = signed_v4("GET", EXAMPLE_URL, EXAMPLE, region="us-east-1", now=EXAMPLE_NOW, expires_s=86400)
    assert query == (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


@pytest.mark.parametrize(
    ("method", "target", "headers", "payload", "signed", "signature"),
    [
        (
            "GET",
            "/test.txt",
            {"Range": "bytes=0-9"},
            b"",
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test%24file.text",
            {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            b"Welcome to Amazon S3.",
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "/?lifecycle",
            {},
            b"",
            "host;x-amz-content-sha256;x-amz-date",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET",
            "/?prefix=J&max-keys=2",
            {},
            b"",
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_v4_requests_of_amazon(
    method: str, target: str, headers: dict[str, str], payload: bytes, signed: str, signature: str
) -> None:
    digest = hashlib.sha256(payload).hexdigest()
    host = {"Host": "examplebucket.s3.amazonaws.com"}
    answer = headers_v4(
        method,
        target,
        host | headers,
        digest,
        region="us-east-1",
        credentials=EXAMPLE,
        now=EXAMPLE_NOW,
    )
    assert answer == {name.lower(): value for name, value in (host | headers).items()} | {
        "x-amz-content-sha256": digest,
        "x-amz-date": "20130524T000000Z",
        "authorization": (
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
            f"SignedHeaders={signed}, Signature={signature}"
        ),
    }


KEYS = st.lists(
    st.sampled_from(["/", "//", ".", "..", "a", "é", "o\u0301", " ", "%", "%2F", "+", "?", "#", "&=", "~*"])
).map("".join) | st.text(st.characters(exclude_categories=["Cs"]))
CREDENTIALS = st.builds(
    Credentials,
    st.sampled_from(["AK", "A+K/="]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.sampled_from([None, TOKEN]),
)
ENDPOINTS = st.sampled_from(
    [
        AWS,
        endpoint_of(None, ssl=False, style="path"),
        endpoint_of("127.0.0.1:9000/base", ssl=False, style=None),
        endpoint_of("[::1]:443", ssl=False, style=None),
        endpoint_of("s3.local:80", ssl=False, style="virtual"),
    ]
)
NOW = st.integers(0, 4_000_000_000)
REGION = "eu-west-1"


def theirs(credentials: Credentials) -> BotocoreCredentials:
    return BotocoreCredentials(credentials.key_id, credentials.secret, credentials.session_token)


def clock(now: int) -> AbstractContextManager[object]:
    moment = datetime.fromtimestamp(now, UTC)
    return mock.patch("botocore.auth.get_current_datetime", return_value=moment)


@given(KEYS, CREDENTIALS, ENDPOINTS, NOW)
def test_v2_links_are_those_of_botocore(
    key: str, credentials: Credentials, endpoint: Endpoint, expires_at: int
) -> None:
    url = object_url(endpoint, "mybucket", key, REGION)
    request = AWSRequest("GET", str(url), auth_path=f"/mybucket/{escape_key(key)}")
    signer = HmacV1QueryAuth(theirs(credentials))
    signer._get_date = lambda: str(expires_at)
    signer.add_auth(request)
    ours = parse_qsl(signed_v2("mybucket", key, credentials, expires_at), strict_parsing=True)
    assert sorted(ours) == sorted(parse_qsl(request.url.partition("?")[2], strict_parsing=True))


@given(KEYS, CREDENTIALS, ENDPOINTS, NOW, st.integers(1, MAX_EXPIRES_S), st.sampled_from(["GET", "PUT"]))
def test_v4_links_are_those_of_botocore(
    key: str, credentials: Credentials, endpoint: Endpoint, now: int, expires_s: int, method: str
) -> None:
    url = object_url(endpoint, "mybucket", key, REGION)
    request = AWSRequest(method, str(url))
    with clock(now):
        S3SigV4QueryAuth(theirs(credentials), "s3", REGION, expires_s).add_auth(request)
    ours = signed_v4(method, url, credentials, region=REGION, now=now, expires_s=expires_s)
    expected = request.url.partition("?")[2]
    assert sorted(ours.split("&")) == sorted(expected.split("&"))


@given(
    KEYS,
    CREDENTIALS,
    ENDPOINTS,
    NOW,
    st.sampled_from(["", "?list-type=2&prefix=a%2Fb", "?versionId=a&b=&a=2&a=1"]),
    st.dictionaries(
        st.sampled_from(["Content-Type", "Cache-Control", "x-amz-acl", "X-Amz-Meta-A", "Range"]),
        st.sampled_from(["a", " a  b ", "bytes=0-9"]),
    ),
    st.binary(),
)
def test_v4_requests_are_those_of_botocore(
    key: str,
    credentials: Credentials,
    endpoint: Endpoint,
    now: int,
    query: str,
    headers: dict[str, str],
    body: bytes,
) -> None:
    url = object_url(endpoint, "mybucket", key, REGION)
    request = AWSRequest("PUT", str(url) + query, headers=headers, data=body)
    with clock(now):
        S3SigV4Auth(theirs(credentials), "s3", REGION).add_auth(request)
    ours = headers_v4(
        "PUT",
        url.path + query,
        {"Host": url.authority, **headers},
        hashlib.sha256(body).hexdigest(),
        region=REGION,
        credentials=credentials,
        now=now,
    )
    expected = {name.lower(): value for name, value in request.headers.items()}
    assert ours == expected | {"host": url.authority}


def test_v4_links_keep_the_query_of_the_url() -> None:
    query = "response-content-type=image%2Fpng"
    url = Url("https", "/a", "h.example.com", 443, query)
    ours = signed_v4("GET", url, EXAMPLE, region=REGION, now=0, expires_s=1)
    request = AWSRequest("GET", str(url))
    with clock(0):
        S3SigV4QueryAuth(theirs(EXAMPLE), "s3", REGION, 1).add_auth(request)
    assert ours == request.url.partition("?")[2]


def test_seconds_have_no_fraction() -> None:
    one, other = (
        signed_v4("GET", EXAMPLE_URL, EXAMPLE, region=REGION, now=now, expires_s=1) for now in (10.0, 10.999)
    )
    assert one == other


@pytest.mark.parametrize("expires_s", [0, -1, MAX_EXPIRES_S + 1])
def test_v4_links_last_a_week_at_most(expires_s: int) -> None:
    message = rf"^a signed URL can be valid for 1 to 604800 seconds, not {expires_s}$"
    with pytest.raises(ValueError, match=message):
        signed_v4("GET", EXAMPLE_URL, EXAMPLE, region=REGION, now=0, expires_s=expires_s)


@pytest.mark.covers("s163", "s164")
def test_private_objects_have_links_for_twenty_years() -> None:
    query = private_query(Account(EXAMPLE, AWS), "examplebucket", "test.txt", EXAMPLE_URL, REGION, 1.9)
    assert list(parse_qs(query)) == ["AWSAccessKeyId", "Expires", "Signature"]
    assert parse_qs(query)["Expires"] == [str(1 + 630720000)]
    assert query == signed_v2("examplebucket", "test.txt", EXAMPLE, 1 + TWENTY_YEARS_S)


def test_private_objects_of_an_account_that_signs_with_version_4() -> None:
    account = Account(EXAMPLE, AWS, url_signature="v4", url_expires_s=60)
    query = private_query(account, "examplebucket", "test.txt", EXAMPLE_URL, REGION, 1.9)
    assert query == signed_v4("GET", EXAMPLE_URL, EXAMPLE, region=REGION, now=1.9, expires_s=60)


@given(KEYS, CREDENTIALS)
def test_queries_are_plain_ascii(key: str, credentials: Credentials) -> None:
    """They are put behind a `?` as they are."""
    for query in (
        signed_v2("mybucket", key, credentials, 1),
        signed_v4(
            "GET", object_url(AWS, "mybucket", key, REGION), credentials, region=REGION, now=0, expires_s=1
        ),
    ):
        assert not set(query) & set(' "#<>+/')
        assert query.isascii()
        assert query.isprintable()


@pytest.mark.parametrize(
    ("query", "end"),
    [
        ("AWSAccessKeyId=A&Expires=2000000000&Signature=x", 2_000_000_000),
        ("X-Amz-Date=20330518T033320Z&X-Amz-Expires=60&X-Amz-Signature=x", 2_000_000_060),
        ("", math.inf),
        ("a=b", math.inf),
        ("Expires=soon", 0),
        ("X-Amz-Expires=60", 0),
        ("X-Amz-Date=tomorrow&X-Amz-Expires=60", 0),
    ],
)
def test_the_end_of_a_link(query: str, end: float) -> None:
    assert ends_at(Url("https", "/key", "host", query=query)) == end
