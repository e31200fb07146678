from decimal import Decimal
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.config.problem import Problem
from safelight.config.sdl import MAX_DEPTH, MAX_DIGITS, MAX_PROBLEMS, Parsed, parse
from safelight.config.tag import Position, Tag, Value, literal


def tags(text: str) -> tuple[Tag, ...]:
    parsed = parse(text)
    assert parsed.problems == ()
    return parsed.tags


def tag(text: str) -> Tag:
    (only,) = tags(text)
    return only


def values(text: str) -> list[Value]:
    return list(tag("a " + text).values)


def names(text: str) -> list[str]:
    return [tag.name for tag in tags(text)]


def complaints(text: str) -> list[str]:
    """Each problem as `line:column: message`."""
    return [str(problem).removeprefix("f:") for problem in parse(text, "f").problems]


def shape(tag: Tag) -> object:
    """All of a tag but its position, with types, because `1 == 1.0 == True`."""
    return (
        tag.namespace,
        tag.name,
        [(type(value), value) for value in tag.values],
        {key: (type(value), value) for key, value in tag.attributes.items()},
        [shape(child) for child in tag.children],
    )


# Statements


def test_a_statement_has_values_attributes_and_a_block():
    get = tag('get "thumbs" 5 root="/srv" x = 1 {\n\tsource_file "original"\n}\n')
    assert (get.name, get.values, get.attributes) == ("get", ("thumbs", 5), {"root": "/srv", "x": 1})
    assert [(child.name, child.values) for child in get.children] == [("source_file", ("original",))]


def test_positions_count_from_one_in_every_kind_of_line_end():
    text = 'a\r\n  b {\r\tc "é" /*\n*/ d=1; "x"\n}'
    a, b = parse(text, "x.conf").tags
    assert a.position == Position("x.conf", 1, 1)
    assert b.position == Position("x.conf", 2, 3)
    assert [str(child.position) for child in b.children] == ["x.conf:3:2", "x.conf:4:9"]


def test_a_line_end_is_counted_inside_strings():
    assert [tag.position.line for tag in tags('a `1\n2\r\n3`\nb "x\\\n  y"\nc')] == [1, 4, 6]


@pytest.mark.parametrize("text", ['"n" "pattern"', 'content "n" "pattern"'])
def test_a_statement_without_a_name_is_called_content(text: str):
    assert shape(tag(text)) == shape(Tag("content", ("n", "pattern"), {}, (), Position("", 1, 1)))


@pytest.mark.parametrize("name", ["get", "_x", "a1", "a-b", "a--b", "a.b", "a$b", "größe", "名前", "a-"])
def test_names(name: str):
    assert names(f"{name} 1") == [name]
    assert tag(f"a {name}=1").attributes == {name: 1}


@pytest.mark.parametrize("name", ["online", "on-top", "offset", "true_color", "falsely", "nullable", "on.x"])
def test_names_may_begin_with_a_keyword(name: str):
    """S17"""
    assert names(name) == [name]
    assert tag(f"a {name}=5").attributes == {name: 5}


def test_the_namespace_of_a_statement_is_apart_and_that_of_an_attribute_is_part_of_its_key():
    get = tag("x:get y:root=1 root=2")
    assert (get.namespace, get.name, get.attributes) == ("x", "get", {"y:root": 1, "root": 2})


@pytest.mark.covers("s014")
def test_names_are_case_sensitive():
    assert names("get\nGET\nGet") == ["get", "GET", "Get"]


@pytest.mark.covers("s008")
def test_semicolons_separate_statements():
    assert [(tag.name, tag.values) for tag in tags('a; b; c "x"')] == [("a", ()), ("b", ()), ("c", ("x",))]


@pytest.mark.parametrize("text", ["", ";", "\n\n", " ; ;\t\r\n", "# only\n", "\ufeff", "\\", "/**/"])
def test_empty_statements_are_fine(text: str):
    assert tags(text) == ()


