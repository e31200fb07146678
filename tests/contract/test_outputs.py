"""What endpoints answer with (reference/imagestore 6.3 and 6.7)."""

import base64

import pytest

from safelight.errors import ConfigError, ImageNotLoaded, PathNotDefined, SetupError


def line(result) -> str:
    return result.text.removesuffix("\r\n")


def stored(serve, output: str, path: str = "d.jpg", target: str = "/x"):
    """The answer to an upload that was stored under `path`."""
    api = serve(f"""
        path "p" `{path}`
        path "with_path" "base/#{{path}}"
        path "with_parts" "#{{dirname}}/#{{basename}}.#{{extension}}.bak"
        path "with_url" "#{{url}}"
        path "odd" "a b?c%"
        put "x" "&:v?" {{
            store_file "input" root="images" path="p"
            {output}
        }}
    """)
    return api.put(target, b"data")


# Texts


@pytest.mark.covers("s154")
def test_output_text(serve):
    api = serve('get { output_text `one\ntwo #{path}` status=201 cache-control="no-store" }')
    answer = api.get("/x")
    assert (answer.status, answer.content_type, answer.cache_control, answer.body) == (
        201,
        "text/plain",
        "no-store",
        b"one\r\ntwo x\r\n",
    )


@pytest.mark.parametrize(
    ("status", "expected"), [("status=404", 404), ('status="503"', 503), ("status=null", 200), ("", 200)]
)
def test_the_status_may_be_a_number_or_digits(serve, status, expected):
    assert serve(f'get {{ output_text "x" {status}\n}}').get("/").status == expected


@pytest.mark.parametrize("status", ['"abc"', "0", "99", "600", "true", '""', "1.5", '"20x"'])
def test_other_statuses_stop_the_load(serve, status):
    """Sharp edge S48."""
    with pytest.raises(ConfigError, match="expected 'status' attribute value to be"):
        serve(f'get {{ output_text "x" status={status}\n}}')


@pytest.mark.parametrize(
    ("text", "body"),
    [('""', b"\r\n"), ("`a\r\nb`", b"a\r\nb\r\n"), ("5", b"5\r\n"), ('"ł"', "ł\r\n".encode())],
)
def test_line_ends_and_encoding_of_texts(serve, text, body):
    assert serve(f"get {{ output_text {text}\n}}").get("/").body == body


def test_output_ok(serve):
    answer = serve('get { output_ok "ignored" cache-control="no-store"\n}').get("/")
    assert (answer.status, answer.body, answer.content_type, answer.cache_control) == (
        200,
        b"OK\r\n",
        "text/plain",
        "no-store",
    )
    assert serve("get { output_ok\n}").get("/").cache_control is None


# Images


@pytest.mark.covers("s153")
@pytest.mark.parametrize(
    ("attribute", "expected"), [("", None), ('cache-control="public, max-age=999"', "public, max-age=999")]
)
@pytest.mark.parametrize("statement", ["output_image", "output_data_uri_image"])
def test_cache_control_is_sent_only_when_configured(serve, png, statement, attribute, expected):
    api = serve(f'put {{ identify "input"; {statement} "input" {attribute}\n}}')
    assert api.put("/", png).cache_control == expected


def test_an_image_is_sent_as_it_is(serve):
    answer = serve('put { output_image "input"\n}').put("/", b"data")
    assert (answer.status, answer.body) == (200, b"data")
    assert answer.content_type == "application/octet-stream"


@pytest.mark.covers("s155")
def test_a_data_uri_has_no_line_end(serve, png):
    answer = serve('put { identify "input"; output_data_uri_image "input"\n}').put("/", png)
    assert answer.content_type == "text/uri-list"
    assert answer.body == b"data:image/png;base64," + base64.b64encode(png)


@pytest.mark.covers("s156")
def test_a_data_uri_needs_a_type(serve):
    message = "image 'input' needs to be identified first to be used in data URI output"
    api = serve('put { output_data_uri_image "input"\n}')
    assert api.put("/", b"data").failed(SetupError) == message


@pytest.mark.parametrize(
    "statement",
    [
        "output_image",
        "output_data_uri_image",
        "output_store_path",
        "output_store_url",
        "output_store_uri",
        "output_source_path",
        "output_source_url",
    ],
)
def test_an_image_that_was_never_loaded(serve, statement):
    message = "image 'o' not loaded"
    assert serve(f'get {{ {statement} "o"\n}}').get("/").failed(ImageNotLoaded) == message


# Locations


