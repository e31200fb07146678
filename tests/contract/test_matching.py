"""Which endpoint serves a request, and what its matchers capture (reference/imagestore section 3)."""

import pytest

from safelight.errors import BadRequest, ConfigError, SetupError


def captures(*names: str) -> str:
    """An `output_text` that shows the named variables and the remaining path."""
    shown = "|".join(f"#{{{name}}}" for name in (*names, "path"))
    return f'output_text "{shown}"'


def line(result) -> str:
    return result.text.removesuffix("\r\n")


@pytest.mark.covers("s045")
def test_endpoints_are_tried_in_file_order_and_the_first_match_wins(serve):
    api = serve("""
        get "a" "b" { output_text "specific" }
        get ":any" { output_text "first" }
        get "a" { output_text "never" }
    """)
    assert line(api.get("/a/b")) == "specific"
    assert line(api.get("/a")) == "first"


@pytest.mark.covers("s045")
def test_an_error_in_the_chosen_endpoint_never_falls_through_to_a_later_one(serve):
    api = serve("""
        get "a" { output_text "#{missing}" }
        get "a" { output_text "second" }
    """)
    assert api.get("/a").failed(SetupError) == "variable 'missing' not defined"


def test_a_failed_matcher_resets_everything_before_the_next_endpoint(serve):
    api = serve(f"""
        get ":a" "x" {{ {captures("a")} }}
        get ":b" ":c" {{ {captures("b", "c")} }}
    """)
    assert line(api.get("/1/2/3")) == "1|2|3"


@pytest.mark.parametrize("verb", ["get", "put", "post", "delete"])
def test_the_verb_must_be_the_method(serve, verb):
    api = serve(f"{verb} {{ output_ok }}")
    handled = [method for method in ("GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS")
               if api.request(method, "/x", b"body").handled]  # fmt: skip
    assert handled == [verb.upper()]


def test_head_is_served_like_get(serve):
    assert line(serve('get "x" { output_ok }').request("HEAD", "/x")) == "OK"


@pytest.mark.parametrize("target", ["/", "/a", "/a/b?c=d", ""])
def test_an_endpoint_without_matchers_matches_every_path(serve, target):
    assert serve("get { }").get(target).handled


# Literals


@pytest.mark.covers("s046")
@pytest.mark.parametrize(
    ("path", "matches"),
    [
        ("/string", True),
        ("/string/", True),
        ("/string/x", True),
        ("/string//", True),
        ("/strings", False),
        ("/STRING", False),
        ("/xstring", False),
        ("/x/string", False),
        ("//string", False),
        ("/", False),
    ],
)
def test_a_literal_matches_a_whole_segment(serve, path, matches):
    assert serve('get "string" { }').get(path).handled is matches


@pytest.mark.covers("s047")
@pytest.mark.parametrize(
    ("literal", "path", "matches"),
    [
        ("a.b", "/a.b", True),
        ("a.b", "/axb", False),
        ("a+", "/a+", True),
        ("a+", "/aa", False),
        ("(x)", "/(x)", True),
        ("[x]", "/x", False),
    ],
)
def test_metacharacters_in_a_literal_are_literal(serve, literal, path, matches):
    assert serve(f'get "{literal}" {{ }}').get(path).handled is matches


@pytest.mark.covers("s048")
def test_a_literal_with_a_slash_matches_several_segments(serve):
    api = serve(f'get "a/b" {{ {captures()} }}')
    assert line(api.get("/a/b/c")) == "c"
    assert not api.get("/a").handled
    assert not api.get("/a/bc").handled


@pytest.mark.parametrize(("path", "matches"), [("/", True), ("//", True), ("//x", True), ("/x", False)])
def test_the_empty_literal_matches_an_empty_segment(serve, path, matches):
    assert serve('get "" { }').get(path).handled is matches


