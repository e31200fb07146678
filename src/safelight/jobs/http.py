"""One HTTP request to a checked address."""

import string
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx
from httpx_secure import httpx_ssrf_protection

from safelight import __version__
from safelight.connecting import connecting
from safelight.jobs.failure import TransferError
from safelight.jobs.location import Location
from safelight.jobs.network import addresses_of, is_untrusted, tls_context
from safelight.jobs.policy import Policy, Reach

USER_AGENT = f"Mozilla/5.0 (compatible; Safelight/{__version__})"
"""Some hosts refuse what does not look like a browser (reference/imgserve 4.2)."""

_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAX_RETRY_AFTER_S = 86400


@dataclass(frozen=True, slots=True)
class Request:
    """What to send. `body` is called for every address that is tried; its size is in `headers`."""

    method: str
    location: Location
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Callable[[], AsyncIterable[bytes]] | None = None


@asynccontextmanager
async def exchange(request: Request, reach: Reach, policy: Policy) -> AsyncGenerator[httpx.Response]:
    """The answer's head; its body has still to be read. Redirects are not followed, nothing is decoded.

    Each address of the host is tried until one accepts the connection. The caller limits the time.

    Raises: TransferError, also when reading the body inside fails.
    """
    addresses = await addresses_of(request.location, reach)
    try:
        for address in addresses:
            async with _client(address, request.location, policy) as client:
                try:
                    with connecting():
                        response = await client.send(_addressed(client, request, address), stream=True)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    if address == addresses[-1]:
                        raise
                    continue
                try:
                    yield response
                finally:
                    await response.aclose()
                return
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _translated(error, request.location) from error


def refusal(response: httpx.Response, location: Location) -> TransferError:
    """What an answer means that is no success."""
    status = response.status_code
    wait = response.headers.get("retry-after", "")
    after_s = min(int(wait), _MAX_RETRY_AFTER_S) if wait.isascii() and wait.isdigit() else 0
    return TransferError(
        f"'{location.authority}' answered {status}", temporary=status in _MAY_PASS, after_s=after_s
    )


def _client(address: str, location: Location, policy: Policy) -> httpx.AsyncClient:
    """A client of its own, so that nothing goes from one host to another: no cookie and no connection.

    It refuses to connect to anything but `address`, however it would have come to that.
    """
    client = httpx.AsyncClient(
        verify=tls_context("http/1.1", verified=policy.verifies(location.host)),
        timeout=httpx.Timeout(None, connect=policy.connect_timeout_s),
        trust_env=False,
    )
    return httpx_ssrf_protection(
        client,
        check_globally_reachable=False,
        custom_validator=lambda _host, reached, _port: str(reached) == address,
    )


def _addressed(client: httpx.AsyncClient, request: Request, address: str) -> httpx.Request:
    """The request to `address`, with everything that names the host still naming the host."""
    location = request.location
    target = f"{location.path or '/'}{'?' + location.query if location.query else ''}"
    url = httpx.URL(
        scheme=location.scheme,
        host=address,
        port=location.port,
        raw_path=quote(target, safe=string.punctuation).encode(),
    )
    headers = {
        "Host": location.authority,
        "User-Agent": USER_AGENT,
        "Accept-Encoding": "identity",
        **request.headers,
    }
    sent = client.build_request(
        request.method,
        url,
        headers=headers,
        content=request.body() if request.body else None,
        extensions={"sni_hostname": location.host},
    )
    if location.user is not None:
        sent.headers["Authorization"] = _basic_authorization(location.user, location.password)
    return sent


def _basic_authorization(user: str, password: str) -> str:
    """Value of an `Authorization` header (RFC 7617), in UTF-8."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def _translated(error: Exception, location: Location) -> TransferError:
    place = location.authority
    if is_untrusted(error):
        return TransferError(f"certificate of '{place}' is not valid", detail=str(error))
    if isinstance(error, httpx.ConnectTimeout):
        return TransferError(f"'{place}' does not answer", temporary=True)
    if isinstance(error, httpx.ConnectError):
        return TransferError(f"'{place}' cannot be reached", temporary=True, detail=str(error))
    if isinstance(error, httpx.RemoteProtocolError | httpx.InvalidURL):  # the latter for a redirect's target
        return TransferError(f"'{place}' broke off or does not speak HTTP", temporary=True, detail=str(error))
    return TransferError(f"'{place}' broke off", temporary=True, detail=str(error))
