"""A drop-in command: the options that all have, and the way from a command line to a running server."""

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from safelight import __version__
from safelight.cli.dropin.listeners import expand_listener
from safelight.cli.dropin.options import Option, Parsed, UsageError, parse, usage
from safelight.cli.launch.log import LineFormatter
from safelight.cli.launch.start import LogSettings, open_access_log, start
from safelight.errors import ConfigError
from safelight.image.settings import MEBIBYTE
from safelight.image.speed import SPEEDS, Speed
from safelight.server.access import AccessLog
from safelight.server.app import AppSettings
from safelight.server.hosting import HostSettings, Say
from safelight.server.process import Load, ProcessSettings, stuck_after_s
from safelight.server.stats import Statistics

BAD_USAGE = 42
SPEED_OPTION = Option(
    "speed",
    "how much work goes into an image; 'reference' is as the older server",
    None,
    "choice",
    Speed.REFERENCE.value,
    SPEEDS,
)


@dataclass(frozen=True, slots=True)
class Program:
    """A drop-in command. `version`: of the server that it replaces. `options`: its own, before the common.

    `arguments`: what the help calls the words that are no options.
    """

    name: str
    version: str
    description: str
    options: Sequence[Option]
    default_listener: str
    arguments: str = ""

    def all_options(self) -> tuple[Option, ...]:
        return (*self.options, *_common_options(self.name, self.default_listener))

    def help(self) -> str:
        """What `--help` prints."""
        words = f"{self.name} [switches|options] {self.arguments}".rstrip()
        return usage(words, self.description, self.all_options())


@dataclass(frozen=True, slots=True)
class Service:
    """What a command serves: `load` is given the settings that the common options stand for."""

    load: Callable[[HostSettings, Say], Load]
    statistics: Statistics


def _common_options(name: str, default_listener: str) -> tuple[Option, ...]:
    cores = len(os.sched_getaffinity(0))
    return (
        Option("help", "show this help", "h"),
        Option("version", "show the version"),
        Option("log-file", "log of a server in the background", "l", "text", f"{name}.log"),
        Option("syslog-facility", "log to syslog and to no file", "s", "text"),
        Option(
            "access-log-file", "log of requests, NCSA form and seconds", "a", "text", f"{name}_access.log"
        ),
        Option("xid-header", "request header with a transaction id, which log lines then show", "x", "text"),
        Option("pid-file", "file for the process id", "p", "text", f"{name}.pid"),
        Option("foreground", "stay in the foreground and log to standard error", "f"),
        Option(
            "listener",
            "address to listen at, repeatable: HOST:PORT, unix:FILE, /FILE, ~/FILE or ~USER/FILE",
            "L",
            "texts",
            [default_listener],
        ),
        Option("user", "user that the workers run as; only root can choose", "u", "text"),
        Option("worker-processes", "image workers, each one image at a time", "w", "count", cores),
        Option("http-workers", "HTTP workers; default: one per eight cores", None, "count"),
        Option("worker-timeout", "seconds that a request may take once its body is there", "t", "count", 300),
        Option("transform-timeout", "seconds that an image worker may take for one image", None, "count", 20),
        Option("limit-memory", "MiB of image data and body of one request", None, "count", 128),
        Option("verbose", "log at level INFO; otherwise WARN", "v"),
        Option("debug", "log at level DEBUG", "d"),
        Option("perf-stats", "log how long the steps of a request take, at any level", "V"),
    )


def read_command_line(program: Program, words: Sequence[str]) -> Parsed:
    """The options of a server to be started; exits after help, version and complaints."""
    options = program.all_options()
    try:
        parsed = parse(words, options)
    except UsageError as error:
        refuse_usage(program, str(error))
    if parsed.values["help"]:
        sys.stdout.write(program.help())
        sys.exit(0)
    if parsed.values["version"]:
        sys.stdout.write(f'{program.name} version "{program.version}"\nSafelight {__version__}\n')
        sys.exit(0)
    return parsed


def refuse_usage(program: Program, reason: str) -> NoReturn:
    """Say what is wrong with a command line, and what a right one looks like; ends by SystemExit."""
    sys.stderr.write(f"Error: {reason}\n{program.help()}")
    sys.exit(BAD_USAGE)


def run(program: Program, options: Mapping[str, Any], notices: Sequence[str], service: Service) -> NoReturn:
    """Serve, in the foreground or as a daemon. `notices` are logged as warnings. Ends by SystemExit."""
    try:
        access_log = open_access_log(options["access-log-file"], options["syslog-facility"])
        start(
            _log_settings(program, options),
            _process_settings(options),
            lambda say: service.load(_host_settings(options, access_log), say),
            service.statistics,
            notices,
        )
    except ConfigError as error:
        sys.stderr.write(f"Error: {error.message}\n")
        sys.exit(1)


def _log_settings(program: Program, options: Mapping[str, Any]) -> LogSettings:
    return LogSettings(
        program.name,
        LineFormatter(),
        logging.DEBUG if options["debug"] else logging.INFO if options["verbose"] else logging.WARNING,
        str(Path(options["log-file"]).absolute()) if _logs_to_file(options) else None,
        options["syslog-facility"],
        options["perf-stats"],
    )


def _logs_to_file(options: Mapping[str, Any]) -> bool:
    return not options["foreground"] and options["syslog-facility"] is None


def _process_settings(options: Mapping[str, Any]) -> ProcessSettings:
    written = [] if options["syslog-facility"] else [options["access-log-file"]]
    if _logs_to_file(options):
        written.append(options["log-file"])
    return ProcessSettings(
        listeners=tuple(map(expand_listener, options["listener"])),
        image_workers=options["worker-processes"],
        http_workers=options["http-workers"],
        worker_timeout_s=stuck_after_s(options["worker-timeout"]),
        max_discard_bytes=options["limit-memory"] * MEBIBYTE,
        log_level="info" if options["verbose"] or options["debug"] else "warning",
        pid_file=str(Path(options["pid-file"]).absolute()),
        daemon=not options["foreground"],
        user=options["user"],
        log_files=tuple(str(Path(file).absolute()) for file in written),
    )


def _host_settings(options: Mapping[str, Any], access_log: AccessLog | None) -> HostSettings:
    app = AppSettings(
        max_bytes=options["limit-memory"] * MEBIBYTE,
        request_timeout_s=options["worker-timeout"],
        xid_header=options["xid-header"],
    )
    return HostSettings(app, transform_timeout_s=options["transform-timeout"], access_log=access_log)