def test_literals_see_the_raw_path(serve):
    assert not serve('get "sp ace" { }').get("/sp%20ace").handled
    api = serve('get "sp%20ace" { }')
    assert api.get("/sp%20ace").handled
    assert not api.get("/sp%20Ace").handled


@pytest.mark.parametrize("literal", ["&foo", "&foo=", "&=x", ":"])
def test_what_is_no_other_kind_is_a_literal(serve, literal):
    assert serve(f'get "{literal}" {{ }}').get(f"/{literal}").handled


def test_a_colon_inside_a_literal_is_literal(serve):
    """Sharp edge S20."""
    api = serve(f'get "a:b" {{ {captures()} }}')
    assert line(api.get("/a:b/c")) == "c"
    assert not api.get("/a/b").handled


def test_a_number_is_a_literal(serve):
    """Sharp edge S21."""
    api = serve(f"get 1 {{ {captures()} }}")
    assert line(api.get("/1/x")) == "x"


# Segments


@pytest.mark.covers("s049")
def test_a_segment_is_not_empty(serve):
    api = serve(f'get "any" ":a" {{ {captures("a")} }}')
    assert line(api.get("/any/1")) == "1|"
    for path in ("/any", "/any/", "/any//2"):
        assert not api.get(path).handled, path


@pytest.mark.covers("s050")
@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/any/default/1", "1|foo|bar|"),
        ("/any/default/1/2", "1|2|bar|"),
        ("/any/default/1/2/3/4/5", "1|2|3|4/5"),
        ("/any/default/1//3", "1|foo|bar|/3"),
    ],
)
def test_a_default_stands_in_when_there_is_no_segment(serve, path, shown):
    api = serve(f'get "any" "default" ":t1" ":t2?foo" ":t3?bar" {{ {captures("t1", "t2", "t3")} }}')
    assert line(api.get(path)) == shown


@pytest.mark.covers("s051")
def test_a_default_may_be_empty(serve):
    api = serve(f'get "x" ":a?" {{ {captures("a")} }}')
    assert line(api.get("/x")) == "|"
    assert line(api.get("/x/1")) == "1|"


def test_the_last_question_mark_begins_the_default(serve):
    api = serve('get "x" ":a?b?c" { output_text "#{a?b}" }')
    assert line(api.get("/x")) == "c"


@pytest.mark.covers("s052")
def test_segments_beyond_the_matchers_are_the_path(serve):
    assert line(serve(f'get ":a" {{ {captures("a")} }}').get("/1/2/3")) == "1|2/3"


def test_of_two_captures_of_one_name_the_later_wins(serve):
    assert line(serve(f'get ":a" ":a" {{ {captures("a")} }}').get("/1/2")) == "2|"


# Regular expressions


@pytest.mark.covers("s053")
@pytest.mark.parametrize(
    ("path", "shown"),
    [("/abc", "abc|"), ("/abc/d", "abc|d"), ("/xabc", None), ("/abcx", None), ("/a/c", "a/c|")],
)
def test_a_named_expression_is_anchored_at_both_ends(serve, path, shown):
    result = serve(f'get ":a/a.c/" {{ {captures("a")} }}').get(path)
    assert (line(result) if result.handled else None) == shown


@pytest.mark.covers("s054")
@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/re1/abc/foo/bar", "abc|foo/bar|"),
        ("/re1/abc/", "abc||"),
        ("/re1/abc", None),
        ("/re1/abc/x/", "abc|x/|"),
    ],
)
def test_a_star_takes_the_rest_of_the_path(serve, path, shown):
    result = serve(f'get "re1" ":a/a.c/" ":b/.*/" {{ {captures("a", "b")} }}').get(path)
    assert (line(result) if result.handled else None) == shown


@pytest.mark.covers("s055")
def test_named_groups_become_variables(serve):
    api = serve(f'get "/(?<a>..)-(?<b>..)/" {{ {captures("a", "b")} }}')
    assert line(api.get("/12-34/x")) == "12|34|x"
    assert not api.get("/12-345").handled


