"""`source_failover`: the first source that works (reference/imagestore 6.6)."""

import pytest

from safelight.errors import ConfigError, NotFound, SetupError

PATHS = """
    path "first" "1"
    path "second" "2"
    path "absolute" "/etc/passwd"
    path "unknown" "#{nope}"
"""


def failover(serve, *children: str, **options):
    listed = "\n".join(children)
    return serve(
        f"""
        {PATHS}
        get "x" "&:v?" {{
            source_failover {{
                {listed}
            }}
            output_image "o"
        }}
        """,
        **options,
    )


def file(path: str, extra: str = "") -> str:
    return f'source_file "o" root="store" path="{path}" {extra}'


def failure(path: str, kind: str, message: str) -> str:
    source = f"FileSource[image_name: 'o' root_dir: 'store' path_spec: '{path}']"
    return f"{source}(Configuration::{kind}: {message})"


MISSING_1 = failure("first", "NoSuchFileError", "error while processing image 'o': file '1' not found")
MISSING_2 = failure("second", "NoSuchFileError", "error while processing image 'o': file '2' not found")
OUTSIDE = failure(
    "absolute",
    "FileStorageOutsideOfRootDirError",
    "error while processing image 'o': file storage path '/etc/passwd' outside of root direcotry",
)
UNDEFINED = failure("none", "PathNotDefinedError", "path 'none' not defined")
UNRENDERED = failure(
    "unknown",
    "PathRenderingError",
    "cannot generate path 'unknown' from template '#{nope}': variable 'nope' not defined",
)
S3_SOURCE = 'source_s3 "o" bucket="b" path="first" prefix="pre/"'
NO_S3 = (
    "S3Source[image_name: 'o' bucket: 'b' prefix: 'pre/' path_spec: 'first']"
    "(Configuration::S3NotConfiguredError: S3 client not configured)"
)


@pytest.fixture(autouse=True)
def store(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    return store


def test_the_first_that_works_ends_it(serve, store):
    (store / "1").write_bytes(b"first")
    (store / "2").write_bytes(b"second")
    api = failover(serve, file("first"), file("second"))
    assert api.get("/x").body == b"first"
    assert api.counters.values["total_file_source"] == 1


@pytest.mark.covers("s176")
@pytest.mark.parametrize(
    "before", [file("first"), file("absolute"), file("none"), file("unknown"), S3_SOURCE]
)
def test_any_failure_passes_on_to_the_next(serve, store, before):
    (store / "2").write_bytes(b"second")
    assert failover(serve, before, file("second")).get("/x").body == b"second"


@pytest.mark.covers("s177")
def test_all_failed_and_the_first_is_missing(serve):
    message = failover(serve, file("first"), file("second")).get("/x").failed(NotFound)
    assert message == f"all sources failed: {MISSING_1}, {MISSING_2}"
    message = failover(serve, file("first"), file("none")).get("/x").failed(NotFound)
    assert message == f"all sources failed: {MISSING_1}, {UNDEFINED}"


@pytest.mark.covers("s178")
@pytest.mark.parametrize(
    ("first", "told"),
    [
        (file("absolute"), OUTSIDE),
        (file("none"), UNDEFINED),
        (file("unknown"), UNRENDERED),
        (S3_SOURCE, NO_S3),
    ],
    ids=["outside", "path", "variable", "s3"],
)
def test_all_failed_and_the_first_is_another_error(serve, first, told):
    message = failover(serve, first, file("first")).get("/x").failed(SetupError)
    assert message == f"all sources failed: {told}, {MISSING_1}"


def test_the_memory_limit_is_a_failure_like_others(serve, store):
    (store / "1").write_bytes(b"too large")
    message = failover(serve, file("first"), max_bytes=8).get("/x").failed(SetupError)
    source = "FileSource[image_name: 'o' root_dir: 'store' path_spec: 'first']"
    told = f"{source}(MemoryLimit::MemoryLimitedExceededError: memory limit exceeded)"
    assert message == f"all sources failed: {told}"


def test_an_empty_block_always_fails(serve):
    assert failover(serve).get("/x").failed(SetupError) == "all sources failed: "


def test_only_tried_sources_are_listed(serve):
    """Sharp edges S27 and S28."""
    excluded = file("none", 'if-variable-matches="v"')
    api = failover(serve, excluded, file("first"), excluded)
    assert api.get("/x").failed(NotFound) == f"all sources failed: {MISSING_1}"


def test_excluded_sources_only_still_fail(serve):
    """Sharp edge S28."""
    api = failover(serve, file("first", 'if-variable-matches="v"'))
    assert api.get("/x").failed(SetupError) == "all sources failed: "


def test_values_and_attributes_are_ignored_with_a_warning(serve, store):
    """Sharp edge S26."""
    (store / "1").write_bytes(b"first")
    api = serve(f"""
        {PATHS}
        get "x" {{
            source_failover "v" a="b" {{
                {file("first")}
            }}
            output_image "o"
        }}
    """)
    assert api.get("/x").body == b"first"
    assert [warning.message for warning in api.config.warnings] == [
        "values of 'source_failover' are ignored",
        "attributes of 'source_failover' are ignored: 'a'",
    ]


def test_other_children_are_unknown(serve):
    unknown = 'source_fil "o" root="store" path="first"'
    with pytest.raises(
        ConfigError, match=r"unexpected statement: source_fil \(did you mean 'source_file'\?\)"
    ):
        failover(serve, unknown)
    api = failover(serve, unknown, file("first"), lenient=True)
    assert api.get("/x").failed(NotFound) == f"all sources failed: {MISSING_1}"


def test_a_validator_lost_in_a_failover_is_refused_even_leniently(serve):
    """It would guard nothing there."""
    with pytest.raises(ConfigError, match="unexpected statement: validate_uri_hmac"):
        failover(serve, 'validate_uri_hmac "hmac" secret="s"', lenient=True)
