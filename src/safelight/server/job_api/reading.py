"""From what was sent to values of the types in `messages`; where it does not fit, that is said.

Bodies come from anybody: nothing here takes more memory than some times their size, and nothing depends on
how deeply they are nested.
"""

import json
import re
from collections.abc import Sequence
from http import HTTPStatus
from itertools import islice
from typing import Annotated, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct

from safelight.server.job_api.messages import Fault, NewJob
from safelight.server.job_api.problem import Refusal, malformed

MAX_JOBS = 10_000
MAX_BODY_BYTES = 16 << 20
JSON, LINES = "application/json", "application/x-ndjson"

CONTROL = "control characters are not allowed"

_MAX_PARAMETERS = 20
_LINE = re.compile(rb"\S[^\n]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PATH = re.compile(r" - at `(?:key` in `)?\$(?P<path>.*)`$", re.DOTALL)

T = TypeVar("T", bound=Struct)
V = TypeVar("V")
_job = msgspec.json.Decoder(NewJob)
_jobs = msgspec.json.Decoder(list[NewJob])
_texts = msgspec.json.Decoder(Annotated[list[msgspec.Raw], Meta(max_length=MAX_JOBS)])


def read_jobs(body: bytes, content_type: str) -> tuple[list[NewJob], bool]:
    """Jobs in their sequence, and whether there may be only one, which was not in an array.

    Raises: Refusal.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in (JSON, LINES):
        message = f"expected {JSON} or {LINES}"
        fault = Fault("header.content-type", message)
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message, (fault,))
    if kind == LINES:
        return _read_lines(body), False
    if not body.lstrip(b" \t\r\n").startswith(b"["):
        return [_read_job(body, "jobs[0]", "body")], True
    jobs = _decoded(_jobs, body, "jobs", "body")
    _check_count(len(jobs))
    for number, text in enumerate(_texts.decode(body)):
        _check_names(bytes(text), f"jobs[{number}]")
    return jobs, False


def read_query(raw: str, kind: type[T]) -> T:
    """The parameters of a raw query string. Raises: Refusal."""
    parameters: dict[str, str] = {}
    for name, text in _pairs(raw):
        if name in parameters:
            raise malformed(f"query.{name}", "given more than once")
        if has_control(text):
            raise malformed(f"query.{name}", CONTROL)
        parameters[name] = text
    try:
        return msgspec.convert(parameters, kind, strict=False)
    except msgspec.ValidationError as error:
        message, path = _split(str(error))
        raise malformed(f"query{path}", message) from error


def _pairs(raw: str) -> list[tuple[str, str]]:
    try:
        if not raw.isascii():
            raise ValueError
        return parse_qsl(
            raw,
            keep_blank_values=True,
            strict_parsing=bool(raw),
            errors="strict",
            max_num_fields=_MAX_PARAMETERS,
        )
    except ValueError as error:
        raise malformed("query", "expected name=value&name=value..., UTF-8 in percent escapes") from error


def has_control(text: str) -> bool:
    """Whether there is a character in it that databases, headers or terminals may stumble over."""
    return _CONTROL.search(text) is not None


def _read_lines(body: bytes) -> list[NewJob]:
    lines = [found[0] for found in islice(_LINE.finditer(body), MAX_JOBS + 1)]
    _check_count(len(lines))
    return [_read_job(line, f"jobs[{number}]", f"jobs[{number}]") for number, line in enumerate(lines)]


def _read_job(text: bytes, where: str, place: str) -> NewJob:
    job = _decoded(_job, text, where, place)
    _check_names(text, where)
    return job


def _check_count(count: int) -> None:
    if not count:
        raise malformed("body", "no jobs")
    if count > MAX_JOBS:
        raise too_large(f"more than {MAX_JOBS} jobs")


def too_large(message: str) -> Refusal:
    """More was sent than may be sent at once."""
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, (Fault("body", message),))


def _decoded(decoder: "msgspec.json.Decoder[V]", text: bytes, where: str, place: str) -> V:
    """`where`: what the text is, `place`: where it stands in the request. Raises: Refusal."""
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        message, path = _split(str(error))
        raise malformed(where + path, message) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed(place, f"not valid JSON: {str(error).removeprefix('JSON is malformed: ')}") from error
    except RecursionError as error:
        raise malformed(place, "nested too deeply") from error


def _check_names(text: bytes, where: str) -> None:
    """That no object names a field twice: of two readers each could take another (RFC 8259 section 4).

    `text` has been decoded before, so it is not nested deeply. Raises: Refusal.
    """

    def check(pairs: Sequence[tuple[str, object]]) -> None:
        names = set[str]()
        for name, _ in pairs:
            if name in names:
                raise malformed(where, f"the field '{name}' is there twice")
            names.add(name)

    json.loads(text, object_pairs_hook=check)


def _split(message: str) -> tuple[str, str]:
    """What msgspec complains of, and its path without the `$`."""
    found = _PATH.search(message)
    return (message[: found.start()], found["path"]) if found else (message, "")
