"""`thumbnail` and `identify`: from the configuration to the engine (reference/imagestore section 5)."""

import io

import pytest
from PIL import Image

from safelight.errors import BadRequest, ImageNotLoaded, SafelightError, SetupError, UnsupportedMedia

INVALID = "thumbnail spec 'th' is invalid: "


def line(result) -> str:
    return result.text.removesuffix("\r\n")


def single(attributes: str, block: str = "") -> str:
    return f"""
        put "x" "&:o?" "&:e?" "&:q?" "&:w?" "&:v?" {{
            thumbnail "input" "th" {attributes} {block}
            output_image "th"
        }}
    """


def wire(serve, attributes: str, block: str = "", query: str = "") -> str:
    """The specification that the engine gets, good or bad."""
    api = serve(single(attributes, block))
    api.put(f"/x?{query}", b"no image")
    ((spec,),) = api.specs
    return spec


def refusal(serve, attributes: str, query: str = "", block: str = "") -> str:
    api = serve(single(attributes, block))
    message = api.put(f"/x?{query}", b"no image").failed(BadRequest)
    assert api.specs == []
    return message


# The wire form


@pytest.mark.covers("s104")
def test_the_default_specification(serve):
    assert wire(serve, "") == "fit,input,input,input"


@pytest.mark.covers("s105")
def test_options_are_sorted_by_key(serve):
    assert wire(serve, 'quality=84 background-color="red" a="1"') == (
        "fit,input,input,input,a:1,background-color:red,quality:84"
    )


@pytest.mark.covers("s106")
def test_an_attribute_overrides_an_option(serve):
    spec = wire(serve, 'options="#{o}" quality=84', query="o=quality:1,zz:2")
    assert spec == "fit,input,input,input,quality:84,zz:2"


@pytest.mark.covers("s107")
def test_all_parameters_can_become_options(serve):
    spec = wire(serve, 'options="#{query_string_options}"', query="b=2&a=x%3Ay")
    assert spec == "fit,input,input,input,a:x:y,b:2"


def test_a_parameter_without_a_value_is_no_option(serve):
    api = serve('put "x" { thumbnail "input" "th" options="#{query_string_options}" }')
    assert api.put("/x?a=1&b", b"x").failed(BadRequest) == (
        f"{INVALID}options spec 'a:1,b:' format is invalid: missing option value for key 'b'"
    )


@pytest.mark.covers("s108", "s109")
def test_configured_edits_come_first_and_duplicates_stay(serve):
    spec = wire(
        serve,
        'edits="#{e}"',
        block='{ edit "rotate" "90" "1" bg="x"; edit "blur"; edit "blur"; }',
        query="e=crop,1,2,c:3!blur!flip",
    )
    assert spec == "fit,input,input,input!rotate,90,1,bg:x!blur!blur!crop,1,2,c:3!blur!flip"


@pytest.mark.covers("s110")
@pytest.mark.parametrize(("query", "edits"), [("v=yes", "!blur!flip"), ("v=no", "!blur"), ("", "!blur")])
def test_an_edit_may_depend_on_a_variable(serve, query, edits):
    block = '{ edit "blur"; edit "flip" if-variable-matches="v:yes"; }'
    assert wire(serve, "", block, query) == f"fit,input,input,input{edits}"


def test_everything_may_be_a_template(serve):
    api = serve("""
        put ":op" ":w" ":h" ":f" ":q" {
            thumbnail "input" "th" operation="#{op}" width="#{w}" height="#{h}" format="#{f}" quality="#{q}" {
                edit "#{op}" "#{w}" colour="#{f}"
            }
        }
    """)
    api.put("/crop/1/input/png/5", b"x")
    assert api.specs == [["crop,1,input,png,quality:5!crop,1,colour:png"]]


def test_a_specification_knows_its_own_name(serve):
    """`image_name` is statement-local, here the name of the thumbnail."""
    assert wire(serve, 'tag="#{image_name}"') == "fit,input,input,input,tag:th"


