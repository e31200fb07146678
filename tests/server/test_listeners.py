"""Addresses to listen at."""

import socket
from pathlib import Path

import pytest

from safelight.errors import ConfigError
from safelight.server.listeners import absolute_listener, check_listener, is_loopback, parse_listener


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:3000", ("127.0.0.1", 3000)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:80", ("::1", 80)),
        (":80", ("0.0.0.0", 80)),
        ("unix:a/b", "a/b"),
        ("unix:///a/b", "/a/b"),
    ],
)
def test_listeners_are_addresses_or_paths(text: str, address: object) -> None:
    assert parse_listener(text) == address


@pytest.mark.parametrize("text", ["", "3000", "localhost", "a:b", "a:-1", "a:65536", "a:٣"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="give HOST:PORT or unix:PATH"):
        parse_listener(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:x", True),
        ("0.0.0.0:1", False),
        (":1", False),
        ("[::]:1", False),
        ("example.com:1", False),
    ],
)
def test_loopback_is_recognised(text: str, expected: bool) -> None:
    assert is_loopback(text) is expected


def test_a_port_in_use_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen at '127.0.0.1:{port}': the address is in use"):
            check_listener(f"127.0.0.1:{port}")
    check_listener(f"127.0.0.1:{port}")


@pytest.mark.parametrize("text", ["192.0.2.1:80", "no-such-host.invalid:80", "unix:/no/such/directory/s"])
def test_what_cannot_be_bound_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen at"):
        check_listener(text)


def test_a_socket_left_behind_is_free_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(ConfigError, match="in use"):
            check_listener(f"unix:{path}")
    check_listener(f"unix:{path}")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="a file of that name exists"):
        check_listener(f"unix:{tmp_path}/file")


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_listener("unix:s") == f"unix:{tmp_path}/s"
    assert absolute_listener("localhost:1") == "localhost:1"
