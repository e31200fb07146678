"""URLs of stored images (reference/imagestore 6.2, 6.3 and 6.7)."""

import unicodedata
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.errors import SetupError
from safelight.url import Url, encode_path, file_url, parse_url


@pytest.mark.covers("s072", "s142")
@pytest.mark.parametrize(
    ("path", "encoded"),
    [
        ("", "/"),
        ("a", "/a"),
        ("/a", "/a"),
        ("//a/b", "/a/b"),  # sharp edge S49
        ("a//b", "/a//b"),
        ("a/", "/a/"),
        ("a b?c%.jpg", "/a%20b%3Fc%25.jpg"),
        ("#[]", "/%23%5B%5D"),
        ("azAZ09-._~!$&'()*+,;=:@", "/azAZ09-._~!$&'()*+,;=:@"),
        ('"<>\\^`{|}', "/%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("\x00\x1f\x7f", "/%00%1F%7F"),
        ("ł", "/%C5%82"),
        ("o\u0301", "/%C3%B3"),
        ("\ufb01", "/fi"),
        ("\u2126", "/%CE%A9"),
        ("%2F", "/%252F"),
        ("./a", "/a"),
        ("a/./b", "/a/b"),
        ("a/../b", "/b"),
        ("../../b", "/b"),
        ("a/..", "/"),
        ("a/.", "/a/"),
        ("a/..//b", "/b"),
        ("...", "/..."),
        ("C:\\x", "/c:/x"),
        ("C|/x", "/c:/x"),
        ("/C:/x", "/c:/x"),
        ("//C:/x", "/c:/x"),
        ("a/../C:/../D|/x", "/d:/x"),
        ("\uff0f\u2025\uff0fa", "/a"),  # compatibility characters that become `/../a`
    ],
)
def test_encode_path(path: str, encoded: str) -> None:
    assert encode_path(path) == encoded


@pytest.mark.covers("s141")
def test_file_url() -> None:
    assert str(file_url("a/d.jpg")) == "file:/a/d.jpg"
    assert file_url("a/d.jpg").uri == "/a/d.jpg"


@pytest.mark.covers("s145", "s146", "s147")
@pytest.mark.parametrize(
    ("url", "text"),
    [
        (Url("file", "/x"), "file:/x"),
        (Url("file", "//x"), "file:/x"),
        (Url("file", "/x", "h"), "file://h/x"),
        (Url("file", "/x", "h", 41), "file://h:41/x"),
        (Url("http", "/x", "h", 80), "http://h/x"),
        (Url("https", "/x", "h", 443), "https://h/x"),
        (Url("ftp", "/x", "h", 21), "ftp://h/x"),
        (Url("http", "/x", "h", 443), "http://h:443/x"),
        (Url("http", "/x", "h", None, "a=b&c"), "http://h/x?a=b&c"),
        (Url("https", "/x"), "https:/x"),
        (Url("https", "/x", "h", 443, original_scheme="https"), "https://h/x"),
        (Url("https", "/x", "h", 8443, original_scheme="https"), "https://h:8443/x"),
        (Url("http", "/x", "h", 443, original_scheme="https"), "http://h/x"),
        (Url("http", "/x", "h", 80, original_scheme="https"), "http://h:80/x"),
    ],
)
def test_text(url: Url, text: str) -> None:
    assert str(url) == text


def test_a_path_alone_never_reads_as_a_host() -> None:
    assert Url("https", "//x", "h").uri == "/x"
    assert str(Url("https", "//x", "h").with_host("")) == "https:/x"


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        (Url("http", "/", "h"), "h"),
        (Url("http", "/", "h", 80), "h"),
        (Url("http", "/", "h", 81), "h:81"),
        (Url("http", "/", "[::1]", 81), "[::1]:81"),
        (Url("http", "/", "", 81), ""),
    ],
)
def test_authority(url: Url, authority: str) -> None:
    assert url.authority == authority