def test_numbers_and_booleans_become_text(serve):
    """Section 2.7 and sharp edge S19."""
    spec = wire(
        serve,
        "operation=1 width=10 format=2 a=1.5 b=2.0 c=true d=off",
        block='{ edit "crop" 0.5 1 exact=true; }',
    )
    assert spec == "1,10,input,2,a:1.5,b:2.0,c:true,d:false!crop,0.5,1,exact:true"


def test_trailing_empty_parts_are_dropped(serve):
    assert wire(serve, 'options="a:1,b:2,,"') == "fit,input,input,input,a:1,b:2"
    assert wire(serve, 'edits="flip!blur,1,!!"') == "fit,input,input,input!flip!blur,1"
    assert wire(serve, 'options="" edits=""') == "fit,input,input,input"


# Refusals


@pytest.mark.covers("s111", "s112")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("foo=bar", "missing option value for key 'foo=bar'"),
        ("foo:", "missing option value for key 'foo'"),
        (":a", "missing option key name for value 'a'"),
        (",a:1", "missing key-value pair on position 1"),
        ("a:1,,b:2", "missing key-value pair on position 2"),
    ],
)
def test_bad_options(serve, options, reason):
    message = refusal(serve, 'options="#{o}"', f"o={options.replace('=', '%3D')}")
    assert message == f"{INVALID}options spec '{options}' format is invalid: {reason}"


@pytest.mark.parametrize(
    ("edits", "edit", "reason"),
    [
        ("x,a:1,b", "x,a:1,b", "missing option value for key 'b' for edit 'x'"),
        ("flip!x,:1", "x,:1", "missing option key name for value '1' for edit 'x'"),
        ("x,a:1,,b:2", "x,a:1,,b:2", "missing key-value pair on position 2 for edit 'x'"),
        ("flip!!blur", "", "missing edit name argument"),
        (",1", ",1", "missing edit name argument"),
    ],
)
def test_bad_edits(serve, edits, edit, reason):
    message = refusal(serve, 'edits="#{e}"', f"e={edits}")
    assert message == f"{INVALID}edits spec '{edit}' format is invalid: {reason}"


@pytest.mark.covers("s113")
@pytest.mark.parametrize("side", ["width", "height"])
@pytest.mark.parametrize("text", ["128x", "-1", "1.5", "INPUT", " 5"])
def test_a_side_is_an_integer_or_input(serve, side, text):
    message = refusal(serve, f'{side}="#{{w}}"', f"w={text}")
    assert message == f"{INVALID}{side} value '{text}' is not an integer or 'input'"


@pytest.mark.covers("s114")
@pytest.mark.parametrize(
    ("attribute", "name"),
    [("operation", "method"), ("width", "width"), ("height", "height"), ("format", "format")],
)
def test_an_empty_leading_text_is_missing(serve, attribute, name):
    assert refusal(serve, f'{attribute}="#{{w}}"') == f"{INVALID}missing {name} argument"


def test_what_is_missing_is_told_before_what_is_no_number(serve):
    assert refusal(serve, 'width="a" format=""') == f"{INVALID}missing format argument"
    assert "width value 'a'" in refusal(serve, 'width="a" height="b"')


def test_options_are_checked_before_edits_and_these_before_sides(serve):
    assert "missing key-value pair" in refusal(serve, 'options=",a" edits="!x" width="a"')
    assert "missing edit name" in refusal(serve, 'edits="!x" width="a"')


@pytest.mark.parametrize(
    ("attributes", "block", "message"),
    [
        ('quality="#{q}"', "", "missing option value for key 'quality'"),
        ('speed="#{q}"', "", "missing option value for key 'speed'"),
        ("", '{ edit "#{q}"; }', "missing edit name argument"),
        ("", '{ edit "blur" "0" "0" "1" "1" sigma="#{q}"; }', "missing option value for key 'sigma'"),
    ],
)
def test_what_a_variable_leaves_empty_is_the_fault_of_the_client(serve, attributes, block, message):
    api = serve(single(attributes, block))
    assert api.put("/x", b"x").failed(BadRequest) == f"{INVALID}{message}"


