"""Loading a configuration: every complaint of the reference (reference/imagestore 2.1 to 2.7).

Whole files with several complaints are in tests/config/golden, run by the last test here.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from safelight import api
from safelight.config.load import Config
from safelight.config.spec import Statement
from safelight.errors import ConfigError
from safelight.statements import REGISTRY
from safelight.statements.clients import S3

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.txt"))


def load(text: str, *, lenient: bool = False) -> Config:
    return api.load_config(text, "x.conf", lenient=lenient)


def complaints(text: str, *, lenient: bool = False) -> list[str]:
    """The lines of the refusal."""
    with pytest.raises(ConfigError) as error:
        load(text, lenient=lenient)
    return error.value.message.splitlines()


def complaint(text: str) -> str:
    """The only complaint, without its place, the same in both modes."""
    (strict,) = complaints(text)
    (lenient,) = complaints(text, lenient=True)
    assert strict == lenient
    place, _, message = strict.partition(": ")
    assert re.fullmatch(r"x\.conf:\d+:\d+", place)
    return message


def warnings(text: str, *, lenient: bool = False) -> list[str]:
    """The warnings about a configuration that has an endpoint too."""
    return [str(warning) for warning in load(f"{text}\nget", lenient=lenient).warnings]


def inside(statement: str) -> str:
    return f"get {{\n{statement}\n}}"


def about(node: str, message: str) -> str:
    return f"syntax error while parsing '{node}': {message}"


# `path`


@pytest.mark.covers("s018", "s019", "s020")
@pytest.mark.parametrize(
    ("text", "node", "message"),
    [
        ("path", "path", "expected path name"),
        ("path { }", "path", "expected path name"),
        ('path "blah"', 'path "blah"', "expected path template"),
        (
            'path "one" "two" "three" "four"',
            'path "one" "two" "three" "four"',
            'unexpected values: "three", "four"',
        ),
        ('path {\n"blah"\n}', '"blah"', "expected path template"),
        ('path {\n"one" "two" "three"\n}', '"one" "two" "three"', 'unexpected values: "three"'),
    ],
)
def test_paths(text: str, node: str, message: str) -> None:
    assert complaint(text) == about(node, message)


def test_attributes_of_paths_are_ignored_with_a_warning() -> None:
    assert warnings('path "p" "t" a=1') == ["x.conf:1:1: warning: attributes of 'path' are ignored: 'a'"]


# Clients


@pytest.mark.covers("s026", "s027", "s029")
@pytest.mark.parametrize(
    ("text", "node", "message"),
    [
        ("thumbnailer", "thumbnailer", "expected 'url' attribute to be set"),
        ("thumbnailer url=null", "thumbnailer url=null", "expected 'url' attribute to be set"),
        ("thumbnailer url=false", "thumbnailer url=false", "expected 'url' attribute to be set"),
        (
            'thumbnailer url="http://a:1"\nthumbnailer url="http://b:2"',
            'thumbnailer url="http://b:2"',
            "only one thumbnailer type statement can be specified within context",
        ),
        ('s3 key="key"', 's3 key="key"', "expected 'secret' attribute to be set"),
        ('s3 "a" "b" key="key" secret="no"', None, 'unexpected values: "b"'),
        (
            's3 "a" key="key" secret="no"\ns3 name="a" key="key" secret="no"',
            None,
            "only one s3 type statement can be specified within context",
        ),
        ('s3 "a" name="b" key="key" secret="no"', None, "two names are given: 'a' and 'b'"),
        (
            's3 key="key" secret="no" endpoint="ftp://host"',
            None,
            "expected 'endpoint' attribute value to be a URL or host: bad S3 endpoint 'ftp://host': "
            "expected the scheme http or https, not 'ftp'",
        ),
        (
            's3 key="key" secret="no" style="middle"',
            None,
            "expected 'style' attribute value to be path or virtual; got: \"middle\"",
        ),
        (
            's3 key="key" secret="no" url-expires="soon"',
            None,
            "expected 'url-expires' attribute value to be a duration such as 30s, 12h or 7d; got: \"soon\"",
        ),
        (
            's3 key="key" secret="no" url-signature="v4" url-expires="8d"',
            None,
            "'url-expires' is at most 7 days with signature 'v4'",
        ),
        (
            's3 key="key" secret="no"\ns3 key="key" secret="no"',
            None,
            "only one s3 type statement can be specified within context",
        ),
    ],
)
def test_clients(text: str, node: str | None, message: str) -> None:
    if node is None:  # the secret is not shown
        assert complaint(text).endswith(f"': {message}")
    else:
        assert complaint(text) == about(node, message)


@pytest.mark.covers("s027")
def test_the_second_client_is_told_even_if_the_first_is_bad() -> None:
    told = complaints('thumbnailer\nthumbnailer url="http://a"')
    assert [line.partition("': ")[2] for line in told] == [
        "expected 'url' attribute to be set",
        "only one thumbnailer type statement can be specified within context",
    ]


@pytest.mark.covers("s029")
def test_s3_without_a_key() -> None:
    assert complaint('s3 secret="no"').endswith("expected 'key' attribute to be set")


@pytest.mark.covers("s030")
@pytest.mark.parametrize(
    ("written", "ssl"),
    [
        ("", True),
        ("ssl=true", True),
        ("ssl=on", True),
        ("ssl=off", False),
        ('ssl="false"', False),
        ("ssl=null", True),
    ],
)
def test_ssl_is_a_boolean_or_its_text(written: str, ssl: bool) -> None:
    """Section 12: the older documentation shows the strings."""
    (s3,) = load(f's3 key="key" secret="no" {written}').of(S3)
    assert s3.ssl is ssl


@pytest.mark.covers("s030")
@pytest.mark.parametrize("written", ['"yes"', '"True"', "1", '""'])
def test_other_flags_are_refused(written: str) -> None:
    """For `public` sharp edge S2: any string made objects public."""
    message = f"attribute value to be true or false or nil; got: {written}"
    assert complaint(f's3 key="key" secret="no" ssl={written}').endswith(f": expected 'ssl' {message}")
    for statement in ("source_s3", "store_s3"):
        text = inside(f'{statement} "input" bucket="b" path="p" public={written}')
        assert complaint(text).endswith(f": expected 'public' {message}")


@pytest.mark.covers("s028")
def test_without_a_thumbnailer_the_embedded_engine_is_used() -> None:
    assert load('get { thumbnail "input" "a"\n}').statements
    assert "embedded engine" not in str(load('get "x"').warnings)


# Endpoints


@pytest.mark.covers("s033", "s034", "s037", "s039", "s040", "s041")
@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ('source_file root="root" path="path"', "expected image name"),
        ('source_file "image" path="path"', "expected 'root' attribute to be set"),
        ('source_file "image" root="root"', "expected 'path' attribute to be set"),
        ('source_file "image" "more" root="root" path="path"', 'unexpected values: "more"'),
        ("source_file null root=1 path=1", "expected image name"),
        ('source_s3 "image" bucket="bucket"', "expected 'path' attribute to be set"),
        ('source_s3 "image" path="path"', "expected 'bucket' attribute to be set"),
        ('store_file root="root" path="path"', "expected image name"),
        ('store_file "image" path="path"', "expected 'root' attribute to be set"),
        ('store_s3 "image" bucket="bucket"', "expected 'path' attribute to be set"),
        ("identify", "expected image name"),
        ('identify "one" "two"', 'unexpected values: "two"'),
        ("output_text", "expected text"),
        ("output_text null", "expected text"),
        ('output_text "one" 2', "unexpected values: 2"),
        ("output_image", "expected image name"),
        ('output_image "one" "two" null true 1.5', 'unexpected values: "two", nil, true, 1.5'),
        ("output_data_uri_image", "expected image name"),
        ('output_store_path "one" "two"', 'unexpected values: "two"'),
        ('output_store_url "aa" "bb"', 'unexpected values: "bb"'),
        ('output_store_uri "aa" "bb"', 'unexpected values: "bb"'),
        ('thumbnail "image"', "expected thumbnail image name"),
        ('thumbnail "image" "name" "more" "words"', 'unexpected values: "more", "words"'),
    ],
)
def test_values_and_required_attributes(statement: str, message: str) -> None:
    told = complaint(inside(statement))
    assert told.startswith("syntax error while parsing '")
    assert told.endswith(f"': {message}")


@pytest.mark.parametrize("missing", ["thumbnail", "thumbnail null"])
def test_a_thumbnail_without_any_name(missing: str) -> None:
    told = complaints(inside(missing))
    assert [line.partition("': ")[2] for line in told] == [
        "expected source image name",
        "expected thumbnail image name",
    ]


@pytest.mark.parametrize(
    ("values", "told"),
    [("", "expected header name"), ('"header"', "expected hmac"), ('"a" "b" "c"', 'unexpected values: "c"')],
)
def test_values_of_a_validator(values: str, told: str) -> None:
    lines = complaints(inside(f'validate_header_hmac {values} secret="no"'))
    assert lines[0].endswith(f"': {told}")


@pytest.mark.covers("s041")
@pytest.mark.parametrize(
    ("statement", "node"),
    [
        ('thumbnail "a" "b" {\nfoo\nbar\n}', 'thumbnail "a" "b"'),
        ('thumbnail "a" {\n"b" {\nfoo\nbar\n}\n}', '"b"'),
    ],
    ids=["single", "grouped"],
)
def test_an_unknown_child_of_a_thumbnail(statement: str, node: str) -> None:
    told = complaint(inside(statement))
    assert told.endswith("unknown directive 'foo and bar' for thumbnail specification 'b' for image 'a'")
    assert told.startswith(about(node.replace('"a"', "'a'").replace('"b"', "'b'"), "")[:-3])


@pytest.mark.parametrize(
    ("child", "message"),
    [("name width=1", "expected thumbnail image name"), ('"a" "b"', 'unexpected values: "b"')],
)
def test_a_grouped_thumbnail_has_one_name(child: str, message: str) -> None:
    assert complaint(inside(f'thumbnail "input" {{\n{child}\n}}')).endswith(f"': {message}")


def test_conditions_are_the_only_attributes_of_a_group() -> None:
    statement = 'thumbnail "input" {0} {{\n"small"\n}}'
    (told,) = complaints(inside(statement.format("width=5")))
    assert told.endswith("': unexpected attributes: 'width'")
    assert load(inside(statement.format('if-variable-matches="path" if-image-name-on="a"'))).statements


@pytest.mark.covers("s032")
@pytest.mark.parametrize("second", ["output_ok", "output_text", 'output_image "a"', "output_store_url"])
def test_an_endpoint_has_one_output(second: str) -> None:
    told = complaint(inside(f"output_ok\n{second}"))
    node = second.replace('"', "'")
    assert told == about(node, "only one output type statement can be specified within context")


@pytest.mark.covers("s032")
def test_the_second_output_is_told_even_if_the_first_is_bad() -> None:
    told = complaints(inside("output_text\noutput_ok"))
    assert [line.partition("': ")[2] for line in told] == [
        "expected text",
        "only one output type statement can be specified within context",
    ]


def test_a_list_with_a_value_needs_no_block() -> None:
    """The older server ignored the block; so do the drop-in commands."""
    text = inside('output_store_url "input" {\n"small"\n}')
    assert complaints(text) == ["x.conf:3:1: 'output_store_url' takes no block"]
    assert load(text, lenient=True).statements


@pytest.mark.covers("s031", "s035", "s036", "s038")
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('get "x" zeta=1 {\n}', "'zeta'"),
        ("put x=1 y=2", "'x', 'y'"),
        (inside("output_ok status=5"), "'status'"),
        (inside('output_image "image" zeta=1 alpha=2'), "'zeta', 'alpha'"),
        (inside('output_image "image" if-image-name-on="a"'), "'if-image-name-on'"),
        (inside('source_file "image" zeta=1 root="a" path="b" alpha=2'), "'zeta', 'alpha'"),
        (inside('identify "image" zeta=1'), "'zeta'"),
        (
            inside('store_s3 "image" bucket="b" path="p" public_access="x"'),
            "'public_access' (did you mean 'public'?)",
        ),
        (inside('output_store_url {\n"image" zeta=1\n}'), "'zeta'"),
        ('s3 key="key" secret="no" zeta=1', "'zeta'"),
        ('thumbnailer url="http://a" zeta=1', "'zeta'"),
        (inside('source_file "image" x:root="a" root="a" path="b"'), "'x:root' (did you mean 'root'?)"),
    ],
)
def test_unexpected_attributes_are_listed_as_written(text: str, names: str) -> None:
    (told,) = complaints(text)
    assert told.endswith(f"': unexpected attributes: {names}")
    warnings = [warning for warning in load(text, lenient=True).warnings if "unexpected" in warning.message]
    assert len(warnings) == 1


def test_an_endpoint_shows_its_block_in_messages() -> None:
    (told,) = complaints("get x=1 {\n  output_ok;\n}")
    node = re.sub(r"\s+", " ", told.partition("parsing '")[2].partition("': ")[0])
    assert node == "get x=1 { output_ok }"


# Unknown statements


@pytest.mark.covers("s015", "s016")
@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ('pat "p" "t"', "1:1", "unexpected statement: pat (did you mean 'path'?)"),
        ('GET "x" {\n}', "1:1", "unexpected statement: GET"),
        ("qqq { a; b { c }; }", "1:1", "unexpected statement: qqq"),
        (
            "get {\n  output_txt `x` {\n}\n}",
            "2:3",
            "unexpected statement: output_txt (did you mean 'output_text'?)",
        ),
        ("get {\n  path `a` `b`\n}", "2:3", "unexpected statement: path"),
        ("output_ok", "1:1", "unexpected statement: output_ok"),
        ("get {\n get { }\n}", "2:2", "unexpected statement: get"),
        ('"anonymous"', "1:1", "unexpected statement: content"),
    ],
)
def test_unknown_statements(text: str, place: str, message: str) -> None:
    """Refused with the nearest name; the drop-in commands warn and ignore them with their block."""
    assert complaints(text) == [f"x.conf:{place}: {message}"]
    assert warnings(text, lenient=True) == [f"x.conf:{place}: warning: {message}"]


@pytest.mark.covers("s016")
@pytest.mark.parametrize("name", ["validate_uri_hmc", "validate", "validate_anything"])
def test_unknown_guards_are_refused_in_both_modes(name: str) -> None:
    """Sharp edge S25: ignoring one would leave the endpoint open."""
    for lenient in (False, True):
        (told,) = complaints(inside(f'{name} "hmac" secret="no"'), lenient=lenient)
        assert f"unexpected statement: {name}" in told


@pytest.mark.parametrize("name", ["get", "x:get", "ns:get"])
def test_the_namespace_of_a_statement_is_ignored(name: str) -> None:
    assert load(f'{name} "x"').statements


def test_a_statement_named_content_is_anonymous() -> None:
    assert load('path {\ncontent "p" "t"\n}').statements


def test_a_block_where_none_belongs() -> None:
    for statement in ("output_ok", 'output_image "a"', 'store_file "a" root="r" path="p"'):
        text = inside(f"{statement} {{\nfoo\n}}")
        (told,) = complaints(text)
        assert told == f"x.conf:3:1: '{statement.split()[0]}' takes no block"
        assert told.replace(": '", ": warning: '", 1) in map(str, load(text, lenient=True).warnings)


def test_values_that_are_ignored_are_warned_of() -> None:
    """Sharp edge S26."""
    config = load('thumbnailer "v" url="http://a"\nget { output_ok "x"\n}')
    assert [warning.message for warning in config.warnings if "ignored" in warning.message] == [
        "values of 'thumbnailer' are ignored",
        "values of 'output_ok' are ignored",
    ]


# Everything else


@pytest.mark.covers("s017")
@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "/* nothing */"])
def test_an_empty_file_loads(text: str) -> None:
    config = load(text)
    assert config.statements == ()
    assert [warning.message for warning in config.warnings] == ["no handlers configured"]


def test_a_file_without_endpoints_is_warned_of() -> None:
    config = load('path "p" "t"')
    assert [warning.message for warning in config.warnings] == ["no handlers configured"]


@pytest.mark.covers("s024", "s096", "s097", "s127")
def test_what_only_requests_can_find_out_is_a_warning() -> None:
    config = load("""
        path "p" "#{nope}"
        get "x" {
            source_file "o" root="r" path="q"
            store_file "i" root="r" path="p"
        }
    """)
    assert [warning.message for warning in config.warnings] == [
        "path 'q' not defined (did you mean 'p'?)"
        if "mean" in config.warnings[0].message
        else "path 'q' not defined",
        "no statement provides image 'i'",
        "variable 'nope' not defined in path 'p'",
    ]


def test_parse_errors_and_complaints_come_together() -> None:
    told = complaints('get {\n  output_text\n}\npath "a" b\nput c=1\n')
    assert [line.split(": ")[0] for line in told] == ["x.conf:2:3", "x.conf:4:10", "x.conf:5:1"]


def test_all_complaints_about_one_statement_come_together() -> None:
    told = complaints(inside("source_file zeta=1"))
    assert [line.partition("': ")[2] for line in told] == [
        "expected image name",
        "expected 'root' attribute to be set",
        "expected 'path' attribute to be set",
        "unexpected attributes: 'zeta'",
    ]


@pytest.mark.parametrize("statement", [name for _, name, _ in REGISTRY.entries()])
def test_the_example_of_every_statement_loads(statement: str) -> None:
    """What the reference documentation shows must work, here strictly."""
    family, cls = next((family, cls) for family, name, cls in REGISTRY.entries() if name == statement)
    text = cls.example if family in ("configuration", "endpoint") else inside(cls.example)
    assert cls.example
    assert load(text).statements


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_golden(path: Path) -> None:
    """A file holds a configuration, `---`, and what comes of it: `strict:`, `lenient:`, or `both:`.

    Below that the complaints, in a file called `golden`; or `ok`, the declared statements as an indented tree
    that shows what was understood, and the warnings. Expectations are written by hand.
    """
    text, expected = path.read_text().split("\n---\n")
    sections = dict(re.findall(r"^(strict|lenient|both):\n(.*?)(?=^\w+:\n|\Z)", expected, re.M | re.S))
    assert sections.keys() in ({"strict", "lenient"}, {"both"})
    for lenient, mode in ((False, "strict"), (True, "lenient")):
        assert outcome(text, lenient=lenient) == sections.get(mode, sections.get("both", "")).rstrip(), mode


def outcome(text: str, *, lenient: bool) -> str:
    """How a configuration loads, as golden files show it."""
    try:
        config = api.load_config(text, "golden", lenient=lenient)
    except ConfigError as error:
        return error.message
    trees = (line for statement in config.statements for line in tree(statement, 0))
    return "\n".join(["ok", *trees, *map(str, config.warnings)])


def tree(statement: Statement, depth: int) -> Iterator[str]:
    """The statement and its parts, each with the values and attributes that one of its fields took."""
    tag = statement.tag
    taken = {own.name for own in statement.fields if own.role == "attribute"}
    free = any(own.role == "free" for own in statement.fields)
    merged = [part for part in statement.parts() if part.tag.position == tag.position]
    known = taken.union(*({own.name for own in part.fields} for part in merged))
    free = free or any(own.role == "free" for part in merged for own in part.fields)
    attributes = {name: text for name, text in tag.attributes.items() if free or name in known}
    head = str(replace(tag, attributes=attributes, children=()))
    yield "    " * depth + head.replace('"', "'")
    for part in statement.parts():
        if part in merged:
            yield from (line for inner in part.parts() for line in tree(inner, depth + 1))
        else:
            yield from tree(part, depth + 1)
