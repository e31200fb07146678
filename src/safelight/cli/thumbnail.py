"""`safelight thumbnail`: thumbnails of files and directories, on all cores."""

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from safelight.errors import BadRequest, SafelightError
from safelight.image.speed import SPEEDS, Speed

if TYPE_CHECKING:
    from safelight.batch.inputs import Listing
    from safelight.batch.naming import Naming, Target
    from safelight.batch.run import Tally
    from safelight.batch.session import Stop
    from safelight.batch.survey import Survey
    from safelight.batch.writing import Existing
    from safelight.engine.base import Engine

STREAM = "-"
MEBIBYTE = 1 << 20
SIGNALLED = 128

_SECONDS = click.FloatRange(min=0, min_open=True)
_COUNT = click.IntRange(min=1)


_ENGINE_OPTIONS = (
    click.option("-j", "--jobs", type=_COUNT, metavar="N", help="Image workers; default: one per core."),
    click.option(
        "--limit-memory",
        type=_COUNT,
        default=128,
        metavar="MIB",
        envvar="SAFELIGHT_LIMIT_MEMORY",
        show_envvar=True,
        help="Largest input, and largest results of one input; default 128.",
    ),
    click.option(
        "--transform-timeout",
        type=_SECONDS,
        default=20,
        metavar="S",
        envvar="SAFELIGHT_TRANSFORM_TIMEOUT",
        show_envvar=True,
        help="Longest time for one input; default 20.",
    ),
    click.option(
        "--auto-orient/--no-auto-orient", default=True, help="Apply the EXIF orientation first; the default."
    ),
)


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that runs image workers."""
    for option in reversed(_ENGINE_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Their values."""

    jobs: int
    max_bytes: int
    transform_timeout_s: float
    auto_orient: bool
    speed: Speed = Speed.BALANCED

    @classmethod
    def of(cls, options: dict[str, Any], names: Sequence[str]) -> "EngineOptions":
        """Not more workers than there can be inputs."""
        jobs = options["jobs"] or len(os.sched_getaffinity(0))
        if not any(map(os.path.isdir, names)):
            jobs = max(1, min(jobs, len(names)))
        max_bytes = options["limit_memory"] * MEBIBYTE
        speed = Speed(options.get("speed", Speed.BALANCED))
        return cls(jobs, max_bytes, options["transform_timeout"], options["auto_orient"], speed)

    def engine(self) -> "Engine":
        """A pool that is not started. It logs nothing: what matters to a batch comes back as an error."""
        from safelight.batch.run import create_engine
        from safelight.image.settings import ImageSettings
        from safelight.server.log import configure_log

        configure_log(logging.CRITICAL)
        return create_engine(
            self.jobs,
            ImageSettings(
                speed=self.speed, auto_orient=self.auto_orient, deadline_s=self.transform_timeout_s
            ),
            max_bytes=self.max_bytes,
            transform_timeout_s=self.transform_timeout_s,
        )


@click.command()
@click.argument("spec")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--also", multiple=True, metavar="SPEC", help="Another result of the same decode; repeatable.")
@click.option(
    "-o", "--output", "template", metavar="TEMPLATE", help="Names of the results; '-' is standard output."
)
@click.option("--overwrite", is_flag=True, help="Replace results that exist.")
@click.option("--skip-existing", is_flag=True, help="Make only results that do not exist.")
@click.option("-n", "--dry-run", is_flag=True, help="Only print which files would be made.")
@click.option(
    "--speed",
    type=click.Choice(SPEEDS),
    default=Speed.BALANCED.value,
    envvar="SAFELIGHT_SPEED",
    show_envvar=True,
    help="How much work goes into a result whose SPEC does not say; default balanced.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary; failures are listed.")
