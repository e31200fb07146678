"""Fetches sources of jobs: whole or not at all, within the limits of the policy."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urljoin

import httpx

from safelight.blob import Blob
from safelight.errors import MemoryLimitExceeded
from safelight.jobs import ftp, http
from safelight.jobs.failure import SourceError, TransferError, told_as, within
from safelight.jobs.local import beneath
from safelight.jobs.location import FTP, HTTP, Location, parse_location
from safelight.jobs.policy import Policy
from safelight.spool import Spool

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Fetched:
    """A source. `final_url` is where it was in the end, without user information and query.

    Who asked for it closes the blob.
    """

    blob: Blob
    content_type: str | None
    final_url: str


async def fetch(url: str, policy: Policy, spool_directory: Path | None) -> Fetched:
    """Get what `url` names; more than 1 MiB waits in a file without a name in `spool_directory`.

    A local file is opened, not copied.

    Raises: SourceError.
    """
    with told_as(SourceError):
        location = parse_location(url)
        if location.scheme == "file":
            return await _from_file(location, policy)
        async with within(policy.fetch_timeout_s):
            if location.scheme in HTTP:
                return await _over_http(location, policy, spool_directory)
            if location.scheme in FTP:
                return await _over_ftp(location, policy, spool_directory)
        raise SourceError(f"sources cannot be fetched from '{location.scheme}:'")


async def _from_file(location: Location, policy: Policy) -> Fetched:
    storage, key = beneath(policy.roots_of_sources(), location)
    try:
        stored = await storage.get(key, policy.max_bytes)
    except MemoryLimitExceeded as error:
        raise _too_large(policy) from error
    return Fetched(stored.data, None, str(location))


async def _over_http(location: Location, policy: Policy, spool_directory: Path | None) -> Fetched:
    """Follow redirects; each is checked as if it had been asked for."""
    for _ in range(policy.max_redirects + 1):
        request = http.Request("GET", location)
        async with http.exchange(request, policy.admit_source(location), policy) as response:
            if response.status_code not in _REDIRECTS:
                blob = await _body(response, location, policy, spool_directory)
                return Fetched(blob, response.headers.get("content-type"), str(location))
            location = _redirected(response, location)
    raise TransferError(f"more than {policy.max_redirects} redirects")


def _redirected(response: httpx.Response, location: Location) -> Location:
    """Where an answer points. User and password go no further than their own host.

    Raises: TransferError.
    """
    pointer = response.headers.get("location")
    if pointer is None:
        raise http.refusal(response, location)
    try:
        target = parse_location(urljoin(str(location), pointer))
    except ValueError as error:
        raise TransferError(f"'{location.authority}' redirects to no valid URL") from error
    if target.scheme not in HTTP:
        raise TransferError(f"'{location.authority}' redirects to something else than HTTP")
    if target.user is None and target.origin == location.origin:
        return replace(target, user=location.user, password=location.password)
    return target


async def _body(
    response: httpx.Response, location: Location, policy: Policy, spool_directory: Path | None
) -> Blob:
    """The bytes as they were sent. Raises: TransferError."""
    if response.status_code != 200:
        raise http.refusal(response, location)
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise TransferError(f"'{location.authority}' sent a compressed answer that was not asked for")
    announced = response.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > policy.max_bytes:
        raise _too_large(policy)
    return await _spooled(response.aiter_raw(), policy, spool_directory)


async def _over_ftp(location: Location, policy: Policy, spool_directory: Path | None) -> Fetched:
    async with ftp.session(location, policy.admit_source(location), policy) as session:
        stream = await session.download_stream(location.path.removeprefix("/"))
        blob = await _spooled(stream.iter_by_block(ftp.PIECE_BYTES), policy, spool_directory)
        try:
            await stream.finish()  # only its reply tells a whole file from the beginning of one
        except BaseException:
            blob.close()
            raise
    return Fetched(blob, None, str(location))


async def _spooled(pieces: AsyncIterator[bytes], policy: Policy, directory: Path | None) -> Blob:
    """Raises: TransferError for more than the policy's bytes; StorageError."""
    spool = Spool(directory)
    received = 0
    try:
        async for piece in pieces:
            received += len(piece)
            if received > policy.max_bytes:
                raise _too_large(policy)
            await spool.add(piece)
        return await spool.finish()
    finally:
        spool.close()


def _too_large(policy: Policy) -> TransferError:
    return TransferError(f"the source has more than {policy.max_bytes} bytes")
