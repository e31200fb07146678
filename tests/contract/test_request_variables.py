"""Variables and templates as an endpoint sees them (reference/imagestore section 4)."""

import hashlib
import re

import pytest

from safelight.errors import (
    ImageNotLoaded,
    PathNotDefined,
    PathRenderingError,
    SetupError,
    VariableNotDefined,
)

BODY = b"some bytes"
SHA256 = hashlib.sha256(BODY).hexdigest()
WIDE = ("input_image_width", "input_image_height", "input_image_mime_extension")


def line(result) -> str:
    return result.text.removesuffix("\r\n")


def shown(serve, text: str, target: str = "/x", body: bytes = b"", verb: str = "get") -> str:
    """What `output_text` makes of a text."""
    return line(serve(f'{verb} "x" {{ output_text "{text}" }}').request(verb.upper(), target, body))


# Precedence


@pytest.mark.covers("s079", "s080")
@pytest.mark.parametrize(
    ("path", "basename", "dirname", "extension"),
    [
        ("a/b.tar.gz", "b.tar", "a", "gz"),
        ("a/b.jpg", "b", "a", "jpg"),
        ("a/b/c", "c", "a/b", ""),
        ("b.jpg", "b", ".", "jpg"),
        (".hidden", ".hidden", ".", ""),
        ("a/.hidden", ".hidden", "a", ""),
        (".hidden.jpg", ".hidden", ".", "jpg"),
        ("a.", "a.", ".", ""),  # sharp edge S51: the older behaviour
        ("/x", "x", "/", ""),
        ("", "", ".", ""),
    ],
)
def test_the_parts_of_a_path(serve, path, basename, dirname, extension):
    text = "#{basename}|#{dirname}|#{extension}"
    assert shown(serve, text, f"/x/{path}" if path else "/x") == f"{basename}|{dirname}|{extension}"


@pytest.mark.covers("s081")
def test_the_parts_follow_a_captured_path(serve):
    api = serve('get ":path" { output_text "#{basename}|#{extension}|#{dirname}" }')
    assert line(api.get("/a%2Fb.jpg/c.png")) == "b|jpg|a"


@pytest.mark.covers("s084", "s085")
@pytest.mark.parametrize(
    "name", ["query_string_options", "input_digest", "image_mime_extension", "uuid", "image_name", "basename"]
)
def test_a_capture_shadows_a_generated_variable(serve, name):
    assert line(serve(f'get ":{name}" {{ output_text "#{{{name}}}" }}').get("/mine?a=1")) == "mine"


def test_statement_local_values_come_before_captures(serve, tmp_path):
    api = serve("""
        path "p" "#{image_name}-#{imagename}"
        path "rewritten" "#{path}+#{image_name}"
        put ":image_name" ":imagename" ":path" {
            store_file "input" root="images" path="p"
            output_store_path "input" path="rewritten"
        }
    """)
    assert line(api.put("/a/b/c", BODY)) == "input-input+input"


@pytest.mark.parametrize("name", ["url", "scheme", "host", "port"])
def test_a_path_list_has_no_url_variables_of_its_own(serve, name):
    """They belong to `output_store_url` and `output_store_uri`, so here the capture is seen."""
    api = serve(f"""
        path "p" "x"
        path "rewritten" "#{{{name}}}"
        put "a" ":{name}" {{
            store_file "input" root="images" path="p"
            output_store_path "input" path="rewritten"
        }}
        put "b" {{
            store_file "input" root="images" path="p"
            output_store_path "input" path="rewritten"
        }}
    """)
    assert line(api.put("/a/mine", BODY)) == "mine"
    message = f"cannot generate path 'rewritten' from template '#{{{name}}}': variable '{name}' not defined"
    assert api.put("/b", BODY).failed(PathRenderingError) == message


# Query string


@pytest.mark.covers("s082", "s083")
@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("?b=2&a=1&a=3&c", "a:3,b:2,c:"),
        ("?b=2;a=1", "a:1,b:2"),
        ("?a=x+y&b=%C5%82", "a:x y,b:ł"),
        ("?a=", "a:"),
        ("?", ""),
        ("", ""),
    ],
)
def test_query_string_options_are_sorted_and_joined(serve, query, options):
    assert shown(serve, "#{query_string_options}", f"/x{query}") == options


