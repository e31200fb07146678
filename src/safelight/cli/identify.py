"""`safelight identify`: types and sizes of files and directories."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from safelight.cli.thumbnail import SIGNALLED, EngineOptions, engine_options

if TYPE_CHECKING:
    from safelight.batch.inputs import Input
    from safelight.batch.session import Stop
    from safelight.image.result import ImageInfo

SLOTS_PER_JOB = 4


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on each line.")
@engine_options
def command(files: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Print type, width and height of images.

    FILE is a file, a directory (searched at any depth) or '-', standard input. Only headers are read. Sizes
    are in pixels, after the EXIF orientation. What is no image is named on standard error, and the exit code
    is then 1.

    \b
      safelight identify cat.jpg photos/
      safelight identify --json photos/ | jq 'select(.width < 640).path'
    """
    from safelight.batch.session import run_interruptible

    if files.count("-") > 1:
        raise click.UsageError("standard input can be read once only")
    failed: list[bool] = []
    engine = EngineOptions.of(options, files)
    number = run_interruptible(lambda stop: _print(engine, files, as_json, stop, failed))
    if number is not None:
        sys.exit(SIGNALLED + number)
    sys.exit(int(bool(failed)))


async def _print(
    options: EngineOptions, files: Sequence[str], as_json: bool, stop: "Stop", failed: list[bool]
) -> None:
    from safelight.batch.identify import identify
    from safelight.batch.inputs import Listing
    from safelight.batch.printable import printable
    from safelight.batch.run import Failed
    from safelight.batch.session import running

    engine = options.engine()
    slots = SLOTS_PER_JOB * options.jobs
    async with running(engine, stop):
        async for answer in identify(
            engine, Listing(files), max_bytes=options.max_bytes, slots=slots, stop=stop
        ):
            if isinstance(answer, Failed):
                failed[:] = [True]
                for reason in answer.reasons:
                    click.echo(printable(f"{answer.shown}: {reason}"), err=True)
            else:
                click.echo(_as_json(*answer) if as_json else _as_text(*answer))


def _as_json(item: "Input", info: "ImageInfo") -> str:
    """Bytes of a name that are no UTF-8 become lone surrogates, as Python's `os.fsdecode` makes them."""
    facts = {"path": item.shown, "mimeType": info.mime_type, "width": info.width, "height": info.height}
    return json.dumps(facts, separators=(",", ":"))


def _as_text(item: "Input", info: "ImageInfo") -> str:
    from safelight.batch.printable import printable

    return f"{printable(item.shown)}: {info.mime_type} {info.width}x{info.height}"
