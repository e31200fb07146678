"""A job: the order that somebody placed, and how far it has come. Both have a stable JSON form.

An order never changes. Everything that changes stands beside it in `Job`, and only the queue changes it.
`JobView` is what others may see of a job: clients of the API, and webhooks.
"""

import secrets
import time
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from safelight.errors import BadRequest
from safelight.jobs.location import shown

MAX_URL = 8192
MAX_OUTPUTS = 64
MAX_PRIORITY = 100

Url = Annotated[str, Meta(min_length=1, max_length=MAX_URL)]
Label = Annotated[str, Meta(min_length=1, max_length=200)]
Side = Annotated[int, Meta(ge=1)]


class State(StrEnum):
    """Where a job stands. It leaves `running` by its worker, by cancellation, or when its lease expires."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"


class Placeholder(StrEnum):
    """What of ours is at the destinations of an old-style job (reference/imgserve section 7)."""

    NONE = "none"
    LYING = "lying"
    """The picture that asks for patience. Only this one may the failure picture replace."""
    REPLACED = "replaced"
    FAILED = "failed"
    """The failure picture; it is not sent a second time."""


class Form(Struct, frozen=True, forbid_unknown_fields=True):
    """How an image is put into the form of a page: name of the file field, and the file name it is given."""

    field: Label
    file_name: Label


class Delivery(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where an image goes: an http, https, ftp, ftps or file URL, or `s3://bucket/key`.

    Over HTTP it is a PUT; with `form` it is a POST of a form to the page at `url`.
    """

    url: Url
    form: Form | None = None


class LegacyOperation(Struct, frozen=True, forbid_unknown_fields=True):
    """What the older server can make (reference/imgserve section 8): sides in pixels, a format of ours."""

    kind: Literal["resize", "rasterize"]
    width: Side
    height: Side
    format: str


class Output(Struct, frozen=True, forbid_unknown_fields=True):
    """One image to make, from a thumbnail specification or an operation of the older server."""

    make: str | LegacyOperation
    to: Delivery


class OutputView(Struct, frozen=True):
    """One output of a job as others may see it. `delivered`: it is known to be at its destination."""

    make: str | LegacyOperation
    to: str
    delivered: bool


class JobView(Struct, frozen=True):
    """A job as others may see it: URLs without password and query."""

    id: str
    state: State
    created_at: datetime
    ended_at: datetime | None
    attempts: int
    reason: str | None
    source: str
    outputs: tuple[OutputView, ...]
    priority: int
    batch: str | None
    key: str | None
    not_before: datetime | None


class Notice(Struct, frozen=True, forbid_unknown_fields=True):
    """A webhook is to be told that a job has ended. `job` is what it was then; it may be revived later."""

    job: JobView


class Order(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="version", tag=1):
    """What is to be done: one source, fetched and decoded once, and its outputs, at least one.

    Two orders with one `key` are one job, as long as the queue remembers it. `webhook` is the URL to be told
    when the job has ended. `legacy` jobs begin with `placeholder` at their destination and never report.

    An order with a `notice` is one to tell that: its `source` is the webhook, and it has no outputs.
    """

    source: Url
    outputs: Annotated[tuple[Output, ...], Meta(max_length=MAX_OUTPUTS)]
    priority: Annotated[int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] = 0
    key: Label | None = None
    batch: Label | None = None
    webhook: Url | None = None
    legacy: bool = False
    placeholder: Placeholder = Placeholder.NONE
    notice: Notice | None = None

    @property
    def host(self) -> str:
        """Host of the source in lower case, empty for local files: what `per_host` limits count by."""
        try:
            return urlsplit(self.source).hostname or ""
        except ValueError:  # it will be refused when it is fetched, with a better message
            return ""


class Footprint(Struct, frozen=True, omit_defaults=True):
    """What a job has already changed outside, so that doing it again does not do that again.

    `delivered` holds indices into the order's outputs.
    """

    placeholder: Placeholder = Placeholder.NONE
    delivered: tuple[int, ...] = ()


class Lease(Struct, frozen=True):
    """The right of one worker to one job for some time.

    `fence` grows with every lease of a job: whoever comes with an old one has lost it.
    """

    job_id: str
    owner: str
    fence: int


class Job(Struct, frozen=True, omit_defaults=True, tag_field="version", tag=1):
    """An accepted order. `attempts` counts how often it was begun, the present time included.

    `reason` says why it is dead, or why it is tried again. `not_before` and `lease_expires_at` are for
    display: the queue itself does not trust the wall clock.
    """

    id: str
    created_at: datetime
    order: Order
    state: State
    attempts: int = 0
    reason: str | None = None
    footprint: Footprint = Footprint()
    not_before: datetime | None = None
    ended_at: datetime | None = None
    lease: Lease | None = None
    lease_expires_at: datetime | None = None

    @property
    def undelivered(self) -> list[int]:
        """Indices of the outputs that no earlier attempt is known to have delivered."""
        return [index for index in range(len(self.order.outputs)) if index not in self.footprint.delivered]


_order_decoder = msgspec.json.Decoder(Order)


def encode_order(order: Order) -> bytes:
    """JSON that `decode_order` of this and all later versions reads.

    Raises: BadRequest when a value is out of its bounds. Constructors do not check them, and a job that is
    accepted must be readable for ever.
    """
    try:
        text = msgspec.json.encode(order)
        decode_order(text)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise BadRequest(f"the job cannot be accepted: {error}") from error
    return text


def decode_order(text: bytes | str) -> Order:
    """Raises: msgspec.ValidationError, msgspec.DecodeError with a message that says what is wrong where."""
    order = _order_decoder.decode(text)
    if not order.outputs and order.notice is None:
        raise msgspec.ValidationError("Expected `array` of length >= 1 - at `$.outputs`")
    return order


def view_of(job: Job) -> JobView:
    """What others may see of `job`."""
    order, delivered, is_done = job.order, job.footprint.delivered, job.state is State.DONE
    return JobView(
        id=job.id,
        state=job.state,
        created_at=job.created_at,
        ended_at=job.ended_at,
        attempts=job.attempts,
        reason=job.reason,
        source=shown(order.source),
        outputs=tuple(
            OutputView(output.make, shown(output.to.url), is_done or index in delivered)
            for index, output in enumerate(order.outputs)
        ),
        priority=order.priority,
        batch=order.batch,
        key=order.key,
        not_before=job.not_before,
    )


def notice_of(job: Job) -> Order | None:
    """The order that tells the webhook of `job`, which has just ended; None if it has none.

    It goes before the other jobs of that priority: told after the last of a large batch would be too late.
    Nor does it count in the batch. Queues insert it in the transaction that ends the job.
    """
    if job.order.webhook is None:
        return None
    priority = min(job.order.priority + 1, MAX_PRIORITY)
    return Order(source=job.order.webhook, outputs=(), priority=priority, notice=Notice(view_of(job)))


def new_job_id() -> str:
    """A UUID of version 7 with microseconds, so that ids sort by time (RFC 9562 section 6.2, method 3)."""
    ms, rest_ns = divmod(time.time_ns(), 1_000_000)
    fraction = rest_ns * 4096 // 1_000_000
    value = ms << 80 | 7 << 76 | fraction << 64 | 2 << 62 | secrets.randbits(62)
    return str(UUID(int=value))
