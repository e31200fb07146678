"""Where objects are in S3: endpoints, keys and URLs (reference/imagestore 6.4)."""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Literal, cast, get_args
from urllib.parse import quote

from safelight.errors import BadRequest, OutsideOfRoot
from safelight.url import DEFAULT_PORTS, Url

Style = Literal["path", "virtual", "aws"]
"""Where a bucket's name stands: first in the path, before the host, or as `Endpoint` says for Amazon."""

MAX_KEY_BYTES = 1024
"""Amazon S3, "Naming Amazon S3 objects": the longest key, in bytes of UTF-8."""

_AMAZON_HOST = "s3.amazonaws.com"
_STANDARD_REGION = "us-east-1"
_SHOWN_CHARACTERS = 100
_BUCKET = re.compile(r"(?!.*(?:\.\.|-\.|\.-))[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LIKE_IPV4 = re.compile(r"\d+(?:\.\d+){3}")
_ENDPOINT = re.compile(
    r"(?:(?P<scheme>[^:/?#\[\]]*)://)?"
    r"(?P<host>\[[^\]/?#]*\]|[^:/?#\[\]]*)"
    r"(?::(?P<port>[^:/?#\[\]]*))?"
    r"(?P<path>/[^?#]*)?"
)
_HOST_NAME = re.compile(r"(?!.*\.\.)[a-z0-9](?:[a-z0-9._-]*[a-z0-9.])?")
_BASE_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the buckets of an account are.

    `base_path` is empty or begins with `/`, and stands before everything else in a path. `is_aws` is Amazon
    itself, whose host names hold the region. The style `aws` puts a bucket before the host when its name is
    DNS-compatible and has no dot, which no certificate of `*.<host>` covers; else into the path.
    """

    scheme: str
    host: str
    port: int
    base_path: str
    style: Style
    is_aws: bool


def endpoint_of(endpoint: str | None, ssl: bool, style: str | None) -> Endpoint:
    """The endpoint that a configuration means by `http(s)://host[:port][/path]` or the same without scheme.

    None is Amazon S3. `ssl` counts where the text has no scheme. Without `style` it is `aws` for Amazon and
    `path` for others.

    Raises: ValueError saying what is wrong.
    """
    if style is not None and style not in get_args(Style):
        raise ValueError(f"bad S3 URL style '{style}': expected 'path', 'virtual' or 'aws'")
    known_style = cast(Style | None, style)
    scheme = "https" if ssl else "http"
    if endpoint is None:
        return Endpoint(scheme, _AMAZON_HOST, DEFAULT_PORTS[scheme], "", known_style or "aws", is_aws=True)
    if "@" in endpoint:
        raise ValueError("bad S3 endpoint: no user name or password may stand in it")
    try:
        return _parsed(endpoint, scheme, known_style or "path")
    except ValueError as error:
        raise ValueError(f"bad S3 endpoint '{endpoint}': {error}") from error


def is_dns_compatible(bucket: str) -> bool:
    """Whether a bucket's name can be part of a host name; it may have dots."""
    return bool(_BUCKET.fullmatch(bucket)) and not _LIKE_IPV4.fullmatch(bucket)


def escape_key(key: str) -> str:
    """Everything except `A-Z a-z 0-9 - _ . ~ /` as percent-encoded UTF-8."""
    return quote(key, safe="/")


def needs_region(endpoint: Endpoint, bucket: str) -> bool:
    """Whether `object_url` depends on the region."""
    return endpoint.is_aws and not _is_before_host(endpoint, bucket)


def object_url(endpoint: Endpoint, bucket: str, key: str, region: str) -> Url:
    """The public URL of an object, without a query.

    At Amazon its host holds the region only where the bucket stands in the path, outside `us-east-1`.
    """
    if needs_region(endpoint, bucket) and region != _STANDARD_REGION:
        return _object_url(endpoint, f"s3-{region}.amazonaws.com", bucket, key)
    return _object_url(endpoint, endpoint.host, bucket, key)


def regional_object_url(endpoint: Endpoint, bucket: str, key: str, region: str) -> Url:
    """The URL of an object below `request_url`.

    Links of version 4 need this one: they sign the host, and Amazon redirects from its general host names to
    those of a region.
    """
    return _object_url(endpoint, _regional_host(endpoint, region), bucket, key)


def request_url(endpoint: Endpoint, bucket: str, region: str) -> str:
    """Where requests about a bucket are sent to, without a slash at the end."""
    return str(_bucket_url(endpoint, _regional_host(endpoint, region), bucket)).removesuffix("/")


def object_key(prefix: str, path: str, *, keeps_dots: bool) -> str:
    """The key of what is stored under `path`: `prefix` and `path` with nothing between.

    Some stores resolve `..`, and so would reach another bucket. Where `keeps_dots` is false `.` segments are
    dropped, as these stores accept no key that has one; Amazon keeps them (sharp edge S39).

    Raises: OutsideOfRoot for a `..` segment or a NUL; BadRequest for a key that is empty, too long
    or not UTF-8.
    """
    key = prefix + path
    if ".." in (key if keeps_dots else key.replace("\\", "/")).split("/"):
        raise OutsideOfRoot(f"S3 key '{_shown(path)}' refused: it has a '..' segment")
    if "\0" in key:
        raise OutsideOfRoot(f"S3 key '{_shown(path)}' refused: it has a NUL character")
    if not keeps_dots:
        key = _without_dots(key)
    if not key:
        raise BadRequest(f"S3 key '{_shown(path)}' refused: it names nothing")
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise BadRequest(f"S3 key '{_shown(path)}' refused: it is not valid UTF-8") from error
    if size > MAX_KEY_BYTES:
        raise BadRequest(f"S3 key '{_shown(path)}' refused: it has {size} bytes, more than {MAX_KEY_BYTES}")
    return key


def _parsed(endpoint: str, scheme: str, style: Style) -> Endpoint:
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None:
        raise ValueError("expected http(s)://host[:port][/path] or host[:port][/path]")
    if match["scheme"] is not None:
        scheme = match["scheme"].lower()
    if scheme not in ("http", "https"):
        raise ValueError(f"expected the scheme http or https, not '{scheme}'")
    host = match["host"].lower()
    if not _is_address(host) and not _HOST_NAME.fullmatch(host):
        raise ValueError(f"'{host}' is no host name or address")
    if style != "path" and _is_address(host):
        raise ValueError(f"no bucket can stand before the address '{host}': use the style 'path'")
    base_path = (match["path"] or "").rstrip("/")
    if not _BASE_PATH.fullmatch(base_path):
        raise ValueError(f"the path '{base_path}' may hold names of A-Z a-z 0-9 - . _ ~ only")
    port = DEFAULT_PORTS[scheme] if match["port"] is None else _port(match["port"])
    return Endpoint(scheme, host, port, base_path, style, is_aws=False)


def _is_address(host: str) -> bool:
    """Whether `host` is an IPv4 address or, in brackets, an IPv6 address without a zone."""
    try:
        _ = IPv6Address(host[1:-1]) if host.startswith("[") else IPv4Address(host)
    except AddressValueError:
        return False
    return "%" not in host


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 0 < port < 65536:
        raise ValueError(f"'{text}' is no port number")
    return port


def _is_before_host(endpoint: Endpoint, bucket: str) -> bool:
    if endpoint.style == "path" or not is_dns_compatible(bucket):
        return False
    return endpoint.style == "virtual" or "." not in bucket


def _regional_host(endpoint: Endpoint, region: str) -> str:
    return f"s3.{region}.amazonaws.com" if endpoint.is_aws else endpoint.host


def _object_url(endpoint: Endpoint, host: str, bucket: str, key: str) -> Url:
    base = _bucket_url(endpoint, host, bucket)
    path = f"{base.path.rstrip('/')}/{escape_key(key)}"
    return Url(base.scheme, path, base.host, base.port, original_scheme=base.scheme)


@lru_cache(256)
def _bucket_url(endpoint: Endpoint, host: str, bucket: str) -> Url:
    if _is_before_host(endpoint, bucket):
        host, path = f"{bucket}.{host}", endpoint.base_path
    else:
        path = f"{endpoint.base_path}/{escape_key(bucket)}"
    return Url(endpoint.scheme, path or "/", host, endpoint.port, original_scheme=endpoint.scheme)


def _without_dots(key: str) -> str:
    """`key` without `.` segments; the slash before the last one stays, or `a/.` would leave `a/`."""
    segments = key.split("/")
    kept = [segment for segment in segments if segment != "."]
    if segments[-1] == ".":
        kept.append("")
    return "/".join(kept)


def _shown(path: str) -> str:
    """`path` as a message can hold it: printable, encodable, not too long."""
    text = path if len(path) <= _SHOWN_CHARACTERS else path[:_SHOWN_CHARACTERS] + "..."
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()