# Digests


@pytest.mark.covers("s086", "s087", "s088", "s215")
def test_digests_of_the_body(serve):
    assert shown(serve, "#{input_digest} #{digest} #{input_sha256}", body=BODY, verb="put") == (
        f"{SHA256[:16]} {SHA256[:16]} {SHA256}"
    )


@pytest.mark.covers("s089")
def test_a_get_with_a_body_has_a_digest_but_no_input_image(serve):
    assert shown(serve, "#{input_digest}", body=BODY) == SHA256[:16]
    api = serve('get "x" { output_image "input" }')
    assert api.request("GET", "/x", BODY).failed(ImageNotLoaded) == "image 'input' not loaded"


@pytest.mark.covers("s090")
@pytest.mark.parametrize("name", ["input_digest", "digest", "input_sha256"])
def test_a_digest_needs_a_body(serve, name):
    api = serve(f"""
        path "p" "a/#{{{name}}}"
        get "x" {{ source_file "o" root="images" path="p" }}
        get "y" {{ output_text "#{{{name}}}" }}
    """)
    message = f"need not empty request body to generate value for '{name}'"
    assert api.get("/y").failed(SetupError) == message
    wrapped = f"cannot generate path 'p' from template 'a/#{{{name}}}': {message}"
    assert api.get("/x").failed(PathRenderingError) == wrapped


# Images


@pytest.mark.covers("s088", "s091", "s215")
def test_an_image_digest_hashes_that_image(serve, jpeg, tmp_path):
    api = serve("""
        path "p" "#{image_name} #{imagename} #{image_digest} #{image_sha256} #{image_width}x#{image_height}"
        put "x" {
            thumbnail "input" "small" operation="crop" width=10 height=8 format="png"
            store_file "small" root="images" path="p"
            output_store_path "small"
        }
    """)
    stored = line(api.put("/x", jpeg))
    sha256 = hashlib.sha256((tmp_path / "images" / stored).read_bytes()).hexdigest()
    assert stored == f"small small {sha256[:16]} {sha256} 10x8"


@pytest.mark.covers("s088", "s092", "s215")
@pytest.mark.parametrize(
    ("fixture", "extension", "size"),
    [("jpeg", "jpg", "64x48"), ("png", "png", "40x20"), ("gif", "gif", "10x10")],
)
def test_the_extension_follows_the_type(serve, request, fixture, extension, size):
    api = serve("""
        path "p" "#{input_image_width}x#{input_image_height}.#{input_image_mime_extension}"
        path "q" "#{path}.#{image_mime_extension}.#{mimeextension}"
        put "x" {
            identify "input"
            store_file "input" root="images" path="p"
            output_store_path "input" path="q"
        }
    """)
    stored = line(api.put("/x", request.getfixturevalue(fixture)))
    assert stored == f"{size}.{extension}.{extension}.{extension}"


@pytest.mark.parametrize(("kind", "extension"), [("webp", "webp"), ("tiff", "tiff")])
def test_other_types_have_their_usual_extension(serve, jpeg, kind, extension):
    api = serve(f"""
        path "p" "x.#{{image_mime_extension}}"
        put "x" {{
            thumbnail "input" "small" width=8 height=8 format="{kind}"
            store_file "small" root="images" path="p"
            output_store_path "small"
        }}
    """)
    assert line(api.put("/x", jpeg)) == f"x.{extension}"


@pytest.mark.covers("s093")
@pytest.mark.parametrize(
    "name",
    ["image_width", "image_height", "image_mime_extension", "mimeextension", *WIDE],
)
def test_facts_of_an_unidentified_image_are_unknown(serve, name):
    api = serve(f"""
        path "p" "#{{{name}}}"
        put "x" {{ store_file "input" root="images" path="p" }}
    """)
    message = (
        f"cannot generate path 'p' from template '#{{{name}}}': "
        f"image 'input' does not have data for variable '{name}'"
    )
    assert api.put("/x", BODY).failed(PathRenderingError) == message


@pytest.mark.covers("s094")
@pytest.mark.parametrize("name", WIDE)
def test_facts_of_the_input_need_an_input(serve, name):
    api = serve(f'get "x" {{ output_text "#{{{name}}}" }}')
    assert api.get("/x").failed(ImageNotLoaded) == "image 'input' not loaded"


