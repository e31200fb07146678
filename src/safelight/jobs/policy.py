"""Who may be talked to, how long and how much. Nothing here touches the network."""

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from urllib.parse import urlsplit

from safelight.errors import ConfigError
from safelight.jobs.failure import TransferError
from safelight.jobs.location import DEFAULT_PORTS, Location, normal_host

MIB = 1 << 20

Address = IPv4Address | IPv6Address

_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All of RFC 4291 section 2.4 that was ever assigned: what lies outside is local, mapped or multicast."""

_NAT64 = IPv6Network("64:ff9b::/96")
_SPECIAL = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_SPECIAL_6 = tuple(
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16")
)
"""IANA's registries of special-purpose addresses. Our own tables: those of `ipaddress` change with Python."""


class Reach(Enum):
    """Which addresses a host may turn out to have."""

    PUBLIC = "public"
    ANY = "any"


def is_public(address: Address) -> bool:
    """Whether an address is on the public Internet: not local, private, reserved, multicast or shared.

    IPv4 in IPv6 is refused in every form except NAT64's (RFC 6052) of a public address: where there is only
    IPv6, all of IPv4 looks like that.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL)
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _GLOBAL_UNICAST and not any(address in network for network in _SPECIAL_6)


@dataclass(frozen=True, slots=True)
class Rule:
    """Hosts that may be talked to: `host` is a name, an address, `*.example.com` (all below it) or `*`.

    What is empty or None does not matter, but `s3`, where the host is the bucket, must be said. `path`
    matches by whole segments.
    """

    host: str
    scheme: str = ""
    port: int | None = None
    path: str = ""

    @property
    def reach(self) -> Reach:
        """Only who is named may be private: a pattern of names says nothing about their addresses."""
        return Reach.PUBLIC if self.host.startswith("*") else Reach.ANY

    def matches(self, location: Location) -> bool:
        """Whether the rule is about `location`. With a `path`, `..` in the location's own never matches."""
        return (
            (location.scheme == self.scheme if self.scheme else location.scheme in DEFAULT_PORTS)
            and self.port in (None, location.port)
            and self._matches_host(location.host)
            and self._matches_path(location.plain_path)
        )

    def _matches_host(self, host: str) -> bool:
        if self.host == "*":
            return True
        return host.endswith(self.host[1:]) if self.host.startswith("*") else host == self.host

    def _matches_path(self, path: str) -> bool:
        prefix = self.path.rstrip("/")
        if not prefix:
            return True
        climbs = any(segment in ("..", ".") for segment in path.replace("\\", "/").split("/"))
        return not climbs and (path == prefix or path.startswith(f"{prefix}/"))


def parse_rule(text: str) -> Rule:
    """A rule from `[scheme://]host[:port][/path]`, such as `https://*.example.com/in` or `s3://bucket`.

    Raises: ConfigError.
    """
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        port = parts.port
        host = _pattern(parts.hostname or "", parts.scheme)
    except ValueError as error:
        raise ConfigError(f"'{text}' names no host: expected [scheme://]host[:port][/path]") from error
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError("a rule has a scheme, host, port and path, but no user, query or fragment")
    if parts.scheme not in ("", "s3", *DEFAULT_PORTS):
        raise ConfigError(f"'{text}' has a scheme that is not known: {parts.scheme}")
    return Rule(host, parts.scheme, port, parts.path)


@dataclass(frozen=True, slots=True)
class Policy:
    """What jobs may do outside. The defaults are safe: public sources, no destinations, no local files.

    `sources`: where from, None for any public address. `destinations`: where to, nothing when empty.
    `webhooks`: who may be told of ended jobs, nobody when empty. `source_ports`: ports of sources, None for
    all. `unverified_hosts`: whose certificate does not matter. `source_roots`, `destination_roots`:
    directories that `file` URLs may be below. `legacy` allows everything that the older server allowed; the
    limits stay.

    `max_bytes` of a source, `fetch_timeout_s` for all of it with redirects, `deliver_timeout_s` for one
    delivery, `connect_timeout_s` for a connection to one address (reference/imgserve sections 6 and 13).
    """

    sources: tuple[Rule, ...] | None = None
    destinations: tuple[Rule, ...] = ()
    webhooks: tuple[Rule, ...] = ()
    source_ports: frozenset[int] | None = None
    source_roots: tuple[Path, ...] = ()
    destination_roots: tuple[Path, ...] = ()
    unverified_hosts: frozenset[str] = field(default_factory=frozenset[str])
    legacy: bool = False
    max_bytes: int = 50 * MIB
    max_redirects: int = 5
    fetch_timeout_s: float = 60.0
    deliver_timeout_s: float = 30.0
    connect_timeout_s: float = 10.0

    def admit_source(self, location: Location) -> Reach:
        """Which addresses this host may have. Raises: TransferError when it may not be a source."""
        if self.legacy:
            return Reach.ANY
        if self.source_ports is not None and location.port not in self.source_ports:
            raise TransferError(f"sources on port {location.port} are not allowed")
        if self.sources is None:
            return Reach.PUBLIC
        return _reach(self.sources, location, f"source host '{location.host}' is not allowed")

    def admit_webhook(self, location: Location) -> Reach:
        """Which addresses this host may have. Raises: TransferError when it may not be told of jobs."""
        return _reach(self.webhooks, location, f"webhook host '{location.host}' is not allowed")

    def admit_destination(self, location: Location) -> Reach:
        """Which addresses this host may have. Raises: TransferError when it may not be a destination."""
        if self.legacy:
            return Reach.ANY
        return _reach(self.destinations, location, f"destination '{location}' is not allowed")

    def roots_of_sources(self) -> tuple[Path, ...]:
        """Directories that local sources may be below."""
        return (Path("/"),) if self.legacy else self.source_roots

    def roots_of_destinations(self) -> tuple[Path, ...]:
        """Directories that local destinations may be below."""
        return (Path("/"),) if self.legacy else self.destination_roots

    def verifies(self, host: str) -> bool:
        """Whether the certificate of `host` must be valid."""
        return host not in self.unverified_hosts


def _reach(rules: tuple[Rule, ...], location: Location, refusal: str) -> Reach:
    reaches = [rule.reach for rule in rules if rule.matches(location)]
    if not reaches:
        raise TransferError(refusal)
    return Reach.ANY if Reach.ANY in reaches else Reach.PUBLIC


def _pattern(host: str, scheme: str) -> str:
    """Raises: ValueError."""
    if host == "*":
        return host
    if host.startswith("*."):
        return f"*.{normal_host(host[2:])}"
    return host if scheme == "s3" and host else normal_host(host)
