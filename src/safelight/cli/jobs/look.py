"""`safelight jobs list`, `show` and `export`: what a job server has."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import msgspec

from safelight.blob import MemoryBlob
from safelight.cli.jobs.client import connected
from safelight.cli.jobs.options import chosen, client_options, filter_options, state_option
from safelight.errors import SafelightError
from safelight.jobs.record import JobView, State
from safelight.server.log import escape
from safelight.storage.atomic import DIRECTORY, replace_file

HEADINGS = ("ID", "STATE", "ACCEPTED", "ATTEMPTS", "SOURCE", "REASON")
STREAM = "-"
USUAL_LIMIT = 100


@click.command("list")
@state_option(*State)
@filter_options
@click.option(
    "--limit", type=click.IntRange(min=1), default=USUAL_LIMIT, show_default=True, help="At most so many."
)
@click.option("--json", "is_json", is_flag=True, help="As JSON, one job on each line.")
@client_options
def list_command(limit: int, is_json: bool, url: str, token: str | None, **filters: str | None) -> None:
    """List jobs, the latest first."""
    with connected(url, token) as client:
        jobs = [job for page in client.pages(chosen(filters), limit) for job in page]
    if is_json:
        _write(STREAM, [_as_lines(jobs)])
        return
    rows = [HEADINGS, *(_row(msgspec.json.decode(job, type=JobView)) for job in jobs)]
    for line in _aligned(rows):
        click.echo(line)


@click.command("show")
@click.argument("job_id", metavar="ID")
@client_options
def show_command(job_id: str, url: str, token: str | None) -> None:
    """Show one job, as JSON."""
    with connected(url, token) as client:
        click.echo(msgspec.json.format(client.show(job_id)))


@click.command("export")
@state_option(*State)
@filter_options
@click.option("-o", "--output", metavar="FILE", default=STREAM, help="Default: standard output.")
@client_options
def export_command(output: str, url: str, token: str | None, **filters: str | None) -> None:
    """Write jobs to a file.

    All jobs, or those that the options choose, as JSON, one on each line, the latest first.
    """
    with connected(url, token) as client:
        _write(output, map(_as_lines, client.pages(chosen(filters))))


def _write(name: str, parts: Iterable[bytes]) -> None:
    """Write standard output, or a file, which is there as a whole or stays as it was.

    Raises: SafelightError.
    """
    path = Path(name).resolve()
    try:
        if name == STREAM or (path.exists() and not path.is_file()):
            with click.open_file(name, "wb") as file:
                file.writelines(parts)
            return
        directory = os.open(path.parent, DIRECTORY)
        try:
            replace_file(directory, path.name, map(MemoryBlob, parts))
        finally:
            os.close(directory)
    except OSError as error:
        raise SafelightError(f"cannot write '{name}': {error.strerror}") from error


def _as_lines(jobs: Iterable[msgspec.Raw]) -> bytes:
    return b"".join(bytes(job) + b"\n" for job in jobs)


def _row(job: JobView) -> Sequence[str]:
    accepted = f"{job.created_at.astimezone():%Y-%m-%d %H:%M:%S}"
    return job.id, str(job.state), accepted, str(job.attempts), escape(job.source), escape(job.reason or "")


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
