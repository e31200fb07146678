"""`imgserve`: the job server behind the command line of the older one (reference/imgserve section 9)."""

import logging
import os
import pwd
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from safelight.cli.jobs.serve import job_loader
from safelight.cli.launch.pid_file import is_running
from safelight.cli.launch.rotating import Rotation
from safelight.cli.launch.start import LogSettings, start
from safelight.errors import ConfigError
from safelight.image.settings import ImageSettings
from safelight.image.speed import Speed
from safelight.server.hosting import HostSettings
from safelight.server.log import escape, mask
from safelight.server.process import ProcessSettings
from safelight.server.stats import Statistics

FAILED = 1
BAD_USAGE = 2
VERSION = """Imgserve-Version:  0.2

Served by Safelight, which is not derived from imgserve.

Have fun."""
DEFAULT_PORT = "8602"
ROTATION = Rotation(max_bytes=360_000, kept=3, mode=0o640)
LOG_DIRECTORY_MODE = 0o755
RESTART_PAUSE_S = 2
STOP_TIMEOUT_S = 60
POLL_S = 0.05


class UsageError(Exception):
    """A command line that cannot be understood."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `default` None: there is none, or it depends on the user. `is_flag`: it takes no value."""

    name: str
    help: str
    default: str | None = None
    is_flag: bool = False


Options = Mapping[str, str]
"""Texts as they were given; flags that were given have an empty one."""

_PID = Option(
    "pid", "file with the process id; root: /var/run/imgserve.pid, others: ~/.imgserve/imgserve.pid"
)
START = (
    Option("host", "address to listen at; with -legacy 0.0.0.0", "127.0.0.1"),
    Option("port", "port to listen at", DEFAULT_PORT),
    _PID,
    Option("logdir", "directory of imgserve.log; root: /var/log/imgserve, others: ~/.imgserve/log"),
    Option("FORCE", "start although the pid file exists", is_flag=True),
    Option("chroot", "refused: image workers see no files anyway"),
    Option("chdir", "directory that the server runs in", "."),
    Option("uid", "number of the user that workers run as; -gid is needed, too"),
    Option("gid", "number of that user's group"),
    Option("umask", "permissions that new files do not get, octal"),
    Option("boot", "accepted, never used"),
    Option("config", "Safelight configuration with a jobs block: who may be source and destination"),
    Option("data", "directory of the job queue; root: /var/lib/imgserve, others: ~/.imgserve"),
    Option("legacy", "as open as the older server: any source, any destination, any file", is_flag=True),
    Option("foreground", "stay in the foreground", is_flag=True),
)
STOP = (_PID, Option("KILL", "do not wait for jobs that run", is_flag=True))
STATUS = (_PID,)
HELP = (Option("for", "command to explain"),)


def main() -> None:
    """Run the command; the entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Do what the command line says; the exit code."""
    name, *rest = words or ["help"]
    command = COMMANDS.get(name)
    if command is None:
        _say(f"You must specify a valid command.  Try these: {', '.join(sorted(COMMANDS))}")
        return FAILED
    try:
        return command.run(parse(rest, command.options))
    except UsageError as error:
        _say(f"ERROR: {error}")
        return BAD_USAGE
    except ConfigError as error:
        _say(error.message)
        return FAILED


def parse(words: Sequence[str], known: Sequence[Option]) -> dict[str, str]:
    """Options with any number of dashes; what follows one without dashes is its value.

    Raises: UsageError.
    """
    options = {option.name: option for option in known}
    given: dict[str, str] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        option = options.get(word.lstrip("-")) if word.startswith("-") else None
        if option is None:
            raise UsageError(f"unknown option or argument '{word}'")
        has_value = bool(waiting) and not waiting[0].startswith("-")
        if option.is_flag:
            if has_value and waiting.pop(0) != "True":
                raise UsageError(f"-{option.name} takes no value")
            given[option.name] = ""
        elif has_value:
            given[option.name] = waiting.pop(0)
        else:
            raise UsageError(f"-{option.name} needs a value")
    return given


