"""Decoding of request targets (reference/imagestore 3.5)."""

from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.errors import BadRequest
from safelight.uri import decode, inspect, parse_query, well_formed


@pytest.mark.covers("s069", "s070", "s071")
@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("", ""),
        ("plain", "plain"),
        ("a+b", "a+b"),
        ("%61%2F%2f", "a//"),
        ("%C5%82", "ł"),
        ("ł", "ł"),
        ("%F0%9F%98%80", "😀"),
        ("100%", "100%"),
        ("%zz", "%zz"),
        ("%2541", "%41"),
        ("%25u0142", "ł"),
        ("%u0142", "ł"),
        ("%uABcd", "\uabcd"),
        ("%U0142", "%U0142"),
        ("%u014", "%u014"),
        ("%u014g", "%u014g"),
        ("%u01425", "ł5"),
        ("%25%75", "%u"),
        ("%00", "\0"),
    ],
)
def test_decode(raw: str, text: str) -> None:
    assert decode(raw) == text


@pytest.mark.covers("s073", "s074")
@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("%e9", r'"\xE9"'),
        ("hello%E9world", r'"hello\xE9world"'),
        ("%C5", r'"\xC5"'),
        ("%C0%80", r'"\xC0\x80"'),
        ("%F5%80%80%80", r'"\xF5\x80\x80\x80"'),
        ("%ED%BF%8F", r'"\xED\xBF\x8F"'),
        ("%udfcf", r'"\xED\xBF\x8F"'),
        ("%ud83d%ude00", r'"\xED\xA0\xBD\xED\xB8\x80"'),
        ("\udce9", r'"\xE9"'),
    ],
)
def test_what_is_no_utf_8_is_refused(raw: str, shown: str) -> None:
    with pytest.raises(BadRequest) as error:
        decode(raw)
    assert error.value.message == f"invalid UTF-8 encoding in URI: {shown}"


@pytest.mark.parametrize(
    ("octets", "shown"),
    [
        (b"plain", '"plain"'),
        ("ł😀".encode(), '"ł😀"'),
        (b'a"b\\c', r'"a\"b\\c"'),
        (b"a#{b}#c", r'"a\#{b}#c"'),
        (b"\t\n\r\x1b", r'"\t\n\r\e"'),
        (b"\x00\x01\x7f", r'"\x00\x01\x7F"'),
        (b"\xff", r'"\xFF"'),
        ("\u200b".encode(), r'"\u200B"'),
    ],
)
def test_inspect(octets: bytes, shown: str) -> None:
    assert inspect(octets) == shown


@pytest.mark.covers("s062", "s063", "s070")
@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("", {}),
        ("&;&", {}),
        ("a=1", {"a": "1"}),
        ("a=1&b=2;c=3", {"a": "1", "b": "2", "c": "3"}),
        ("a=1&a=2", {"a": "2"}),
        ("a", {"a": None}),
        ("a=", {"a": ""}),
        ("a=1&a", {"a": None}),
        ("=1", {"": "1"}),
        ("a=b=c", {"a": "b=c"}),
        ("a+b=c+d", {"a b": "c d"}),
        ("a%20b=c%2Bd", {"a b": "c+d"}),
        ("a%26b=c%3Dd", {"a&b": "c=d"}),
        ("a[]=1&a[b]=2", {"a[]": "1", "a[b]": "2"}),
        ("a=%C5%82", {"a": "ł"}),
        ("a=%E9", {"a": "\udce9"}),
        ("a=%25u0142", {"a": "%u0142"}),
        ("a=%zz", {"a": "%zz"}),
    ],
)
def test_parse_query(query: str, parameters: dict[str, str | None]) -> None:
    assert parse_query(query) == parameters


@pytest.mark.parametrize("target", ["", "/a", "/%41", "/%e9", "/%u0142", "/%uABCD?x=%20", "/%25"])
def test_well_formed(target: str) -> None:
    assert well_formed(target)


@pytest.mark.covers("s076")
@pytest.mark.parametrize("target", ["%", "/%zz", "/%4", "/%u014", "/%uzzzz", "/%U0142", "/a?b=%", "/100%/x"])
def test_not_well_formed(target: str) -> None:
    assert not well_formed(target)


ESCAPED = st.lists(st.sampled_from([*"aé/+%u0fZ", "%25", "%C5", "%82", "%ud800", "%u00e9", "\udcff"])).map(
    "".join
)


@given(st.text() | ESCAPED)
def test_decode_raises_nothing_but_bad_request(raw: str) -> None:
    """Whatever bytes a client sends; a server makes text of them with lone surrogates for strange ones."""
    try:
        raw.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return
    try:
        decode(raw).encode()
    except BadRequest as error:
        error.message.encode()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_quoted_is_decoded(text: str) -> None:
    if "%u" not in text:
        assert decode(quote(text, safe="")) == text


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.none() | st.text("aé &;=+%"), max_size=5
    )
)
def test_what_is_quoted_is_parsed(parameters: dict[str, str | None]) -> None:
    parameters.pop("", None)
    items = [quote_plus(key) if text is None else f"{quote_plus(key)}={quote_plus(text)}"
             for key, text in parameters.items()]  # fmt: skip
    assert parse_query("&".join(items)) == parameters
    assert parse_query(";".join(items)) == parameters


@given(st.text(st.sampled_from("a%&;=+uE9[]\udcff")))
def test_parse_query_takes_everything(query: str) -> None:
    for key, text in parse_query(query).items():
        (key + (text or "")).encode("utf-8", "surrogateescape")