@pytest.mark.parametrize("text", ["a b=1", "a b=1 ", "a b=1 # c", "a b=1 /* c */", "a b=1 -- c", "a b=1 \\"])
def test_the_file_may_end_without_a_newline(text: str):
    """S16"""
    assert shape(tag(text)) == shape(tag("a b=1\n"))


def test_a_byte_order_mark_is_skipped():
    assert tag("\ufeffa").position == Position("<config>", 1, 1)


@pytest.mark.covers("s007")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", " \t\n"])
def test_a_backslash_at_the_end_of_a_line_continues_the_statement(end: str):
    text = f'a "x" \\{end}  b=1 \\{end}{{\n c\n}}'
    assert str(tag(text)) == "a 'x' b=1 {\n\tc\n}"


# Blocks


@pytest.mark.covers("s011")
@pytest.mark.parametrize("text", ["get { }", "get {\n}", "get {}", "get{}", "get { ; }", "get { # c\n}"])
def test_empty_blocks(text: str):
    assert shape(tag(text)) == shape(tag("get"))


@pytest.mark.parametrize(
    "text",
    ["a { b; c 1; }", "a { b; c 1 }", "a {\nb\nc 1\n}", "a {b;c 1}", "a { b { }; c 1 }", "a { b { } c 1 }"],
)
def test_a_block_may_close_on_the_line_of_a_statement(text: str):
    """S15"""
    assert str(tag(text)) == "a {\n\tb\n\tc 1\n}"


def test_a_statement_may_follow_a_block_on_its_line():
    assert names("a { b; } c { } d") == ["a", "c", "d"]


def test_blocks_nest():
    assert str(tag("a { b { c { d 1 } }\n e }")) == "a {\n\tb {\n\t\tc {\n\t\t\td 1\n\t\t}\n\t}\n\te\n}"


def test_a_block_may_begin_after_a_comment_of_several_lines():
    assert str(tag("a /*\n\n*/ { b }")) == "a {\n\tb\n}"


def test_the_deepest_block_allowed():
    assert len(str(tag("a{" * MAX_DEPTH + "}" * MAX_DEPTH)).splitlines()) == 2 * MAX_DEPTH - 1


# Comments


@pytest.mark.covers("s001")
@pytest.mark.parametrize(
    "comment", ["# c", "#", "// c", "-- c", "--c", "/* c */", '# "', "// { `", "/* ' \\ */"]
)
def test_comments_after_a_statement(comment: str):
    assert str(tag(f'a "xy" b=1 {comment}\n')) == 'a "xy" b=1'
    assert names(f"a {comment}\nb") == ["a", "b"]


@pytest.mark.covers("s002")
def test_a_comment_of_several_lines_does_not_end_the_statement():
    assert str(tag('a /* 1\n\n 2 */ "xy"/**/b/* */=/*\r*/1')) == 'a "xy" b=1'


def test_comments_do_not_nest():
    assert names("/* /* */ a // */ b\n/*/ x /*/ c") == ["a", "c"]


def test_two_dashes_after_a_number_or_string_are_a_comment():
    assert values("5--6") == [5]
    assert values('"x"--6') == ["x"]


def test_a_date_takes_a_time_that_follows():
    assert values("2012/12/25 5") == ["2012/12/25", 5]
    assert values("2012/12/25 12:30 5") == ["2012/12/25 12:30", 5]
    assert values("2012/12/25//12:30") == ["2012/12/25"]