@pytest.mark.parametrize(
    ("attributes", "block", "message"),
    [
        ('quality=""', "", "missing option value for key 'quality'"),
        ("", '{ edit ""; }', "missing edit name argument"),
    ],
)
def test_what_is_written_empty_is_the_fault_of_the_configuration(serve, attributes, block, message):
    api = serve(single(attributes, block))
    assert api.put("/x", b"x").failed(SetupError) == message


# Selection


GROUP = """
    put ":list" {
        thumbnail "input" {
            "a" width=8 height=8 format="png" if-image-name-on="#{list}"
            "b" width=4 height=4 format="png" if-image-name-on="#{list}"
        }
        output_store_path
    }
"""


@pytest.mark.covers("s115")
@pytest.mark.parametrize(
    ("names", "specs"),
    [("a", ["fit,8,8,png"]), ("b", ["fit,4,4,png"]), ("b,a", ["fit,8,8,png", "fit,4,4,png"])],
)
def test_all_selected_specifications_share_one_call_in_file_order(serve, jpeg, names, specs):
    api = serve(GROUP)
    assert api.put(f"/{names}", jpeg).text == "\r\n"
    assert api.specs == [specs]


@pytest.mark.covers("s116")
def test_nothing_selected_of_a_group_is_refused(serve, jpeg):
    message = "no thumbnail specs were selected, please use at least one of: a, b"
    assert serve(GROUP).put("/c", jpeg).failed(BadRequest) == message


@pytest.mark.covers("s117")
def test_a_single_one_whose_condition_is_false_is_skipped(serve):
    api = serve('put "x" { thumbnail "input" "th" if-variable-matches="never" }')
    assert line(api.put("/x", b"no image")) == "OK"
    assert api.specs == []


def test_a_group_whose_own_condition_is_false_is_skipped(serve):
    api = serve('put "x" { thumbnail "input" if-image-name-on="other" { "a" if-image-name-on="never" } }')
    assert line(api.put("/x", b"no image")) == "OK"


@pytest.mark.covers("s127")
def test_an_image_that_was_never_loaded(serve):
    api = serve('get "x" { thumbnail "x" "y" width=1 height=1 }')
    assert api.get("/x").failed(ImageNotLoaded) == "image 'x' not loaded"


def test_a_bad_specification_wins_over_an_image_that_was_never_loaded(serve):
    api = serve('get "x" { thumbnail "x" "y" width="a" }')
    assert "width value 'a'" in api.get("/x").failed(BadRequest)


# Failures


@pytest.mark.covers("s118")
def test_a_failing_part_fails_the_request_and_is_named(serve, jpeg):
    api = serve("""
        put "x" {
            thumbnail "input" {
                "good" width=8 height=8
                "bad" operation="nonsense" width=8 height=8
                "worse" operation="nonsense" width=8 height=8
            }
            output_image "good"
        }
    """)
    message = api.put("/x", jpeg).failed(BadRequest)
    assert message.startswith("thumbnailing of 'input' into 'bad' failed: ")


@pytest.mark.covers("s119")
def test_a_failure_as_a_whole_names_the_source_only(serve):
    api = serve('put "x" { thumbnail "input" { "a" width=8 height=8; "b" width=8 height=8; } }')
    message = api.put("/x", b"no image").failed(UnsupportedMedia)
    assert message.startswith("thumbnailing of 'input' failed: ")


@pytest.mark.covers("s120")
@pytest.mark.parametrize("form", ['"a" width=8 height=8', '{ "a" width=8 height=8; }'])
def test_a_failure_as_a_whole_with_one_specification_names_both(serve, form):
    message = serve(f'put "x" {{ thumbnail "input" {form} }}').put("/x", b"no image").failed(UnsupportedMedia)
    assert message.startswith("thumbnailing of 'input' into 'a' failed: ")


def test_a_failure_message_has_no_line_end(serve):
    """Sharp edge S13."""
    result = serve('put "x" { thumbnail "input" "a" }').put("/x", b"no image")
    assert result.failed(SafelightError) == result.failed(SafelightError).strip()


