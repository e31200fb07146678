"""The built-in example API: what `safelight serve` without a file offers."""

import re
from importlib.resources import files

from safelight.errors import ConfigError
from safelight.server.listeners import is_loopback

NAME = "example.sdl"
DATA_DIRECTORY = "safelight-data"
MIN_SECRET_CHARACTERS = 16

_WRITING_ENDPOINT = re.compile(r"^(?:put|post|delete)\b.*\{[ \t]*$", re.MULTILINE)


def example_text(secret: str | None) -> str:
    """The example; with `secret`, requests that write must be signed with it.

    Raises: ConfigError for a secret that is too short or has characters that need quoting.
    """
    text = files("safelight").joinpath(NAME).read_text("utf-8")
    if secret is None:
        return text
    if len(secret) < MIN_SECRET_CHARACTERS or not secret.isprintable() or set(secret) & set("\"'`\\#"):
        raise ConfigError(
            f"SAFELIGHT_SECRET must have at least {MIN_SECRET_CHARACTERS} characters, no quotes"
        )
    validator = f'\\g<0>\n    validate_uri_hmac "hmac" secret="{secret}" digest="sha256"'
    return _WRITING_ENDPOINT.sub(validator, text)


def check_exposure(listeners: tuple[str, ...], secret: str | None) -> None:
    """Raises: ConfigError when strangers could write through the example API."""
    exposed = [listener for listener in listeners if not is_loopback(listener)]
    if exposed and secret is None:
        raise ConfigError(
            f"the example API lets everybody upload, so it is not served at {', '.join(exposed)}: "
            "set SAFELIGHT_SECRET to have uploads signed, listen at 127.0.0.1, or give a configuration FILE"
        )


def hints(url: str, secret: str | None) -> tuple[str, ...]:
    """Commands to try, for a server at `url`, which may be `unix:` and the path of a socket."""
    if secret is not None:
        return ("Uploads and deletions must be signed with SAFELIGHT_SECRET: see `safelight sign --help`.",)
    socket = url.removeprefix("unix:")
    curl, base = ("curl", url) if socket == url else (f"curl --unix-socket {socket}", "http://localhost")
    return (
        "Try these; the first one answers the NAME for the others:",
        f"  {curl} -T picture.jpg {base}/images",
        f"  {curl} -o small.jpg {base}/thumbnail/NAME/fit/300/300",
        f"  {curl} -o same.jpg {base}/images/NAME",
    )