# Values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('""', ""),
        ('"text"', "text"),
        (r'"\\ \" \n \r \t"', '\\ " \n \r \t'),
        ('"it\'s # no // comment -- at { all } ; `"', "it's # no // comment -- at { all } ; `"),
        ('"tab\there"', "tab\there"),
        ("'c'", "c"),
        ("'\"'", '"'),
        ("'é'", "é"),
        (r"'\\'", "\\"),
        (r"'\''", "'"),
        (r"'\n'", "\n"),
        (r"'\r'", "\r"),
        (r"'\t'", "\t"),
        ("12", 12),
        ("-6", -6),
        ("+3", 3),
        ("12L", 12),
        ("12345678901234567890L", 12345678901234567890),
        ("1.5", 1.5),
        (".5", 0.5),
        ("-.5", -0.5),
        ("3F", 3.0),
        ("3D", 3.0),
        ("1.5F", 1.5),
        ("5BD", Decimal(5)),
        ("1.50BD", Decimal("1.50")),
        ("-.5BD", Decimal("-0.5")),
        ("9" * MAX_DIGITS, 10**MAX_DIGITS - 1),
        ("true", True),
        ("false", False),
        ("null", None),
        ("2012/12/25", "2012/12/25"),
        ("12:30:00", "12:30:00"),
        ("12:30:00.250", "12:30:00.250"),
        ("-2d:01:00:00", "-2d:01:00:00"),
        ("2012/12/25  12:30", "2012/12/25  12:30"),
        ("2012/12/25 12:30:00.5-Europe/Paris", "2012/12/25 12:30:00.5-Europe/Paris"),
        ("[aGk=]", "[aGk=]"),
        ("[]", "[]"),
        ("[aG\n  k=]", "[aG\n  k=]"),
    ],
)
def test_values(text: str, value: Value):
    for found in (values(text)[0], tag("a x=" + text).attributes["x"], tag(text).values[0]):
        assert (type(found), found) == (type(value), value)


@pytest.mark.covers("s003")
def test_a_doubled_backslash_is_one():
    assert values(r'"/(?<n>.+)\\.jpg$/"') == [r"/(?<n>.+)\.jpg$/"]
    assert values(r'"\\#{x}"') == [r"\#{x}"]


@pytest.mark.covers("s004")
def test_other_escapes_stop_the_load():
    assert complaints('a "x\\#{y}"') == [
        "1:5: illegal escape '\\#' in a string: write '\\\\#' or use backticks",
    ]
    assert complaints('a\nb "\\d+"') == [
        "2:4: illegal escape '\\d' in a string: write '\\\\d' or use backticks",
    ]


@pytest.mark.covers("s005")
def test_backtick_strings_are_kept_as_they_are():
    assert values("`\\d \"q\" 'c' \\`") == ["\\d \"q\" 'c' \\"]
    assert values("`a\n\t b\\\n  c`") == ["a\n\t b\\\n  c"]


@pytest.mark.covers("s006")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", " \n"])
def test_a_continued_string_drops_the_indentation_of_the_next_line(end: str):
    assert values(f'"one \\{end}   \t two\\{end}three"') == ["one twothree"]


def test_an_escaped_backslash_does_not_continue_a_string():
    assert values('"x\\\\" 1') == ["x\\", 1]


@pytest.mark.covers("s012")
def test_on_and_off_are_booleans():
    assert values("on off") == [True, False] == values("true false")
    assert tag("a x=on y=off").attributes == {"x": True, "y": False}
    assert tag("on").values == (True,)


@pytest.mark.parametrize(("text", "number"), [("010", 10), ("08", 8), ("-007", -7), ("00", 0), ("0", 0)])
def test_integers_with_a_leading_zero_are_decimal(text: str, number: int):
    """S18"""
    assert values(text) == [number]


def test_no_space_is_needed_after_a_quote():
    assert values("\"x\"'y'`z`[]5") == ["x", "y", "z", "[]", 5]
    assert tag('a "x"b=\'y\'c=`z`d="w"').attributes == {"b": "y", "c": "z", "d": "w"}


@pytest.mark.covers("s013")
def test_a_repeated_attribute_takes_the_last_value():
    assert tag("a x=1 y=2 x=3").attributes == {"x": 3, "y": 2}


