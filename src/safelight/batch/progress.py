"""The bar on a terminal. It looks at the counts a few times a second; the work does not know of it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Protocol

from safelight.batch.run import Tally
from safelight.batch.survey import Survey

INTERVAL_S = 0.2


class Bar(Protocol):
    """What is shown."""

    def update(self, total: int | None, completed: int, failed: int) -> None: ...
    def stop(self) -> None: ...


@asynccontextmanager
async def shown(is_wanted: bool, survey: Survey, tally: Tally) -> AsyncGenerator[None]:
    """Keep a bar on standard error meanwhile, if it is wanted; without a total until the survey is done."""
    if not is_wanted:
        yield
        return
    bar = _create()
    watching = asyncio.create_task(_watch(bar, survey, tally))
    try:
        yield
    finally:
        watching.cancel()
        _update(bar, survey, tally)
        bar.stop()


async def _watch(bar: Bar, survey: Survey, tally: Tally) -> None:
    while True:
        _update(bar, survey, tally)
        await asyncio.sleep(INTERVAL_S)


def _update(bar: Bar, survey: Survey, tally: Tally) -> None:
    if survey.is_complete:
        bar.update(survey.inputs, min(tally.tried, survey.inputs), tally.failed)
    else:
        bar.update(None, survey.inputs, 0)


def _create() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", style="red"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        auto_refresh=False,  # no thread of its own beside the work
        redirect_stdout=False,
        redirect_stderr=False,
        transient=True,
    )
    task = progress.add_task("looking", total=None, note="")
    progress.start()

    class RichBar:
        def update(self, total: int | None, completed: int, failed: int) -> None:
            description = "looking" if total is None else "images"
            note = f"{failed} failed" if failed else ""
            progress.update(
                task, total=total, completed=completed, description=description, note=note, refresh=True
            )

        def stop(self) -> None:
            progress.stop()

    return RichBar()
