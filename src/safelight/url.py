"""URLs of stored images: composing, encoding and rewriting (reference/imagestore 6.3 and 6.7)."""

import re
import unicodedata
from dataclasses import dataclass, replace
from urllib.parse import quote

from safelight.errors import SetupError

_KEPT = "!$&'()*+,;=:@/~"
DEFAULT_PORTS = {"http": 80, "https": 443, "ftp": 21}
_DRIVE = re.compile(r"^/?([A-Za-z])[|:][\\/]")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(r"\[[0-9a-f:.]+\]|[^\s/?#@:\[\]\\<>%\"^`{|}\x00-\x1f\x7f]+")
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):"
    r"(?:(?!//)|//(?P<host>\[[^\]]*\]|[^/?#:]*)(?::(?P<port>[0-9]{0,5}))?)"
    r"(?P<path>(?:/[!\"$->@-~]*)?)(?:\?(?P<query>[!\"$-~]*))?"
)
_PORT_MAX = 65535


@dataclass(frozen=True, slots=True)
class Url:
    """An absolute URL in parts. `path` is percent-encoded and begins with `/`; `query` has no `?`.

    Where `original_scheme` is set the default port of that scheme is left out, and no other, whatever the
    scheme becomes: so URLs of S3 objects are rewritten.
    """

    scheme: str
    path: str
    host: str = ""
    port: int | None = None
    query: str = ""
    original_scheme: str = ""

    def __str__(self) -> str:
        # After a host all slashes can stay: a key in S3 may begin with some (sharp edge S40).
        place = f"//{self.authority}{self.path}" if self.host else self.uri
        return f"{self.scheme}:{place}{'?' + self.query if self.query else ''}"

    @property
    def authority(self) -> str:
        """Host and port, the latter unless it is the default; nothing without a host."""
        default = DEFAULT_PORTS.get(self.original_scheme or self.scheme)
        return f"{self.host}:{self.port}" if self.host and self.port and self.port != default else self.host

    @property
    def uri(self) -> str:
        """The path component alone; leading slashes collapse, or the first segment would read as a host."""
        return "/" + self.path.lstrip("/")

    def with_scheme(self, scheme: str) -> "Url":
        """Raises: SetupError when `scheme` is none."""
        if not _SCHEME.fullmatch(scheme.lower()):
            raise SetupError("Invalid scheme format.")
        return replace(self, scheme=scheme.lower())

    def with_host(self, host: str) -> "Url":
        """Raises: SetupError when `host` has characters that no host name has."""
        if host and not _HOST.fullmatch(host.lower()):
            raise SetupError(f"Invalid character in host: '{host}'")
        return replace(self, host=host.lower())

    def with_port(self, port: str) -> "Url":
        """A port without a host means `localhost`; `0` or no number removes the port."""
        number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else None
        return replace(self, port=number or None, host=self.host or "localhost")

    def with_path(self, path: str) -> "Url":
        """Replace the path by the plain text `path`, encoding it; the query stays."""
        return replace(self, path=encode_path(path))


def file_url(path: str) -> Url:
    """The URL of a file stored under `path`, which is relative to its root: `file:/path`."""
    return Url("file", encode_path(path))


def parse_url(text: str) -> Url:
    """The parts of an absolute URL (RFC 3986, without user information and fragment); nothing is re-encoded.

    Raises: SetupError when it is none, or has spaces, control characters or others beyond ASCII.
    """
    found = _URL.fullmatch(text)
    port = int(found["port"] or 0) if found else 0
    if not found or port > _PORT_MAX or not (found["host"] or found["path"]):
        raise SetupError(f"Invalid URL: '{text}'")
    url = Url(found["scheme"].lower(), found["path"] or "/", port=port or None, query=found["query"] or "")
    return url.with_host(found["host"] or "")


def encode_path(path: str) -> str:
    """NFKC, dot segments resolved, percent-encoded UTF-8, one leading slash."""
    resolved = _resolved(_with_small_drive(unicodedata.normalize("NFKC", path)))
    while (text := _with_small_drive(resolved)) != resolved:  # there are more at its start now
        resolved = _resolved(text)
    return quote(resolved, safe=_KEPT)


def _with_small_drive(path: str) -> str:
    return _DRIVE.sub(lambda drive: f"/{drive[1].lower()}:/", path)


def _resolved(path: str) -> str:
    segments: list[str] = []
    parts = path.lstrip("/").split("/")
    for part in parts:
        if part == "..":
            segments[-1:] = []
        elif part != ".":
            segments.append(part)
    if parts[-1] in (".", ".."):
        segments.append("")
    return "/" + "/".join(segments).lstrip("/")
