"""The request vectors and the worked example of the reference (reference/imagestore sections 13 and 10)."""

import hashlib

import pytest

from safelight.errors import BadRequest, NoSuchFile, SetupError

INVALID = "thumbnail spec 'th' is invalid: "

ANY = 'get "any" "default" ":t1" ":t2?foo" ":t3?bar" { output_text "#{t1} #{t2} #{t3} #{path}" }'
STRING = 'get "string" { output_text "path: \'#{path}\'" }'
OPTIONS = 'get "string" { output_text "#{query_string_options}" }'
RE1 = 'get "re1" ":a/a.c/" ":b/.*/" { output_text "#{a} #{b} #{path}" }'
EMB = 'get "emb" "/(?<stem>.+?)(\\\\.[a-z]+)?$/" { output_text "#{stem} #{path}" }'
Q2 = 'get "q2" "&:hello?abc" { output_text "#{hello}" }'
Q3 = 'get "q3" "&:hello" { output_text "#{hello}" }'


@pytest.mark.parametrize(
    ("endpoint", "target", "text"),
    [
        pytest.param(STRING, "/string/hello/world", "path: 'hello/world'", id="path"),
        pytest.param(STRING, "/string//a", "path: '/a'", id="empty part"),
        pytest.param(STRING, "/string/a%2Fb", "path: 'a/b'", id="encoded slash"),
        pytest.param(STRING, "/string/a+b", "path: 'a+b'", id="plus"),
        pytest.param(OPTIONS, "/string?b=2&a=1&a=3&c", "a:3,b:2,c:", id="query string options"),
        pytest.param(ANY, "/any/default/1", "1 foo bar ", id="defaults"),
        pytest.param(ANY, "/any/default/1/2/3/4/5", "1 2 3 4/5", id="segments"),
        pytest.param(RE1, "/re1/abc/foo/bar", "abc foo/bar ", id="expression"),
        pytest.param(EMB, "/emb/a/b.jpg", "a/b ", id="embedded expression"),
        pytest.param(Q2, "/q2?hello", "abc", id="parameter without value"),
        pytest.param(Q2, "/q2?hello=", "", id="parameter with empty value"),
        pytest.param(Q3, "/q3?hello=a&hello=b", "b", id="last parameter"),
    ],
)
def test_answers(serve, endpoint, target, text):
    answer = serve(endpoint).get(target)
    assert (answer.status, answer.text, answer.content_type) == (200, f"{text}\r\n", "text/plain")


def test_an_expression_that_needs_a_slash_does_not_match(serve):
    assert not serve(RE1).get("/re1/abc").handled


def test_too_many_captures(serve):
    result = serve('get "re3" ":a/(x)(y)/"').get("/re3/xy")
    assert result.failed(SetupError) == "matched more arguments than named (3 for 1)"


def test_an_absent_file(serve):
    api = serve("""
        path "p" "#{path}"
        get "file" { source_file "o" root="store" path="p" }
    """)
    message = "error while processing image 'o': file 'b.jpg' not found"
    assert api.get("/file/b.jpg").failed(NoSuchFile) == message


def test_an_undefined_variable(serve):
    api = serve('get { output_text "#{nope}" }')
    assert api.get("/anything").failed(SetupError) == "variable 'nope' not defined"


def test_an_image_that_was_not_stored(serve):
    api = serve('put "nostore" { output_store_path "input" }')
    assert api.put("/nostore", b"x").failed(SetupError) == "store path not set for image 'input'"


THUMBNAIL = """
    put "&:o?" "&:e?" {
        thumbnail "input" "th" operation="crop" width=10 height="20" format="png" quality=84 \\
                background-color="red" options="#{o}" edits="#{e}" {
            edit "rotate" "90" "1" bg="x"
            edit "blur"
        }
    }
"""


@pytest.mark.covers("s105", "s106", "s108")
def test_the_wire_form(serve):
    api = serve(THUMBNAIL)
    api.put("/?o=quality:1,zz:2&e=crop,1,2,c:3!flip", b"x")
    spec = "crop,10,20,png,background-color:red,quality:84,zz:2!rotate,90,1,bg:x!blur!crop,1,2,c:3!flip"
    assert api.specs == [[spec]]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "o=,a:1",
            f"{INVALID}options spec ',a:1' format is invalid: missing key-value pair on position 1",
        ),
        (
            "e=x,a:1,b",
            f"{INVALID}edits spec 'x,a:1,b' format is invalid: missing option value for key 'b' for edit 'x'",
        ),
    ],
)
def test_refused_specifications(serve, query, message):
    assert serve(THUMBNAIL).put(f"/?{query}", b"x").failed(BadRequest) == message


# The worked example

EXAMPLE = """
    path "hash" "#{input_digest}.#{image_mime_extension}"
    put "img" {
        thumbnail "input" {
            "big"   operation="limit" width=1000 height=1000 quality=90
            "small" operation="crop"  width=64 height=64 format="png" if-variable-matches="want:small"
        }
        store_file "input" root="images" path="hash"
        output_store_url "input" scheme="http" host="cdn.example.com"
    }
"""


@pytest.mark.covers("s115", "s124")
def test_the_worked_example(serve, jpeg, tmp_path):
    api = serve(EXAMPLE)
    answer = api.put("/img", jpeg)
    name = f"{hashlib.sha256(jpeg).hexdigest()[:16]}.jpg"
    assert api.specs == [["limit,1000,1000,input,quality:90"]]
    assert (answer.text, answer.content_type) == (f"http://cdn.example.com/{name}\r\n", "text/uri-list")
    assert (tmp_path / "images" / name).read_bytes() == jpeg


def test_the_worked_example_with_a_variable(serve, jpeg):
    api = serve(EXAMPLE.replace('"img"', '"img" "&:want?"'))
    api.put("/img?want=small", jpeg)
    assert api.specs == [["limit,1000,1000,input,quality:90", "crop,64,64,png"]]
