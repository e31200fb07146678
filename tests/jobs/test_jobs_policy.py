"""Who may be talked to: addresses, rules, URLs (reference/imgserve section 13)."""

from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.errors import ConfigError
from safelight.jobs.failure import TransferError
from safelight.jobs.local import beneath
from safelight.jobs.location import parse_location
from safelight.jobs.network import addresses_of
from safelight.jobs.policy import Policy, Reach, Rule, is_public, parse_rule

NOT_PUBLIC = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254
    169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.1.1
    198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 224.0.1.1 239.255.255.255 240.0.0.1
    255.255.255.255
    :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe
    64:ff9b:1::808:808 100::1 2001::1 2001:0:7f00:1:: 2001:10::1 2001:db8::1 2002:7f00:1:: 2002:808:808::1
    3fff::1 5f00::1 fc00::1 fd12:3456::1 fe80::1 fec0::1 ff02::1 ff0e::1
"""
PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 172.15.255.255
    172.32.0.0 192.0.1.1 192.167.255.255 198.17.255.255 198.20.0.0 223.255.255.255
    2001:4860:4860::8888 2606:4700::1111 2a00:1450::1 64:ff9b::808:808
"""


@pytest.mark.parametrize("address", NOT_PUBLIC.split())
@pytest.mark.covers("j063")
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "localhost",
        "LOCALHOST.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:0:0:1]",
        "0",
        "0.0.0.0",
        "[::]",
    ],
)
@pytest.mark.covers("j063")
async def test_no_spelling_of_a_private_host_is_resolved(host: str) -> None:
    """Either it is no host name, or it resolves to what is refused."""
    location = parse_location(f"http://{host}/x.png")
    with pytest.raises(TransferError, match=r"no public address|not known"):
        await addresses_of(location, Policy().admit_source(location))


async def test_of_several_addresses_only_public_ones_are_used(names) -> None:
    names.answers["mixed.test"] = [["127.0.0.1", "8.8.8.8", "10.0.0.1", "2606:4700::1111"]]
    location = parse_location("http://mixed.test/")
    assert await addresses_of(location, Reach.PUBLIC) == ["8.8.8.8", "2606:4700::1111"]
    assert await addresses_of(location, Reach.ANY) == ["127.0.0.1", "8.8.8.8", "10.0.0.1", "2606:4700::1111"]


async def test_a_name_of_link_local_addresses_is_not_used(names, monkeypatch) -> None:
    """Such an address is nothing without its cable, and URLs cannot say which."""
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(10, 1, 6, "", ("fe80::1%lo", 80, 0, 1))])
    with pytest.raises(TransferError):
        await addresses_of(parse_location("http://link.test/"), Reach.ANY)


@pytest.mark.parametrize(
    ("rule", "url"),
    [
        ("example.com", "http://example.com/a"),
        ("example.com", "https://EXAMPLE.com.:8443/a"),
        ("example.com", "ftp://user:pw@example.com/a"),
        ("*", "http://10.0.0.1/"),
        ("*.example.com", "http://a.b.example.com/"),
        ("https://example.com", "https://example.com/"),
        ("example.com:8080", "http://example.com:8080/"),
        ("example.com:443", "https://example.com/"),
        ("http://example.com/in", "http://example.com/in"),
        ("http://example.com/in", "http://example.com/in/a/b.png"),
        ("http://example.com/in/", "http://example.com/in/b.png"),
        ("http://example.com/in", "http://example.com/%69n/b.png"),
        ("127.0.0.1", "http://127.0.0.1/"),
        ("[::1]:80", "http://[0::0:1]/"),
        ("s3://bucket", "s3://bucket/a.png"),
        ("s3://bucket/thumbs", "s3://bucket/thumbs/a.png"),
        ("ftp://example.com/%41", "ftp://example.com/%2541/x"),
        ("bücher.example", "http://xn--bcher-kva.example/"),
    ],
)
def test_rules_that_match(rule: str, url: str) -> None:
    assert parse_rule(rule).matches(parse_location(url))


@pytest.mark.parametrize(
    ("rule", "url"),
    [
        ("example.com", "http://example.org/"),
        ("example.com", "http://sub.example.com/"),
        ("example.com", "http://example.com.evil.test/"),
        ("example.com", "http://example.com@evil.test/"),
        ("example.com", "http://evil.test/#@example.com/"),
        ("example.com", "http://evil.test/?@example.com/"),
        ("example.com", "s3://example.com/x"),
        ("*", "s3://bucket/x"),
        ("*.example.com", "http://example.com/"),
        ("*.example.com", "http://badexample.com/"),
        ("https://example.com", "http://example.com/"),
        ("example.com:8080", "http://example.com/"),
        ("http://example.com/in", "http://example.com/"),
        ("http://example.com/in", "http://example.com/inside"),
        ("http://example.com/in", "http://example.com/in/../out"),
        ("http://example.com/in", "http://example.com/in/%2e%2e/out"),
        ("http://example.com/in", "http://example.com/in%2f..%2fout"),
        ("http://example.com/in", "http://example.com/in/..%5cout"),
        ("ftp://example.com/in", "ftp://example.com/in/%2e%2e/out"),
        ("s3://bucket/thumbs", "s3://bucket/thumbs/../a.png"),
        ("127.0.0.1", "http://2130706433/"),
        ("s3://bucket", "http://bucket/a.png"),
    ],
)
@pytest.mark.covers("j064")
def test_rules_that_do_not_match(rule: str, url: str) -> None:
    assert not parse_rule(rule).matches(parse_location(url))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://",
        "a b",
        "exa*mple.com",
        "*.*.com",
        "*.",
        "gopher://x",
        "http://u:p@x",
        "x:99999",
        "x?y",
        "http://x#y",
        "/path",
        "[fe80::1%lo]",
    ],
)
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_rule(text)
    assert "u:p" not in caught.value.message


