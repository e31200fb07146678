"""The whole domain on one screen: what a request carries, the steps of an endpoint, and what they share."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from safelight.blob import Blob
from safelight.engine.base import Engine
from safelight.errors import ImageNotLoaded, MemoryLimitExceeded
from safelight.results.epochs import Epochs
from safelight.results.reading import Nobody, Witness
from safelight.results.shelf import Shelf
from safelight.results.tier import Tier
from safelight.storage.cache import ObjectCache
from safelight.storage.s3.bucket import Client as S3Client
from safelight.template import Template
from safelight.url import Url
from safelight.variables import Variables


@dataclass(frozen=True, slots=True)
class Request:
    """One request as received. `raw_path` and `raw_query` are still percent-encoded, header names lower case.

    `query` is the decoded query, a later duplicate winning, None for a key without `=`.
    """

    method: str
    raw_path: str
    raw_query: str
    query: Mapping[str, str | None]
    headers: Mapping[str, str]

    @property
    def uri(self) -> str:
        """Raw path and query: what a URL signature covers."""
        return f"{self.raw_path}?{self.raw_query}" if self.raw_query else self.raw_path


@dataclass(frozen=True, slots=True)
class Location:
    """Where an image was found or stored: its rendered path, without root or prefix; `url` makes its URL."""

    path: str
    url: Callable[[], Url]


@dataclass(frozen=True, slots=True)
class NamedImage:
    """Image data and what is known about it; unknown facts are None. Sizes in pixels.

    `modified`: Unix time of the last change of what is stored, where the data itself cannot tell.
    """

    data: Blob
    mime_type: str | None = None
    width: int | None = None
    height: int | None = None
    source: Location | None = None
    stored: Location | None = None
    modified: float | None = None


Facts = tuple[tuple[str, str], ...]


class Standing(Protocol):
    """A small answer that is kept in memory, and may answer equal requests until something changes."""

    def body(self) -> bytes | None:
        """Its body, one more use of it; None when what `answer` has told last does not hold any more."""
        ...

    def answer(self) -> "Answer | None":
        """All of it, as of now; None when it does not hold any more."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What is made of a request. `facts` are names and values that travel with the body.

    `etag`: strong entity tag of the body, with its quotes. `modified`: Unix time of the last change of what
    is stored. None: not known; the server looks at the body then. `standing`: where it was kept.
    """

    body: Blob
    content_type: str
    status: int = 200
    cache_control: str | None = None
    facts: Facts = ()
    etag: str | None = None
    modified: float | None = None
    standing: Standing | None = None


class MemoryBudget:
    """Bytes of image data that one request may still take (reference/imagestore 8.3)."""

    def __init__(self, max_bytes: int) -> None:
        self.remaining = max_bytes

    def charge(self, size: int) -> None:
        """Raises: MemoryLimitExceeded when `size` bytes are more than is left; exactly as many are fine."""
        if size > self.remaining:
            raise MemoryLimitExceeded
        self.remaining -= size

    def release(self, size: int) -> None:
        """Give back what a replaced image held."""
        self.remaining += size


class Images(dict[str, NamedImage]):
    """The images of one request by name, charged against its memory budget."""

    def __init__(self, budget: MemoryBudget) -> None:
        super().__init__()
        self.budget = budget

    def load(self, name: str, image: NamedImage) -> None:
        """Add or replace an image. Raises: MemoryLimitExceeded."""
        replaced = self.get(name)
        self.budget.charge(image.data.size)
        if replaced is not None and replaced.data is not image.data:
            self.budget.release(replaced.data.size)
        self[name] = image

    def __missing__(self, name: str) -> NamedImage:
        raise ImageNotLoaded(f"image '{name}' not loaded")


_NOBODY = Nobody()


@dataclass(frozen=True, slots=True)
class RequestState:
    """What the steps of one request read and leave for each other.

    `reading`: to be told what is read of storages.
    """

    request: Request
    body: Blob
    images: Images
    variables: Variables
    reading: Witness = _NOBODY


class Step(Protocol):
    """One validator, source or processor, ready to run."""

    async def run(self, state: RequestState) -> None:
        """Do it. Raises: any SafelightError, which ends the request."""
        ...


class Change(Protocol):
    """One change of what is stored, decided and not yet made."""

    @property
    def place(self) -> str:
        """What it changes. Changes of one place are made one after the other, in file order."""
        ...

    async def make(self) -> None:
        """Make it durable. Raises: any SafelightError, which ends the request."""
        ...

    def record(self, state: RequestState) -> None:
        """Note in `state` what was made."""
        ...


class Store(Protocol):
    """One store, ready to run."""

    def plan(self, state: RequestState) -> Change | None:
        """What to change for this request; None for nothing. Raises: any SafelightError."""
        ...


class Output(Protocol):
    """Turns the finished state into the answer."""

    async def answer(self, state: RequestState) -> Answer:
        """Raises: SetupError when what it should send was never loaded or stored."""
        ...


Compute = Callable[[RequestState], Awaitable[Answer]]
"""What makes an answer of a request that may be answered: everything from the sources to the output."""


class AnswerCache(Protocol):
    """Keeps the answers of one endpoint."""

    async def answer(self, state: RequestState, compute: Compute) -> Answer:
        """A kept answer, or what `compute` makes of `state`. Raises: what `compute` raises."""
        ...

    async def close(self) -> None:
        """Give up what is being renewed behind answers."""
        ...


class PathMatcher(Protocol):
    """Decides whether an endpoint serves a request."""

    def match(self, request: Request) -> "Captures | None":
        """Raises: BadRequest for text that is no UTF-8, SetupError for captures that do not add up."""
        ...


@dataclass(frozen=True, slots=True)
class Captures:
    """Decoded variables of the matchers, and `path`, the rest of the URL that no matcher consumed."""

    values: Mapping[str, str]
    path: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One declared endpoint, ready to serve: its steps in the order in which they run.

    `name`: as declared. `handler`: what log lines of the older server call it. `varies_by`: request headers
    that its answers depend on. `told_of_changes`: caches that may hold answers made of what it changes.
    """

    verb: str
    name: str
    handler: str
    matcher: PathMatcher
    validators: tuple[Step, ...]
    sources: tuple[Step, ...]
    processors: tuple[Step, ...]
    stores: tuple[Store, ...]
    output: Output
    hashes_input: bool = False
    cross_origin: "CrossOrigin | None" = None
    varies_by: tuple[str, ...] = ()
    cache: AnswerCache | None = None
    told_of_changes: tuple[Epochs, ...] = ()

    @property
    def heeds_headers(self) -> bool:
        """Whether requests of the same method and URL may be answered differently, or refused."""
        return bool(self.validators or self.varies_by or self.cross_origin)


