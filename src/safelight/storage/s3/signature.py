"""Signatures of S3 requests, versions 2 and 4, as pure functions.

Sources: Amazon S3 Developer Guide, "Signing and authenticating REST requests" (version 2), and Amazon S3 API
Reference, "Authenticating Requests (AWS Signature Version 4)". Times are seconds since the epoch.
"""

import hashlib
import hmac
import time
from base64 import b64encode
from calendar import timegm
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from urllib.parse import quote

from safelight.storage.s3.account import Account, Credentials
from safelight.storage.s3.address import escape_key
from safelight.url import Url

MAX_EXPIRES_S = 604_800
"""The longest life of a version 4 link: seven days."""

_ALGORITHM = "AWS4-HMAC-SHA256"
_TIMESTAMP = "%Y%m%dT%H%M%SZ"


def private_query(account: Account, bucket: str, key: str, url: Url, region: str, now: float) -> str:
    """The query that opens a private object to whoever has the link, signed as the account says.

    `url` is the link without it; version 4 needs that of `address.regional_object_url`.

    Raises: ValueError when a version 4 link should be valid for longer than `MAX_EXPIRES_S`.
    """
    if account.url_signature == "v2":
        return signed_v2(bucket, key, account.credentials, int(now) + account.url_expires_s)
    return signed_v4("GET", url, account.credentials, region=region, now=now, expires_s=account.url_expires_s)


def ends_at(url: Url) -> float:
    """When a link made by `private_query` stops working; infinity for a plain URL. What is no number is 0."""
    items = (item.partition("=") for item in url.query.split("&"))
    parameters = {name: text for name, _, text in items}
    try:
        if "Expires" in parameters:
            return int(parameters["Expires"])
        if "X-Amz-Expires" in parameters:
            signed_at = time.strptime(parameters["X-Amz-Date"], _TIMESTAMP)
            return timegm(signed_at) + int(parameters["X-Amz-Expires"])
    except (KeyError, ValueError):
        return 0
    return inf


def signed_v2(bucket: str, key: str, credentials: Credentials, expires_at: int) -> str:
    """The query of a version 2 link for GET, valid for every host and style that leads to the object.

    A session token is signed as the header that its parameter stands for.
    """
    token = credentials.session_token
    header = f"x-amz-security-token:{token}\n" if token else ""
    text = f"GET\n\n\n{expires_at}\n{header}/{escape_key(bucket)}/{escape_key(key)}"
    digest = hmac.digest(credentials.secret.encode(), text.encode(), "sha1")
    return _query(
        [
            ("AWSAccessKeyId", credentials.key_id),
            ("Expires", str(expires_at)),
            ("Signature", b64encode(digest).decode()),
            *([("x-amz-security-token", token)] if token else []),
        ]
    )


def signed_v4(
    method: str, url: Url, credentials: Credentials, *, region: str, now: float, expires_s: int
) -> str:
    """The query of a version 4 link: what `url` has as a query, then the signature. The body is not signed.

    Raises: ValueError when `expires_s` is not within 1 and `MAX_EXPIRES_S`.
    """
    if not 1 <= expires_s <= MAX_EXPIRES_S:
        raise ValueError(f"a signed URL can be valid for 1 to {MAX_EXPIRES_S} seconds, not {expires_s}")
    scope = _Scope.at(now, region)
    token = credentials.session_token
    parameters = _query(
        [
            ("X-Amz-Algorithm", _ALGORITHM),
            ("X-Amz-Credential", f"{credentials.key_id}/{scope}"),
            ("X-Amz-Date", scope.timestamp),
            ("X-Amz-Expires", str(expires_s)),
            *([("X-Amz-Security-Token", token)] if token else []),
            ("X-Amz-SignedHeaders", "host"),
        ]
    )
    query = f"{url.query}&{parameters}" if url.query else parameters
    request = _canonical_request(method, url.path, query, {"host": url.authority}, "UNSIGNED-PAYLOAD")
    return f"{query}&X-Amz-Signature={_signature_v4(request, scope, credentials)}"


def headers_v4(
    method: str,
    target: str,
    headers: Mapping[str, str],
    payload_sha256: str,
    *,
    region: str,
    credentials: Credentials,
    now: float,
) -> dict[str, str]:
    """All headers of a version 4 request, their names in lower case: `headers` and those that sign it.

    `target` is path and query as they are sent, encoded as `escape_key` does; dot segments and double slashes
    stay. `headers` must have the host. All of them are signed, so leave out what may change on the way.
    `payload_sha256` is the hex digest of the body or `UNSIGNED-PAYLOAD`.
    """
    scope = _Scope.at(now, region)
    signed = {name.lower(): value for name, value in headers.items()} | {
        "x-amz-content-sha256": payload_sha256,
        "x-amz-date": scope.timestamp,
    }
    if credentials.session_token:
        signed["x-amz-security-token"] = credentials.session_token
    path, _, query = target.partition("?")
    signature = _signature_v4(
        _canonical_request(method, path, query, signed, payload_sha256), scope, credentials
    )
    authorization = (
        f"{_ALGORITHM} Credential={credentials.key_id}/{scope}, "
        f"SignedHeaders={_names(signed)}, Signature={signature}"
    )
    return signed | {"authorization": authorization}


@dataclass(frozen=True, slots=True)
class _Scope:
    """When and for what a version 4 signature is made; as text, the credential scope."""

    timestamp: str
    region: str

    @classmethod
    def at(cls, now: float, region: str) -> "_Scope":
        return cls(time.strftime(_TIMESTAMP, time.gmtime(now)), region)

    @property
    def parts(self) -> tuple[str, str, str, str]:
        return self.timestamp[:8], self.region, "s3", "aws4_request"

    def __str__(self) -> str:
        return "/".join(self.parts)


def _query(parameters: Iterable[tuple[str, str]]) -> str:
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters)


def _canonical_request(
    method: str, path: str, query: str, headers: Mapping[str, str], payload_sha256: str
) -> str:
    """S3 takes the path as it was sent: neither escaped again nor normalised, unlike other services."""
    pairs = sorted(item.partition("=")[::2] for item in query.split("&") if item)
    lines = [f"{name}:{' '.join(headers[name].split())}" for name in sorted(headers)]
    return "\n".join(
        [
            method,
            path,
            "&".join(f"{name}={value}" for name, value in pairs),
            *lines,
            "",
            _names(headers),
            payload_sha256,
        ]
    )


def _names(headers: Iterable[str]) -> str:
    return ";".join(sorted(headers))


def _signature_v4(request: str, scope: _Scope, credentials: Credentials) -> str:
    key = f"AWS4{credentials.secret}".encode()
    for part in scope.parts:
        key = hmac.digest(key, part.encode(), "sha256")
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"{_ALGORITHM}\n{scope.timestamp}\n{scope}\n{digest}"
    return hmac.digest(key, text.encode(), "sha256").hex()
