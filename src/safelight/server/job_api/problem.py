"""Errors of the API as it tells them: `application/problem+json` (RFC 9457)."""

from collections.abc import Sequence
from http import HTTPStatus

import msgspec

from safelight.blob import MemoryBlob
from safelight.errors import SafelightError
from safelight.model import Answer, Facts
from safelight.server.errors import INTERNAL_ERROR, status_of
from safelight.server.job_api.messages import Fault, Problem

CONTENT_TYPE = "application/problem+json"


class Refusal(SafelightError):
    """The request is not heeded, for a reason that has a status of its own; `faults` say what is wrong where.

    `told`: headers of the answer.
    """

    def __init__(
        self, status: HTTPStatus, message: str, faults: Sequence[Fault] = (), told: Facts = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.faults = tuple(faults)
        self.told = told


def malformed(where: str, message: str) -> Refusal:
    """A request that has something wrong in one place."""
    return Refusal(HTTPStatus.BAD_REQUEST, f"{where}: {message}", (Fault(where, message),))


def problem_answer(error: Exception) -> Answer:
    """What a client is told. The text of an error that is not ours stays inside."""
    if isinstance(error, Refusal):
        return _answer(error.status, error.message, error.faults, error.told)
    if isinstance(error, SafelightError):
        return _answer(status_of(error), error.message)
    return _answer(INTERNAL_ERROR, "internal error")


def _answer(status: int, detail: str, faults: tuple[Fault, ...] = (), told: Facts = ()) -> Answer:
    problem = Problem("about:blank", HTTPStatus(status).phrase, status, detail, faults)
    return Answer(MemoryBlob(msgspec.json.encode(problem)), CONTENT_TYPE, status, "no-store", told)
