"""Options of the commands that talk to a job server."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from safelight.jobs.record import State

DEFAULT_URL = "http://127.0.0.1:8602"

Command = Callable[..., Any]


class Moment(click.ParamType):  # type: ignore[type-arg]
    """A date or a time as RFC 3339 writes it; without a zone it is that of this machine."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"'{value}' is no time, such as 2026-11-22 or 2026-11-22T14:30:00+01:00", param, ctx)
        return (moment if moment.tzinfo else moment.astimezone()).isoformat()


_CLIENT_OPTIONS = (
    click.option(
        "--url",
        default=DEFAULT_URL,
        envvar="SAFELIGHT_JOBS_URL",
        show_envvar=True,
        show_default=True,
        help="The job server.",
    ),
    click.option(
        "--token",
        envvar="SAFELIGHT_JOBS_TOKEN",
        show_envvar=True,
        help="What it asks for. Prefer the variable: everybody on this machine can see command lines.",
    ),
)

_FILTER_OPTIONS = (
    click.option("--batch", metavar="NAME", help="Jobs of this batch."),
    click.option("--host", metavar="NAME", help="Jobs whose source is on this host."),
    click.option("--from", "created_from", type=Moment(), metavar="TIME", help="Accepted then or later."),
    click.option("--before", "created_before", type=Moment(), metavar="TIME", help="Accepted earlier."),
)


def client_options(command: Command) -> Command:
    """`--url` and `--token`, which arrive as `url` and `token`."""
    return _decorated(command, _CLIENT_OPTIONS)


def filter_options(command: Command) -> Command:
    """Which jobs are meant: `batch`, `host`, `created_from`, `created_before`, for `chosen`."""
    return _decorated(command, _FILTER_OPTIONS)


def state_option(*states: State) -> Callable[[Command], Command]:
    """`--state`, one of `states`."""
    return click.option("--state", type=click.Choice([*map(str, states)]), help="Jobs in this state.")


def chosen(filters: dict[str, str | None]) -> dict[str, str]:
    """The parameters that filter options stand for."""
    return {name: text for name, text in filters.items() if text is not None}


def _decorated(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for decorator in reversed(options):
        command = decorator(command)
    return command