def test_the_order_of_attributes_is_kept():
    assert list(tag("a z=1 b=2 m=3").attributes) == ["z", "b", "m"]


# Problems

NOT_A_NUMBER = "is not a number: put text in double quotes"
BARE_WORD = "put text in double quotes"


def illegal_escape(char: str) -> str:
    return f"illegal escape '\\{char}' in a string: write '\\\\{char}' or use backticks"


ERRORS = [
    # blocks
    ("get {", ["1:5: unclosed '{' of 'get'"]),
    ('get "x" {\n a {\n}\n', ["1:9: unclosed '{' of 'get'"]),
    ("a {\n b {", ["1:3: unclosed '{' of 'a'", "2:4: unclosed '{' of 'b'"]),
    ("x:a {", ["1:5: unclosed '{' of 'x:a'"]),
    ("1 {", ["1:3: unclosed '{'"]),
    ("a\n}\nb", ["2:1: stray '}'"]),
    ("a { } }", ["1:7: stray '}'"]),
    ("}\n }\n}\nx\n}", ["1:1: stray '}'", "5:1: stray '}'"]),
    ("{ }", ["1:1: '{' without a statement before it"]),
    ("{{ } }", ["1:1: '{' without a statement before it"]),
    ("a { }\n{ }", ["2:1: '{' without a statement before it"]),
    ("a { {\n b 1x\n} }", ["1:5: '{' without a statement before it", f"2:4: '1x' {NOT_A_NUMBER}"]),
    ("a {" * 101, ["1:303: blocks are nested more than 100 deep"]),
    # attributes
    ("a x=1 y=2 3", ["1:11: values must come before attributes"]),
    ('x = "1"', ["1:1: attribute 'x' must be on the line of its statement, or that line must end with '\\'"]),
    (
        "a\nx=1 y=2",
        ["2:1: attribute 'x' must be on the line of its statement, or that line must end with '\\'"],
    ),
    ('a "x"=1', ["1:6: '=' must follow an attribute name"]),
    ("a on=5", ["1:5: '=' must follow an attribute name"]),
    ("=", ["1:1: '=' must follow an attribute name"]),
    ("a x=", ["1:3: 'x=' needs a value"]),
    ("a x= # 1", ["1:3: 'x=' needs a value"]),
    ("a x=\n1", ["1:3: 'x=' needs a value"]),
    ("a x={\n}", ["1:3: 'x=' needs a value"]),
    ("a x==1", ["1:3: 'x=' needs a value"]),
    ("a x=y", [f"1:5: bare word 'y': {BARE_WORD}"]),
    ("a x=/y", [f"1:5: unexpected '/': {BARE_WORD}"]),
    # words
    ("get foo", [f"1:5: bare word 'foo': {BARE_WORD}"]),
    ("get foo bar baz", [f"1:5: bare word 'foo': {BARE_WORD}"]),
    ('get foo "\\d"', [f"1:5: bare word 'foo': {BARE_WORD}", "1:10: " + illegal_escape("d")]),
    ("a " + "x" * 50, [f"1:3: bare word '{'x' * 40}...': {BARE_WORD}"]),
    ("get /thumbs/:id", [f"1:5: unexpected '/': {BARE_WORD}"]),
    ("thumbnailer http://localhost", [f"1:13: bare word 'http': {BARE_WORD}"]),
    ("a : b", [f"1:3: unexpected ':': {BARE_WORD}"]),
    ("a:5", [f"1:2: unexpected ':': {BARE_WORD}"]),
    ("a 5- 6", [f"1:4: unexpected '-': {BARE_WORD}"]),
    ("a @@@ @@ @", [f"1:3: unexpected '@': {BARE_WORD}"]),
    ("- 5", [f"1:1: unexpected '-': {BARE_WORD}"]),
    ('a "x", "y"', ["1:6: unexpected ',': separate values by spaces"]),
    ("a “x”", ["1:3: unexpected '“': use plain double quotes"]),
    ('a\u00a0"x"', ["1:2: unexpected 'U+00A0': only spaces and tabs separate words"]),
    ("a \x00", [f"1:3: unexpected 'U+0000': {BARE_WORD}"]),
    ("\\ a", ["1:1: unexpected '\\': outside a string it must be the last character of its line"]),
    # numbers
    ("a 1.2.3", [f"1:3: '1.2.3' {NOT_A_NUMBER}"]),
    ("a 1e3", [f"1:3: '1e3' {NOT_A_NUMBER}"]),
    ("a 5.", [f"1:3: '5.' {NOT_A_NUMBER}"]),
    ("a 1.5L", [f"1:3: '1.5L' {NOT_A_NUMBER}"]),
    ("a 10px h=20px", [f"1:3: '10px' {NOT_A_NUMBER}", f"1:10: '20px' {NOT_A_NUMBER}"]),
    ("a 5x=1", [f"1:3: '5x' {NOT_A_NUMBER}"]),
    ("a 10/20", [f"1:3: '10/20' {NOT_A_NUMBER}"]),
    ("a ٣", [f"1:3: unexpected '٣': {BARE_WORD}"]),
    ("a " + "9" * 101, ["1:3: number too long: at most 100 digits"]),
    ("a -" + "9" * 10_000, ["1:3: number too long: at most 100 digits"]),
    ("a ." + "0" * 101 + "F", ["1:3: number too long: at most 100 digits"]),
    # strings
    ('a "xyz\nb', ["1:3: unclosed string"]),
    ('a "x\\\n y\nb', ["1:3: unclosed string"]),
    ('a "x\\"\nb', ["1:3: unclosed string"]),
    ('get "x {\n a 1\n}', ["1:5: unclosed string"]),
    ("a 'x", ["1:3: unclosed single quote: put text in double quotes"]),
    ("a 'abc'", ["1:3: 'abc' is not one character: put text in double quotes"]),
    ("a ''", ["1:3: '' is not one character: put text in double quotes"]),
    ("a '\\d'", ["1:4: illegal escape '\\d' in a string: write '\\\\d' or use backticks"]),
    ("a '\\\"'", ["1:4: illegal escape '\\\"' in a string: write '\\\\\"' or use backticks"]),
    ('a "\\\'"', ["1:4: illegal escape '\\'' in a string: write '\\\\'' or use backticks"]),
    ('a "\\d\\w" x="\\."', ["1:4: " + illegal_escape("d"), "1:13: " + illegal_escape(".")]),
    ('a "x\\\n  \\d"', ["2:3: " + illegal_escape("d")]),
    ("a [aGk=\nb 1x", ["1:3: unclosed '['", f"2:3: '1x' {NOT_A_NUMBER}"]),
    # to the end of the file
    ("a {\n b `x\n}\n", ["2:4: unclosed backtick string"]),
    ("a {\n b /* x\n}\n", ["2:4: unclosed comment '/*'"]),
    ("/*/", ["1:1: unclosed comment '/*'"]),
    ("`", ["1:1: unclosed backtick string"]),
]


