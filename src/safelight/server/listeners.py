"""Addresses to listen at: `HOST:PORT`, `[IPv6]:PORT`, `unix:PATH`."""

import errno
import os
import socket
import stat
import time
from ipaddress import ip_address
from pathlib import Path

from safelight.errors import ConfigError

MAX_PORT = 65535
PATIENCE_S = 1.5
PAUSE_S = 0.05


def parse_listener(text: str) -> str | tuple[str, int]:
    """A socket path, or host and port. Raises: ConfigError."""
    if text.startswith("unix:"):
        return text.removeprefix("unix:").removeprefix("//")
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and int(port) <= MAX_PORT):
        raise ConfigError(f"cannot listen at '{text}': give HOST:PORT or unix:PATH")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 (asked for by `:PORT`)


def absolute_listener(text: str) -> str:
    """The same listener, whatever the current directory. Raises: ConfigError."""
    address = parse_listener(text)
    return f"unix:{Path(address).absolute()}" if isinstance(address, str) else text


def is_loopback(text: str) -> bool:
    """Whether only this machine can reach the listener."""
    address = parse_listener(text)
    if isinstance(address, str) or address[0] == "localhost":
        return True
    try:
        return ip_address(address[0]).is_loopback
    except ValueError:
        return False


def check_listener(text: str) -> None:
    """Try whether the address can be had. Raises: ConfigError that says why not.

    One in use is tried for a while: workers of a server that was just killed are about to let go of it.
    """
    address = parse_listener(text)
    deadline = time.monotonic() + PATIENCE_S
    while (error := _trouble(address)) and error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
        time.sleep(PAUSE_S)
    if error is not None:
        reason = "the address is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise ConfigError(f"cannot listen at '{text}': {reason}") from error


def _trouble(address: str | tuple[str, int]) -> OSError | None:
    try:
        if isinstance(address, str):
            _check_path(Path(address))
        else:
            _check_port(*address)
    except OSError as error:
        return error
    return None


def _check_port(host: str, port: int) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind(address)


def _check_path(path: Path) -> None:
    """A socket left behind is replaced later; one that still answers, or any other file, is not."""
    if not os.access(path.absolute().parent, os.W_OK):
        raise PermissionError(errno.EACCES, "its directory is missing or cannot be written to")
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise FileExistsError(errno.EEXIST, "a file of that name exists")
    with socket.socket(socket.AF_UNIX) as trial:
        if trial.connect_ex(str(path)) == 0:
            raise OSError(errno.EADDRINUSE, "in use")
