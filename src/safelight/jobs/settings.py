"""From a configuration to what jobs may do: its `jobs` block, and the accounts of its `s3` statements."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from safelight.config.load import Config
from safelight.config.problem import Problem
from safelight.errors import ConfigError
from safelight.jobs.location import normal_host
from safelight.jobs.notify import signing_key
from safelight.jobs.policy import Policy, Rule, parse_rule
from safelight.jobs.rules import Schemes
from safelight.jobs.worker import Pace
from safelight.statements.clients import S3
from safelight.statements.jobs import JobEntry, Jobs
from safelight.storage.s3.account import Account

T = TypeVar("T")

MOST_PER_HOST = 8
"""Jobs at a time whose sources are on one host, unless configured: origins are not to be flooded either."""


@dataclass(frozen=True, slots=True)
class JobSettings:
    """What jobs may do, and how many at a time; `workers` gives `pace` its final numbers.

    `accounts`: at object stores, by bucket. `tokens`: who shows one of them may use the server; none: all
    may. `webhook_secret`: what webhooks are signed with. `queue`: URL of the database that several machines
    share; None: a file of this machine. `per_host`: as configured; None: so that one slow host leaves room.
    """

    policy: Policy = field(default_factory=Policy)
    accounts: Mapping[str, Account] = field(default_factory=dict[str, Account])
    pace: Pace = field(default_factory=Pace)
    per_host: int | None = None
    tokens: tuple[str, ...] = ()
    webhook_secret: str = ""
    queue: str | None = None

    @property
    def schemes(self) -> Schemes:
        """Those of URLs; files and buckets only if some are configured."""
        remote = {"http", "https", "ftp", "ftps"}
        sources = {"file"} if self.policy.roots_of_sources() else set[str]()
        destinations = {"file"} if self.policy.roots_of_destinations() else set[str]()
        if self.accounts:
            destinations.add("s3")
        return Schemes(frozenset(remote | sources), frozenset(remote | destinations))

    @property
    def has_destinations(self) -> bool:
        """Whether anything could be delivered at all."""
        policy = self.policy
        return bool(policy.destinations or policy.roots_of_destinations())

    def workers(self, concurrency: int) -> "JobSettings":
        """The same with at least so many jobs at a time."""
        most = max(self.pace.concurrency, concurrency)
        per_host = self.per_host or max(1, min(MOST_PER_HOST, most // 2))
        return replace(self, pace=msgspec.structs.replace(self.pace, concurrency=most, per_host=per_host))


def job_settings(config: Config | None, *, legacy: bool) -> JobSettings:
    """What `config` says; without it, or without a `jobs` block, the safe defaults.

    `legacy`: open to everything, as the older server was; limits stay.
    Raises: ConfigError with every complaint about the block.
    """
    (declared, *_) = [*(config.of(Jobs) if config else []), None]
    if config is None or declared is None:
        return JobSettings(Policy(legacy=legacy))
    problems: list[Problem] = []
    rules = _Rules(declared, problems)
    policy = Policy(
        sources=rules.of("source") or None,
        destinations=rules.of("destination"),
        webhooks=rules.of("webhook"),
        source_roots=_roots(declared, "source_root"),
        destination_roots=_roots(declared, "destination_root"),
        unverified_hosts=frozenset(rules.hosts("unverified_host")),
        legacy=legacy,
        max_bytes=declared.max_bytes,
        fetch_timeout_s=declared.fetch_timeout,
        deliver_timeout_s=declared.deliver_timeout,
    )
    accounts = _accounts(declared, config, problems)
    try:
        signing_key(declared.webhook_secret)
    except ConfigError as error:
        problems.append(Problem(declared.tag.position, error.message))
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    pace = Pace(concurrency=declared.concurrency, max_attempts=declared.attempts)
    return JobSettings(
        policy,
        accounts,
        pace,
        declared.per_host,
        tokens=tuple(entry.text for entry in declared.named("token")),
        webhook_secret=declared.webhook_secret,
        queue=next((entry.text for entry in declared.named("queue")), None),
    )


class _Rules:
    """Reads the lines of a block, and reports those that make no sense."""

    def __init__(self, declared: Jobs, problems: list[Problem]) -> None:
        self._declared = declared
        self._problems = problems

    def of(self, name: str) -> tuple[Rule, ...]:
        """Rules of all lines of one name."""
        return tuple(self._read(name, parse_rule))

    def hosts(self, name: str) -> list[str]:
        """Host names of all lines of one name."""
        return self._read(name, _host)

    def _read(self, name: str, parse: Callable[[str], T]) -> list[T]:
        found: list[T] = []
        for entry in self._declared.named(name):
            try:
                found.append(parse(entry.text))
            except ConfigError as error:
                self._problems.append(Problem(entry.tag.position, f"'{name}': {error.message}"))
        return found


def _host(text: str) -> str:
    try:
        return normal_host(text)
    except ValueError as error:
        raise ConfigError(f"'{text}' is no host name") from error


def _roots(declared: Jobs, name: str) -> tuple[Path, ...]:
    return tuple(Path(entry.text).absolute() for entry in declared.named(name))


def _accounts(declared: Jobs, config: Config, problems: list[Problem]) -> dict[str, Account]:
    """Accounts of the buckets among the destinations."""
    clients = {client.client_name: client for client in config.of(S3)}
    found: dict[str, Account] = {}
    for entry in declared.named("destination"):
        if entry.is_bucket:
            client = clients.get(entry.s3)
            if client is None:
                problems.append(Problem(entry.tag.position, _missing(entry)))
            else:
                found[_bucket(entry)] = client.account()
    return found


def _bucket(entry: JobEntry) -> str:
    return entry.text.removeprefix("s3://").partition("/")[0]


def _missing(entry: JobEntry) -> str:
    name = f"'{entry.s3}'" if entry.s3 else "without a name"
    return f"there is no 's3' statement {name} for bucket '{_bucket(entry)}'"