@pytest.mark.covers("s140", "s141", "s148", "s151")
@pytest.mark.parametrize(
    ("statement", "body", "content_type"),
    [
        ("output_store_path", b"a/d.jpg\r\n", "text/plain"),
        ("output_store_file", b"a/d.jpg\r\n", "text/plain"),
        ("output_store_url", b"file:/a/d.jpg\r\n", "text/uri-list"),
        ("output_store_uri", b"/a/d.jpg\r\n", "text/uri-list"),
    ],
)
def test_where_an_image_was_stored(serve, statement, body, content_type):
    answer = stored(serve, f'{statement} "input"', "a/d.jpg")
    assert (answer.status, answer.body, answer.content_type) == (200, body, content_type)
    assert answer.cache_control is None


@pytest.mark.covers("s214")
@pytest.mark.parametrize(
    ("statement", "body", "content_type"),
    [
        ("output_source_file", b"a b.jpg\r\n", "text/plain"),
        ("output_source_path", b"a b.jpg\r\n", "text/plain"),
        ("output_source_url", b"file:/a%20b.jpg\r\n", "text/uri-list"),
        ("output_source_uri", b"/a%20b.jpg\r\n", "text/uri-list"),
    ],
)
def test_where_an_image_came_from(serve, tmp_path, statement, body, content_type):
    (tmp_path / "a b.jpg").write_bytes(b"data")
    api = serve(f"""
        path "p" "#{{path}}"
        get "x" {{
            source_file "o" root="." path="p"
            {statement} "o"
        }}
    """)
    answer = api.get("/x/a%20b.jpg")
    assert (answer.body, answer.content_type) == (body, content_type)


@pytest.mark.covers("s152")
@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("output_store_path", "store path not set for image 'input'"),
        ("output_store_url", "store URL not set for image 'input'"),
        ("output_store_uri", "store URL not set for image 'input'"),
        ("output_source_path", "source path not set for image 'input'"),
        ("output_source_url", "source URL not set for image 'input'"),
    ],
)
def test_an_image_without_a_location(serve, statement, message):
    assert serve(f'put {{ {statement} "input"\n}}').put("/", b"data").failed(SetupError) == message


@pytest.mark.covers("s149")
def test_entries_are_lines_in_file_order(serve, jpeg):
    api = serve("""
        path "p" "#{image_name}.jpg"
        put "x" {
            thumbnail "input" "small" width=8 height=8
            store_file "small" root="images" path="p"
            store_file "input" root="images" path="p"
            output_store_url {
                "small"; "input" scheme="https" host="a.example"
                "small" scheme="http"
            }
        }
    """)
    assert api.put("/x", jpeg).body == (
        b"file:/small.jpg\r\nhttps://a.example/input.jpg\r\nhttp:/small.jpg\r\n"
    )


@pytest.mark.covers("s150")
@pytest.mark.parametrize("block", ["", "{ }", '{ "input" if-variable-matches="never"\n}'])
@pytest.mark.parametrize("statement", ["output_store_path", "output_store_url", "output_store_uri"])
def test_no_entry_left_is_one_line_end(serve, statement, block):
    assert stored(serve, f"{statement} {block}").body == b"\r\n"


def test_a_list_takes_no_cache_control(serve):
    with pytest.raises(ConfigError, match="unexpected attributes: 'cache-control'"):
        serve('get { output_store_url "a" cache-control="no-store"\n}')


# Encoding


@pytest.mark.covers("s142")
@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("a b?c%.jpg", "file:/a%20b%3Fc%25.jpg"),
        ("a#b[c].jpg", "file:/a%23b%5Bc%5D.jpg"),
        ("!$&'()*+,;=:@-._~", "file:/!$&'()*+,;=:@-._~"),
        ("łó.jpg", "file:/%C5%82%C3%B3.jpg"),
        ("o\u0301.jpg", "file:/%C3%B3.jpg"),
        ("\ufb01.jpg", "file:/fi.jpg"),
        ("a\tb", "file:/a%09b"),
        ('a"<>\\^{|}b', "file:/a%22%3C%3E%5C%5E%7B%7C%7Db"),
        ("./a//b", "file:/a//b"),
        ("C:\\x", "file:/c:/x"),
    ],
)
def test_urls_are_encoded_and_paths_are_not(serve, path, url):
    assert line(stored(serve, 'output_store_url "input"', path)) == url
    assert line(stored(serve, 'output_store_uri "input"', path)) == url.removeprefix("file:")
    assert line(stored(serve, 'output_store_path "input"', path)) == path


# Rewriting