FILE = Url("file", "/d.jpg", query="q=1")


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (FILE.with_scheme("HTTPS"), "https:/d.jpg?q=1"),
        (FILE.with_host("Ex.COM"), "file://ex.com/d.jpg?q=1"),
        (FILE.with_host("[::1]"), "file://[::1]/d.jpg?q=1"),
        (FILE.with_host("żółw.pl"), "file://żółw.pl/d.jpg?q=1"),
        (FILE.with_host("a").with_host(""), "file:/d.jpg?q=1"),
        (FILE.with_port("41"), "file://localhost:41/d.jpg?q=1"),
        (FILE.with_host("h").with_port("41"), "file://h:41/d.jpg?q=1"),
        (FILE.with_host("h").with_port("0"), "file://h/d.jpg?q=1"),
        (FILE.with_host("h").with_port("x"), "file://h/d.jpg?q=1"),
        (FILE.with_host("h").with_port("٣"), "file://h/d.jpg?q=1"),
        (FILE.with_path("a b"), "file:/a%20b?q=1"),
    ],
)
def test_rewriting(url: Url, text: str) -> None:
    """The query, which holds the signature of an S3 URL, is kept."""
    assert str(url) == text


@pytest.mark.parametrize("scheme", ["", "1a", "a b", "a:", "é", "http://"])
def test_what_is_no_scheme(scheme: str) -> None:
    with pytest.raises(SetupError, match=r"^Invalid scheme format\.$"):
        FILE.with_scheme(scheme)


@pytest.mark.parametrize(
    "host", ["a/b", "a b", "a?b", "a#b", "a@b", "a:1", "a\\b", "[a", "a\n", "a\0", "<a>"]
)
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(SetupError):
        FILE.with_host(host)


PATHS = st.lists(
    st.sampled_from(
        ["/", ".", "..", "a", "b c", "é", "o\u0301", "%", "?", "#", "C:", "\\", "\u2025", "\uff0f"]
    )
).map("".join) | st.text(st.characters(exclude_categories=["Cs"]))


@given(PATHS)
def test_encoding_what_was_encoded_changes_nothing(path: str) -> None:
    """Encoding is idempotent on the text that it stands for."""
    encoded = encode_path(path)
    assert encode_path(unquote(encoded)) == encoded


@given(PATHS)
def test_an_encoded_path_is_a_path_and_nothing_else(path: str) -> None:
    encoded = encode_path(path)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert not encoded.startswith("//")
    assert not {".", ".."} & set(encoded.split("/"))
    split = urlsplit(f"http://h{encoded}")
    assert (split.netloc, split.path, split.query, split.fragment) == ("h", encoded, "", "")
    assert unicodedata.is_normalized("NFKC", unquote(encoded))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("file:/d.jpg", Url("file", "/d.jpg")),
        ("http://example.com", Url("http", "/", "example.com")),
        ("https://B.S3.amazonaws.com/a%2Bb", Url("https", "/a%2Bb", "b.s3.amazonaws.com")),
        ("https://h/k?Expires=1&Signature=%3D", Url("https", "/k", "h", query="Expires=1&Signature=%3D")),
        ("http://[::1]:8080/x?a?b", Url("http", "/x", "[::1]", 8080, "a?b")),
    ],
)  # fmt: skip
def test_a_text_has_these_parts(text: str, parts: Url) -> None:
    assert parse_url(text) == parts


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("HTTP://Example.com:80/A", "http://example.com/A"),
        ("https://h:443/a", "https://h/a"),
        ("ftp://h:21/a", "ftp://h/a"),
        ("https://h:80/a", "https://h:80/a"),
        ("http://h:/a", "http://h/a"),
        ("file:///a", "file:/a"),
        ("http://h/%2b%2A", "http://h/%2b%2A"),  # sharp edge S41: nothing is encoded anew
    ],
)
def test_default_ports_vanish_from_a_parsed_url(text: str, printed: str) -> None:
    assert str(parse_url(text)) == printed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "/a",
        "file:",
        "http:a",
        "//h/a",
        "1http://h/a",
        "http://h/a b",
        "http://h/a\r\nb",
        "http://h/\u0142",
        "http://h/a#b",
        "http://user@h/a",
        "http://a b/c",
        "http://[h/a",
        "http://h:x/a",
        "http://h:65536/a",
        "http://h:-1/a",
    ],
)
def test_what_is_no_absolute_url_is_refused(text: str) -> None:
    with pytest.raises(SetupError):
        parse_url(text)