# --- commands


def start_server(options: Options) -> int:
    """Serve in the background; ends by SystemExit, with 0 once the server is ready."""
    if "chroot" in options:
        raise ConfigError("-chroot is not supported: image workers see no files anyway; -chdir is")
    pid_file, logs = _pid_file(options), _log_directory(options)
    if pid_file.exists():
        if "FORCE" not in options:
            _say(
                f"PID file {pid_file} exists, so assuming daemon is running.  "
                "Give -FORCE to force it to start."
            )
            return FAILED
        pid_file.unlink()
    _make_directory(pid_file.parent)
    if "umask" in options:
        os.umask(_number(options, "umask", 8))
    is_daemon = "foreground" not in options
    return _serve(options, pid_file, _log_file(logs) if is_daemon else None)


def _serve(options: Options, pid_file: Path, log_file: str | None) -> NoReturn:
    """`log_file` None: stay in the foreground and log to standard error."""
    is_legacy, user = "legacy" in options, _user(options)
    processes = ProcessSettings(
        listeners=(_listener(options, "0.0.0.0" if is_legacy else "127.0.0.1"),),  # noqa: S104 (as it was)
        pid_file=str(pid_file),
        daemon=log_file is not None,
        user=user,
        log_level="info",
        log_files=() if log_file is None else (log_file,),
        directory=Path(options.get("chdir", ".")).absolute(),
    )
    load = job_loader(
        Path(options["config"]) if "config" in options else None,
        _data_directory(options),
        HostSettings(images=ImageSettings(speed=Speed.REFERENCE, auto_orient=False)),
        legacy=is_legacy,
        user=user,
    )
    start(
        LogSettings("imgserve", LegacyFormatter(), logging.INFO, log_file, rotation=ROTATION),
        processes,
        lambda announce: load(announce, logging.getLogger("safelight.cli").warning),
        Statistics(),
    )


def stop_server(options: Options) -> int:
    """Ask the server to stop and wait until it has: jobs that run are finished, unless `-KILL`."""
    pid_file = _pid_file(options)
    pid = _read_pid(pid_file)
    if pid is None:
        _say(f"PID file {pid_file} doesn't exist, maybe imgserve isn't running?")
        return FAILED
    _say(f"Attempting to stop imgserve at pid {pid}")
    try:
        os.kill(pid, signal.SIGINT if "KILL" in options else signal.SIGTERM)
    except ProcessLookupError:
        _say("imgserve not running.")
    except PermissionError as error:
        raise ConfigError(f"cannot stop process {pid}: {error.strerror}") from error
    if not _has_ended(pid, pid_file):
        raise ConfigError(f"imgserve at pid {pid} has not ended after {STOP_TIMEOUT_S} s")
    with suppress(FileNotFoundError):
        pid_file.unlink()
    return 0


def restart_server(options: Options) -> int:
    """Stop and start. Each is given the options that it knows."""
    stop_server({name: text for name, text in options.items() if name in ("pid", "KILL")})
    time.sleep(RESTART_PAUSE_S)
    return start_server({name: text for name, text in options.items() if name != "KILL"})


def show_status(options: Options) -> int:
    """Say whether the server runs."""
    pid = _read_pid(_pid_file(options))
    runs = pid is not None and is_running(pid)
    _say(f"imgserve running with PID {pid}" if runs else "imgserve not running.")
    return 0


def show_help(options: Options) -> int:
    """List the commands, or the options of one."""
    name = options.get("for")
    if name is None:
        _say("Usage: imgserve COMMAND [-option value]...\n\nCommands:")
        for command, what in COMMANDS.items():
            _say(f"  {command:8} {what.help}")
        _say("\nimgserve help -for COMMAND shows the options of a command.")
        return 0
    found = COMMANDS.get(name)
    if found is None:
        raise UsageError(f"there is no command '{name}'")
    _say(f"imgserve {name}: {found.help}")
    for option in found.options:
        default = f" [default: {option.default}]" if option.default else ""
        _say(f"  -{option.name:10} {option.help}{default}")
    return 0


