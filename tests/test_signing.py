"""Signatures of URLs (reference/imagestore section 7)."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.signing import canonical_uri, digest_is_supported, sign, signature


@pytest.mark.covers("s179")
@pytest.mark.parametrize(
    ("uri", "secret", "expected"),
    [
        ("/hello", "pass123", "cc67210148307affa1465ee5d146978b1f3278cb"),
        ("/hello?foo=bar", "pass123", "d1aad080f8e744d6e60536b30a87d8ac2f76cb02"),
        ("/hello?nonce=1cebbd063f8091be", "pass123", "d9393ab46832b74fa2fd50667afbd02d6c57a7ec"),
        ("/test", "pass123", "55eee34055a89648101cbb3d88c9af560078920d"),
        ("/lockpicks", "pass123", "a4c3fe2c9856f5df6412a04a3be877487f61d7d2"),
        ("/small", "key", "a49182838f1b0b306614cea1d0fbcdab980717f7"),
    ],
)
def test_vectors(uri: str, secret: str, expected: str) -> None:
    assert signature(uri, secret) == expected


@pytest.mark.covers("s183")
@pytest.mark.parametrize(
    ("uri", "canonical"),
    [
        ("/h?baz=1&foo=2&hmac=x&nonce=3", "/h?foo=2&nonce=3"),
        ("/h?foo=hmac=5&hmac=1", "/h?foo=hmac=5"),
        ("/h?xhmac=1&hmac=3", "/h?xhmac=1"),
        ("/h?hmac=x&hmac=y", "/h?hmac=y"),
        ("/h", "/h"),
        ("/h?", "/h"),
        ("/h?a=1&", "/h?a=1"),
        ("/h?hmac=", "/h"),
        ("/h?hmac", "/h?hmac"),
        ("/h?HMAC=1", "/h?HMAC=1"),
        ("/h?baz=1&hmac=x", "/h"),
        ("/h?a=1&hmac=x&b=2", "/h?a=1&b=2"),
        ("/h?b=2&a=1", "/h?b=2&a=1"),
        ("/h?a=%20+%2b&hmac=x", "/h?a=%20+%2b"),
        ("/hmac=1", "/hmac=1"),
    ],
)
def test_the_canonical_uri(uri: str, canonical: str) -> None:
    assert canonical_uri(uri, ["baz", "hmac"]) == canonical


@pytest.mark.parametrize("key", ["a.c", "a|b", "(", "[x]", "$", "a*"])
def test_keys_are_plain_text(key: str) -> None:
    assert canonical_uri(f"/h?abc=1&{key}=2&aa=3", [key]) == "/h?abc=1&aa=3"


@pytest.mark.covers("s043", "s191")
def test_digests() -> None:
    for digest in ("sha1", "SHA1", "Sha256", "sha512", "md5"):
        assert digest_is_supported(digest)
        assert signature("x", "s", digest) == hmac.new(b"s", b"x", digest.lower()).hexdigest()
    for digest in ("foo", "", "shake_128", "sha-1 "):
        assert not digest_is_supported(digest)


def test_bytes_that_are_no_utf_8_are_signed_as_they_came() -> None:
    text = b"/\xff".decode("utf-8", "surrogateescape")
    assert signature(text, "s") == hmac.new(b"s", b"/\xff", hashlib.sha1).hexdigest()


KEYS = st.sampled_from(["a", "b", "hmac", "x.y"])
QUERIES = st.lists(st.tuples(KEYS, st.text("01=%", max_size=3)), max_size=5)


@given(QUERIES)
def test_a_signed_uri_has_the_canonical_text_that_was_signed(query: list[tuple[str, str]]) -> None:
    items = [f"{key}={text}" for key, text in query if key != "hmac"]
    uri = "/h?" + "&".join(items) if items else "/h"
    signed = sign(uri, "secret")
    assert signed == f"{uri}{'&' if items else '?'}hmac={signature(uri, 'secret')}"
    assert canonical_uri(signed, ["hmac"]) == uri


@given(QUERIES, st.permutations(["a", "hmac", "x.y"]))
def test_only_excluded_parameters_go(query: list[tuple[str, str]], excluded: list[str]) -> None:
    uri = "/h?" + "&".join(f"{key}={text}" for key, text in query)
    canonical = canonical_uri(uri, excluded)
    assert uri.startswith(canonical[:2])
    kept = [item for item in uri[3:].split("&") if item.startswith("b=")]
    assert [item for item in canonical.partition("?")[2].split("&") if item.startswith("b=")] == kept
    keys = [key for key, _ in query]
    if len(set(keys)) == len(keys):
        assert {item.partition("=")[0] for item in canonical.partition("?")[2].split("&")} <= {"b", ""}
