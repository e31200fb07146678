"""The image job server, as `safelight jobs` and `imgserve` start it."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from safelight.api import read_config
from safelight.cli.options import host_settings, process_settings, start_server
from safelight.config.load import Config
from safelight.config.load import load as load_config
from safelight.jobs.settings import job_settings
from safelight.server.hosting import HostSettings, Say
from safelight.server.jobs import JobServer, load_jobs
from safelight.server.listeners import absolute_listener, is_loopback
from safelight.server.process import Load, MakeApp
from safelight.server.stats import Statistics
from safelight.statements import REGISTRY

LEGACY_WARNING = (
    "legacy mode: jobs may read and write every file and every host that this server can reach, "
    "for everybody who can connect"
)
OPEN_WARNING = (
    "everybody who can connect may place jobs, and see and cancel those of others: name tokens in a 'jobs' "
    "block of the configuration, or listen at 127.0.0.1"
)
NO_DESTINATIONS = "no destinations are allowed: name some in a 'jobs' block of the configuration"


def serve(
    config: Path | None, data: Path, addresses: Sequence[str], options: dict[str, Any], *, legacy: bool
) -> NoReturn:
    """Serve at `addresses`, with the queue below `data`. Raises: SafelightError; click.UsageError."""
    listeners = tuple(map(absolute_listener, addresses))
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
