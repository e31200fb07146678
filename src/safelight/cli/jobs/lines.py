"""Files of jobs, one JSON object on each line, on their way to a server."""

import hashlib
import re
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from safelight.errors import BadRequest, SafelightError
from safelight.server.job_api.messages import Fault, NewJob
from safelight.server.job_api.problem import Refusal
from safelight.server.job_api.reading import JSON, read_jobs

STREAM = "-"
MAX_LINE_BYTES = 1 << 20
CHUNK_JOBS, CHUNK_BYTES = 1000, 4 << 20
"""Sent at once at most: one transaction of the server's queue, and well below its limits."""
MAX_COMPLAINTS = 20

_WHERE = re.compile(r"jobs\[(?P<number>\d+)\]\.?(?P<field>.*)", re.DOTALL)


class BadLines(BadRequest):
    """Lines that are no jobs; the message has a line for each."""


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job as it is sent, and where it came from."""

    place: str
    text: bytes
    batch: str


@dataclass(slots=True)
class Chunk:
    """Some jobs to be sent at once."""

    lines: list[JobLine] = field(default_factory=list[JobLine])
    size: int = 0

    @property
    def body(self) -> bytes:
        """What is sent."""
        return b"\n".join(line.text for line in self.lines)

    def complaints(self, faults: Sequence[Fault]) -> list[str]:
        """What a server found wrong, with the places of the lines in place of their numbers here."""
        return [self._complaint(fault) for fault in faults]

    def _complaint(self, fault: Fault) -> str:
        found = _WHERE.fullmatch(fault.where)
        if found is None or int(found["number"]) >= len(self.lines):
            return f"{fault.where}: {fault.message}"
        return _complaint(self.lines[int(found["number"])].place, found["field"], fault.message)


def check(names: Iterable[str], batch: str) -> int:
    """Read all lines of files; how many jobs they have. Raises: BadLines with the first complaints."""
    complaints: list[str] = []
    count = 0
    for place, text in _lines(names):
        try:
            _job_line(place, text, batch)
        except BadLines as error:
            complaints.append(error.message)
            if len(complaints) == MAX_COMPLAINTS:
                complaints.append("there may be more")
                break
        count += 1
    if complaints:
        raise BadLines("\n".join(complaints))
    return count


def chunks(names: Iterable[str], batch: str) -> Iterator[Chunk]:
    """The jobs of all files in their sequence. Raises: BadLines."""
    chunk = Chunk()
    for place, text in _lines(names):
        line = _job_line(place, text, batch)
        if chunk.lines and (len(chunk.lines) == CHUNK_JOBS or chunk.size + len(line.text) > CHUNK_BYTES):
            yield chunk
            chunk = Chunk()
        chunk.lines.append(line)
        chunk.size += len(line.text) + 1
    if chunk.lines:
        yield chunk


def _job_line(place: str, text: bytes, batch: str) -> JobLine:
    """Raises: BadLines."""
    job = _read(place, text)
    job = msgspec.structs.replace(job, batch=job.batch or batch)
    try:
        if job.key is None:
            job = msgspec.structs.replace(job, key=_key(job))
        return JobLine(place, msgspec.json.encode(job), job.batch or batch)
    except UnicodeEncodeError as error:
        raise BadLines(f"{place}: not valid Unicode") from error


def _key(job: NewJob) -> str:
    """The same for the same job in the same batch, however it is written, so that it is accepted once."""
    return f"submit {hashlib.sha256(msgspec.json.encode(job, order='sorted')).hexdigest()}"


def _read(place: str, text: bytes) -> NewJob:
    try:
        jobs, is_one = read_jobs(text, JSON)
    except Refusal as error:
        complaints = [_complaint(place, _field(fault), fault.message) for fault in error.faults]
        raise BadLines("\n".join(complaints)) from error
    if not is_one:
        raise BadLines(f"{place}: expected one job, in braces")
    return jobs[0]


def _lines(names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Place and text of all lines that are not blank. Raises: BadLines; SafelightError."""
    for name in names:
        with _opened(name) as file:
            shown, number = "standard input" if name == STREAM else name, 0
            while text := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(text) > MAX_LINE_BYTES:
                    raise BadLines(f"{shown}:{number}: longer than {MAX_LINE_BYTES} bytes")
                if text.strip():
                    yield f"{shown}:{number}", text


@contextmanager
def _opened(name: str) -> Generator[BinaryIO]:
    """Raises: SafelightError."""
    try:
        if name == STREAM:
            yield sys.stdin.buffer
        else:
            with Path(name).open("rb") as file:
                yield file
    except OSError as error:
        raise SafelightError(f"cannot read '{name}': {error.strerror}") from error


def _field(fault: Fault) -> str:
    """Which part of a job is meant, '' for all of it."""
    found = _WHERE.fullmatch(fault.where)
    return found["field"] if found else ""


def _complaint(place: str, field_name: str, message: str) -> str:
    return f"{place}: {field_name}: {message}" if field_name else f"{place}: {message}"
