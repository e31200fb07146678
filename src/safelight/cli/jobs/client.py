"""What commands say to a running job server by its HTTP API, and what they make of its answers."""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from msgspec import Struct

from safelight.errors import ConfigError, SafelightError
from safelight.jobs.queue import MAX_PAGE, NoSuchJob
from safelight.jobs.record import JobView
from safelight.server.job_api.messages import Accepted, BatchView, Problem, Retried
from safelight.server.job_api.reading import LINES
from safelight.server.log import escape

TIMEOUT_S = 60.0
"""For one answer, and between events, of which one comes every 15 s at least."""
OUTAGE_S = 60.0
"""How long a server that has answered before may be away, as for a restart."""

_LOOK_AGAIN_S = 0.5
_MAY_PASS = (429, 502, 503, 504)
_NO_SEGMENTS = ("", ".", "..")
"""What clients or proxies take out of a path (RFC 3986, 5.2.4), however it is quoted."""

T = TypeVar("T", bound=Struct)
Parameters = Mapping[str, str]


class NoAnswer(SafelightError):
    """Nobody knows what has become of the request; it may be repeated later."""


class NotReached(NoAnswer):
    """Nobody was there to hear the request."""


class NotHeeded(SafelightError):
    """The server does not do it. The message has a line for each complaint of `problem`."""

    def __init__(self, problem: Problem, *, detail: str | None = None) -> None:
        complaints = [f"{fault.where}: {fault.message}" for fault in problem.errors] or [problem.detail]
        super().__init__("\n".join(map(escape, complaints)), detail=detail)
        self.problem = problem


class RawPage(Struct, frozen=True):
    """A page of jobs, each as the server wrote it."""

    jobs: list[msgspec.Raw]
    next: str | None


@contextmanager
def connected(url: str, token: str | None) -> "Generator[Client]":
    """A client of the server at `url`. Raises: ConfigError."""
    if token is not None and not (token.isascii() and token.isprintable() and token == token.strip()):
        raise ConfigError("the token has characters that no token has, such as spaces or line ends")
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        base = httpx.URL(url)
        if base.scheme not in ("http", "https") or not base.host:
            raise ConfigError(f"'{url}' is no http or https URL of a job server")
        http = httpx.Client(base_url=base, headers=headers, timeout=TIMEOUT_S)
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigError("the URL or the token of the job server is not valid", detail=str(error)) from error
    except OSError as error:  # of authorities that cannot be loaded
        raise ConfigError("cannot load the certificates to trust", detail=str(error)) from error
    with http:
        yield Client(http, f"{base.scheme}://{base.netloc.decode()}")


class Client:
    """One server. All methods raise NoAnswer and NotHeeded, those for one job NoSuchJob.

    `place` is what messages call it.
    """

    def __init__(self, http: httpx.Client, place: str) -> None:
        self._http = http
        self._place = place

    def submit(self, lines: bytes, *, patience_s: float = 0.0) -> list[str]:
        """Have jobs accepted, one on each line, all or none; their ids.

        Without an answer it is tried again for `patience_s` seconds, so each job should have a key.
        """
        give_up = time.monotonic() + patience_s
        while True:
            try:
                answer = self._ask("POST", "/jobs", content=lines, headers={"Content-Type": LINES})
            except NoAnswer:
                if time.monotonic() > give_up:
                    raise
                time.sleep(_LOOK_AGAIN_S)
            else:
                return self._decoded(answer, Accepted).ids

    def show(self, job_id: str) -> bytes:
        """One job as JSON."""
        return self._ask("GET", _path_of(job_id)).content

    def pages(self, wanted: Parameters, limit: int | None = None) -> Iterator[list[msgspec.Raw]]:
        """The jobs of a filter, at most `limit`, the latest first."""
        left, cursor = limit, None
        while left is None or left > 0:
            parameters = {**wanted, "limit": str(MAX_PAGE if left is None else min(left, MAX_PAGE))}
            if cursor is not None:
                parameters["cursor"] = cursor
            page = self._decoded(self._ask("GET", "/jobs", params=parameters), RawPage)
            yield page.jobs
            left, cursor = None if left is None else left - len(page.jobs), page.next
            if cursor is None:
                return

    def cancel(self, job_id: str) -> JobView:
        """Cancel one job, if it has not ended; what it is then."""
        return self._decoded(self._ask("DELETE", _path_of(job_id)), JobView)

    def retry(self, job_id: str) -> None:
        """Let one dead job wait again."""
        self._ask("POST", f"{_path_of(job_id)}/retry")

    def retry_all(self, wanted: Parameters) -> int:
        """Let all dead jobs of a filter wait again; how many."""
        return self._decoded(self._ask("POST", "/jobs/retry", params=wanted), Retried).retried

    def follow(self, batch: str) -> Iterator[BatchView]:
        """What becomes of a batch, now and at each change until it has ended; short outages do not matter."""
        heard = time.monotonic()
        while True:
            try:
                for view in self._events(f"/batches/{quote(batch, safe='')}/events"):
                    yield view
                    if view.ended:
                        return
                    heard = time.monotonic()
            except NoAnswer:
                if time.monotonic() - heard > OUTAGE_S:
                    raise
            time.sleep(_LOOK_AGAIN_S)

    def _events(self, path: str) -> Iterator[BatchView]:
        """Data of server-sent events, until the server ends them."""
        with self._translated(), self._http.stream("GET", path) as answer:
            if not answer.is_success:
                answer.read()
            self._check(answer)
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    yield msgspec.json.decode(line.removeprefix("data:"), type=BatchView)

    def _ask(self, method: str, path: str, **rest: Any) -> httpx.Response:
        with self._translated():
            answer = self._http.request(method, path, **rest)
        self._check(answer)
        return answer

    def _decoded(self, answer: httpx.Response, kind: type[T]) -> T:
        with self._translated():
            return msgspec.json.decode(answer.content, type=kind)

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise NotReached(f"no job server can be reached at {self._place}", detail=str(error)) from error
        except httpx.TimeoutException as error:
            raise NoAnswer(f"{self._place} does not answer") from error
        except httpx.HTTPError as error:
            raise NoAnswer(f"{self._place} broke off", detail=str(error)) from error
        except msgspec.DecodeError as error:
            raise self._stranger(f"it says: {error}") from error

    def _check(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        problem = _problem(answer)
        if answer.status_code in _MAY_PASS:
            said = problem and escape(problem.detail)
            raise NoAnswer(f"{self._place} cannot do it now ({answer.status_code})", detail=said)
        if problem is None:
            raise self._stranger(f"it answered {answer.status_code}")
        hint = "set SAFELIGHT_JOBS_TOKEN" if answer.status_code == HTTPStatus.UNAUTHORIZED else None
        raise NotHeeded(problem, detail=hint)

    def _stranger(self, detail: str) -> SafelightError:
        return SafelightError(f"{self._place} does not answer as a job server does", detail=detail)


def _path_of(job_id: str) -> str:
    """Raises: NoSuchJob for what would leave the path shorter: retrying the job '.' would be retrying all."""
    if job_id in _NO_SEGMENTS:
        raise NoSuchJob(job_id)
    return f"/jobs/{quote(job_id, safe='')}"


def _problem(answer: httpx.Response) -> Problem | None:
    try:
        return msgspec.json.decode(answer.content, type=Problem)
    except msgspec.DecodeError:
        return None
