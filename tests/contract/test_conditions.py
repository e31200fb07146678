"""`if-image-name-on` and `if-variable-matches`, at every place they may stand (reference/imagestore 5.7)."""

import pytest

from safelight.errors import ConfigError, Forbidden, ImageNotLoaded, NotFound, SetupError


def line(result) -> str:
    return result.text.removesuffix("\r\n")


def holds(serve, condition: str, target: str = "/x", matchers: str = "") -> bool:
    """Whether a statement about image `input` takes part: if it does, it fails."""
    api = serve(f'put "x" {matchers} {{ store_file "input" root="images" path="undefined" {condition} }}')
    outcome = api.put(target, b"data").outcome
    return isinstance(outcome, SetupError)


# What conditions mean


@pytest.mark.covers("s129")
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("input", True),
        ("a,input,b", True),
        ("a,input", True),
        ("", False),
        ("a", False),
        ("a, input", False),
        ("input ,a", False),
        ("inputs", False),
        ("INPUT", False),
    ],
)
def test_a_list_of_names_is_compared_without_trimming(serve, names, expected):
    sent = names.replace(" ", "%20")
    assert holds(serve, 'if-image-name-on="#{list}"', f"/x/{sent}", '":list?"') is expected
    assert holds(serve, f'if-image-name-on="{names}"') is expected


@pytest.mark.covers("s130")
@pytest.mark.parametrize(("query", "expected"), [("v=1", True), ("v=0", True), ("v=", False), ("v", False)])
def test_a_variable_alone_must_not_be_empty(serve, query, expected):
    assert holds(serve, 'if-variable-matches="v"', f"/x?{query}", '"&:v?"') is expected


@pytest.mark.covers("s130")
@pytest.mark.parametrize("condition", ["v", "v:", "v:x", "v:#{w}", "path:#{w}"])
def test_an_undefined_variable_is_false_and_no_error(serve, condition):
    assert holds(serve, f'if-variable-matches="{condition}"') is False


@pytest.mark.covers("s131")
@pytest.mark.parametrize(
    ("condition", "query", "expected"),
    [
        ("v:x", "v=x", True),
        ("v:x", "v=X", False),
        ("v:x", "v=xx", False),
        ("v:x", "v=", False),
        ("v:", "v=", True),
        ("v:", "v=x", False),
        ("v:a:b", "v=a:b", True),
        ("v: x", "v=x", False),
        ("v:#{w}", "v=1&w=1", True),
        ("v:#{w}", "v=1&w=2", False),
        ("v:a#{w}c", "v=abc&w=b", True),
    ],
)
def test_a_variable_equals_a_rendered_text_exactly(serve, condition, query, expected):
    assert holds(serve, f'if-variable-matches="{condition}"', f"/x?{query}", '"&:v?" "&:w?"') is expected


@pytest.mark.covers("s132")
@pytest.mark.parametrize(
    ("names", "value", "expected"),
    [("input", "1", True), ("input", "", False), ("other", "1", False), ("other", "", False)],
)
def test_both_conditions_must_hold(serve, names, value, expected):
    conditions = 'if-image-name-on="#{n}" if-variable-matches="v"'
    assert holds(serve, conditions, f"/x?n={names}&v={value}", '"&:n" "&:v"') is expected


@pytest.mark.parametrize(
    ("condition", "expected"), [("input_digest", True), ("image_name:input", True), ("image_name:x", False)]
)
def test_generated_and_local_variables_can_be_compared(serve, condition, expected):
    assert holds(serve, f'if-variable-matches="{condition}"') is expected


@pytest.mark.parametrize(
    ("condition", "expected"), [("image_width", True), ("image_width:64", True), ("image_width:6", False)]
)
def test_numbers_are_compared_as_text(serve, jpeg, condition, expected):
    """Sharp edge S30."""
    api = serve(f"""
        put "x" {{
            identify "input"
            store_file "input" root="images" path="undefined" if-variable-matches="{condition}"
        }}
    """)
    assert isinstance(api.put("/x", jpeg).outcome, SetupError) is expected


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("image_width", "image 'input' does not have data for variable 'image_width'"),
        ("image_width:5", "image 'input' does not have data for variable 'image_width'"),
    ],
)
def test_a_variable_that_cannot_be_computed_is_an_error(serve, condition, message):
    api = serve(f"""
        path "p" "a"
        put "x" {{ store_file "input" root="images" path="p" if-variable-matches="{condition}" }}
    """)
    assert api.put("/x", b"data").failed(SetupError) == message


def test_the_digest_of_no_body_is_an_error_in_a_condition(serve):
    api = serve('get "x" { identify "o" if-variable-matches="input_digest" }')
    message = "need not empty request body to generate value for 'input_digest'"
    assert api.get("/x").failed(SetupError) == message


# Where conditions may stand: each place is skipped unless both agree

PLACES = {
    "source_file": 'source_file "it" root="." path="missing" {}',
    "identify": 'identify "it" {}',
    "store_file": 'store_file "it" root="." path="missing" {}',
    "thumbnail, single": 'thumbnail "none" "it" {}',
    "thumbnail, grouped, outer": 'thumbnail "it" {} {{\n"small"\n}}',
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("query", "takes_part"),
    [("n=it&v=1", True), ("n=it&v=", False), ("n=no&v=1", False), ("n=a,it&v=2", True)],
)
def test_statements_that_take_both_conditions(serve, place, query, takes_part):
    """Each would fail if it took part, because its image or file is missing."""
    statement = PLACES[place].format('if-image-name-on="#{n}" if-variable-matches="v"')
    api = serve(f"""
        path "missing" "missing"
        get "x" "&:n" "&:v" {{
            {statement}
        }}
    """)
    outcome = api.get(f"/x?{query}").outcome
    assert isinstance(outcome, ImageNotLoaded | NotFound) is takes_part