@pytest.mark.parametrize(("text", "expected"), ERRORS)
def test_problems(text: str, expected: list[str]):
    assert complaints(text) == expected


@pytest.mark.parametrize("text", [text for text, _ in ERRORS])
def test_problems_are_at_the_same_place_in_a_longer_file(text: str):
    before = 'ok "fine" {\r\n\tok 1\r\n}\r\n'
    shifted = parse(before + text, "f")
    assert shifted.tags[0].name == "ok"
    assert [
        f"{problem.position.line - 3}:{problem.position.column}: {problem.message}"
        for problem in shifted.problems
    ] == complaints(text)


@pytest.mark.covers("s009")
def test_a_value_after_an_attribute_stops_the_load():
    assert complaints('source_file root="/" "original"') == ["1:22: values must come before attributes"]


@pytest.mark.covers("s010")
def test_a_block_on_the_line_after_its_statement_stops_the_load():
    assert complaints("get\n{\n\tb\n}\nc") == ["2:1: '{' must be on the same line as its statement"]
    assert [tag.name for tag in parse("get\n{\n\tb\n}\nc").tags] == ["c"]


def test_all_problems_of_a_file_are_reported_in_its_order():
    text = """\
get "a {
    source_file original root=
    thumbnail "x" width=10px height=20px
}
put "b\\d"
{
    store_file root="/" "input"
"""
    assert complaints(text) == [
        "1:5: unclosed string",
        "2:17: bare word 'original': put text in double quotes",
        "3:25: '10px' is not a number: put text in double quotes",
        "3:37: '20px' is not a number: put text in double quotes",
        "5:7: illegal escape '\\d' in a string: write '\\\\d' or use backticks",
        "6:1: '{' must be on the same line as its statement",
        "6:1: unclosed '{' of 'put'",
        "7:25: values must come before attributes",
    ]


