"""`safelight serve`: run the image server."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from safelight.errors import ConfigError
from safelight.image.settings import MEBIBYTE, ImageSettings
from safelight.server import example
from safelight.server.access import AccessLog
from safelight.server.app import AppSettings
from safelight.server.image_store import StoreSettings, load_store
from safelight.server.listeners import absolute_listener
from safelight.server.log import configure_log
from safelight.server.process import Load, ProcessSettings, serve
from safelight.server.stats import Statistics

DEFAULT_LISTENER = "127.0.0.1:3000"

Decorator = Callable[[Callable[..., None]], Callable[..., None]]
_SECONDS = click.FloatRange(min=0, min_open=True)
_COUNT = click.IntRange(min=1)


def option(*names: str, **settings: Any) -> Decorator:
    """A click option that can also be given as `SAFELIGHT_<LONG NAME>`."""
    name = names[-1].removeprefix("--").split("/")[0].replace("-", "_").upper()
    settings.setdefault("show_default", "default" in settings)
    return click.option(*names, envvar=f"SAFELIGHT_{name}", show_envvar=True, **settings)


@click.command()
@click.argument(
    "file", required=False, envvar="SAFELIGHT_CONFIG", type=click.Path(dir_okay=False, path_type=Path)
)
@option(
    "--listen", multiple=True, metavar="ADDRESS", help=f"HOST:PORT or unix:PATH; default {DEFAULT_LISTENER}."
)
@option("-w", "--workers", type=_COUNT, help="Image workers; default: one per core.")
@option("--http-workers", type=_COUNT, help="HTTP workers; default: one per eight cores.")
@option("--limit-memory", type=_COUNT, default=128, metavar="MIB", help="Image data and body of one request.")
@option("--request-timeout", type=_SECONDS, default=60, metavar="S", help="One request, after its body.")
@option("--transform-timeout", type=_SECONDS, default=20, metavar="S", help="One job of an image worker.")
@option(
    "--graceful-timeout", type=_COUNT, default=30, metavar="S", help="What a stop leaves running requests."
)
@option("--lenient", is_flag=True, help="Only warn of unknown statements and attributes.")
@option("--no-auto-orient", is_flag=True, help="Ignore the EXIF orientation.")
@option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Directory that relative roots are in."
)
@option(
    "--spool-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), help="For large bodies."
)
@option("--access-log-file", metavar="FILE", help="Access log; '-' is standard output. Default: none.")
@option("--pid-file", type=click.Path(dir_okay=False, path_type=Path), help="Write the process id here.")
def command(file: Path | None, data: Path | None, **options: Any) -> None:
    """Serve the image API that FILE declares; without FILE, a small example on this machine only.

    Relative roots in FILE refer to the current directory, or to --data.
    """
    configure_log()
    listeners = tuple(map(absolute_listener, options["listen"] or (DEFAULT_LISTENER,)))
    settings = _store_settings(options)
    load = _example(listeners, settings) if file is None else _configuration(file.absolute(), settings)
    if file is None and data is None:
        data = Path(example.DATA_DIRECTORY)
    serve(_process_settings(listeners, data, options), load, Statistics())


def _configuration(file: Path, settings: StoreSettings) -> Load:
    shown = os.path.relpath(file)
    return lambda: load_store(_read(file), shown, settings, _say)


def _example(listeners: tuple[str, ...], settings: StoreSettings) -> Load:
    secret = os.environ.get("SAFELIGHT_SECRET") or None
    example.check_exposure(listeners, secret)
    text = example.example_text(secret)
    return lambda: load_store(text, example.NAME, settings, _say, lambda url: example.hints(url, secret))


def _read(file: Path) -> str:
    """Raises: ConfigError."""
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"cannot read '{file}': {reason}") from error


def _say(line: str) -> None:
    click.echo(line, err=True)


def _store_settings(options: dict[str, Any]) -> StoreSettings:
    spool: Path | None = options["spool_dir"]
    max_bytes = options["limit_memory"] * MEBIBYTE
    app = AppSettings(max_bytes, options["request_timeout"], spool.absolute() if spool else None)
    access_log: str | None = options["access_log_file"]
    if access_log not in (None, "-"):
        access_log = str(Path(access_log).absolute())
    return StoreSettings(
        app,
        ImageSettings(auto_orient=not options["no_auto_orient"]),
        options["transform_timeout"],
        options["lenient"],
        AccessLog(access_log) if access_log else None,
    )


def _process_settings(
    listeners: tuple[str, ...], data: Path | None, options: dict[str, Any]
) -> ProcessSettings:
    pid_file: Path | None = options["pid_file"]
    return ProcessSettings(
        listeners=listeners,
        image_workers=options["workers"],
        http_workers=options["http_workers"],
        graceful_timeout_s=options["graceful_timeout"],
        max_discard_bytes=options["limit_memory"] * MEBIBYTE,
        directory=data,
        pid_file=str(pid_file.absolute()) if pid_file else None,
    )