@pytest.mark.covers("s145", "s146", "s147")
@pytest.mark.parametrize(
    ("rewrite", "url"),
    [
        ('scheme="https"', "https:/d.jpg"),
        ('scheme="HTTPS"', "https:/d.jpg"),
        ('host="ex.com"', "file://ex.com/d.jpg"),
        ('host="Ex.COM"', "file://ex.com/d.jpg"),
        ('port="80"', "file://localhost:80/d.jpg"),
        ('port="41"', "file://localhost:41/d.jpg"),
        ("port=41", "file://localhost:41/d.jpg"),
        ('host="h" port="0"', "file://h/d.jpg"),
        ('host="h" port="x"', "file://h/d.jpg"),
        ('scheme="ftp" host="example.com" port="421"', "ftp://example.com:421/d.jpg"),
        ('scheme="http" host="h" port="80"', "http://h/d.jpg"),
        ('scheme="https" host="h" port="443"', "https://h/d.jpg"),
        ('scheme="ftp" host="h" port="21"', "ftp://h/d.jpg"),
        ('scheme="http" host="h" port="443"', "http://h:443/d.jpg"),
        ('path="with_path"', "file:/base/d.jpg"),
        ('scheme="http" host="h" path="with_path"', "http://h/base/d.jpg"),
        ('path="odd"', "file:/a%20b%3Fc%25"),
    ],
)
def test_urls_are_rewritten(serve, rewrite, url):
    assert line(stored(serve, f'output_store_url "input" {rewrite}')) == url


@pytest.mark.covers("s148")
def test_a_uri_is_the_path_of_the_rewritten_url(serve):
    rewrite = 'scheme="http" host="h" port="81" path="with_path"'
    assert line(stored(serve, f'output_store_uri "input" {rewrite}')) == "/base/d.jpg"


@pytest.mark.covers("s143", "s144")
@pytest.mark.parametrize(
    ("path", "rewritten"), [("with_path", "base/a/d.jpg"), ("with_parts", "a/d.jpg.bak"), ("odd", "a b?c%")]
)
def test_a_path_is_rewritten_from_the_store_path(serve, path, rewritten):
    result = stored(serve, f'output_store_path "input" path="{path}"', "a/d.jpg", "/x/other/e.png")
    assert line(result) == rewritten


@pytest.mark.covers("s144")
def test_the_parts_of_a_url_rewrite_derive_from_the_store_path(serve):
    result = stored(serve, 'output_store_url "input" path="with_parts"', "a/d.jpg", "/x/other/e.png")
    assert line(result) == "file:/a/d.jpg.bak"


@pytest.mark.parametrize(
    ("rewrite", "url"),
    [
        ('host="#{v}"', "file://val/d.jpg"),
        ('scheme="#{v}"', "val:/d.jpg"),
        ('host="h" port="#{basename}1"', "file://h/d.jpg"),
        ('scheme="http" host="#{scheme}.h"', "http://file.h/d.jpg"),  # the scheme of the original
        ('host="#{image_name}"', "file://input/d.jpg"),
        ('path="with_url"', "file:/file:/d.jpg"),
    ],
)
def test_rewrites_are_templates(serve, rewrite, url):
    assert line(stored(serve, f'output_store_url "input" {rewrite}', target="/x?v=val")) == url


@pytest.mark.parametrize(
    ("rewrite", "message"),
    [
        ('scheme=""', "Invalid scheme format."),
        ('scheme="#{v}"', "Invalid scheme format."),
        ('host="#{host}"', "variable 'host' not defined"),
        ('port="#{port}"', "variable 'port' not defined"),
        ('host="#{nope}"', "variable 'nope' not defined"),
    ],
)
def test_rewrites_that_cannot_be_made(serve, rewrite, message):
    assert stored(serve, f'output_store_url "input" {rewrite}').failed(SetupError) == message


@pytest.mark.parametrize("host", ["a/b", "a b", "a?b", "a#b", "a@b", "a:80"])
def test_a_host_with_strange_characters_is_refused(serve, host):
    stored(serve, f'output_store_url "input" host="{host}"').failed(SetupError)


def test_a_rewrite_to_an_undefined_path(serve):
    result = stored(serve, 'output_store_path "input" path="nope"')
    assert result.failed(PathNotDefined) == "path 'nope' not defined"


def test_a_path_list_accepts_url_attributes_and_does_not_use_them(serve):
    result = stored(serve, 'output_store_path "input" scheme="http" host="#{nope}" port="1"')
    assert line(result) == "d.jpg"


def test_leading_slashes_never_become_a_host(serve):
    """Sharp edge S49."""
    api = serve("""
        path "p" "d.jpg"
        path "slashes" "//a/b"
        put "x" {
            store_file "input" root="images" path="p"
            output_store_url "input" path="slashes"
        }
    """)
    assert line(api.put("/x", b"data")) == "file:/a/b"


def test_a_flat_dirname_is_a_dot_in_paths_and_vanishes_in_file_urls(serve):
    """Sharp edge S39."""
    api = serve("""
        path "p" "#{dirname}/x"
        put "path" {
            store_file "input" root="images" path="p"
            output_store_path "input"
        }
        put "url" {
            store_file "input" root="images" path="p"
            output_store_url "input"
        }
    """)
    assert line(api.put("/path/a.jpg", b"data")) == "./x"
    assert line(api.put("/url/a.jpg", b"data")) == "file:/x"
