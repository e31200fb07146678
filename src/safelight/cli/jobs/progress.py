"""The bar on a terminal while jobs are sent, and while they are done."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

Show = Callable[[int | None, int, str], None]
"""Is told the total, if it is known, how many of these have been dealt with, and what else to say."""


@contextmanager
def shown(description: str) -> Generator[Show]:
    """A bar on standard error; where that is no terminal, nothing."""
    if not sys.stderr.isatty():
        yield lambda _total, _completed, _note: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", style="red"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with progress:
        task = progress.add_task(description, total=None, note="")
        yield lambda total, completed, note: progress.update(
            task, total=total, completed=completed, note=note
        )