def test_a_statement_with_a_problem_is_left_out_with_its_block():
    parsed = parse("a\nb x {\n c\n}\nd {\n e 1x\n f\n}\ng {\n h")
    assert [str(tag) for tag in parsed.tags] == ["a", "d {\n\tf\n}"]


def test_parsing_stops_after_many_problems():
    problems = complaints("a b\n" * 1000)
    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[-1] == "101:3: more than 100 problems: the rest of the file is not checked"


def test_a_problem_names_its_place():
    position = Position("x.conf", 3, 7)
    assert str(Problem(position, "stray '}'")) == "x.conf:3:7: stray '}'"
    assert str(Problem(position, "odd", "warning")) == "x.conf:3:7: warning: odd"


# Rendering


@pytest.mark.covers("s025")
def test_attributes_are_rendered_in_the_order_of_their_keys():
    store = tag('store_file "input" root="images" path="by-hash"')
    assert str(store) == 'store_file "input" path="by-hash" root="images"'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "'x'"),
        ("'", r"'\''"),
        ('"', "'\"'"),
        ("\n", r"'\n'"),
        ("\\", r"'\\'"),
        ("", '""'),
        ("xy", '"xy"'),
        ('it\'s "so"\t\\\r\n', r'"it' + "'" + r's \"so\"\t\\\r\n"'),
        (5, "5"),
        (-(2**31), "-2147483648"),
        (2**31 - 1, "2147483647"),
        (2**31, "2147483648L"),
        (-(2**31) - 1, "-2147483649L"),
        (2**63 - 1, "9223372036854775807L"),
        (2**63, "9223372036854775808BD"),
        (1.5, "1.5F"),
        (2.0, "2.0F"),
        (1e20, "100000000000000000000F"),
        (1e-7, "0.0000001F"),
        (Decimal("1.50"), "1.50BD"),
        (Decimal("1E+3"), "1000BD"),
        (None, "null"),
        (True, "true"),
        (False, "false"),
    ],
)
def test_rendering_of_values(value: Value, text: str):
    assert literal(value) == text
    assert tag("a " + text).values == (value,)


def test_rendering_of_blocks():
    text = "get\n{".replace("\n", " ") + ' "n" "p"; x:y { 1 { z; } } content a=1\n content { b; } }'
    assert str(tag(text)).splitlines() == [
        "get {",
        "\t'n' 'p'",
        "\tx:y {",
        "\t\t1 {",
        "\t\t\tz",
        "\t\t}",
        "\t}",
        "\tcontent a=1",
        "\tcontent {",
        "\t\tb",
        "\t}",
        "}",
    ]


def test_rendering_does_not_recurse():
    deep = Tag("a", (), {}, (), Position("", 1, 1))
    for _ in range(2000):
        deep = Tag("a", (), {}, (deep,), Position("", 1, 1))
    assert len(str(deep).splitlines()) == 4001