def test_plain_groups_beside_named_ones_do_not_capture(serve):
    api = serve('get "emb" "/(?<stem>.+?)(\\\\.[a-z]+)?$/" { output_text "#{stem}|#{path}" }')
    assert line(api.get("/emb/a/b.jpg")) == "a/b|"


@pytest.mark.covers("s056")
def test_an_expression_without_named_groups_consumes_and_sets_nothing(serve):
    api = serve(f'get "/(x|y)+/" {{ {captures()} }}')
    assert line(api.get("/xyx/rest")) == "rest"
    assert not api.get("/xyz").handled


@pytest.mark.covers("s057")
@pytest.mark.parametrize(
    ("matchers", "path", "message"),
    [
        ('"/(?<a>.)(?<a>.)(?<b>.)/"', "/xyz", "matched more arguments than named (3 for 2)"),
        ('":a/(x)(y)/"', "/xy", "matched more arguments than named (3 for 1)"),
        ('":a/(?<b>x)/"', "/x", "matched less arguments than named (0 for 1)"),
    ],
)
def test_captures_that_do_not_add_up_fail_every_matching_request(serve, matchers, path, message):
    api = serve(f"get {matchers} {{ }}")
    assert api.get(path).failed(SetupError) == message
    assert not api.get("/other").handled
    (warning,) = api.config.warnings
    assert warning.message == f"every request to this endpoint will fail: {message}"


@pytest.mark.covers("s058")
def test_a_dollar_forces_the_end_of_the_path(serve):
    api = serve('get "/[a-z]+$/" { }')
    assert api.get("/abc").handled
    assert not api.get("/abc/d").handled


def test_an_optional_group_that_took_no_part_is_empty(serve):
    """Sharp edge S23."""
    assert line(serve(f'get "/x(?<n>[0-9]+)?/" {{ {captures("n")} }}').get("/x")) == "|"


@pytest.mark.parametrize(
    ("expression", "path", "matches"),
    [
        ("`/[0-f]+/`", "/09:;<=>?@AZ[]^_`af", True),  # a range of code points
        ("`/[0-f]+/`", "/g", False),
        ("`/\\h{2}/`", "/aF", True),
        ("`/\\h{2}/`", "/ag", False),
        ("`/[\\h-]+/`", "/a-f", True),
        ("`/\\Hx/`", "/gx", True),
        ("`/a++b/`", "/aab", True),  # possessive
        ("`/a++ab/`", "/aab", False),
        ("`/(?>a+)ab/`", "/aab", False),  # atomic
        ("`/[[:alpha:]]+/`", "/abc", True),
        ("`/[[:alpha:]]+/`", "/ab1", False),
        ("`/[[:alpha:]_]+-\\h+/`", "/a_b-0f", True),
        ("`/[^[:space:]]\\h+/`", "/x0f", True),
        ("`/[a:]\\h+/`", "/:0f", True),
        ("`/[a-z&&[^b]]/`", "/c", True),  # intersection
        ("`/[a-z&&[^b]]/`", "/b", False),
        ("`/(?i:ab)c/`", "/ABc", True),
        ("`/(?i:ab)c/`", "/ABC", False),
        ("`/ab\\z/`", "/ab", True),
        ("`/ab\\Z/`", "/ab", True),
        ("`/ab\\z/`", "/ab/c", False),
        ("`/(?<p>a|b)\\k<p>/`", "/aa", True),
        ("`/(?<p>a|b)\\k<p>/`", "/ab", False),
        ("`/(?<p>a|b)\\g<p>/`", "/ab", True),
    ],
)
def test_expressions_are_written_in_the_old_dialect(serve, expression, path, matches):
    assert serve(f"get {expression} {{ }}").get(path).handled is matches


def test_a_bad_expression_stops_the_load(serve):
    with pytest.raises(ConfigError, match=r"bad regular expression /\(/"):
        serve('get "/(/" { }')


