"""From a host to addresses that may be connected to, and what TLS asks of it.

A name is resolved once: who connects takes one of these addresses, so a second answer of its name server
(DNS rebinding) changes nothing. Nothing is sent to an address that is refused, not even a connection attempt.
"""

import asyncio
import os
import socket
import ssl
from functools import cache
from ipaddress import ip_address
from typing import Literal

import httpx

from safelight.jobs.failure import TransferError
from safelight.jobs.location import Location
from safelight.jobs.policy import Reach, is_public

MAX_ADDRESSES = 4
"""More are not tried: each may take a whole time-out."""

_NOT_THERE = (socket.EAI_NONAME, socket.EAI_NODATA)


async def addresses_of(location: Location, reach: Reach) -> list[str]:
    """Addresses of a host to be tried one after another, at least one.

    Whatever way an address is written (octal, hexadecimal, one number), the resolver reads it as `connect`
    would, and it is checked afterwards.

    Raises: TransferError.
    """
    found = await _resolve(location)
    admitted = [text for text in found if reach is Reach.ANY or is_public(ip_address(text))]
    if not admitted:
        raise TransferError(f"host '{location.host}' has no public address", detail=", ".join(found))
    return admitted[:MAX_ADDRESSES]


async def _resolve(location: Location) -> list[str]:
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(
            location.host, location.port, type=socket.SOCK_STREAM
        )
    except socket.gaierror as error:
        raise TransferError(
            f"host '{location.host}' is not known",
            temporary=error.errno not in _NOT_THERE,
            detail=error.strerror,
        ) from error
    except (OSError, UnicodeError) as error:
        raise TransferError(f"host '{location.host}' cannot be resolved", detail=str(error)) from error
    found = dict.fromkeys(str(place[0]) for *_, place in answers)
    return [text for text in found if "%" not in text]  # such are local to one cable


@cache
def tls_context(protocol: Literal["http/1.1", "ftp"], *, verified: bool) -> ssl.SSLContext:
    """One for all connections that speak `protocol`, named as in ALPN: loading the authorities takes long.

    Raises: TransferError when the authorities that SSL_CERT_FILE or SSL_CERT_DIR names cannot be loaded.
    """
    try:
        context = httpx.create_ssl_context(verify=verified)
    except OSError as error:  # ssl.SSLError is one
        raise _without_authorities(error) from error
    context.set_alpn_protocols([protocol])  # FTP servers refuse that of HTTP
    return context


def _without_authorities(error: OSError) -> TransferError:
    named = [f"{name}={os.environ[name]}" for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ]
    return TransferError(
        "this server cannot load the certificates that it should trust",
        temporary=True,
        detail=f"{', '.join(named)}: {error.strerror or error}",
    )


def is_untrusted(error: BaseException | None) -> bool:
    """Whether a connection failed because of the certificate, as libraries wrap that."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
