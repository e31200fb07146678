"""`safelight jobs retry` and `cancel`: what is to become of jobs."""

import sys
from collections.abc import Callable
from functools import partial

import click
import msgspec

from safelight.cli import FAILED
from safelight.cli.jobs.client import Client, NotHeeded, connected
from safelight.cli.jobs.options import Command, chosen, client_options, filter_options, state_option
from safelight.jobs.queue import NoSuchJob
from safelight.jobs.record import JobView, State


def _which(command: Command) -> Command:
    """The jobs that are named, those that a filter finds, or all."""
    return click.argument("ids", nargs=-1, metavar="[ID]...")(
        filter_options(click.option("--all", "is_all", is_flag=True, help="All that are there.")(command))
    )


@click.command("retry")
@_which
@client_options
def retry_command(
    ids: tuple[str, ...], is_all: bool, url: str, token: str | None, **filters: str | None
) -> None:
    """Let dead jobs wait again.

    Say which: by ID, by options, or --all.
    """
    wanted = _checked(ids, is_all, chosen(filters))
    with connected(url, token) as client:
        count = _each(ids, partial(_retry, client)) if ids else client.retry_all(wanted)
    _finish(len(ids), count, f"{count} jobs wait again")


@click.command("cancel")
@_which
@state_option(State.WAITING, State.RUNNING)
@client_options
def cancel_command(
    ids: tuple[str, ...], is_all: bool, url: str, token: str | None, **filters: str | None
) -> None:
    """Cancel jobs that wait or run.

    Say which: by ID, by options, or --all.
    """
    wanted = _checked(ids, is_all, chosen(filters))
    with connected(url, token) as client:
        count = _each(ids, partial(_cancel, client)) if ids else _cancel_all(client, wanted)
    _finish(len(ids), count, f"{count} jobs cancelled")


def _checked(ids: tuple[str, ...], is_all: bool, wanted: dict[str, str]) -> dict[str, str]:
    """Raises: click.UsageError, because a command that lost its arguments must not mean everything."""
    if sum(map(bool, (ids, wanted, is_all))) != 1:
        raise click.UsageError("name the jobs by ID, or by options such as --batch, or say --all")
    return wanted


def _each(ids: tuple[str, ...], change: Callable[[str], str | None]) -> int:
    """Change each job that there is, and complain about the others; how many were changed."""
    count = 0
    for job_id in ids:
        try:
            complaint = change(job_id)
        except (NotHeeded, NoSuchJob) as error:
            complaint = error.message
        if complaint:
            click.echo(f"{job_id}: {complaint}", err=True)
        else:
            count += 1
    return count


def _retry(client: Client, job_id: str) -> None:
    """Raises: NotHeeded, NoSuchJob."""
    client.retry(job_id)


def _cancel(client: Client, job_id: str) -> str | None:
    """What is wrong, if it had ended before. Raises: NotHeeded, NoSuchJob."""
    state = client.cancel(job_id).state
    return None if state is State.CANCELLED else f"the job is {state}"


def _cancel_all(client: Client, wanted: dict[str, str]) -> int:
    states = [wanted["state"]] if "state" in wanted else [State.WAITING, State.RUNNING]
    found = (
        msgspec.json.decode(job, type=JobView).id
        for state in states
        for page in client.pages({**wanted, "state": state})
        for job in page
    )
    return sum(_cancel(client, job_id) is None for job_id in found)


def _finish(wanted: int, count: int, said: str) -> None:
    click.echo(said)
    if count < wanted:
        sys.exit(FAILED)
