"""`safelight sign`: a URL with the signature that `validate_uri_hmac` accepts."""

import re
import string
import time
from pathlib import Path
from urllib.parse import quote

import click

from safelight.signing import (
    DEFAULT_DIGEST,
    SIGNATURE_PARAMETER,
    canonical_uri,
    digest_is_supported,
    signature,
)
from safelight.uri import well_formed

EXPIRY_PARAMETER = "expires"

_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


@click.command()
@click.argument("url")
@click.option(
    "--secret",
    envvar="SAFELIGHT_SECRET",
    show_envvar=True,
    help="Shared secret. Other users of this machine can read command lines, and shells remember them: "
    "better use the variable or --secret-file.",
)
@click.option(
    "--secret-file", type=click.Path(path_type=Path), help="File that holds the secret; '-' is stdin."
)
@click.option(
    "--digest", default=DEFAULT_DIGEST, show_default=True, help="Hash function, as in the validator."
)
@click.option(
    "--parameter", default=SIGNATURE_PARAMETER, show_default=True, help="Parameter of the signature."
)
@click.option(
    "--expires", type=click.IntRange(min=1), metavar="SECONDS", help="Let the URL end after so many seconds."
)
@click.option(
    "--expires-parameter",
    default=EXPIRY_PARAMETER,
    show_default=True,
    help="Parameter of the end's Unix time.",
)
@click.option("--exclude", default="", metavar="A,B", help="Parameters that the signature does not cover.")
@click.pass_context
def command(
    context: click.Context,
    url: str,
    secret: str | None,
    secret_file: Path | None,
    digest: str,
    parameter: str,
    expires: int | None,
    expires_parameter: str,
    exclude: str,
) -> None:
    """Print URL with a signature. URL is absolute, or a path with its query.

    Path and query are signed as they are printed; scheme and host are not signed, and a fragment is dropped.
    The options must agree with the validate_uri_hmac statement that checks the URL. A signature that URL has
    already is replaced, and so is its end with --expires.

    \b
      safelight sign --secret-file key '/thumbnail/cat.jpg?width=100'
      safelight sign --secret-file key --expires 3600 https://img.example.com/cat.jpg
    """
    given = _secret(context, secret, secret_file)
    if not digest_is_supported(digest):
        raise click.UsageError(f"digest '{digest}' is not supported")
    excluded = [name.strip() for name in exclude.split(",") if name.strip()]
    if expires is not None and expires_parameter in (*excluded, parameter):
        raise click.UsageError(
            f"'{expires_parameter}' must be signed, or anybody could change when the URL ends"
        )
    origin, target = split(url)
    if expires is not None:
        target = with_parameter(target, expires_parameter, str(int(time.time()) + expires))
    click.echo(origin + signed(target, given, digest, parameter, excluded))


def signed(target: str, secret: str, digest: str, parameter: str, excluded: list[str]) -> str:
    """`target`, path and query, with a signature of what the validator will find signed."""
    unfinished = with_parameter(target, parameter, "")
    text = canonical_uri(unfinished, [*excluded, parameter])
    return unfinished + signature(text, secret, digest)


def with_parameter(target: str, name: str, text: str) -> str:
    """`target` with one `name=text`, at its end; the parameter's earlier values are dropped."""
    path, _, query = target.partition("?")
    kept = [item for item in query.split("&") if item and item.partition("=")[0] != name]
    return f"{path}?{'&'.join([*kept, f'{name}={text}'])}"


def split(url: str) -> tuple[str, str]:
    """Scheme and host (or nothing), and the target to sign. Raises: click.UsageError."""
    found = _ORIGIN.match(url)
    origin = found[0] if found else ""
    rest = url[len(origin) :]
    target = request_target(rest if not origin or rest.startswith("/") else "/" + rest)
    if not well_formed(target):
        raise click.UsageError(f"'{url}' has a '%' without two hexadecimal digits: write '%25'")
    return origin, target


def request_target(text: str) -> str:
    """Path and query as a client sends them: no fragment, spaces and non-ASCII characters as `%XX`.

    Raises: click.UsageError when it is no path.
    """
    target = text.partition("#")[0]
    if not target.startswith("/"):
        raise click.UsageError(f"'{text}' must begin with '/'")
    return quote(target.encode("utf-8", "surrogateescape"), safe=string.punctuation)


def _secret(context: click.Context, secret: str | None, file: Path | None) -> str:
    """The secret; a file that was named wins over the environment. Raises: click.UsageError."""
    typed = context.get_parameter_source("secret") is click.core.ParameterSource.COMMANDLINE
    if file is not None and typed:
        raise click.UsageError("--secret and --secret-file exclude each other")
    found = secret if file is None else _read_secret(file)
    if found is None:
        raise click.UsageError("a secret is needed: set SAFELIGHT_SECRET, or use --secret-file or --secret")
    return found


def _read_secret(file: Path) -> str:
    """The content of `file` without the line end that editors add."""
    try:
        with click.open_file(str(file), encoding="utf-8") as stream:
            text = stream.read().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise click.UsageError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file}: the secret is not UTF-8") from error
    if not text:
        raise click.UsageError(f"{file}: there is no secret in it")
    return text
