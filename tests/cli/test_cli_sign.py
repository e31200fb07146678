"""`safelight sign` against the vectors of the reference and against the validator that checks signatures."""

import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from tally import Tally

from safelight.api import build, load_config
from safelight.blob import EMPTY
from safelight.cli import main
from safelight.engine.inline import InlineEngine
from safelight.errors import Forbidden
from safelight.image.settings import ImageSettings
from safelight.model import Request
from safelight.run import run
from safelight.uri import parse_query

ORIGIN = "https://img.example.com"


def sign(*arguments: str, env: dict[str, str] | None = None, stdin: str | None = None) -> str:
    result = CliRunner(env={"SAFELIGHT_SECRET": None, **(env or {})}).invoke(
        main, ["sign", *arguments], input=stdin
    )
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.removesuffix("\n")


def refusal(*arguments: str) -> str:
    result = CliRunner(env={"SAFELIGHT_SECRET": None}).invoke(main, ["sign", *arguments])
    assert result.exit_code == 2
    assert result.stdout == ""
    return result.stderr


async def validate(url: str, attributes: str, parameter: str = "hmac") -> None:
    """Send `url` through a real endpoint. Raises: Forbidden."""
    text = f'get {{\n validate_uri_hmac "{parameter}" {attributes}\n}}'
    api = build(load_config(text, "api.sdl"), InlineEngine(ImageSettings()), Tally())
    raw_path, _, raw_query = url.removeprefix(ORIGIN).partition("?")
    request = Request("GET", raw_path, raw_query, parse_query(raw_query), {})
    found = api.match(request)
    assert found

    async def no_body() -> object:
        return EMPTY

    answer = await run(*found, request, no_body, 1000)  # pyright: ignore[reportArgumentType]
    assert answer.status == 200


VECTORS = [
    ("pass123", "/hello", "cc67210148307affa1465ee5d146978b1f3278cb"),
    ("pass123", "/hello?foo=bar", "d1aad080f8e744d6e60536b30a87d8ac2f76cb02"),
    ("pass123", "/hello?nonce=1cebbd063f8091be", "d9393ab46832b74fa2fd50667afbd02d6c57a7ec"),
    ("pass123", "/test", "55eee34055a89648101cbb3d88c9af560078920d"),
    ("pass123", "/lockpicks", "a4c3fe2c9856f5df6412a04a3be877487f61d7d2"),
    ("key", "/small", "a49182838f1b0b306614cea1d0fbcdab980717f7"),
]


@pytest.mark.covers("s179")
@pytest.mark.parametrize(("secret", "url", "signature"), VECTORS)
def test_vectors_of_the_reference(secret: str, url: str, signature: str) -> None:
    signed = f"{url}{'&' if '?' in url else '?'}hmac={signature}"
    assert sign(url, "--secret", secret) == signed
    assert sign(ORIGIN + url, "--secret", secret) == ORIGIN + signed


