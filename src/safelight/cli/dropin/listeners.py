"""Addresses as the older servers take them: `HOST:PORT`, `PORT`, `unix:FILE`, `/FILE`, `~USER/FILE`."""

from pathlib import Path

from safelight.errors import ConfigError
from safelight.server.listeners import absolute_listener


def expand_listener(text: str) -> str:
    """The address as our server takes it, whatever the current directory. Raises: ConfigError."""
    if text.startswith(("/", "~")):
        return f"unix:{_expand(text)}"
    if text.startswith("unix:"):
        return absolute_listener(f"unix:{_expand(text.removeprefix('unix:'))}")
    port = text.removeprefix("*:")
    return absolute_listener(f"0.0.0.0:{port}" if port.isdigit() else text)


def _expand(text: str) -> Path:
    """With home directories put in. Raises: ConfigError for a user that does not exist."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"cannot listen at '{text}': no such user") from error