class CrossOrigin(Protocol):
    """Which pages of other origins may use an endpoint (Fetch standard, section 3.3)."""

    def grant(self, origin: str | None) -> Facts:
        """What every answer tells the browser, errors included; nothing for an origin that may not."""
        ...

    def preflight(self, origin: str | None, method: str) -> Facts:
        """What a browser is told that asks before it sends a request of `method`. Raises: Forbidden."""
        ...


class Counters(Protocol):
    """Statistics, shared by all processes of a server."""

    def add(self, name: str, amount: int = 1) -> None: ...


TierPlace = tuple[str, str, str]
"""Name of the account, bucket, prefix."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What declared statements need to become steps.

    `s3`: accounts by name, the empty name for the one without. `caches`: object caches by directory.
    `shelves`: result caches by directory. `tiers`: those that machines share, by what statements say of them.
    `rendering`: settings outside of the configuration that decide what images look like, as text.
    `request_timeout_s`: how long a request may take, if there is a limit.
    """

    paths: Mapping[str, Template]
    engine: Engine
    counters: Counters
    s3: Mapping[str, S3Client] = field(default_factory=dict[str, S3Client])
    caches: Mapping[str, ObjectCache] = field(default_factory=dict[str, ObjectCache])
    shelves: Mapping[str, Shelf] = field(default_factory=dict[str, Shelf])
    tiers: Mapping[TierPlace, Tier] = field(default_factory=dict["TierPlace", Tier])
    rendering: str = ""
    request_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Api:
    """A built configuration."""

    endpoints: tuple[Endpoint, ...]
    resources: Resources

    def match(self, request: Request) -> tuple[Endpoint, Captures] | None:
        """The first endpoint, in file order, whose verb and matchers all agree (reference 3.1)."""
        verb = "get" if request.method == "HEAD" else request.method.lower()
        for endpoint in self.endpoints:
            if endpoint.verb == verb:
                captures = endpoint.matcher.match(request)
                if captures is not None:
                    return endpoint, captures
        return None
