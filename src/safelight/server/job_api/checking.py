"""Whether a job that was sent could be done at all: its specifications, and whether policy admits its places.

Nothing here touches the network: what a name resolves to is checked when the job is done.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from ipaddress import ip_address

from safelight.errors import BadRequest, SpecError
from safelight.image.formats import PNG, output_format
from safelight.image.spec import ThumbnailSpec
from safelight.image.speed import Speed, speed_of
from safelight.jobs.deliver import check_form
from safelight.jobs.failure import TransferError
from safelight.jobs.local import beneath
from safelight.jobs.location import HTTP, Location, parse_location
from safelight.jobs.policy import Reach, is_public
from safelight.jobs.record import Delivery, Order, Output
from safelight.jobs.settings import JobSettings
from safelight.server.job_api.messages import Fault, NewJob, NewOutput, Thumbnail
from safelight.server.job_api.problem import Refusal
from safelight.server.job_api.reading import CONTROL, has_control

MAX_FAULTS = 100
"""Faults told at once."""


class _Enough(Exception):
    """There are more faults than anybody will read."""


class Checker:
    """Makes orders of jobs."""

    def __init__(self, settings: JobSettings) -> None:
        self._policy = settings.policy
        self._schemes = settings.schemes
        self._buckets = frozenset(settings.accounts)

    def orders(self, jobs: Sequence[NewJob]) -> list[Order]:
        """One for each. Raises: Refusal with everything that is wrong, or with the first MAX_FAULTS of it."""
        report = _Report()
        orders: list[Order] = []
        try:
            for number, job in enumerate(jobs):
                orders.append(self._order(job, f"jobs[{number}]", report))
        except _Enough:
            pass
        report.settle()
        return orders

    def _order(self, job: NewJob, where: str, report: "_Report") -> Order:
        with report.of(f"{where}.source"):
            self._check_source(parse_location(job.source))
        outputs = [
            self._output(output, f"{where}.outputs[{number}]", report)
            for number, output in enumerate(job.outputs)
        ]
        for name, text in (("key", job.key), ("batch", job.batch)):
            if text is not None and has_control(text):
                report.add(f"{where}.{name}", CONTROL)
        if job.webhook is not None:
            with report.of(f"{where}.webhook"):
                self._check_webhook(parse_location(job.webhook))
        return Order(
            source=job.source,
            outputs=tuple(outputs),
            priority=job.priority,
            key=job.key,
            batch=job.batch,
            webhook=job.webhook,
        )

    def _output(self, output: NewOutput, where: str, report: "_Report") -> Output:
        made = ""
        with report.of(f"{where}.make"):
            made = specification(output.make)
        delivery = Delivery(output.to) if isinstance(output.to, str) else output.to
        with report.of(f"{where}.to"):
            self._check_destination(delivery, parse_location(delivery.url))
        return Output(made, delivery)

    def _check_source(self, location: Location) -> None:
        """Raises: _NotAllowed."""
        self._check_scheme(location, self._schemes.sources, "source")
        with _refused_by_policy():
            if location.scheme == "file":
                beneath(self._policy.roots_of_sources(), location)
            else:
                _check_address(location, self._policy.admit_source)

    def _check_destination(self, delivery: Delivery, location: Location) -> None:
        """Raises: _NotAllowed; TransferError for a form that cannot be posted."""
        if delivery.form is not None:
            if location.scheme not in HTTP:
                raise TransferError("a form can only be posted over HTTP")
            check_form(delivery.form)
        self._check_scheme(location, self._schemes.destinations, "destination")
        with _refused_by_policy():
            if location.scheme == "file":
                beneath(self._policy.roots_of_destinations(), location)
            elif location.scheme == "s3":
                self._policy.admit_destination(location)
                self._check_bucket(location)
            else:
                _check_address(location, self._policy.admit_destination)

    def _check_webhook(self, location: Location) -> None:
        """Raises: _NotAllowed; TransferError for what is not HTTP."""
        if location.scheme not in HTTP:
            raise TransferError("a webhook is called over HTTP")
        with _refused_by_policy():
            _check_address(location, self._policy.admit_webhook)

    def _check_bucket(self, location: Location) -> None:
        if location.host not in self._buckets:
            raise TransferError(f"no S3 client is configured for bucket '{location.host}'")

    def _check_scheme(self, location: Location, allowed: frozenset[str], use: str) -> None:
        if location.scheme not in allowed:
            raise _NotAllowed(f"'{location.scheme}' cannot be the scheme of a {use}")


class _NotAllowed(TransferError):
    """Well formed, and against the configuration."""


class _Report:
    """Gathers faults; if all of them are refusals of policy, the answer is 403."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._all_forbidden = True

    @contextmanager
    def of(self, where: str) -> Generator[None]:
        """Add what is raised inside. Raises: _Enough."""
        try:
            yield
        except (TransferError, BadRequest) as error:
            self.add(where, error.message, forbidden=isinstance(error, _NotAllowed))

    def add(self, where: str, message: str, *, forbidden: bool = False) -> None:
        """Raises: _Enough."""
        self._faults.append(Fault(where, message))
        self._all_forbidden &= forbidden
        if len(self._faults) == MAX_FAULTS:
            raise _Enough

    def settle(self) -> None:
        """Raises: Refusal if there is anything."""
        if self._faults:
            first = self._faults[0]
            status = HTTPStatus.FORBIDDEN if self._all_forbidden else HTTPStatus.BAD_REQUEST
            raise Refusal(status, f"{first.where}: {first.message}", self._faults)


def specification(make: str | Thumbnail) -> str:
    """The text of a specification.

    Methods and edits are known where images are made, plugins included; everything else is looked at here.
    Raises: BadRequest.
    """
    text = make if isinstance(make, str) else _joined(make)
    if has_control(text):
        raise SpecError(CONTROL)
    spec = ThumbnailSpec.parse(text)
    output_format(spec.format, PNG)
    speed_of(spec.options, Speed.BALANCED)
    if 0 in (spec.width, spec.height):
        raise SpecError(f"at least one image dimension is zero in spec '{text}'")
    return text


def _joined(make: Thumbnail) -> str:
    """Raises: SpecError when a part would become several."""
    options = {name: str(value) for name, value in make.options.items()}
    parts = (make.method, make.format, *options, *options.values())
    if (
        any("," in part or "!" in part for part in parts)
        or any(":" in name for name in options)
        or any("!" in edit for edit in make.edits)
    ):
        raise SpecError("a part of the specification has a separator in it: ',', ':' or '!'")
    head = ThumbnailSpec(make.method, make.width, make.height, make.format, options)
    return "!".join((str(head), *make.edits))


@contextmanager
def _refused_by_policy() -> Generator[None]:
    """Raises: _NotAllowed for what the policy does not admit."""
    try:
        yield
    except TransferError as error:
        raise _NotAllowed(error.message) from error


def _check_address(location: Location, admit: Callable[[Location], Reach]) -> None:
    """Raises: TransferError, also for an address in place of a name that may not be connected to."""
    if admit(location) is Reach.PUBLIC and _is_private_address(location.host):
        raise TransferError(f"'{location.host}' is no public address")


def _is_private_address(host: str) -> bool:
    try:
        return not is_public(ip_address(host))
    except ValueError:  # a name
        return False
