"""Answers that depend on what the client has already: validators, preconditions and ranges (RFC 9110).

The entity tags are strong. Computing one costs a system call for a stored file, and about 0.7 ms a MiB for
bytes in memory (SHA-256 with the processor's instructions, the fastest hash of the standard library): less
than a hundredth of what it costs to make them.
"""

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from time import time

from safelight.blob import EMPTY, Blob
from safelight.etag import entity_tag
from safelight.model import Answer
from safelight.server.answer import content_headers
from safelight.server.errors import text_answer
from safelight.server.ranges import ByteRange, Excerpt, Section, multipart, requested_ranges

HASH_INLINE_BYTES = 1 << 18
READING = ("GET", "HEAD")

_OK = 200
_PARTIAL = 206
_NOT_MODIFIED = 304
_PRECONDITION_FAILED = 412
_UNSATISFIABLE = 416

_CONDITIONS = frozenset({"if-match", "if-unmodified-since", "if-none-match", "if-modified-since", "range"})
_FOR_CACHES = frozenset({"age", "cache-status", "content-location", "expires", "vary"})
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_DATE_FORMS = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
_MAX_DATE_LENGTH = 40


async def conditional_answer(method: str, headers: Mapping[str, str], answer: Answer) -> Answer:
    """`answer` with its validators, or what the preconditions and the range of the request make of it.

    Only successful answers to GET and HEAD have any (section 13.2.1). Header names are lower case.
    """
    if answer.status != _OK or method not in READING:
        return answer
    answer = await _validated(answer)
    if _CONDITIONS.isdisjoint(headers):
        return answer
    status = precondition_status(headers, answer.etag or "", answer.modified)
    if status == _NOT_MODIFIED:
        return not_modified(answer)
    if status == _PRECONDITION_FAILED:
        return text_answer("precondition failed", _PRECONDITION_FAILED)
    if method == "GET" and "range" in headers and _may_be_partial(headers.get("if-range"), answer):
        return _partial(answer, headers["range"])
    return answer


def not_modified(answer: Answer) -> Answer:
    """What tells a client that it has `answer` already (section 15.4.5)."""
    facts = tuple(fact for fact in answer.facts if fact[0].lower() in _FOR_CACHES)
    return replace(answer, body=EMPTY, status=_NOT_MODIFIED, facts=facts)


# Validators


async def _validated(answer: Answer) -> Answer:
    """`answer` with an entity tag, and the time of its last change if it is a stored file."""
    if answer.etag is not None:
        return answer
    body, content_type = answer.body, answer.content_type
    descriptor = body.fileno()
    status = None if descriptor is None else os.fstat(descriptor)
    if status is not None and status.st_nlink and status.st_size == body.size:
        etag = entity_tag(_identity(status), content_type)
        modified = min(status.st_mtime, time())
    else:
        if body.size > HASH_INLINE_BYTES:
            await asyncio.to_thread(lambda: body.sha256)
        etag, modified = entity_tag(body.sha256, content_type), answer.modified
    return Answer(
        body, content_type, answer.status, answer.cache_control, answer.facts, etag, modified
    )  # a third of the time that `replace` takes, on every request


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """What tells the content of a file that has a name, and its size of when it was opened, from any other.

    Strong, because new content comes with a new inode (that is how our stores replace a file) or, written in
    place by somebody else, with a new time of change; that one cannot be set back. Two changes in one tick
    of the kernel's clock, 10 ms at most, to the same size and inode would go unnoticed. A restart, another
    process or another name of the file changes nothing.
    """
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(256)
def parsed_date(text: str) -> int | None:
    """Unix time of an HTTP date in any of its three forms (section 5.6.7); None if it is none."""
    if len(text) > _MAX_DATE_LENGTH:
        return None
    for form in _DATE_FORMS:
        try:
            return int(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp())
        except (ValueError, OverflowError):
            continue
    return None


# Preconditions


def precondition_status(headers: Mapping[str, str], etag: str, modified: float | None) -> int:
    """304 or 412 if the preconditions of a GET or HEAD say so, else 200: in the order of section 13.2.2.

    `etag`: the current one, strong. `modified`: Unix time of the last change, None when nobody knows it;
    then the conditions about it do not count, as malformed dates do not.
    """
    if (wanted := headers.get("if-match")) is not None:
        if not _matches(wanted, etag, weakly=False):
            return _PRECONDITION_FAILED
    elif _changed_since(headers.get("if-unmodified-since"), modified):
        return _PRECONDITION_FAILED
    if (known := headers.get("if-none-match")) is not None:
        return _NOT_MODIFIED if _matches(known, etag, weakly=True) else _OK
    if _changed_since(headers.get("if-modified-since"), modified) is False:
        return _NOT_MODIFIED
    return _OK


def _matches(listed: str, etag: str, *, weakly: bool) -> bool:
    """Whether `etag` is on a list of entity tags, which may be `*` (section 8.8.3.2)."""
    if listed.strip(" \t") == "*":
        return True
    tags: list[str] = _TAG.findall(listed)
    return etag in ([tag.removeprefix("W/") for tag in tags] if weakly else tags)


def _changed_since(text: str | None, modified: float | None) -> bool | None:
    """None when there is nothing to compare."""
    if text is None or modified is None or (since := parsed_date(text)) is None:
        return None
    return int(modified) > since


# Ranges


def _may_be_partial(if_range: str | None, answer: Answer) -> bool:
    """Whether what the client has a part of is what there is now (section 13.1.5)."""
    if if_range is None:
        return True
    if if_range[:1] == '"' or if_range[:2] == "W/":
        return if_range == answer.etag
    return answer.modified is not None and parsed_date(if_range) == int(answer.modified)


def _partial(answer: Answer, text: str) -> Answer:
    """The ranges asked for; all of `answer` if they are not to be heeded."""
    size = answer.body.size
    ranges = requested_ranges(text, size)
    if ranges is None:
        return answer
    if not ranges:
        told = (("Content-Range", f"bytes */{size}"),)
        return replace(text_answer("requested range not satisfiable", _UNSATISFIABLE), facts=told)
    if len(ranges) == 1:
        return _single(answer, ranges[0])
    content_type = content_headers(answer.content_type)[0][1].decode()
    parts = multipart(answer.body, content_type, ranges)
    return replace(answer, body=parts.body, content_type=parts.content_type, status=_PARTIAL)


def _single(answer: Answer, found: ByteRange) -> Answer:
    facts = (*answer.facts, ("Content-Range", found.content_range(answer.body.size)))
    body: Blob = Excerpt((Section(answer.body, *found),))
    return replace(answer, body=body, status=_PARTIAL, facts=facts)