def show_version(_options: Options) -> int:
    """As the older server has it."""
    _say(VERSION)
    return 0


@dataclass(frozen=True, slots=True)
class Command:
    """A command, the options that it knows, and what the help says."""

    run: Callable[[Options], int]
    options: tuple[Option, ...]
    help: str


COMMANDS = {
    "start": Command(start_server, START, "start the server in the background"),
    "stop": Command(stop_server, STOP, "stop it when the jobs that run are done"),
    "restart": Command(restart_server, (*START, STOP[1]), "stop and start"),
    "status": Command(show_status, STATUS, "say whether it runs"),
    "help": Command(show_help, HELP, "show this, or the options of a command"),
    "version": Command(show_version, (), "show the version"),
}


class LegacyFormatter(logging.Formatter):
    """`YYYY/MM/DD HH:MM:SS :: text` in local time, and the backtrace below it."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).astimezone()
        trace = f"\n{mask(self.formatException(record.exc_info))}" if record.exc_info else ""
        return f"{moment:%Y/%m/%d %H:%M:%S} :: {escape(mask(record.getMessage()))}{trace}"


# --- places


def _is_root() -> bool:
    return os.geteuid() == 0


def _own_directory() -> Path:
    return Path.home() / ".imgserve"


def _pid_file(options: Options) -> Path:
    default = Path("/var/run/imgserve.pid") if _is_root() else _own_directory() / "imgserve.pid"
    return Path(options.get("pid", default)).absolute()


def _log_directory(options: Options) -> Path:
    default = Path("/var/log/imgserve") if _is_root() else _own_directory() / "log"
    return Path(options.get("logdir", default)).absolute()


def _data_directory(options: Options) -> Path:
    default = Path("/var/lib/imgserve") if _is_root() else _own_directory()
    return Path(options.get("data", default)).absolute()


def _make_directory(directory: Path) -> None:
    """Raises: ConfigError."""
    try:
        directory.mkdir(mode=LOG_DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the directory '{directory}': {error.strerror}") from error


def _log_file(directory: Path) -> str:
    """Not for everybody to read. Raises: ConfigError."""
    _make_directory(directory)
    file = directory / "imgserve.log"
    try:
        file.touch(ROTATION.mode)
    except OSError as error:
        raise ConfigError(f"cannot write the log '{file}': {error.strerror}") from error
    return str(file)


# --- values


def _listener(options: Options, default_host: str) -> str:
    host, port = options.get("host", default_host), options.get("port", DEFAULT_PORT)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _number(options: Options, name: str, base: int) -> int:
    """Raises: UsageError."""
    try:
        return int(options[name], base)
    except ValueError:
        raise UsageError(f"-{name} needs a number, got '{options[name]}'") from None


def _user(options: Options) -> str | None:
    """Name of the user that workers run as. Raises: UsageError, ConfigError."""
    if "uid" not in options and "gid" not in options:
        return None
    if "uid" not in options or "gid" not in options:
        raise UsageError("-uid and -gid are needed both")
    uid, gid = _number(options, "uid", 10), _number(options, "gid", 10)
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        raise ConfigError(f"there is no user with the number {uid}") from None
    if user.pw_gid != gid:
        raise ConfigError(f"-gid must be the group of user '{user.pw_name}', which is {user.pw_gid}")
    return user.pw_name


# --- processes


def _read_pid(file: Path) -> int | None:
    """None when there is no file. Raises: ConfigError for one without a number."""
    try:
        text = file.read_text().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot read PID file {file}: {error.strerror}") from error
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ConfigError(f"PID file {file} holds no process id")
    return int(text)


def _has_ended(pid: int, pid_file: Path) -> bool:
    """Wait for it, but not for ever. The file goes last, before a process that nobody may wait for."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while pid_file.exists() and is_running(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
