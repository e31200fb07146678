"""`safelight cache`: look at kept answers and drop them, beside running servers."""

import asyncio
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from safelight.cli.check import lenient_option, load

if TYPE_CHECKING:
    from safelight.config.load import Config
    from safelight.results.shelf import Shelf


@click.group()
def command() -> None:
    """Look at the answers that `cache` statements keep, or drop them.

    The servers that use them may run meanwhile, and see what was dropped at once.
    """


def _configuration_options(decorated: Callable[..., Any]) -> Callable[..., Any]:
    """What says which caches are meant."""
    file, directory = click.Path(path_type=Path), click.Path(file_okay=False, path_type=Path)
    text = "Directory that relative roots are in, if the server has one."
    options = (
        click.option("--config", required=True, type=file, help="Configuration file of the servers."),
        click.option("--data", type=directory, help=text),
        lenient_option,
    )
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


@command.command("stats")
@_configuration_options
def stats_command(config: Path, data: Path | None, lenient: bool) -> None:
    """Say how many answers each cache holds.

    Those count, too, that are too old or were dropped and whose place nothing has taken yet.
    """
    from safelight.statements.result_caches import bounds

    declared = _loaded(config, data, lenient=lenient)
    with _shelves(declared) as shelves:
        for root, max_bytes in bounds(declared).items():
            answers, size = shelves[root].usage() if root in shelves else (0, 0)
            click.echo(f"{root}: {answers} answers, {size} of {max_bytes} bytes")


@command.command("purge")
@_configuration_options
@click.option("--url", "urls", multiple=True, help="Path of a URL, or a whole one; its query does not count.")
@click.option(
    "--source", "sources", multiple=True, help="File, or s3://BUCKET/KEY, that answers were made of."
)
@click.option("--tag", "tags", multiple=True, help="Tag of answers, or several with commas.")
@click.option("--all", "everything", is_flag=True, help="Every answer.")
def purge_command(
    config: Path,
    data: Path | None,
    lenient: bool,
    urls: tuple[str, ...],
    sources: tuple[str, ...],
    tags: tuple[str, ...],
    everything: bool,
) -> None:
    """Drop answers in all caches of a configuration, on all machines that share them.

    Each option may be given several times.

    \b
      safelight cache purge --config api.sdl --url /thumbnail/cat.jpg
      safelight cache purge --config api.sdl --source images/cat.jpg
      safelight cache purge --config api.sdl --tag album-7 --tag album-8
    """
    if not (urls or sources or tags or everything):
        raise click.UsageError("nothing to drop: use --url, --source, --tag or --all")
    for option, given in (("--url", urls), ("--tag", tags)):
        if any(not text.strip(", ") for text in given):
            raise click.UsageError(f"{option} names nothing")
    from safelight.results.epochs import ALL

    declared = _loaded(config, data, lenient=lenient)
    slots = [*_slots(declared, urls, sources, tags)]
    try:
        for name in asyncio.run(_purge_shared(declared, [*slots, ALL] if everything else slots)):
            click.echo(f"{name}: purged")
    finally:
        _purge_here(declared, slots, everything=everything)


def _loaded(file: Path, data: Path | None, *, lenient: bool) -> "Config":
    """The configuration; relative roots refer to the working directory from now on.

    Raises: ConfigError, for one without caches, too.
    """
    from safelight.errors import ConfigError
    from safelight.statements.result_caches import bounds

    declared = load(file, lenient=lenient)
    if not bounds(declared):
        raise ConfigError(f"{file}: no endpoint keeps answers: there is no 'cache' statement")
    if data is not None:
        try:
            os.chdir(data)
        except OSError as error:
            raise ConfigError(f"cannot use the directory '{data}': {error.strerror}") from error
    return declared


@contextmanager
def _shelves(config: "Config") -> "Generator[dict[str, Shelf]]":
    """The caches that are there; none is made, or it might belong to the wrong user. Raises: StorageError."""
    from safelight.results.epochs import FILE_NAME
    from safelight.results.shelf import Shelf
    from safelight.statements.result_caches import bounds

    shelves: dict[str, Shelf] = {}
    with ExitStack() as opened:
        for root, max_bytes in bounds(config).items():
            if (Path(root) / FILE_NAME).exists():
                shelves[root] = Shelf(Path(root), max_bytes)
                opened.callback(shelves[root].epochs.close)
        yield shelves


def _purge_here(config: "Config", slots: list[int], *, everything: bool) -> None:
    """Raises: StorageError."""
    from safelight.statements.result_caches import bounds

    with _shelves(config) as shelves:
        for root in bounds(config):
            if root not in shelves:
                click.echo(
                    f"{root}: nothing dropped, as no server has kept answers in {Path(root).absolute()}"
                )
        for root, shelf in shelves.items():
            for slot in slots:
                shelf.epochs.mark(slot)
            removed = f"{shelf.clear()} answers removed" if everything else "purged"
            click.echo(f"{root}: {removed}")


async def _purge_shared(config: "Config", slots: list[int]) -> list[str]:
    """Drop what machines share; the names of where. Before this machine's: see `Mark.make`.

    Raises: StorageUnreachable.
    """
    from safelight.results.tier import purge_all
    from safelight.statements.clients import S3
    from safelight.statements.result_caches import tiers
    from safelight.storage.s3.bucket import Client

    clients = {client.client_name: Client(client.account()) for client in config.of(S3)}
    try:
        shared = tiers(config, clients).values()
        await purge_all(shared, slots)
        return [tier.name for tier in shared]
    finally:
        for client in clients.values():
            await client.close()


def _slots(
    config: "Config", urls: tuple[str, ...], sources: tuple[str, ...], tags: tuple[str, ...]
) -> Iterator[int]:
    """What is to be dropped. Raises: ConfigError for something that no source reads; BadRequest."""
    from safelight.results.epochs import place_slot, tag_slots, url_slot
    from safelight.statements.purge import path_of_url
    from safelight.statements.result_caches import places

    yield from (url_slot(path_of_url(url)) for url in urls)
    yield from (slot for tag in tags for slot in tag_slots(tag))
    yield from (place_slot(place) for source in sources for place in places(config, source))
