"""What is said over the API, as types: requests are decoded by them, and the OpenAPI document shows them."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from safelight.jobs.queue import MAX_PAGE
from safelight.jobs.record import MAX_OUTPUTS, MAX_PRIORITY, Delivery, JobView, Label, Side, State, Url

MAX_SPECIFICATION = 8192
MAX_OPTIONS = 64
USUAL_PAGE = 100

Word = Annotated[str, Meta(min_length=1, max_length=MAX_SPECIFICATION)]
Moment = Annotated[datetime, Meta(tz=True)]
Specification = Annotated[
    Word,
    Meta(description="A thumbnail specification", examples=["fit,300,200,jpeg,quality:84!rotate,90"]),
]


# --- what clients send


class Thumbnail(Struct, frozen=True, forbid_unknown_fields=True):
    """A thumbnail specification in parts. A side that is missing is that of the input, in pixels."""

    method: Word
    format: Word
    width: Side | None = None
    height: Side | None = None
    options: Annotated[dict[Word, Word | int | float], Meta(max_length=MAX_OPTIONS)] = {}
    edits: tuple[Annotated[Word, Meta(examples=["rotate,90"])], ...] = ()


class NewOutput(Struct, frozen=True, forbid_unknown_fields=True):
    """One image to make, and where it goes: by PUT, FTP, into a bucket or a file, or by a form."""

    make: Specification | Thumbnail
    to: Url | Delivery


class NewJob(Struct, frozen=True, forbid_unknown_fields=True):
    """One source, fetched and decoded once, and what to make of it."""

    source: Url
    outputs: Annotated[tuple[NewOutput, ...], Meta(min_length=1, max_length=MAX_OUTPUTS)]
    priority: Annotated[
        int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY, description="Higher ones are done earlier.")
    ] = 0
    key: Annotated[
        Label | None, Meta(description="A second job with the same key is the first one, and not done again.")
    ] = None
    batch: Annotated[Label | None, Meta(description="Name of what the job is a part of.")] = None
    webhook: Annotated[Url | None, Meta(description="Who is told when the job has ended.")] = None


class Chosen(Struct, frozen=True, forbid_unknown_fields=True):
    """Which jobs are meant. Times are those of acceptance; `created_before` is exclusive."""

    batch: Label | None = None
    host: Annotated[Label | None, Meta(description="Host of the source.")] = None
    created_from: Moment | None = None
    created_before: Moment | None = None


class Listed(Chosen, frozen=True, forbid_unknown_fields=True):
    """Which jobs to list, and how many; `cursor` is the `next` of the page before."""

    state: State | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = USUAL_PAGE
    cursor: Label | None = None


# --- what they are told


class JobPage(Struct, frozen=True):
    """Jobs, the latest accepted first; `next` is the cursor of the next page, null on the last."""

    jobs: list[JobView]
    next: str | None


class BatchView(Struct, frozen=True):
    """How many jobs of a batch are in which state. `ended`: none of them waits or runs."""

    batch: str
    total: int
    waiting: int
    running: int
    done: int
    dead: int
    cancelled: int
    ended: bool


class Accepted(Struct, frozen=True):
    """Ids of accepted jobs, in the sequence in which they were sent."""

    ids: list[str]


class Retried(Struct, frozen=True):
    """How many jobs wait again."""

    retried: int


class Fault(Struct, frozen=True):
    """What is wrong. `where`: `jobs[3].outputs[0].to`, `query.limit`, `header.content-type`, or `body`."""

    where: str
    message: str


class Problem(Struct, frozen=True):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[Fault, ...] = ()
