"""Warnings about what a configuration can never do (design section 3: s024, s057, s096, s097)."""

import pytest

from safelight import api
from safelight.image.edit import EDITS
from safelight.image.method import METHODS
from safelight.statements import lint

FAIL = "every request for this thumbnail will fail: "


def warnings(text: str) -> list[str]:
    """Each as `line: message`."""
    found = api.load_config(text, "x", lenient=False).warnings
    return [f"{warning.position.line}: {warning.message}" for warning in found]


def in_get(*lines: str) -> list[str]:
    """The warnings about statements from line 3 on, in an endpoint with a source `o` and two captures."""
    source = 'get "x" ":a" "&:b?" { source_file "o" root="r" path="p"'
    return warnings("\n".join(['path "p" "#{path}"', source, *lines, "}"]))


@pytest.mark.parametrize(
    "statement",
    [
        'output_image "o"',
        'output_text "#{a} #{b} #{path} #{basename} #{uuid} #{query_string_options} #{input_digest}"',
        'output_source_url "o" host="#{scheme}.#{a}" path="p"',
        'output_source_path "o" path="p"',
        'thumbnail "o" "t" tag="#{image_name}" width="#{image_width}"\noutput_image "t"',
        'thumbnail "o" { "t" tag="#{imagename}"; "u" if-image-name-on="#{a}" }\noutput_image "u"',
        'thumbnail "o" "t" {\nedit "#{a}" "#{b}" x="#{path}"\n}',
        'thumbnail "o" "t" effort=4 chroma="444" quant-table=3 trellis=true webp-quality=80 avif-quality=60',
        'thumbnail "o" "t" speed="best" quality=80 background-color="red" float-x=0 float-y=1 interlace="x"',
        'thumbnail "o" "t" operation="#{a}" width="#{a}" height="input" format="#{a}"',
        'thumbnail "o" "t" operation="stretch" width=10 height="020" format="JPG" { edit "caption" "x"; }',
        'thumbnail "o" "t" operation="of-a-plugin" format="xyz" { edit "darken" "x"; }',
        'identify "o" if-variable-matches="never_defined"',
        'identify "o" if-variable-matches="never_defined:#{a}"',
        'source_failover {\nsource_file "s" root="r" path="p"\n}\noutput_image "s"',
    ],
)
def test_nothing_to_say(statement: str) -> None:
    assert in_get(statement) == []


@pytest.mark.covers("s024", "s096", "s097", "s127")
@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ('output_image "oo"', ["3: no statement provides image 'oo'"]),
        ('thumbnail "o" "t" hieght=2', ["3: no option 'hieght' is known"]),
        (
            'thumbnail "o" "t" qualty=2 strength=3',
            ["3: no option 'qualty' is known"],
        ),
        (
            'thumbnail "o" "t" operation="corp" format="jepg" {\nedit "rotat" "90"\n}',
            [
                "3: no operation 'corp' is known",
                "3: no format 'jepg' is known",
                "4: no edit 'rotat' is known",
            ],
        ),
        (
            'thumbnail "o" "t" width="ten"',
            [f"3: {FAIL}width value 'ten' is not an integer or 'input'"],
        ),
        ('thumbnail "o" "t" width=1.5', [f"3: {FAIL}width value '1.5' is not an integer or 'input'"]),
        ('thumbnail "o" "t" height=0', [f"3: {FAIL}at least one image dimension is zero"]),
        ('thumbnail "o" { "t" height="" }', [f"3: {FAIL}missing height argument"]),
        ('thumbnail "o" "t" quality=""', [f"3: {FAIL}missing option value for key 'quality'"]),
        (
            'thumbnail "o" "t" {\nedit "blur" sigma=""\nedit ""\n}',
            [
                "4: every request for this edit will fail: missing option value for key 'sigma'",
                "5: every request for this edit will fail: missing edit name argument",
            ],
        ),
        ('output_image "input"', ["3: no statement provides image 'input'"]),
        ('store_file "o" root="r" path="q"', ["3: path 'q' not defined"]),
        ('output_text "#{nope}"', ["3: variable 'nope' not defined"]),
        ('output_text "#{image_name}"', ["3: variable 'image_name' not defined"]),
        ('output_text "#{url}"', ["3: variable 'url' not defined"]),
        (
            'output_text "#{image_width}"',
            ["3: variable 'image_width' needs 'image_name', which is not defined"],
        ),
        (
            'cache root="c" tag="w-#{image_width}"',
            ["3: variable 'image_width' needs 'image_name', which is not defined"],
        ),
        (
            'output_source_url "o" host="#{zz}" port="#{yy}"',
            ["3: variable 'zz' not defined", "3: variable 'yy' not defined"],
        ),
        (
            'thumbnail "o" "t" quality="#{zz}" options="#{yy}"',
            ["3: variable 'zz' not defined", "3: variable 'yy' not defined"],
        ),
        ('thumbnail "o" "t" {\nedit "blur" "#{zz}"\n}', ["4: variable 'zz' not defined"]),
        ('thumbnail "o" "t" {\nedit "blur" "#{image_name}"\n}', ["4: variable 'image_name' not defined"]),
        ('identify "o" if-image-name-on="#{zz}"', ["3: variable 'zz' not defined"]),
        ('source_failover {\nsource_file "s" root="r" path="q"\n}', ["4: path 'q' not defined"]),
        ('delete_file root="r" path="q"', ["3: path 'q' not defined"]),
    ],
)
def test_what_nothing_defines(statement: str, told: list[str]) -> None:
    found = [line.partition(" (did you mean")[0] for line in in_get(statement)]
    assert sorted(found) == sorted(told)


def test_the_nearest_name_is_suggested() -> None:
    assert in_get('output_text "#{basname}"') == [
        "3: variable 'basname' not defined (did you mean 'basename'?)"
    ]


def test_uploads_provide_the_input() -> None:
    for verb in ("put", "post"):
        assert warnings(f'{verb} "x" {{ output_image "input"\n}}') == []


def test_a_path_is_checked_where_it_is_used() -> None:
    text = """path "p" "#{image_name}/#{zz}"
get "unused"
get ":zz" { source_file "o" root="r" path="p"
}
get "x" { source_file "o" root="r" path="p"
}
delete "x" { delete_file root="r" path="p"
}"""
    assert [line.partition(" (did you mean")[0] for line in warnings(text)] == [
        "5: variable 'zz' not defined in path 'p'",
        "7: variable 'image_name' not defined in path 'p'",
        "7: variable 'zz' not defined in path 'p'",
    ]


@pytest.mark.covers("s057")
def test_captures_that_do_not_add_up() -> None:
    told = warnings('get "/(?<a>.)(?<a>.)(?<b>.)/"\nput ":a/(x)(y)/"\npost ":a/(?<b>x)/"')
    assert told == [
        "1: every request to this endpoint will fail: matched more arguments than named (3 for 2)",
        "2: every request to this endpoint will fail: matched more arguments than named (3 for 1)",
        "3: every request to this endpoint will fail: matched less arguments than named (0 for 1)",
    ]


@pytest.mark.covers("s157")
@pytest.mark.parametrize("statement", ['source_s3 "s"', 'store_s3 "o"'])
def test_s3_statements_without_a_client(statement: str) -> None:
    (told,) = in_get(f'{statement} bucket="b" path="p"')
    assert "S3" in told


def test_what_the_image_core_knows_is_known() -> None:
    assert set(lint.OPERATIONS) == set(METHODS)
    assert set(lint.EDITS) == set(EDITS)
