"""What `cache` and `purge_cache` statements may say."""

from pathlib import Path

import pytest
from results_site import Sites

from safelight.api import load_config
from safelight.errors import ConfigError
from safelight.statements.fingerprint import OPTIONS, unpredictable
from safelight.variables import GENERATED

SOURCE = 'source_file "a" root="images" path="p"\noutput_image "a"'
S3_SOURCE = 'source_s3 "a" bucket="b" path="p" cache-root="objects"\n'
ACCOUNT = 's3 key="k" secret="s"\n'


def endpoint(inside: str, head: str = 'get "x"') -> str:
    return f'path "p" "#{{path}}"\npath "u" "#{{uuid}}"\n{head} {{\n{inside}\n}}'


REFUSED = {
    "another verb": (
        endpoint('cache root="c"\noutput_ok', 'put "x"'),
        "answers of 'put' endpoints cannot be kept, only those of 'get'",
    ),
    "stores": (
        endpoint('cache root="c"\nsource_file "a" root="i" path="p"\nstore_file "a" root="j" path="p"'),
        "an endpoint that changes what is stored must run for every request",
    ),
    "random values": (
        endpoint('cache root="c"\noutput_text "#{uuid}"'),
        "answers made of variable 'uuid' cannot be kept: it may differ from request to request",
    ),
    "random paths": (
        endpoint('cache root="c"\nsource_file "a" root="i" path="u"\noutput_image "a"'),
        "answers made of variable 'uuid' cannot be kept",
    ),
    "random conditions": (
        endpoint('cache root="c"\nheader "X-A" "1" if-variable-matches="uuid:x"\noutput_ok'),
        "answers made of variable 'uuid' cannot be kept",
    ),
    "the body": (
        endpoint('cache root="c"\noutput_text "#{input_digest}"'),
        "answers made of variable 'input_digest' cannot be kept",
    ),
    "a random key": (
        endpoint('cache root="c" key="#{uuid}"\noutput_ok'),
        "answers made of variable 'uuid' cannot be kept",
    ),
    "links that expire": (
        ACCOUNT + endpoint(f'cache root="c"\n{S3_SOURCE}output_source_url "a"'),
        "links to private objects expire, so answers that show them cannot be kept",
    ),
    "a directory of objects": (
        ACCOUNT + endpoint(f'cache root="objects"\n{S3_SOURCE}output_image "a"'),
        "directory 'objects' caches objects already, as 'cache-root'",
    ),
    "a directory that requests read": (
        endpoint('cache root="images"\n' + SOURCE),
        "'source_file' at api.sdl:5:1 can reach the answers that are kept in 'images': "
        "give them a directory that is not in 'images'",
    ),
    "a directory in one that requests write": (
        endpoint('cache root="./files/of/c"\noutput_ok')
        + '\nput { store_file "input" root="files" path="p"; }',
        "'store_file' at api.sdl:7:7 can reach the answers that are kept in './files/of/c'",
    ),
    "a directory of objects, written otherwise": (
        ACCOUNT + endpoint(f'cache root="./objects/"\n{S3_SOURCE}output_image "a"'),
        "directory './objects/' caches objects already, as 'cache-root'",
    ),
    "stale without an age": (
        endpoint('cache root="c" stale-if-error="1h"\noutput_ok'),
        "expected 'max-age' attribute to be set: without it no answer becomes stale",
    ),
    "a prefix of no bucket": (
        endpoint('cache root="c" prefix="p/"\noutput_ok'),
        "expected 'prefix', 's3' and 'recheck' attributes to be set only with 'bucket'",
    ),
    "a prefix that leads elsewhere": (
        ACCOUNT + endpoint('cache root="c" bucket="b" prefix="../x/"\noutput_ok'),
        "expected 'prefix' attribute value to begin keys: S3 key",
    ),
    "an account of no bucket": (
        ACCOUNT + endpoint('cache root="c" s3="x"\noutput_ok'),
        "expected 'prefix', 's3' and 'recheck' attributes to be set only with 'bucket'",
    ),
    "a bucket without a name": (
        ACCOUNT + endpoint('cache root="c" bucket=""\noutput_ok'),
        "expected 'bucket' attribute value to be the name of a bucket, without '/'",
    ),
    "a bucket with a path": (
        ACCOUNT + endpoint('cache root="c" bucket="b/c"\noutput_ok'),
        "expected 'bucket' attribute value to be the name of a bucket, without '/'",
    ),
    "a prefix that runs into what follows": (
        ACCOUNT + endpoint('cache root="c" bucket="b" prefix="kept"\noutput_ok'),
        "expected 'prefix' attribute value to end in '/'",
    ),
    "a recheck of nothing": (
        endpoint('cache root="c" recheck="5s"\noutput_ok'),
        "expected 'prefix', 's3' and 'recheck' attributes to be set only with 'bucket'",
    ),
    "a bucket without an account": (
        endpoint('cache root="c" bucket="b"\noutput_ok'),
        "'cache': S3 client not configured",
    ),
    "a bucket of another account": (
        's3 "archive" key="k" secret="s"\n' + endpoint('cache root="c" bucket="b" s3="archiv"\noutput_ok'),
        "'cache': no 's3' statement is named 'archiv' (did you mean 'archive'?)",
    ),
    "shared answers with tags of images": (
        ACCOUNT + endpoint(f'cache root="c" bucket="b" tag="#{{image_digest}}"\n{SOURCE}'),
        "tags of shared answers cannot be made of variable 'image_digest'",
    ),
    "two caches": (
        endpoint('cache root="c"\ncache root="d"\noutput_ok'),
        "only one cache type statement can be specified within context",
    ),
    "no directory": (endpoint("cache\noutput_ok"), "expected 'root' attribute to be set"),
    "a purge of nothing": (
        endpoint("purge_cache", 'delete "x"'),
        "expected exactly one of 'url', 'tag', 'root' and 'bucket' attributes to be set",
    ),
    "a purge of two things": (
        endpoint('purge_cache url="/a" tag="b"', 'delete "x"'),
        "expected exactly one of 'url', 'tag', 'root' and 'bucket' attributes to be set",
    ),
    "a purge of a root": (
        endpoint('purge_cache root="images"', 'delete "x"'),
        "expected 'path' attribute to be set with 'root' or 'bucket', and only then",
    ),
    "a purge of a URL with a path": (
        endpoint('purge_cache url="/a" path="p"', 'delete "x"'),
        "expected 'path' attribute to be set with 'root' or 'bucket', and only then",
    ),
    "a purge with a prefix of a file": (
        endpoint('purge_cache root="images" path="p" prefix="x"', 'delete "x"'),
        "expected 'prefix' and 's3' attributes to be set only with 'bucket'",
    ),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_what_could_not_work_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(text, "api.sdl")
    lines = [line for line in refused.value.message.splitlines() if message in line]
    assert lines, refused.value.message
    assert lines[0].startswith("api.sdl:")


ACCEPTED = {
    "captures hide generated variables": endpoint('cache root="c"\noutput_text "#{uuid}"', 'get "x" ":uuid"'),
    "directories beside each other": endpoint(f'cache root="images-kept"\n{SOURCE}'),
    "images below answers": endpoint(
        'cache root="data"\nsource_file "a" root="data/images" path="p"\noutput_image "a"'
    ),
    "facts of images": endpoint(f'cache root="c" tag="#{{image_digest}}"\n{SOURCE}'),
    "options": endpoint('cache root="c"\noutput_text "#{query_string_options}"'),
    "links of public objects": ACCOUNT
    + endpoint('cache root="c"\nsource_s3 "a" bucket="b" path="p" public=true\noutput_source_url "a"'),
    "all attributes": endpoint(
        'cache root="c" max-size="10GiB" max-age="30d" key="#{path}" tag="a,#{path}" '
        f'stale-while-revalidate="1h" stale-if-error="1d"\n{SOURCE}'
    ),
    "a bucket": ACCOUNT + endpoint(f'cache root="c" bucket="b"\n{SOURCE}'),
    "all attributes of a bucket": 's3 "archive" key="k" secret="s"\n'
    + endpoint(
        f'cache root="c" bucket="b" prefix="p/" s3="archive" recheck="5s" tag="#{{image_digest}}"\n{SOURCE}',
        'get "x" ":image_digest"',
    ),
}


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_what_can_work_is_accepted(text: str) -> None:
    load_config(text, "api.sdl")


TWO_ACCOUNTS = """
s3 key="k" secret="s" endpoint="127.0.0.1:9"
s3 "same" key="other" secret="other" endpoint="http://127.0.0.1:9/"
s3 "elsewhere" key="k" secret="s" endpoint="127.0.0.1:10"
"""


def sharing(statement: str, prefix: str = "kept/") -> str:
    """A cache that shares answers in bucket `b`, beside an endpoint with `statement` in it."""
    return f"""{TWO_ACCOUNTS}
path "p" "#{{path}}"
get "x" {{ cache root="c" bucket="b" prefix="{prefix}"; output_ok; }}
put "y" {{ {statement}; }}
"""


EXPOSED = {
    "a store into all of the bucket": ('store_s3 "input" bucket="b" path="p"', "kept/"),
    "a deletion": ('delete_s3 bucket="b" path="p"', "kept/"),
    "a source": ('source_s3 "a" bucket="b" path="p"', "kept/"),
    "a source among others": (
        'source_failover { source_file "a" root="i" path="p"; source_s3 "a" bucket="b" path="p"; }',
        "kept/",
    ),
    "the same prefix": ('delete_s3 bucket="b" path="p" prefix="kept/"', "kept/"),
    "a shorter prefix": ('delete_s3 bucket="b" path="p" prefix="ke"', "kept/"),
    "the beginning of answers": ('delete_s3 bucket="b" path="p" prefix="kept/answ"', "kept/"),
    "some answers": ('delete_s3 bucket="b" path="p" prefix="kept/answers/0"', "kept/"),
    "the marks": ('delete_s3 bucket="b" path="p" prefix="purged/"', ""),
    "a prefix that only seems to be another": ('delete_s3 bucket="b" path="p" prefix="./kept/"', "kept/"),
    "another account of the same store": ('delete_s3 bucket="b" path="p" s3="same"', "kept/"),
}


@pytest.mark.parametrize(("statement", "prefix"), EXPOSED.values(), ids=EXPOSED)
def test_requests_that_could_reach_shared_answers_are_refused(statement: str, prefix: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(sharing(statement, prefix), "api.sdl")
    (line,) = [line for line in refused.value.message.splitlines() if "can reach" in line]
    assert line.startswith("api.sdl:7:")
    assert "give them a bucket of their own, or prefixes that do not begin with each other" in line


HARMLESS = {
    "another bucket": ('delete_s3 bucket="bb" path="p"', "kept/"),
    "another store": ('delete_s3 bucket="b" path="p" s3="elsewhere"', "kept/"),
    "another prefix": ('delete_s3 bucket="b" path="p" prefix="images/"', "kept/"),
    "a prefix beside theirs": ('delete_s3 bucket="b" path="p" prefix="kept/images/"', "kept/"),
    "a purge": ('purge_cache bucket="b" path="p"', "kept/"),
}


@pytest.mark.parametrize(("statement", "prefix"), HARMLESS.values(), ids=HARMLESS)
def test_requests_that_cannot_reach_shared_answers_are_accepted(statement: str, prefix: str) -> None:
    load_config(sharing(statement, prefix), "api.sdl")


def test_every_generated_variable_is_known_to_be_predictable_or_refused() -> None:
    """One that is added to the language is refused until somebody says that it is predictable."""
    refused = unpredictable(GENERATED, ())
    assert "uuid" in refused
    assert OPTIONS not in refused
    assert {name for name in GENERATED if "input" in name} <= set(refused)
    assert not {name for name in refused if name.startswith("image_")}


def test_loading_makes_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    load_config(endpoint(f'cache root="deep/c"\n{SOURCE}'), "api.sdl")
    assert not Path("deep").exists()


def test_a_file_in_place_of_the_directory_is_refused_when_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c").write_text("x")
    with pytest.raises(ConfigError, match=r"api\.sdl:4:1: 'cache': 'c' is not a directory"):
        load_config(endpoint(f'cache root="c"\n{SOURCE}'), "api.sdl")


async def test_building_makes_the_directory_and_its_parents(sites: Sites) -> None:
    sites(endpoint(f'cache root="deep/c"\n{SOURCE}'))
    assert Path("deep/c").is_dir()


async def test_a_directory_that_cannot_be_made_is_refused(sites: Sites) -> None:
    Path("deep").write_text("x")
    with pytest.raises(ConfigError, match="deep"):
        sites(endpoint(f'cache root="deep/c"\n{SOURCE}'))
