"""The image job server, as `safelight jobs` and `imgserve` start it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from safelight.api import read_config
from safelight.cli.options import host_settings, option, process_settings, server_options, start_server
from safelight.config.load import Config
from safelight.config.load import load as load_config
from safelight.jobs.settings import job_settings
from safelight.server.hosting import HostSettings, Say
from safelight.server.jobs import JobServer, load_jobs
from safelight.server.listeners import absolute_listener, is_loopback
from safelight.server.process import Load, MakeApp
from safelight.server.stats import Statistics
from safelight.statements import REGISTRY

DEFAULT_LISTENER = "127.0.0.1:8602"
LEGACY_LISTENER = "0.0.0.0:8602"
DEFAULT_DIRECTORY = Path("safelight-jobs")
LEGACY_WARNING = (
    "legacy mode: jobs may read and write every file and every host that this server can reach, "
    "for everybody who can connect"
)
OPEN_WARNING = (
    "everybody who can connect may place jobs, and see and cancel those of others: name tokens in a 'jobs' "
    "block of the configuration, or listen at 127.0.0.1"
)
NO_DESTINATIONS = "no destinations are allowed: name some in a 'jobs' block of the configuration"


@click.command()
@option("--config", type=click.Path(dir_okay=False, path_type=Path), help="Configuration with a jobs block.")
@option("--legacy", is_flag=True, help="As open as imgserve was: any source, any destination, any file.")
@option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DIRECTORY,
    help="Directory that the queue is kept in.",
)
@server_options(f"{DEFAULT_LISTENER}, or {LEGACY_LISTENER} with --legacy")
def server_command(config: Path | None, legacy: bool, data: Path, **options: Any) -> None:
    """Serve. It is run, and its help shown, as a part of `safelight jobs`."""
    default = LEGACY_LISTENER if legacy else DEFAULT_LISTENER
    listeners = tuple(map(absolute_listener, options["listen"] or (default,)))
    settings = host_settings(options)
    load = job_loader(
        config,
        data.absolute(),
        settings,
        legacy=legacy,
        user=options["user"],
        has_api=not legacy,
        listeners=listeners,
    )
    start_server(options, process_settings(listeners, None, options), load, Statistics())


def job_loader(
    config: Path | None,
    directory: Path,
    settings: HostSettings,
    *,
    legacy: bool,
    user: str | None,
    has_api: bool = False,
    listeners: tuple[str, ...] = (),
) -> Callable[[Say, Say], Load]:
    """What a start and every reload do: read the configuration, warn of what it lacks or allows.

    `has_api`: serve more than the older server did, at `listeners`.
    """
    file = config and config.absolute()
    shown = file and os.path.relpath(file)

    def load(say: Say, warn: Say) -> Load:
        def read() -> Config | None:
            return load_config(read_config(file), shown or "", REGISTRY) if file else None

        def make() -> MakeApp:
            config = read()
            for warning in config.warnings if config else ():
                warn(str(warning))
            jobs = job_settings(config, legacy=legacy)
            if legacy:
                warn(LEGACY_WARNING)
            elif not jobs.has_destinations:
                warn(NO_DESTINATIONS)
            if has_api and not jobs.tokens and not all(map(is_loopback, listeners)):
                warn(OPEN_WARNING)
            return load_jobs(JobServer(jobs, directory, legacy, has_api), settings, say, user)

        return make

    return load
