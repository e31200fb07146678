"""Options that all servers have, and the settings that they stand for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from safelight.image.settings import MEBIBYTE, ImageSettings
from safelight.server.access import AccessLog
from safelight.server.app import AppSettings
from safelight.server.hosting import EMBEDDED, HostSettings
from safelight.server.process import ProcessSettings

Decorator = Callable[[Callable[..., None]], Callable[..., None]]
_SECONDS = click.FloatRange(min=0, min_open=True)
_COUNT = click.IntRange(min=1)
_PATH = click.Path(file_okay=False, path_type=Path)
_DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)


def option(*names: str, **settings: Any) -> Decorator:
    """A click option that can also be given as `SAFELIGHT_<LONG NAME>`."""
    name = names[-1].removeprefix("--").split("/")[0].replace("-", "_").upper()
    settings.setdefault("show_default", "default" in settings)
    return click.option(*names, envvar=f"SAFELIGHT_{name}", show_envvar=True, **settings)


_SERVER_OPTIONS = (
    option("-w", "--workers", type=_COUNT, help="Image workers; default: one per core."),
    option("--http-workers", type=_COUNT, help="HTTP workers; default: one per eight cores."),
    option(
        "--limit-memory", type=_COUNT, default=128, metavar="MIB", help="Image data and body of one request."
    ),
    option("--request-timeout", type=_SECONDS, default=60, metavar="S", help="One request, after its body."),
    option("--transform-timeout", type=_SECONDS, default=20, metavar="S", help="One job of an image worker."),
    option(
        "--graceful-timeout",
        type=_COUNT,
        default=30,
        metavar="S",
        help="What a stop leaves running requests.",
    ),
    option("--no-auto-orient", is_flag=True, help="Ignore the EXIF orientation."),
    option("--plugins", multiple=True, type=_PATH, help="Directory of image plugins; repeatable."),
    option("--spool-dir", type=_DIRECTORY, help="For large bodies."),
    option("--access-log-file", metavar="FILE", help="Access log; '-' is standard output. Default: none."),
    option("--pid-file", type=click.Path(dir_okay=False, path_type=Path), help="Write the process id here."),
)


def server_options(default_listener: str) -> Decorator:
    """The options of every server; they arrive as keywords, to be passed to the functions below."""
    listen = option(
        "--listen",
        multiple=True,
        metavar="ADDRESS",
        help=f"HOST:PORT or unix:PATH; default {default_listener}.",
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for decorator in reversed((listen, *_SERVER_OPTIONS)):
            command = decorator(command)
        return command

    return decorate


def say(line: str) -> None:
    """Tell the person who has started the server."""
    click.echo(line, err=True)


def host_settings(options: dict[str, Any]) -> HostSettings:
    """What the options say about requests and images."""
    spool: Path | None = options["spool_dir"]
    max_bytes = options["limit_memory"] * MEBIBYTE
    access_log: str | None = options["access_log_file"]
    if access_log not in (None, "-"):
        access_log = str(Path(access_log).absolute())
    plugins = tuple(str(directory.absolute()) for directory in options["plugins"])
    return HostSettings(
        AppSettings(max_bytes, options["request_timeout"], spool.absolute() if spool else None),
        ImageSettings(auto_orient=not options["no_auto_orient"], plugins=plugins),
        options["transform_timeout"],
        options.get("thumbnailer", EMBEDDED),
        AccessLog(access_log) if access_log else None,
    )


def process_settings(
    listeners: tuple[str, ...], directory: Path | None, options: dict[str, Any]
) -> ProcessSettings:
    """What the options say about processes; they run in `directory`."""
    pid_file: Path | None = options["pid_file"]
    return ProcessSettings(
        listeners=listeners,
        image_workers=options["workers"],
        http_workers=options["http_workers"],
        graceful_timeout_s=options["graceful_timeout"],
        max_discard_bytes=options["limit_memory"] * MEBIBYTE,
        directory=directory,
        pid_file=str(pid_file.absolute()) if pid_file else None,
    )
