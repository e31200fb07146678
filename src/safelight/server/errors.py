"""From our errors to HTTP: one table, found by MRO, and the text of an error answer."""

import re

from safelight import errors
from safelight.blob import EMPTY, MemoryBlob
from safelight.model import Answer

STATUS: dict[type[BaseException], int] = {
    errors.BadRequest: 400,
    errors.UriTooLong: 414,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.TooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.StorageUnreachable: 502,
    errors.Busy: 503,
    errors.Timeout: 504,
}
INTERNAL_ERROR = 500

_LINE_END = re.compile(r"\r\n|\r|\n")


class MalformedTarget(errors.BadRequest):
    """A request target with a broken percent escape: answered with an empty body (reference 8.4)."""

    def __init__(self) -> None:
        super().__init__("")


class ClientLeft(Exception):
    """The client closed the connection before its answer was ready."""


def status_of(error: BaseException) -> int:
    """Status code of `error`: that of its nearest ancestor in the table, else 500."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return INTERNAL_ERROR


def error_answer(error: Exception) -> Answer:
    """What the caller is told. The text of an error that is not ours stays inside."""
    if not isinstance(error, errors.SafelightError):
        return text_answer("internal error", INTERNAL_ERROR)
    if not error.message:
        return Answer(EMPTY, "text/plain", status_of(error))
    return text_answer(error.message, status_of(error))


def text_answer(text: str, status: int = 200) -> Answer:
    """`text` as `text/plain`, each line ended by CRLF. Lone surrogates are escaped."""
    body = _LINE_END.sub("\r\n", text) + "\r\n"
    return Answer(MemoryBlob(body.encode("utf-8", "backslashreplace")), "text/plain", status)
