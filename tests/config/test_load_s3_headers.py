"""What a configuration says about S3 and ends up in a header: refused when no header can hold it."""

import pytest

from safelight import api
from safelight.errors import ConfigError

ACCOUNT = 's3 key="AKID" secret="s"'
STORE = """
path "p" "a"
put "objects" {{
    store_s3 "input" bucket="b" path="p" cache-control="{text}"
}}
"""
BROKEN = pytest.mark.parametrize("text", ["a\\r\\nX-Evil: yes", "a\\n", "é"])


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        api.load_config(text, "x.conf")
    (line,) = caught.value.message.splitlines()
    return line


@BROKEN
@pytest.mark.parametrize("name", ["key", "session-token"])
def test_accounts(name: str, text: str) -> None:
    written = 's3 secret="s" ' + ("" if name == "key" else 'key="AKID" ') + f'{name}="{text}"'
    assert complaint(written).endswith(f": '{name}' holds characters that no header may hold, as a line end")


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"])
def test_accounts_of_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A secret that was mounted from a file often ends in a newline."""
    for known in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(known, "text\n" if known == name else "text")
    assert "holds characters that no header may hold" in complaint("s3")


@pytest.mark.parametrize("text", ["EU Central", "eu/central", "é", "a\\r\\nX-Evil: yes", "eu-west-1\\n"])
def test_regions(text: str) -> None:
    """It is a part of Amazon's host names, and the client of the object store broke on a space."""
    assert "expected 'region' attribute value to be a name such as eu-west-1" in complaint(
        f'{ACCOUNT} region="{text}"'
    )


def test_a_region_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1\n")
    assert "expected 'region' attribute value" in complaint(ACCOUNT)


@pytest.mark.parametrize("region", ["us-gov-west-1", "auto", "RegionOne", "de_fra", "a.b"])
def test_regions_of_other_object_stores(region: str) -> None:
    assert api.load_config(f'{ACCOUNT} region="{region}"', "x.conf").statements


def test_what_a_secret_holds_is_its_own_business() -> None:
    """It is never sent."""
    assert api.load_config('s3 key="AKID" secret="é"', "x.conf").statements


@BROKEN
def test_cache_control(text: str) -> None:
    line = complaint(f"{ACCOUNT}\n{STORE.format(text=text)}")
    assert line.endswith(": 'cache-control' holds characters that no header may hold, as a line end")


def test_what_headers_can_hold() -> None:
    api.load_config(f"{ACCOUNT}\n{STORE.format(text='public, max-age=60')}", "x.conf")