@engine_options
def command(
    spec: str,
    files: tuple[str, ...],
    also: tuple[str, ...],
    template: str | None,
    overwrite: bool,
    skip_existing: bool,
    dry_run: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Make thumbnails of files, and of the images in directories at any depth.

    SPEC is METHOD,WIDTH,HEIGHT,FORMAT[,OPTION:VALUE...][!EDIT,ARGUMENT...]... FILE may be '-', standard
    input. Results go beside the inputs unless -o says otherwise, and no file is ever overwritten unasked.
    The exit code is 1 if anything failed, 130 after Ctrl-C; finished results stay.

    \b
      safelight thumbnail crop,128,128,jpeg photos/
      safelight thumbnail fit,800,600,webp,quality:80 --also crop,64,64,png cat.jpg dog.png
      safelight thumbnail limit,1600,1600,jpeg photos/ -o 'web/#{relative_dirname}/#{basename}.jpg'
      curl -s https://example.com/cat.jpg | safelight thumbnail 'fit,300,300,input!rotate,90' - > cat.jpg
    """
    if overwrite and skip_existing:
        raise click.UsageError("--overwrite and --skip-existing exclude each other")
    engine = EngineOptions.of(options, files)
    if template == STREAM or (template is None and files == (STREAM,)):
        _to_stdout(engine, [spec, *also], files, dry_run)
        return
    run = _Run.of(engine, [spec, *also], files, template, _existing(overwrite, skip_existing), quiet)
    if dry_run:
        sys.exit(_print_plan(run))
    sys.exit(run.run())


def _existing(overwrite: bool, skip_existing: bool) -> "Existing":
    from safelight.batch.writing import Existing

    if overwrite:
        return Existing.OVERWRITE
    return Existing.SKIP if skip_existing else Existing.REFUSE


def _parsed(texts: Sequence[str]) -> list[Any]:
    """Specifications. Raises: click.UsageError."""
    from safelight.image.formats import INPUT_FORMATS, output_format
    from safelight.image.spec import MAX_SPECS, ThumbnailSpec

    if len(texts) > MAX_SPECS:
        raise click.UsageError(f"too many specs: {len(texts)}, at most {MAX_SPECS} are allowed")
    try:
        specs = [ThumbnailSpec.parse(text) for text in texts]
        for spec in specs:
            output_format(spec.format, INPUT_FORMATS["PNG"])
    except BadRequest as error:
        raise click.UsageError(error.message) from error
    return specs


# --- one input to standard output


def _to_stdout(options: EngineOptions, texts: Sequence[str], files: Sequence[str], dry_run: bool) -> None:
    from safelight.batch.inputs import Listing, is_directory
    from safelight.batch.session import run_interruptible

    if len(texts) > 1:
        raise click.UsageError("only one SPEC can go to standard output")
    if len(files) > 1 or is_directory(files[0]):
        raise click.UsageError("only one input can go to standard output")
    if sys.stdout.isatty() and not dry_run:
        raise click.UsageError("refusing to write an image to a terminal; redirect it, or use -o")
    specs = _parsed(texts)
    if dry_run:
        click.echo(f"{_printable(files[0])} -> {STREAM}")
        return
    (item,) = Listing(files)
    results: list[bytes] = []
    number = run_interruptible(lambda stop: _make_one(options, item, specs, stop, results))
    if number is not None:
        sys.exit(SIGNALLED + number)
    sys.stdout.buffer.write(results[0])
    sys.stdout.buffer.flush()


async def _make_one(
    options: EngineOptions, item: Any, specs: Sequence[Any], stop: "Stop", results: list[bytes]
) -> None:
    """Raises: SafelightError, naming the input."""
    from safelight.batch.reading import opened, read_slowly
    from safelight.batch.session import running

    engine = options.engine()
    try:
        async with running(engine, stop):
            data = opened(item, options.max_bytes)
            data = data or await stop.race(read_slowly(item, options.max_bytes))
            made = await stop.race(engine.thumbnail(data, specs))
    except SafelightError as error:
        raise _about(item.shown, error) from error
    output = made.outputs[0]
    if isinstance(output, SafelightError):
        raise _about(item.shown, output) from output
    results.append(output.data)


def _about(shown: str, error: SafelightError) -> SafelightError:
    about = error.reworded(_printable(f"{shown}: {error.message}"))
    about.detail = None
    return about


def _printable(text: str) -> str:
    from safelight.batch.printable import printable

    return printable(text)


# --- files


@dataclass(slots=True)
class _Run:
    """One call of the command that writes files."""

    options: EngineOptions
    naming: "Naming"
    listing: "Listing"
    existing: "Existing"
    quiet: bool
    survey: "Survey"
    tally: "Tally"

    @classmethod
    def of(
        cls,
        options: EngineOptions,
        texts: Sequence[str],
        files: Sequence[str],
        template: str | None,
        existing: "Existing",
        quiet: bool,
    ) -> "_Run":
        """Raises: click.UsageError."""
        from safelight.batch.inputs import Listing
        from safelight.batch.naming import BESIDE, Naming, NamingError
        from safelight.batch.run import Tally
        from safelight.batch.survey import Survey

        if files.count(STREAM) > 1:
            raise click.UsageError("standard input can be read once only")
        if STREAM in files and template is None:
            raise click.UsageError("say with -o where the result of standard input goes")
        try:
            naming = Naming(BESIDE if template is None else template, _parsed(texts))
        except NamingError as error:
            raise click.UsageError(error.message) from error
        listing = Listing(files, naming.holds_results, naming.is_result)
        return cls(options, naming, listing, existing, quiet, Survey(), Tally())

    def run(self) -> int:
        """Do it and say what happened; the exit code."""
        from safelight.batch.session import run_interruptible
        from safelight.batch.writing import check_root

        if self.naming.literal_root:
            check_root(self.naming.literal_root)
        started = time.monotonic()
        try:
            number = run_interruptible(self._work)
        except BadRequest as error:  # no image can cure this specification
            raise click.UsageError(error.message) from error
        for line in self.tally.take_failures():
            click.echo(line, err=True)
        if not self.quiet:
            click.echo(self._summary(time.monotonic() - started, number), err=True)
        if number is not None:
            return SIGNALLED + number
        return 1 if self.tally.failed else 0

    async def _work(self, stop: "Stop") -> None:
        import asyncio

        from safelight.batch.progress import shown
        from safelight.batch.run import Batch, check_specs, slots
        from safelight.batch.session import running
        from safelight.batch.survey import survey

        engine = self.options.engine()
        is_shown = not self.quiet and sys.stderr.isatty()
        async with shown(is_shown, self.survey, self.tally):
            looking = asyncio.create_task(
                asyncio.to_thread(survey, self.listing, self.naming, self.survey, stop.is_set)
            )
            async with running(engine, stop):
                await check_specs(engine, self.naming.specs)
                await stop.race(looking)
                batch = Batch(
                    engine,
                    self.naming,
                    self.existing,
                    self.options.max_bytes,
                    self.survey,
                    stop,
                    self.tally,
                )
                await batch.run(self.listing, slots(self.options.jobs))

    def _summary(self, seconds: float, number: int | None) -> str:
        tally = self.tally
        skipped = ", ".join(f"{count} {why}" for why, count in sorted(tally.skipped.items()) if count)
        parts = [f"{tally.done:,} done", f"{tally.failed:,} failed"]
        if skipped:
            parts.append(f"{tally.skipped.total():,} skipped ({skipped})")
        rate = f"{seconds:.1f} s, {tally.done / seconds:.1f} files/s, {tally.pixels / 1e6 / seconds:.0f} MP/s"
        return f"{'interrupted: ' if number else ''}{', '.join(parts)}; {rate}"


def _print_plan(run: _Run) -> int:
    """What would be made, a line each; the exit code that is known already."""
    from safelight.batch.inputs import Input, Unreadable
    from safelight.batch.survey import survey

    survey(run.listing, run.naming, run.survey)
    is_refused = False
    for found in run.listing:
        if isinstance(found, Unreadable):
            click.echo(_printable(f"{found.path}: {found.reason}"), err=True)
            is_refused = True
        if not isinstance(found, Input) or run.survey.is_result(found):
            continue
        for job in run.naming.jobs:
            try:
                target = run.naming.early(found, job)
                path = target.path if target else run.naming.outline(found, job)
                note, refuses = _note(target, run.existing)
            except SafelightError as error:
                click.echo(_printable(f"{found.shown}: {error.message}"), err=True)
                is_refused = True
                continue
            is_refused |= refuses
            click.echo(_printable(f"{found.shown} -> {path}") + note)
    return int(is_refused)


def _note(target: "Target | None", existing: "Existing") -> tuple[str, bool]:
    from safelight.batch.writing import Existing

    if target is None or not os.path.lexists(target.path):
        return "", False
    did = {Existing.REFUSE: "refused", Existing.SKIP: "skipped", Existing.OVERWRITE: "overwritten"}
    return f" (exists: {did[existing]})", existing is Existing.REFUSE