def test_only_hosts_that_are_named_may_be_private() -> None:
    location = parse_location("http://nas.example.com/")
    for rules, reach in (
        (("nas.example.com",), Reach.ANY),
        (("*.example.com",), Reach.PUBLIC),
        (("*",), Reach.PUBLIC),
        (("*", "nas.example.com"), Reach.ANY),
    ):
        listed = tuple(map(parse_rule, rules))
        assert Policy(sources=listed).admit_source(location) is reach
        assert Policy(destinations=listed).admit_destination(location) is reach


@pytest.mark.covers("j064")
def test_without_rules_any_public_source_and_no_destination() -> None:
    location = parse_location("http://example.com/")
    assert Policy().admit_source(location) is Reach.PUBLIC
    for url in ("http://example.com/", "ftp://example.com/x", "s3://bucket/x"):
        with pytest.raises(TransferError, match="is not allowed"):
            Policy().admit_destination(parse_location(url))


def test_sources_that_are_not_listed() -> None:
    policy = Policy(sources=(Rule("example.com"),), source_ports=frozenset({443}))
    assert policy.admit_source(parse_location("https://example.com/"))
    for url in ("https://example.org/", "http://example.com/", "https://example.com:8443/"):
        with pytest.raises(TransferError, match="not allowed"):
            policy.admit_source(parse_location(url))


def test_legacy_is_open() -> None:
    policy = Policy(legacy=True)
    location = parse_location("http://127.0.0.1:1/")
    assert policy.admit_source(location) is policy.admit_destination(location) is Reach.ANY
    assert beneath(policy.roots_of_sources(), parse_location("file:///etc/passwd"))[1] == "etc/passwd"


@pytest.mark.covers("j065")
def test_without_roots_there_are_no_local_files() -> None:
    for roots in (Policy().roots_of_sources(), Policy().roots_of_destinations()):
        with pytest.raises(TransferError, match="not below"):
            beneath(roots, parse_location("file:///etc/passwd"))


@pytest.mark.parametrize(
    "url", ["file:///data/in/a.png", "file:/data/in/a.png", "file:///data/x/../in/./a.png"]
)
def test_local_files_below_a_root(url: str) -> None:
    storage, key = beneath((Path("/other"), Path("/data/in")), parse_location(url))
    assert (storage.root, key) == (Path("/data/in"), "a.png")


@pytest.mark.parametrize(
    "url", ["file:///data/in", "file:///data/inside/a.png", "file:///data/in/../a", "file:///", "file://", "file://data/in/a"]
)  # fmt: skip
def test_local_files_outside_of_roots(url: str) -> None:
    with pytest.raises(TransferError, match="not below"):
        beneath((Path("/data/in"),), parse_location(url))


def test_a_local_path_may_be_relative(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert beneath((tmp_path,), parse_location("file://a/b.png"))[1] == "a/b.png"


def test_a_location_hides_its_secrets() -> None:
    for url in (
        "ftp://user:hidden1@example.com/a?hidden2",
        "https://user:hidden1@example.com:8443/a?sig=hidden2",
        "https://hidden1@example.com/a",
    ):
        location = parse_location(url)
        shown = f"{location}{location!r}"
        assert "hidden1" not in shown
        assert location.scheme == "ftp" or "hidden2" not in shown


def test_locations_are_taken_apart() -> None:
    location = parse_location("FTP://us%40er:p%3A%2Fw@Example.COM/a%20b/c?d")
    assert (location.scheme, location.host, location.port) == ("ftp", "example.com", 21)
    assert (location.user, location.password, location.path) == ("us@er", "p:/w", "/a b/c?d")
    location = parse_location("http://[2001:DB8::0:1]:80/a%20b?c=%20#d")
    assert (location.authority, location.path, location.query) == ("[2001:db8::1]", "/a%20b", "c=%20")
    assert parse_location("ftps://h/").port == 990
    assert parse_location("s3://Bucket/a%20b?c").path == "/a%20b?c"
    assert parse_location("file://a%20b/c").path == "a%20b/c"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "://x",
        "gopher://example.com/x",
        "http:/x",
        "http://",
        "http:///x",
        "http://:80/",
        "http://a b/",
        "http://example.com:99999/",
        "http://example.com:x/",
        "http://[::1/",
        "http://[fe80::1%25lo]/",
        "http://exa\\mple.com/",
        "http://ex%61mple.com/",
        "http://example.com/\r\nX: y",
        "http://exa\tmple.com/",
        "http://example.com/\0",
        "http://example.com/\ud800",
        "ftp://example.com/a%0d%0aDELE%20b",
        "ftp://us%0aer@example.com/",
        "ftp://user:%00@example.com/",
        "ftp://example.com/%ff",
        "file:///a\0b",
    ],
)
def test_what_is_no_location(url: str) -> None:
    with pytest.raises(TransferError):
        parse_location(url)


@given(st.sampled_from(["http", "https", "ftp", "ftps", "file", "s3"]), st.text(max_size=40))
def test_any_text_is_a_location_or_refused(scheme: str, text: str) -> None:
    try:
        location = parse_location(f"{scheme}://{text}")
    except TransferError:
        return
    assert location.scheme == scheme
    assert str(location)
