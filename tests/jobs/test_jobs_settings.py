"""The `jobs` block: whom jobs may talk to."""

from pathlib import Path

import pytest

from safelight.config.load import load
from safelight.errors import ConfigError
from safelight.jobs.policy import Rule
from safelight.jobs.settings import JobSettings, job_settings
from safelight.statements import REGISTRY
from safelight.statements.jobs import Jobs

S3 = 's3 key="k" secret="s" endpoint="http://127.0.0.1:1"\ns3 "archive" key="k2" secret="s2"\n'


def settings(text: str, *, legacy: bool = False) -> JobSettings:
    return job_settings(load(text, "jobs.sdl", REGISTRY), legacy=legacy)


@pytest.mark.parametrize("text", ["", "jobs {\n}\n", "jobs\n"])
def test_the_safe_defaults(text: str) -> None:
    policy = settings(text).policy
    assert (policy.sources, policy.destinations, policy.source_roots, policy.destination_roots) == (
        None, (), (), ()
    )  # fmt: skip
    assert not settings(text).has_destinations
    assert settings(text).schemes.sources == {"http", "https", "ftp", "ftps"}
    assert settings(text).schemes.destinations == {"http", "https", "ftp", "ftps"}
    assert job_settings(None, legacy=False).policy == policy


def test_the_example_of_the_statement() -> None:
    found = settings(S3 + Jobs.example)
    assert Rule("*.example.com", "https") in (found.policy.sources or ())
    assert found.policy.source_roots == (Path("/srv/originals"),)
    assert found.policy.destinations[-1] == Rule("thumbnails", "s3")
    assert set(found.accounts) == {"thumbnails"}
    assert (found.workers(8).pace.per_host, found.pace.max_attempts) == (4, 6)
    assert found.schemes.sources >= {"file"}
    assert found.schemes.destinations == {"http", "https", "ftp", "ftps", "s3"}


def test_accounts_by_name() -> None:
    found = settings(S3 + 'jobs {\n  destination "s3://a/in"\n  destination "s3://b" s3="archive"\n}')
    assert [found.accounts[name].credentials.key_id for name in "ab"] == ["k", "k2"]
    assert found.policy.destinations[0] == Rule("a", "s3", None, "/in")


def test_limits_and_hosts() -> None:
    text = """jobs max-bytes="1MiB" fetch-timeout="5s" deliver-timeout="7s" concurrency=9 {
        destination_root "out"
        unverified_host "Old.Example."
    }"""
    found = settings(text)
    policy = found.policy
    assert (policy.max_bytes, policy.fetch_timeout_s, policy.deliver_timeout_s) == (1 << 20, 5, 7)
    assert policy.unverified_hosts == {"old.example"}
    assert policy.destination_roots == (Path.cwd() / "out",)
    assert found.has_destinations
    assert (found.workers(4).pace.concurrency, found.workers(12).pace.concurrency) == (9, 12)


@pytest.mark.parametrize(("at_a_time", "per_host"), [(1, 2), (8, 4), (64, 8)])
def test_one_host_leaves_room_for_others(at_a_time: int, per_host: int) -> None:
    assert settings("jobs").workers(at_a_time).pace.per_host == per_host
    assert settings("jobs per-host=50").workers(at_a_time).pace.per_host == 50


def test_the_api_and_the_queue() -> None:
    found = settings("""jobs webhook-secret="0123456789abcdef" {
        token "0123456789abcdef"
        token "fedcba9876543210=="
        webhook "https://hooks.example.com/in"
        queue "postgresql://jobs@db.example.lan/jobs"
    }""")
    assert found.tokens == ("0123456789abcdef", "fedcba9876543210==")
    assert found.policy.webhooks == (Rule("hooks.example.com", "https", None, "/in"),)
    assert found.webhook_secret == "0123456789abcdef"
    assert found.queue == "postgresql://jobs@db.example.lan/jobs"
    assert found.workers(8).queue == found.queue


def test_legacy_is_open() -> None:
    found = settings("", legacy=True)
    assert found.has_destinations
    assert found.schemes.sources >= {"file"}
    assert found.policy.max_bytes == 50 << 20


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ('jobs {\n sorce "a"\n}', "2:2", "did you mean 'source'"),
        ('jobs {\n webhook "ftp://a.example"\n}', "2:2", "called over HTTP"),
        ('jobs {\n token "short"\n}', "2:2", "at least 16 characters"),
        ('jobs {\n token "0123456789 bcdef"\n}', "2:2", "letters, digits"),
        ('jobs {\n queue "mysql://db"\n}', "2:2", "postgresql://"),
        ('jobs {\n queue "postgres://a"\n queue "postgres://b"\n}', "1:1", "only one 'queue'"),
        ('jobs {\n webhook "a.example"\n}', "1:1", "'webhook-secret'"),
        ('jobs webhook-secret="short" {\n}', "1:1", "at least 16"),
        ("jobs {\n source\n}", "2:2", "expected host or directory"),
        ('jobs {\n source "a" s3="x"\n}', "2:2", "only for a destination"),
        ('jobs {\n source "s3://b"\n}', "2:2", "sources cannot be in buckets"),
        ('jobs {\n destination "gopher://b"\n}', "2:2", "gopher"),
        ('jobs {\n destination "u:p@b"\n}', "2:2", "no user"),
        ('jobs {\n destination "s3://b"\n}', "2:2", "no 's3' statement without a name for bucket 'b'"),
        ('jobs {\n destination "s3://b" s3="x"\n}', "2:2", "no 's3' statement 'x' for bucket 'b'"),
        ('jobs {\n unverified_host "a/b"\n}', "2:2", "no host name"),
        ("jobs concurrency=0", "1:1", "at least 1"),
        ("jobs\njobs", "2:1", "only one jobs"),
    ],
)
def test_complaints(text: str, place: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        settings(text)
    assert message in refused.value.message
    assert f"jobs.sdl:{place}: " in refused.value.message
