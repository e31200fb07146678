"""Options that all servers have, and the settings that they stand for."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click
import structlog

from safelight.cli.launch.log import JsonFormatter, PlainFormatter
from safelight.cli.launch.start import LogSettings, open_access_log, start
from safelight.image.settings import MEBIBYTE, ImageSettings
from safelight.image.speed import SPEEDS, Speed
from safelight.server.app import AppSettings
from safelight.server.hosting import EMBEDDED, HostSettings, Say
from safelight.server.listeners import absolute_listener
from safelight.server.process import Load, ProcessSettings, stuck_after_s
from safelight.server.request_line import LINES
from safelight.server.stats import Statistics
from safelight.server.telemetry import check_installed, is_wanted

Decorator = Callable[[Callable[..., None]], Callable[..., None]]
_SECONDS = click.FloatRange(min=0, min_open=True)
_COUNT = click.IntRange(min=1)
_PATH = click.Path(file_okay=False, path_type=Path)
_log = structlog.get_logger("safelight.cli")
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
    option(
        "--limit-total-memory",
        type=_COUNT,
        metavar="MIB",
        help="All transforms at a time; default: half of what the machine or its control group has.",
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
    option(
        "--speed",
        type=click.Choice(SPEEDS),
        default=Speed.BALANCED.value,
        help="How much work goes into an image.",
    ),
    option("--no-auto-orient", is_flag=True, help="Ignore the EXIF orientation."),
    option("--plugins", multiple=True, type=_PATH, help="Directory of image plugins; repeatable."),
    option("--spool-dir", type=_DIRECTORY, help="For large bodies."),
    option("--access-log-file", metavar="FILE", help="Access log; '-' is standard output. Default: none."),
    option(
        "--access-log-format",
        type=click.Choice(list(LINES)),
        default="ncsa",
        help="Its lines; text and json tell the time of each step.",
    ),
    option("--log-file", metavar="FILE", help="Log; default: standard error."),
    option("--log-format", type=click.Choice(["text", "json"]), default="text", help="Its lines."),
    option("--syslog-facility", metavar="NAME", help="Log to syslog instead, the access log too."),
    option(
        "--xid-header", metavar="NAME", help="Request header with an id, to be shown in the log and sent on."
    ),
    option("-v", "--verbose", is_flag=True, help="Log what happens, too, not only what is wrong."),
    option("--debug", is_flag=True, help="Log even more."),
    option("--perf-stats", is_flag=True, help="Log how long the steps of a request take."),
    option("--server-timing", is_flag=True, help="Tell clients, too, in a header."),
    option("--admin-listen", metavar="ADDRESS", help="Show /metrics there, and nowhere else."),
    option(
        "--otel/--no-otel",
        default=None,
        help="Send traces by OpenTelemetry; default: if OTEL_EXPORTER_OTLP_ENDPOINT is set.",
    ),
    option("--daemon", is_flag=True, help="Go into the background when ready; with --log-file, for example."),
    option("--pid-file", type=click.Path(dir_okay=False, path_type=Path), help="Write the process id here."),
    option("--user", metavar="NAME", help="User that workers run as; for root only."),
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


def start_server(
    options: dict[str, Any],
    processes: ProcessSettings,
    load: Callable[[Say, Say], Load],
    statistics: Statistics,
) -> NoReturn:
    """Serve; `load` is given what to call once the server is ready, and what to tell warnings.

    Nobody reads what a server in the background says: there, and where logs are for programs, it goes to the
    log. Ends by SystemExit.
    Raises: SafelightError; click.UsageError.
    """
    is_for_people = not processes.daemon and options["log_format"] == "text"
    start(
        log_settings(options),
        processes,
        lambda announce: load(announce, say if is_for_people else _log.warning),
        statistics,
        say=say if is_for_people else None,
    )


def host_settings(options: dict[str, Any]) -> HostSettings:
    """What the options say about requests and images."""
    spool: Path | None = options["spool_dir"]
    max_bytes = options["limit_memory"] * MEBIBYTE
    plugins = tuple(str(directory.absolute()) for directory in options["plugins"])
    return HostSettings(
        AppSettings(
            max_bytes,
            options["request_timeout"],
            spool.absolute() if spool else None,
            xid_header=options["xid_header"],
            server_timing=options["server_timing"],
        ),
        ImageSettings(
            speed=Speed(options["speed"]),
            auto_orient=not options["no_auto_orient"],
            plugins=plugins,
            deadline_s=options["transform_timeout"],
        ),
        options["transform_timeout"],
        options.get("thumbnailer", EMBEDDED),
        open_access_log(
            options["access_log_file"], options["syslog_facility"], LINES[options["access_log_format"]]()
        ),
        _bytes_or_none(options["limit_total_memory"]),
        is_traced=_is_traced(options["otel"]),
        has_admin=options["admin_listen"] is not None,
    )


def _is_traced(wanted: bool | None) -> bool:
    """Raises: ConfigError when the packages for it are missing."""
    if wanted is None:
        wanted = is_wanted()
    if wanted:
        check_installed()
    return wanted


def _bytes_or_none(mebibytes: int | None) -> int | None:
    return None if mebibytes is None else mebibytes * MEBIBYTE


def process_settings(
    listeners: tuple[str, ...], directory: Path | None, options: dict[str, Any]
) -> ProcessSettings:
    """What the options say about processes; they run in `directory`."""
    pid_file: Path | None = options["pid_file"]
    admin: str | None = options["admin_listen"]
    return ProcessSettings(
        listeners=listeners if admin is None else (*listeners, absolute_listener(admin)),
        image_workers=options["workers"],
        http_workers=options["http_workers"],
        graceful_timeout_s=options["graceful_timeout"],
        worker_timeout_s=stuck_after_s(options["request_timeout"]),
        max_discard_bytes=options["limit_memory"] * MEBIBYTE,
        directory=directory,
        log_level="info" if options["verbose"] or options["debug"] else "warning",
        pid_file=str(pid_file.absolute()) if pid_file else None,
        daemon=options["daemon"],
        user=options["user"],
        log_files=tuple(
            str(Path(file).absolute())
            for file in (options["access_log_file"], options["log_file"])
            if file not in (None, "-")
        ),
    )


def log_settings(options: dict[str, Any]) -> LogSettings:
    """What the options say about the log. Raises: click.UsageError."""
    file, facility = options["log_file"], options["syslog_facility"]
    if options["daemon"] and file is None and facility is None:
        raise click.UsageError("--daemon needs --log-file or --syslog-facility")
    return LogSettings(
        "safelight",
        JsonFormatter() if options["log_format"] == "json" else PlainFormatter(),
        logging.DEBUG if options["debug"] else logging.INFO if options["verbose"] else logging.WARNING,
        None if file is None else str(Path(file).absolute()),
        facility,
        options["perf_stats"],
    )
