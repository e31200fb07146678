"""What the API offers: a declaration for each route, which requests are served by and the document shows."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from safelight.blob import MemoryBlob
from safelight.errors import NotFound
from safelight.model import Answer, Facts
from safelight.run import ReadBody
from safelight.server.answer import Stream
from safelight.server.exchange import Exchange
from safelight.server.job_api.problem import Refusal

Reply = Answer | Stream
STREAM = "text/event-stream"

_VARIABLE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Call:
    """A request to one route. `subject`: what its path names, decoded. `query`: a value of that type."""

    exchange: Exchange
    read_body: ReadBody
    subject: str
    query: Any


@dataclass(frozen=True, slots=True)
class Says:
    """A successful answer: JSON of one of these `kinds`, or events."""

    meaning: str
    kinds: tuple[type[Struct], ...] = ()
    is_stream: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """`path` has at most one variable in braces. `says`: by status; `refuses`: statuses of problems.

    `query`: type of the parameters; None: there are none, and what is there is not looked at.
    """

    method: str
    path: str
    name: str
    help: str
    serve: Callable[[Call], Awaitable[Reply]]
    says: Mapping[int, Says]
    refuses: Sequence[int] = ()
    query: type[Struct] | None = None
    takes_jobs: bool = False
    needs_token: bool = True
    _pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pattern", re.compile(_VARIABLE.sub(r"([^/]+)", self.path)))

    @property
    def variable(self) -> str | None:
        """Name of what is in braces."""
        found = _VARIABLE.search(self.path)
        return found and found[1]

    def subject(self, raw_path: str) -> str | None:
        """What a path names, undecoded, '' when the route has no variable; None when it is not the path."""
        found = self._pattern.fullmatch(raw_path)
        return None if found is None else "".join(found.groups())


def find_route(routes: Sequence[Route], method: str, raw_path: str) -> tuple[Route, str]:
    """The route of a request and its subject. Paths without a variable win.

    Raises: NotFound; Refusal with 405.
    """
    fitting = [(route, subject) for route in routes if (subject := route.subject(raw_path)) is not None]
    if any(route.variable is None for route, _ in fitting):
        fitting = [(route, subject) for route, subject in fitting if route.variable is None]
    if not fitting:
        raise NotFound(f"there is no '{raw_path}'")
    wanted = "GET" if method == "HEAD" else method
    for route, subject in fitting:
        if route.method == wanted:
            return route, _decoded(subject)
    allowed = ", ".join(route.method for route, _ in fitting)
    told = (("Allow", allowed),)
    raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"only {allowed} is possible here", told=told)


def json_answer(value: Struct, status: int = HTTPStatus.OK, facts: Facts = ()) -> Answer:
    """`value` as JSON, not to be shown later without asking again."""
    return Answer(MemoryBlob(msgspec.json.encode(value)), "application/json", status, "no-cache", facts)


def _decoded(subject: str) -> str:
    try:
        return unquote(subject, errors="strict")
    except UnicodeDecodeError as error:
        raise NotFound("there is nothing by a name that is no UTF-8") from error