@pytest.mark.parametrize(
    "name",
    [
        "image_digest",
        "image_sha256",
        "image_width",
        "image_height",
        "image_mime_extension",
        "mimeextension",
    ],
)
def test_facts_about_the_named_image_need_a_name(serve, name):
    message = f"need 'image_name' variable to generate value for '{name}'"
    assert serve(f'get "x" {{ output_text "#{{{name}}}" }}').get("/x").failed(SetupError) == message


def test_while_a_source_path_is_rendered_the_image_does_not_exist(serve):
    api = serve("""
        path "p" "#{image_name}/#{image_digest}"
        get "x" { source_file "o" root="images" path="p" }
    """)
    message = "cannot generate path 'p' from template '#{image_name}/#{image_digest}': image 'o' not loaded"
    assert api.get("/x").failed(PathRenderingError) == message


# UUID


@pytest.mark.covers("s095")
def test_a_uuid_is_random(serve):
    first, second = (shown(serve, "#{uuid}") for _ in range(2))
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", first)
    assert first != second


def test_a_request_has_one_uuid(serve, jpeg, tmp_path):
    """Sharp edge S11: statements meant as a pair agree."""
    api = serve("""
        path "p" "#{uuid}-#{image_name}"
        path "q" "#{uuid}"
        put "x" {
            thumbnail "input" "small" width=8 height=8
            store_file "input" root="images" path="p"
            store_file "small" root="images" path="p"
            output_store_path "input" path="q"
        }
    """)
    uuid = line(api.put("/x", jpeg))
    assert sorted(file.name for file in (tmp_path / "images").iterdir()) == [f"{uuid}-input", f"{uuid}-small"]


# What is missing


@pytest.mark.covers("s024")
def test_an_undefined_path_fails_the_request(serve):
    api = serve('get "x" { source_file "o" root="images" path="nowhere" }')
    assert api.get("/x").failed(PathNotDefined) == "path 'nowhere' not defined"


@pytest.mark.covers("s096")
def test_an_undefined_variable_fails_the_request(serve):
    api = serve('get "x" { output_text "#{nope}" }')
    assert api.get("/x").failed(VariableNotDefined) == "variable 'nope' not defined"


@pytest.mark.covers("s097")
def test_an_undefined_variable_in_a_path_is_wrapped(serve):
    api = serve("""
        path "p" "a/#{nope}"
        get "x" { source_file "o" root="images" path="p" }
    """)
    message = "cannot generate path 'p' from template 'a/#{nope}': variable 'nope' not defined"
    assert api.get("/x").failed(PathRenderingError) == message


@pytest.mark.parametrize("name", ["image_name", "imagename", "bucket", "url", "scheme", "host", "port"])
def test_statement_local_variables_are_undefined_elsewhere(serve, name):
    api = serve(f'get "x" {{ output_text "#{{{name}}}" }}')
    assert api.get("/x").failed(VariableNotDefined) == f"variable '{name}' not defined"


# Templates


@pytest.mark.covers("s098")
def test_spaces_are_part_of_a_name(serve):
    api = serve('get ":v" { output_text "#{ v }" }')
    assert api.get("/1").failed(VariableNotDefined) == "variable ' v ' not defined"


@pytest.mark.covers("s099")
@pytest.mark.parametrize("text", ["#{}", "#v", "{v}", "#{v", "$v", "##", "#{}v}"])
def test_what_is_no_placeholder_stays(serve, text):
    assert line(serve(f'get ":v" {{ output_text "{text}" }}').get("/1")) == text


@pytest.mark.covers("s100")
def test_a_value_is_never_expanded(serve):
    api = serve('get ":v" { output_text "#{v} #{path}" }')
    assert line(api.get("/%23%7Bpath%7D/x")) == "#{path} x"


def test_a_backslash_does_not_escape_a_placeholder(serve):
    assert line(serve('get ":v" { output_text "\\\\#{v}" }').get("/1")) == "\\1"


def test_an_empty_value_is_a_value(serve):
    assert line(serve('get ":v?" { output_text "<#{v}>" }').get("/")) == "<>"
