"""What becomes of captured text and of the rest of the path (reference/imagestore 3.5 and 3.6)."""

import pytest

from safelight.errors import BadRequest


def line(result) -> str:
    return result.text.removesuffix("\r\n")


@pytest.mark.covers("s067", "s068", "s069", "s070")
@pytest.mark.parametrize(
    ("rest", "path"),
    [
        ("", ""),
        ("/", ""),
        ("//", ""),
        ("/hello/world", "hello/world"),
        ("//a", "/a"),
        ("/a/", "a"),
        ("/a//b/", "a//b"),
        ("/a///", "a"),
        ("/a%2Fb", "a/b"),
        ("/a+b", "a+b"),
        ("/a%20b", "a b"),
        ("/%2e%2e/b", "../b"),
        ("/%C5%82", "ł"),
        ("/%25", "%"),
        ("/%2541", "%41"),
    ],
)
def test_the_path_is_the_decoded_rest(serve, rest, path):
    api = serve('get "string" { output_text "\'#{path}\'" }')
    assert line(api.get(f"/string{rest}")) == f"'{path}'"


@pytest.mark.covers("s070")
def test_a_plus_is_a_space_in_the_query_only(serve):
    api = serve('get ":a" "&:b" { output_text "#{a}|#{b}" }')
    assert line(api.get("/x+y?b=x+y")) == "x+y|x y"
    assert line(api.get("/x%2By?b=x%20y")) == "x+y|x y"


@pytest.mark.covers("s071")
@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("%25u0142", "ł"),
        ("%25u00e9", "é"),
        ("%25u00E9", "é"),  # sharp edge S4: hex digits of either case
        ("%25uABCD", "\uabcd"),
        ("a%25u0142b%25u0142", "ałbł"),
        ("%25U0142", "%U0142"),
        ("%25u014", "%u014"),
        ("%25uzzzz", "%uzzzz"),  # sharp edge S4: no letters beyond f
        ("%25u01421", "ł1"),
        ("%u0142", "ł"),  # sharp edge S5
    ],
)
def test_javascript_escapes_are_decoded(serve, sent, text):
    api = serve('get "x" ":a" { output_text "#{a}" }')
    assert line(api.get(f"/x/{sent}")) == text
    assert line(serve('get "x" { output_text "#{path}" }').get(f"/x/{sent}")) == text


@pytest.mark.covers("s073", "s074")
@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("hello%e9world", r"hello\xE9world"),
        ("%FF", r"\xFF"),
        ("%C5", r"\xC5"),
        ("%25udfcf", r"\xED\xBF\x8F"),
        ("a%22b%5Cc%23%7Bd%FF", r"a\"b\\c\#{d\xFF"),
        ("%C5%82%FF", r"ł\xFF"),
    ],
)
def test_bytes_that_are_no_utf_8_are_refused(serve, sent, shown):
    message = f'invalid UTF-8 encoding in URI: "{shown}"'
    assert serve('get "x" ":a" { }').get(f"/x/{sent}").failed(BadRequest) == message
    assert serve('get "x" { }').get(f"/x/{sent}").failed(BadRequest) == message


def test_bytes_that_are_no_utf_8_are_refused_in_captured_parameters(serve):
    """Sharp edge S54."""
    api = serve('get "x" "&:a?" { output_ok }')
    assert api.get("/x?a=%E9").failed(BadRequest) == r'invalid UTF-8 encoding in URI: "\xE9"'
    assert line(api.get("/x?b=%E9")) == "OK"


def test_nothing_is_decoded_when_no_endpoint_matches(serve):
    assert not serve('get "x" ":a" { }').get("/y/%E9").handled


@pytest.mark.parametrize(("sent", "text"), [("%2541", "A"), ("%25u0142", "ł"), ("%252541", "%41")])
def test_captured_parameters_are_decoded_twice(serve, sent, text):
    """Sharp edge S3: signed URLs rely on it; `query_string_options` is decoded once."""
    api = serve('get "x" "&:a" { output_text "#{a} #{query_string_options}" }')
    once = sent.replace("%25", "%", 1)
    assert line(api.get(f"/x?a={sent}")) == f"{text} a:{once}"


def test_defaults_are_decoded_too(serve):
    assert line(serve('get "x" ":a?b%20c" { output_text "#{a}" }').get("/x")) == "b c"


@pytest.mark.covers("s078")
@pytest.mark.parametrize(("matchers", "target"), [('"x" ":path"', "/x/a/b"), ('"x" "&:path"', "/x/b?path=a")])
def test_a_captured_path_replaces_the_rest(serve, matchers, target):
    assert line(serve(f'get {matchers} {{ output_text "#{{path}}" }}').get(target)) == "a"


@pytest.mark.covers("s072")
def test_decomposed_text_stays_so_on_disk_and_is_composed_in_the_url(serve, tmp_path):
    api = serve("""
        path "p" "#{path}"
        put "x" {
            store_file "input" root="images" path="p"
            output_store_url "input"
        }
        put "y" {
            store_file "input" root="images" path="p"
            output_store_path "input"
        }
    """)
    assert line(api.put("/x/o%25u0301.jpg", b"data")) == "file:/%C3%B3.jpg"
    assert [file.name for file in (tmp_path / "images").iterdir()] == ["o\u0301.jpg"]
    assert line(api.put("/y/o%25u0301.jpg", b"data")) == "o\u0301.jpg"
