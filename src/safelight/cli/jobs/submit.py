"""`safelight jobs submit`: send many jobs to a job server."""

import secrets
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click

from safelight.cli.jobs import lines
from safelight.cli.jobs.client import OUTAGE_S, Client, NotHeeded, NotReached, connected
from safelight.cli.jobs.options import client_options
from safelight.cli.jobs.progress import shown
from safelight.errors import SafelightError

INTERRUPTED = 130


@click.command("submit")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--batch",
    metavar="NAME",
    help="Name of the batch of lines that say none; default: a new one, which is printed.",
)
@click.option("--wait", is_flag=True, help="Wait until the batch has ended; exit code 1 if any job died.")
@client_options
def submit_command(
    files: tuple[str, ...], batch: str | None, wait: bool, url: str, token: str | None
) -> None:
    """Send jobs to a server.

    A FILE has one JSON object on each line; '-' is standard input. Files are checked before anything is sent.
    Jobs are sent some at a time, and what is accepted is safe. To go on after an interruption, repeat the
    command with the same --batch: lines that were accepted are not done again, because each has a key, its
    own or one that is made of its content and the batch. So equal lines of a batch are one job.

    \b
      safelight jobs submit jobs.ndjson --batch 2026-11 --wait
      jq -c '.[] | {source, outputs}' pictures.json | safelight jobs submit -
    """
    submission = Submission(files, batch or _new_batch())
    with connected(url, token) as client:
        try:
            submission.run(client)
            if wait:
                sys.exit(_wait(client, submission.batches))
        except (SafelightError, KeyboardInterrupt) as error:
            submission.explain()
            if isinstance(error, KeyboardInterrupt):
                sys.exit(INTERRUPTED)
            raise


@dataclass(slots=True)
class Submission:
    """What is sent, and how far that has come.

    `batches` are those of accepted jobs, in their sequence. `is_unsure`: more than `accepted` may have been
    accepted, because an answer is missing.
    """

    files: tuple[str, ...]
    batch: str
    accepted: int = 0
    batches: dict[str, None] = field(default_factory=dict[str, None])
    is_unsure: bool = False
    is_complete: bool = False

    def run(self, client: Client) -> None:
        """Send everything. Raises: SafelightError."""
        total = lines.check(self.files, self.batch) if all(map(_is_repeatable, self.files)) else None
        with shown("submitting") as show:
            show(total, 0, "")
            for chunk in lines.chunks(self.files, self.batch):
                self._send(client, chunk)
                show(total, self.accepted, "")
        self.is_complete = True
        click.echo(f"{self.accepted} jobs accepted{self._in_batches()}")

    def explain(self) -> None:
        """Say what is left to be done, when it did not come to its end."""
        if self.is_complete:
            click.echo(f"the jobs go on; to wait again, repeat it with --batch {self.batch}", err=True)
        elif self.accepted or self.is_unsure:
            known = f"{self.accepted} jobs are known to be accepted"
            click.echo(f"{known}; to go on, repeat it with --batch {self.batch}", err=True)

    def _send(self, client: Client, chunk: lines.Chunk) -> None:
        """A server that was there a moment ago may be restarting; no server at all is told at once."""
        self.is_unsure = True
        try:
            ids = client.submit(chunk.body, patience_s=OUTAGE_S if self.accepted else 0)
        except (NotHeeded, NotReached) as error:
            self.is_unsure = False
            if isinstance(error, NotHeeded) and error.problem.errors:
                raise lines.BadLines("\n".join(chunk.complaints(error.problem.errors))) from error
            raise
        self.is_unsure = False
        self.accepted += len(ids)
        self.batches.update(dict.fromkeys(line.batch for line in chunk.lines))

    def _in_batches(self) -> str:
        if len(self.batches) == 1:
            return f" in batch {next(iter(self.batches))}"
        return f" in {len(self.batches)} batches" if self.batches else ""


def _wait(client: Client, batches: dict[str, None]) -> int:
    """Wait until all jobs of `batches` have ended; the exit code."""
    done = dead = cancelled = 0
    with shown("working") as show:
        for batch in batches:
            for view in client.follow(batch):
                ended = view.done + view.dead + view.cancelled
                show(view.total, ended, f"{view.dead} dead" if view.dead else "")
                if view.ended:
                    done, dead, cancelled = done + view.done, dead + view.dead, cancelled + view.cancelled
    click.echo(f"{done} done, {dead} dead, {cancelled} cancelled")
    return int(dead > 0)


def _new_batch() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def _is_repeatable(name: str) -> bool:
    """Whether a file can be read twice."""
    return Path(name).is_file()
