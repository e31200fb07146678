"""Whatever a file says and a client sends, the answer is one of ours: never a foreign exception."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safelight.errors import ConfigError
from safelight.statements import REGISTRY

RELAXED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)

VALUES = st.sampled_from(
    [
        '"input"',
        '"o"',
        '"p"',
        '"#{path}"',
        '"#{a}"',
        '"a:b,c"',
        '""',
        "null",
        "true",
        "5",
        "-1",
        "1.5",
        "5BD",
        "`\\d`",
    ]
)
KEYS = st.sampled_from(
    [
        "root",
        "path",
        "secret",
        "url",
        "key",
        "ssl",
        "width",
        "options",
        "edits",
        "status",
        "host",
        "port",
        "scheme",
        "public",
        "digest",
        "remove",
        "exclude",
        "bucket",
        "x:y",
        "colour",
        "if-image-name-on",
        "if-variable-matches",
    ]
)
NAMES = st.sampled_from([*(name for _, name, _ in REGISTRY.entries()), "edit", "content", "nonsense"])


@st.composite
def statements(draw: st.DrawFn, depth: int = 2) -> str:
    """A statement with any values, attributes and block."""
    values = " ".join(draw(st.lists(VALUES, max_size=3)))
    attributes = " ".join(
        f"{key}={text}" for key, text in draw(st.dictionaries(KEYS, VALUES, max_size=4)).items()
    )
    name = draw(NAMES)
    children = draw(st.lists(statements(depth - 1), max_size=3)) if depth else []
    inner = "\n".join(children)
    return f"{name} {values} {attributes}" + (f" {{\n{inner}\n}}" if children else "")


@RELAXED
@given(st.lists(statements(), max_size=3).map("\n".join), st.booleans())
def test_a_file_loads_or_says_why_not(serve, text, lenient):
    try:
        serve(text, lenient=lenient)
        told = ""
    except ConfigError as error:
        told = error.message
    assert all(line.startswith("test.conf:") for line in told.splitlines())


MATCHERS = st.lists(
    st.sampled_from(
        ["a", "a/b", "", ":a", ":b?", ":c?x", ":d/.*/", ":e/[^/]+/", "/(?<f>a+)/", "/x|y/", "&g=1", "&:h"]
    )
    | st.text(st.sampled_from(":/?&=ab(|)<>[]{}*+.\\^$"), max_size=8),
    max_size=3,
)
TARGETS = st.text(st.sampled_from("/ab%2Fe9u0142?&;=+xg1h.\udcff"), max_size=20).map(lambda rest: "/" + rest)


@RELAXED
@given(MATCHERS, TARGETS)
def test_any_target_meets_any_matcher(serve, matchers, target):
    """Captured text is always valid Unicode afterwards, or the request is refused."""
    written = " ".join(f"`{matcher}`" for matcher in matchers)
    try:
        api = serve(f'get {written} {{ output_text "#{{path}} #{{query_string_options}}" }}')
    except ConfigError:
        return
    result = api.get(target)
    if result.handled and not isinstance(result.outcome, Exception):
        assert result.body.endswith(b"\r\n")


@RELAXED
@given(TARGETS, st.sampled_from(["path", "basename", "dirname", "extension", "query_string_options"]))
def test_no_target_makes_a_file_outside_of_the_root(serve, tmp_path, target, name):
    api = serve(f"""
        path "p" "#{{{name}}}"
        put {{
            store_file "input" root="inner/root" path="p"
            output_store_url "input"
        }}
    """)
    api.put(target, b"data")
    assert {file.name for file in tmp_path.iterdir()} <= {"inner"}
    assert {file.name for file in (tmp_path / "inner").glob("*")} <= {"root"}


@pytest.mark.parametrize("name", ["options", "edits"])
@RELAXED
@given(text=st.text(st.sampled_from("ab1:,!%20"), max_size=12))
def test_any_client_specification_is_sent_or_refused(serve, name, text):
    """What reaches the engine parses again to the same specification."""
    api = serve(f'put "&:s" {{ thumbnail "input" "th" operation="nonsense" {name}="#{{s}}" }}')
    api.put(f"/?s={text}", b"no image")
    for (spec,) in api.specs:
        assert spec.startswith("nonsense,input,input,input")
