"""URLs of sources and destinations, taken apart once: what is checked is what is used."""

import re
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import unquote, urlsplit

import httpx

from safelight.jobs.failure import TransferError

HTTP = ("http", "https")
FTP = ("ftp", "ftps")
DEFAULT_PORTS = {"http": 80, "https": 443, "ftp": 21, "ftps": 990}
"""Reference/imgserve section 5: `ftps` without a port is TLS from the first byte."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Location:
    """Where something is. Printing one shows neither password nor query, which may be a signature.

    `host` is lower case, without brackets; the bucket for `s3`, empty for `file`. `path` is percent-encoded
    as it came for http and https; for all others it is the plain text.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str = field(default="", repr=False)
    user: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """Host and port, the latter unless it is the default: value of a `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS.get(self.scheme, 0) else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """What credentials are for (RFC 6454)."""
        return self.scheme, self.host, self.port

    @property
    def plain_path(self) -> str:
        """The path without percent escapes, to be compared with those of rules."""
        return unquote(self.path) if self.scheme in HTTP else self.path


def parse_location(url: str) -> Location:
    """Take apart a URL of a scheme that jobs know.

    `file` URLs are plain text after `file://`, so `file://a/b` is relative to the working directory
    (reference/imgserve section 6); keys of `s3` are plain text as well.

    Raises: TransferError. The message never repeats the URL: its parts are not known, so neither is where a
    password would be.
    """
    if _CONTROL.search(url) or not _is_unicode(url):
        raise TransferError("the URL has a control character, or is no valid Unicode")
    scheme, colon, rest = url.partition(":")
    if not colon:
        raise TransferError("the URL has no scheme")
    scheme = scheme.lower()
    if scheme == "file":
        return Location("file", "", 0, rest.removeprefix("//"))
    if scheme == "s3":
        bucket, _, key = rest.removeprefix("//").partition("/")
        return Location("s3", bucket, 0, f"/{key}")
    if scheme not in DEFAULT_PORTS:
        raise TransferError(f"the URL has a scheme other than {', '.join(DEFAULT_PORTS)}, file or s3")
    return _remote(scheme, url)


def shown(url: str) -> str:
    """A URL as it may be shown, without password and query; what is wrong with it if it is none of ours."""
    try:
        return str(parse_location(url))
    except TransferError as error:
        return error.message


def normal_host(host: str) -> str:
    """A host name in lower case and IDNA, an address in its shortest form. Raises: ValueError for neither."""
    with suppress(ValueError):
        return str(IPv4Address(host))
    if ":" in host and "%" not in host:
        return str(IPv6Address(host))
    name = host.lower().removesuffix(".")
    if not name.isascii():
        try:
            name = httpx.URL(scheme="http", host=name).raw_host.decode("ascii")
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ValueError("no host name") from error
    if not _NAME.fullmatch(name):
        raise ValueError("no host name")
    return name


def _remote(scheme: str, url: str) -> Location:
    try:
        parts = urlsplit(url)
        host = normal_host(parts.hostname or "")
        port = parts.port
    except ValueError as error:
        raise TransferError("the URL has no valid host or port") from error
    path, query = parts.path, parts.query
    if scheme in FTP:
        path, query = _ftp_path(path, query), ""
    user = None if parts.username is None else _plain(parts.username)
    default = DEFAULT_PORTS[scheme]
    return Location(scheme, host, port or default, path, query, user, _plain(parts.password or ""))


def _ftp_path(path: str, query: str) -> str:
    """FTP has no query (RFC 1738 section 3.2): a question mark belongs to the name."""
    return _plain(f"{path}?{query}" if query else path)


def _plain(escaped: str) -> str:
    """Raises: TransferError when the text could end a command line: `%0d%0aDELE x`."""
    try:
        plain = unquote(escaped, errors="strict")
    except UnicodeDecodeError as error:
        raise TransferError("the URL has escapes that are no UTF-8") from error
    if _CONTROL.search(plain):
        raise TransferError("the URL has an escaped control character")
    return plain


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
