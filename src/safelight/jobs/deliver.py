"""Delivers images of jobs. What has returned was taken by the other side; what has failed may be repeated."""

import mimetypes
import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress

import aioftp

from safelight.blob import Blob, MemoryBlob
from safelight.jobs import ftp, http
from safelight.jobs.failure import DestinationError, TransferError, told_as, within
from safelight.jobs.local import beneath
from safelight.jobs.location import FTP, HTTP, Location, parse_location
from safelight.jobs.policy import Policy
from safelight.jobs.record import Delivery, Form
from safelight.storage.base import Storage

PIECE_BYTES = 1 << 18

_UNFIT = re.compile(r"[\x00-\x1f\x7f/\\]")


async def deliver(
    delivery: Delivery, blob: Blob, content_type: str, policy: Policy, buckets: Mapping[str, Storage]
) -> None:
    """Bring `blob` to its destination, replacing what is there. `buckets` are the storages of `s3` URLs.

    A reader of the destination sees the old content or the new where the protocol can do that: files, S3,
    and FTP servers that can rename. Forms are taken by any answer of 2xx and 3xx, a PUT by 2xx; redirects
    are not followed.

    Raises: DestinationError. Nothing was sent when the policy does not admit the destination.
    """
    with told_as(DestinationError):
        location = parse_location(delivery.url)
        if delivery.form and location.scheme not in HTTP:
            raise DestinationError("a form can only be posted over HTTP")
        if location.scheme == "file":
            storage, key = beneath(policy.roots_of_destinations(), location)
            await storage.put(key, blob, content_type)
            return
        async with within(policy.deliver_timeout_s):
            if location.scheme in HTTP:
                await _over_http(location, delivery.form, blob, content_type, policy)
            elif location.scheme in FTP:
                await _over_ftp(location, blob, policy)
            else:
                await _to_bucket(location, blob, content_type, policy, buckets)


async def _to_bucket(
    location: Location, blob: Blob, content_type: str, policy: Policy, buckets: Mapping[str, Storage]
) -> None:
    policy.admit_destination(location)
    storage = buckets.get(location.host)
    if storage is None:
        raise TransferError(f"no S3 client is configured for bucket '{location.host}'")
    await storage.put(location.path.removeprefix("/"), blob, content_type)


async def _over_http(
    location: Location, form: Form | None, blob: Blob, content_type: str, policy: Policy
) -> None:
    reach = policy.admit_destination(location)
    body = _form_body(form, blob) if form else _Body([blob], content_type)
    method = "POST" if form else "PUT"
    request = http.Request(method, location, body.headers, body.pieces)
    async with http.exchange(request, reach, policy) as response:
        if not (response.is_success or (form and response.is_redirect)):
            raise http.refusal(response, location)
        if not body.is_sent:  # httpcore reads the answer also when it could not write all of the body
            raise TransferError(f"'{location.authority}' took a part of the image only", temporary=True)


class _Body:
    """A request body made of blobs; knows whether all of it was sent."""

    def __init__(self, parts: Sequence[Blob], content_type: str) -> None:
        self._parts = parts
        self.is_sent = False
        self.headers = {"Content-Type": content_type, "Content-Length": str(sum(part.size for part in parts))}

    async def pieces(self) -> AsyncIterator[bytes]:
        """All bytes, from the beginning."""
        self.is_sent = False
        for part in self._parts:
            offset = 0
            while piece := part.read_at(offset, PIECE_BYTES):
                yield piece
                offset += len(piece)
        self.is_sent = True


def check_form(form: Form) -> None:
    """Raises: TransferError when a name in it could be more than one."""
    if _UNFIT.search(form.file_name) or form.file_name in (".", "..") or _UNFIT.search(form.field):
        raise TransferError("the file name or the field name of the form has characters that are not allowed")


def _form_body(form: Form, blob: Blob) -> _Body:
    """`multipart/form-data` with one file (RFC 7578); the type goes by the name (reference/imgserve 6.1).

    Raises: TransferError for a name that could be more than one.
    """
    check_form(form)
    boundary = secrets.token_hex(16)
    part_type = mimetypes.guess_type(form.file_name)[0] or "application/octet-stream"
    field, file_name = _quoted(form.field), _quoted(form.file_name)
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{field}"; filename="{file_name}"\r\n'
        f"Content-Type: {part_type}\r\n\r\n"
    )
    try:
        parts = [MemoryBlob(head.encode()), blob, MemoryBlob(f"\r\n--{boundary}--\r\n".encode())]
    except UnicodeEncodeError as error:
        raise TransferError("the file name or the field name of the form is no valid Unicode") from error
    return _Body(parts, f"multipart/form-data; boundary={boundary}")


def _quoted(name: str) -> str:
    """As browsers do (WHATWG HTML, multipart/form-data encoding algorithm); control characters are out."""
    return name.replace('"', "%22")


async def _over_ftp(location: Location, blob: Blob, policy: Policy) -> None:
    path = location.path.removeprefix("/")
    directory = path[: path.rfind("/") + 1]
    async with ftp.session(location, policy.admit_destination(location), policy) as session:
        if not await _put_by_rename(session, path, f"{directory}.{secrets.token_hex(12)}.part", blob):
            await _store(await session.upload_stream(path), blob)


async def _put_by_rename(session: ftp.Session, path: str, aside: str, blob: Blob) -> bool:
    """Whether the server allows that: to write to `aside`, so that a cut transfer leaves no half a file under
    `path`, and to rename it over what may be there.
    """
    try:
        stream = await session.upload_stream(aside)
    except aioftp.StatusCodeError as error:
        if ftp.is_permanent(error):
            return False
        raise
    try:
        await _store(stream, blob)
        return await _is_renamed(session, aside, path)
    except aioftp.StatusCodeError:
        await _remove(session, aside)
        raise


async def _is_renamed(session: ftp.Session, aside: str, path: str) -> bool:
    try:
        await session.rename(aside, path)
    except aioftp.StatusCodeError as error:
        if not ftp.is_permanent(error):
            raise
        await _remove(session, aside)
        return False
    return True


async def _remove(session: ftp.Session, path: str) -> None:
    with suppress(aioftp.StatusCodeError):
        await session.remove_file(path)


async def _store(stream: aioftp.DataConnectionThrottleStreamIO, blob: Blob) -> None:
    offset = 0
    try:
        while piece := blob.read_at(offset, ftp.PIECE_BYTES):
            await stream.write(piece)
            offset += len(piece)
    except OSError:
        await stream.finish()  # its reply says why no more was taken
        raise
    await stream.finish()