def test_a_source_inside_a_failover_is_passed_over(serve, tmp_path):
    (tmp_path / "a").write_bytes(b"first")
    (tmp_path / "b").write_bytes(b"second")
    api = serve("""
        path "a" "a"
        path "b" "b"
        get "x" "&:n" "&:v?" {
            source_failover {
                source_file "it" root="." path="a" if-image-name-on="#{n}" if-variable-matches="v"
                source_file "it" root="." path="b"
            }
            output_image "it"
        }
    """)
    assert api.get("/x?n=it&v=1").body == b"first"
    assert api.get("/x?n=no&v=1").body == b"second"
    assert api.get("/x?n=it").body == b"second"


def test_a_grouped_specification_compares_the_name_of_the_thumbnail(serve, jpeg):
    api = serve("""
        put "x" "&:n" "&:v?" {
            thumbnail "input" {
                "a" width=8 height=8 format="png" if-image-name-on="#{n}" if-variable-matches="v"
                "b" width=4 height=4 format="png" if-image-name-on="#{n}"
            }
        }
    """)
    for query in ("n=a,b&v=1", "n=a,b", "n=b,input&v=1"):
        assert line(api.put(f"/x?{query}", jpeg)) == "OK"
    assert api.specs == [["fit,8,8,png", "fit,4,4,png"], ["fit,4,4,png"], ["fit,4,4,png"]]


def test_a_list_entry_compares_its_image(serve):
    api = serve("""
        path "p" "#{image_name}"
        put "x" "&:n" "&:v?" {
            store_file "input" root="." path="p"
            output_store_path {
                "input" if-image-name-on="#{n}"
                "never loaded" if-image-name-on="#{n}" if-variable-matches="v"
                "input" if-variable-matches="v"
            }
        }
    """)
    assert api.put("/x?n=input", b"data").text == "input\r\n"
    assert api.put("/x?n=no&v=1", b"data").text == "input\r\n"
    assert api.put("/x?n=no", b"data").text == "\r\n"
    assert api.put("/x?n=input&v=1", b"data").text == "input\r\ninput\r\n"
    message = "image 'never loaded' not loaded"
    assert api.put("/x?n=never%20loaded&v=1", b"data").failed(ImageNotLoaded) == message


@pytest.mark.covers("s190")
def test_a_validator_may_depend_on_a_variable(serve):
    api = serve("""
        get "x" "&:hmac?" {
            validate_uri_hmac "hmac" secret="s" if-variable-matches="hmac"
        }
    """)
    for query in ("", "?hmac", "?hmac=", "?other=1"):
        assert line(api.get(f"/x{query}")) == "OK", query
    api.get("/x?hmac=1").failed(Forbidden)


# Where they may not


@pytest.mark.covers("s036")
@pytest.mark.parametrize("condition", ['if-image-name-on="a"', 'if-variable-matches="a"'])
@pytest.mark.parametrize(
    "statement", ['output_text "a"', "output_ok", 'output_image "a"', 'output_data_uri_image "a"']
)
def test_single_outputs_take_no_conditions(serve, statement, condition):
    name = condition.partition("=")[0]
    with pytest.raises(ConfigError, match=f"unexpected attributes: '{name}'"):
        serve(f"get {{ {statement} {condition}\n}}")


@pytest.mark.parametrize("condition", ['if-image-name-on="a"', 'if-variable-matches="a"'])
@pytest.mark.parametrize(
    "statement", ['s3 key="a" secret="b"', 'thumbnailer url="http://a"', "get", 'put "x"']
)
def test_clients_and_endpoints_take_no_conditions(serve, statement, condition):
    name = condition.partition("=")[0]
    with pytest.raises(ConfigError, match=f"unexpected attributes: '{name}'"):
        serve(f"{statement} {condition}")


@pytest.mark.parametrize(
    "statement",
    [
        'validate_uri_hmac "hmac" secret="s" if-image-name-on="a"',
        'validate_header_hmac "x" "hmac" secret="s" if-image-name-on="a"',
        'thumbnail "a" "b" {\nedit "blur" if-image-name-on="a"\n}',
        'thumbnail "a" {\n"b" {\nedit "blur" if-image-name-on="a"\n}\n}',
    ],
    ids=["uri", "header", "edit", "grouped edit"],
)
@pytest.mark.parametrize("lenient", [False, True])
def test_names_mean_nothing_to_validators_and_edits(serve, statement, lenient):
    """Sharp edge S29: refused at load, because it failed every request."""
    with pytest.raises(ConfigError, match="unexpected attributes: 'if-image-name-on'"):
        serve(f"get {{\n{statement}\n}}", lenient=lenient)


@pytest.mark.parametrize("condition", ['if-image-name-on="a"', 'if-variable-matches="a"'])
def test_conditions_of_paths_and_failovers_are_ignored(serve, tmp_path, condition):
    (tmp_path / "a").write_bytes(b"data")
    api = serve(f"""
        path "p" "a" {condition}
        get "x" {{
            source_failover {condition} {{
                source_file "o" root="." path="p"
            }}
            output_image "o"
        }}
    """)
    assert api.get("/x").body == b"data"
    assert len(api.config.warnings) == 2