KEYWORDS = {"true", "on", "false", "off", "null"}
words = st.from_regex(r"[a-zA-Z_éßλЖ名][\w.$-]{0,8}", fullmatch=True)
plain_names = words.filter(lambda word: word not in KEYWORDS)
scalars = st.one_of(
    st.text(),
    st.text(alphabet="\\\"'`{}#\r\n\t ;ab", max_size=6),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(-1e15, 1e15).map(lambda number: round(number, 20)),
    st.decimals(-(10**20), 10**20, places=5),
    st.booleans(),
    st.none(),
)


def tags_of(children: st.SearchStrategy[tuple[Tag, ...]]) -> st.SearchStrategy[Tag]:
    def build(names: tuple[str, str], *rest: object) -> Tag:
        return Tag(names[1], *rest, Position("", 1, 1), names[0])  # pyright: ignore

    names = st.tuples(st.just(""), plain_names | st.just("content")) | st.tuples(words, words)
    attributes = st.dictionaries(plain_names | st.builds("{}:{}".format, words, words), scalars, max_size=3)
    return st.builds(build, names, st.lists(scalars, max_size=3).map(tuple), attributes, children)


any_tag = st.recursive(
    tags_of(st.just(())), lambda tag: tags_of(st.lists(tag, max_size=3).map(tuple)), max_leaves=8
)


@given(any_tag)
def test_what_is_rendered_parses_to_the_same(generated: Tag):
    assert shape(tag(str(generated))) == shape(generated)


# Hostile files


def assert_sound(text: str, parsed: Parsed) -> None:
    lines = text.count("\n") + text.count("\r") + 1
    assert len(parsed.problems) <= MAX_PROBLEMS + 1
    places = [(problem.position.line, problem.position.column) for problem in parsed.problems]
    assert places == sorted(places)
    assert all(1 <= line <= lines and 1 <= column <= len(text) + 1 for line, column in places)
    for found in parsed.tags:
        assert str(parse(str(found)).tags[0]) == str(found)


@given(st.text())
def test_any_text_gives_tags_or_problems(text: str):
    assert_sound(text, parse(text))


@given(
    st.lists(
        st.sampled_from(
            [
                *"{};=\n\r\t \\\"'`[]#-/*:,.5aé\x00\ufeff",
                "/*",
                "*/",
                "--",
                "\r\n",
                "a ",
                "x=",
                '"y"',
                "1.5BD",
                "on",
            ]
        ),
        max_size=40,
    ).map("".join)
)
def test_any_mix_of_tokens_gives_tags_or_problems(text: str):
    assert_sound(text, parse(text))


UNITS = r"""{ } " ' ` [ /* # -- \\ = ; : @ 1 -5 a a{ a{} {} a= a; [\n "\n "{\n "\\\n a\n{ {\t \\\t "\\\t
1/1/1\t 1: / */ /*/ \n \r"""


@pytest.mark.parametrize("unit", [unit.encode().decode("unicode_escape") for unit in UNITS.split()])
def test_hostile_files_take_linear_time(unit: str):
    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        start = process_time()
        parse(text)
        return process_time() - start

    assert seconds(200_000) < 40 * seconds(20_000) + 0.5


def test_a_megabyte_of_openers():
    for unit in ("{", '"', "/*", "`", "["):
        assert len(parse(unit * (1_000_000 // len(unit))).problems) <= 2


def test_two_thousand_lines():
    endpoint = """\
get "thumbs" ":id/(?<x>[0-9]+)\\\\.jpg" {
    source_file "original" root="/srv/images" path="by-hash" # where they are
    thumbnail "original" {
        "small" operation="crop" width=100 height=100
    }
    output_image "small" cache-control="public"
}

"""
    start = process_time()
    assert len(tags(endpoint * 250)) == 250
    assert process_time() - start < 1