URLS = [
    "/",
    "/hello",
    "/hello?",
    "/a//b/",
    "/hello?foo=bar",
    "/hello?b=2&a=1&a=3&c",
    "/hello?a=1&&b=2",
    "/hello?foo=x%20y%2Fz+w",
    "/caf%C3%A9",
    "/café latte?q=żółć",
    "/a:b@c;d=e,f!g$h(i)*~[j]?k=/?:@",
    "/h?baz=1&foo=2&nonce=3",
    "/h?baz=1&baz=2&nonce=3&foo=4",
    "/h?xhmac=1",
    "/h?foo=hmac=5",
    "/h?hmac=old&foo=1",
    "/h?foo=1&hmac=old&hmac=older",
    "/h?expires=5",
    "/h#fragment?hmac=1",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("origin", ["", ORIGIN])
@pytest.mark.parametrize("expires", [(), ("--expires", "60")])
@pytest.mark.parametrize("exclude", ["", "baz", "baz,nonce", "nonce, baz"])
@pytest.mark.parametrize(("digest", "parameter"), [("sha1", "hmac"), ("SHA256", "sig")])
async def test_the_validator_accepts_every_combination(
    url: str, origin: str, expires: tuple[str, ...], exclude: str, digest: str, parameter: str
) -> None:
    options = ["--digest", digest, "--parameter", parameter, "--exclude", exclude, *expires]
    signed = sign(origin + url, "--secret", "pass123", *options)
    limit = 'expires="expires"' if expires else ""
    attributes = f'secret="pass123" digest="{digest}" exclude="{exclude}" {limit}'
    await validate(signed, attributes, parameter)
    assert signed.startswith(origin + "/")
    assert "#" not in signed
    assert signed.isascii()
    assert " " not in signed


async def test_excluded_parameters_can_change_afterwards() -> None:
    signed = sign("/h?nonce=1&foo=2", "--secret", "s", "--exclude", "nonce")
    await validate(signed.replace("nonce=1", "nonce=99"), 'secret="s" exclude="nonce"')
    with pytest.raises(Forbidden):
        await validate(signed.replace("foo=2", "foo=3"), 'secret="s" exclude="nonce"')


async def test_another_secret_digest_or_exclusion_is_refused() -> None:
    signed = sign("/h?nonce=1", "--secret", "s")
    await validate(signed, 'secret="s"')
    for attributes in ('secret="t"', 'secret="s" digest="sha256"', 'secret="s" exclude="nonce"'):
        with pytest.raises(Forbidden, match="is not valid"):
            await validate(signed, attributes)


async def test_a_url_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    signed = sign("/h", "--secret", "s", "--expires", "60", "--expires-parameter", "until")
    assert int(signed.partition("until=")[2].partition("&")[0]) == pytest.approx(time.time() + 60, abs=5)
    await validate(signed, 'secret="s" expires="until"')
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 70)
    with pytest.raises(Forbidden, match="has expired"):
        await validate(signed, 'secret="s" expires="until"')


def test_an_earlier_end_is_replaced() -> None:
    signed = sign("/h?expires=5&a=1", "--secret", "s", "--expires", "60")
    assert signed.startswith("/h?a=1&expires=")
    assert signed.count("expires=") == 1


@pytest.mark.parametrize("options", [("--exclude", "a,expires"), ("--parameter", "expires")])
def test_an_end_that_would_not_be_signed_is_refused(options: tuple[str, ...]) -> None:
    assert "'expires' must be signed" in refusal("/h", "--secret", "s", "--expires", "60", *options)


def test_the_secret_can_come_from_the_environment() -> None:
    assert sign("/hello", env={"SAFELIGHT_SECRET": "pass123"}) == sign("/hello", "--secret", "pass123")


@pytest.mark.parametrize("content", ["pass123", "pass123\n", "pass123\r\n"])
def test_the_secret_can_come_from_a_file(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(content.encode())
    expected = sign("/hello", "--secret", "pass123")
    assert sign("/hello", "--secret-file", str(file)) == expected
    assert sign("/hello", "--secret-file", str(file), env={"SAFELIGHT_SECRET": "other"}) == expected
    assert sign("/hello", "--secret-file", "-", stdin=content) == expected


def test_a_secret_is_needed_and_only_one(tmp_path: Path) -> None:
    assert "a secret is needed: set SAFELIGHT_SECRET" in refusal("/h")
    assert "exclude each other" in refusal("/h", "--secret", "a", "--secret-file", "key")
    assert "No such file" in refusal("/h", "--secret-file", str(tmp_path / "key"))
    (tmp_path / "key").write_bytes(b"")
    assert "no secret in it" in refusal("/h", "--secret-file", str(tmp_path / "key"))
    (tmp_path / "key").write_bytes(b"\xff")
    assert "not UTF-8" in refusal("/h", "--secret-file", str(tmp_path / "key"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("hello",), "'hello' must begin with '/'"),
        (("/a%zz",), "write '%25'"),
        (("/h", "--digest", "foo"), "digest 'foo' is not supported"),
        (("/h", "--expires", "0"), "0 is not in the range"),
    ],
)
def test_what_cannot_be_signed_is_refused(arguments: tuple[str, ...], message: str) -> None:
    assert message in refusal(*arguments, "--secret", "s")


def test_the_help_warns_of_secrets_on_command_lines() -> None:
    text = CliRunner().invoke(main, ["sign", "--help"]).stdout
    assert "Other users of this machine can read command lines" in " ".join(text.split())