# Results


@pytest.mark.covers("s124")
def test_the_source_learns_its_type_and_size(serve, jpeg):
    api = serve("""
        path "p" "#{input_image_width}x#{input_image_height}.#{input_image_mime_extension}"
        put "x" {
            thumbnail "input" "small" width=8 height=8
            store_file "input" root="images" path="p"
            output_store_path "input"
        }
        put "y" {
            thumbnail "input" "small" width=8 height=8
            output_image "input"
        }
    """)
    assert line(api.put("/x", jpeg)) == "64x48.jpg"
    answer = api.put("/y", jpeg)
    assert (answer.content_type, answer.body) == ("image/jpeg", jpeg)


def test_a_thumbnail_has_the_wanted_size_and_type(serve, jpeg):
    api = serve("""
        put "x" {
            thumbnail "input" "th" operation="crop" width=10 height=20 format="png"
            output_image "th"
        }
    """)
    answer = api.put("/x", jpeg)
    image = Image.open(io.BytesIO(answer.body))
    assert (answer.content_type, image.format, image.size) == ("image/png", "PNG", (10, 20))


@pytest.mark.parametrize(
    ("fixture", "mime_type"), [("jpeg", "image/jpeg"), ("png", "image/png"), ("gif", "image/gif")]
)
def test_the_format_defaults_to_that_of_the_input(serve, request, fixture, mime_type):
    """Sharp edge S45: the documentation said `jpeg`, the code did not."""
    api = serve('put "x" { thumbnail "input" "th" width=8 height=8; output_image "th"; }')
    assert api.put("/x", request.getfixturevalue(fixture)).content_type == mime_type


@pytest.mark.covers("s128")
def test_a_thumbnail_can_be_the_source_of_another(serve, jpeg):
    api = serve("""
        put "x" {
            thumbnail "input" "a" operation="crop" width=20 height=20 format="png"
            thumbnail "a" "b" operation="crop" width=5 height=6
            output_image "b"
        }
    """)
    answer = api.put("/x", jpeg)
    assert answer.content_type == "image/png"
    assert Image.open(io.BytesIO(answer.body)).size == (5, 6)


def test_a_thumbnail_replaces_an_image_of_its_name(serve, jpeg):
    api = serve('put "x" { thumbnail "input" "input" width=8 height=8 format="png"; output_image "input"; }')
    assert api.put("/x", jpeg).content_type == "image/png"


def test_a_thumbnail_inherits_where_its_source_came_from(serve, jpeg, tmp_path):
    (tmp_path / "a b.jpg").write_bytes(jpeg)
    text = """
        path "p" "#{path}"
        get "x" {
            source_file "o" root="." path="p"
            thumbnail "o" "th" width=8 height=8
            output_source_FORM "th"
        }
    """
    assert line(serve(text.replace("FORM", "path")).get("/x/a%20b.jpg")) == "a b.jpg"
    assert line(serve(text.replace("FORM", "url")).get("/x/a%20b.jpg")) == "file:/a%20b.jpg"


# Identify


@pytest.mark.covers("s125")
def test_identify_sets_type_and_size(serve, png):
    api = serve("""
        put "x" {
            identify "input"
            output_image "input"
        }
        path "p" "#{image_mime_extension}-#{image_width}-#{image_height}"
        put "y" {
            identify "input"
            store_file "input" root="images" path="p"
            output_store_path "input"
        }
    """)
    assert api.put("/x", png).content_type == "image/png"
    assert line(api.put("/y", png)) == "png-40-20"


@pytest.mark.covers("s126")
def test_identify_refuses_what_no_decoder_accepts(serve):
    """Sharp edge S12: with the error that thumbnailing it would give."""
    serve('put "x" { identify "input" }').put("/x", b"no image").failed(UnsupportedMedia)


def test_identify_needs_a_loaded_image(serve):
    api = serve('get "x" { identify "o" }')
    assert api.get("/x").failed(ImageNotLoaded) == "image 'o' not loaded"