def test_an_expression_that_backtracks_without_end_is_cut_short(serve):
    api = serve("get `/(a|aa)+(a|aa)+(a|aa)+b\\z/` { }")
    assert "takes too long" in api.get("/" + "a" * 200).failed(BadRequest)


# Query parameters


@pytest.mark.covers("s059")
@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ("k=v", True),
        ("a=b&k=v&c", True),
        ("k=%76", True),
        ("k=w", False),
        ("k=vv", False),
        ("k=", False),
        ("k", False),
        ("", False),
    ],
)
def test_a_key_and_value_need_exactly_that_value(serve, query, matches):
    result = serve(f'get "q" "&k=v" {{ {captures("k")} }}').get(f"/q?{query}")
    assert result.handled is matches
    assert not matches or line(result) == "v|"


@pytest.mark.covers("s060")
@pytest.mark.parametrize(
    ("query", "shown"),
    [("k=x", "x|"), ("k=", "|"), ("k", None), ("", None), ("j=x", None), ("k=a+b", "a b|")],
)
def test_a_key_needs_a_value_which_may_be_empty(serve, query, shown):
    result = serve(f'get "q" "&:k" {{ {captures("k")} }}').get(f"/q?{query}")
    assert (line(result) if result.handled else None) == shown


@pytest.mark.covers("s061")
@pytest.mark.parametrize(("query", "shown"), [("k=x", "x|"), ("k=", "|"), ("k", "d|"), ("", "d|")])
def test_a_key_with_a_default_always_matches(serve, query, shown):
    assert line(serve(f'get "q" "&:k?d" {{ {captures("k")} }}').get(f"/q?{query}")) == shown


@pytest.mark.covers("s062")
def test_the_last_of_repeated_parameters_wins(serve):
    assert line(serve(f'get "q" "&:k" {{ {captures("k")} }}').get("/q?k=a&k=b")) == "b|"
    api = serve('get "q" "&k=a" { }')
    assert not api.get("/q?k=a&k=b").handled
    assert api.get("/q?k=b&k=a").handled


@pytest.mark.covers("s063")
def test_a_semicolon_separates_parameters(serve):
    assert line(serve(f'get "q" "&:a" "&:b" {{ {captures("a", "b")} }}').get("/q?a=1;b=2&c=3")) == "1|2|"


def test_a_default_with_an_equals_sign_makes_a_key_and_value(serve):
    """Sharp edge S22: the order of classification is kept."""
    api = serve('get "q" "&:v?a=b" { output_text "#{:v?a}" }')
    assert line(api.get("/q?:v?a=b")) == "b"
    assert not api.get("/q").handled


def test_query_matchers_may_stand_anywhere_and_consume_no_path(serve):
    api = serve(f'get "&:k" "a" "&:j?" ":b" {{ {captures("k", "j", "b")} }}')
    assert line(api.get("/a/1/2?k=x")) == "x||1|2"


def test_brackets_in_keys_are_plain_text(serve):
    """Sharp edge S53."""
    api = serve('get "q" "&:a[]" { output_text "#{a[]} #{query_string_options}" }')
    assert line(api.get("/q?a[]=1&a[b]=2")) == "1 a[]:1,a[b]:2"


def test_what_log_lines_call_an_endpoint(serve):
    """Section 9.3, `api_handler`."""
    api = serve("""
        get "thumbnail" ":a" ":b?c" ":d/re/" "&f=g" "&:h" "&:i?j" { output_ok }
        put { output_ok }
    """)
    first, second = api.endpoints
    assert first.handler == (
        "get thumbnail, Segment(a => <segment>), SegmentDefault(b => <segment>|c), Regexp(d => /re/), "
        "QueryKeyValue(f => g), QueryKey(h => <key>), QueryKeyDefault(i => <key>|j)"
    )
    assert second.handler == "put"
