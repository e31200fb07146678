"""From a configuration file to an API that can serve: load, declare, check, build."""

from dataclasses import replace
from pathlib import Path as FilePath

from safelight.config import load as config_load
from safelight.config.load import Config
from safelight.config.problem import Problem
from safelight.config.tag import Position
from safelight.engine.base import Engine
from safelight.errors import ConfigError
from safelight.model import Api, Counters, Resources
from safelight.statements import REGISTRY
from safelight.statements.caching import caches, inspect_caches
from safelight.statements.clients import S3
from safelight.statements.endpoint import endpoints_of
from safelight.statements.jobs import Jobs
from safelight.statements.lint import lint, lint_client
from safelight.statements.paths import Path
from safelight.statements.result_caches import inspect_result_caches, shelves, tiers
from safelight.storage.s3.account import Patience
from safelight.storage.s3.bucket import Client as S3Client
from safelight.template import Template


def load_config(text: str, file: str, *, lenient: bool = False) -> Config:
    """Declare a configuration and gather warnings about what can never work.

    `lenient`: unknown statements and attributes are warnings, unless they are meant to guard an endpoint.
    Raises: ConfigError holding all complaints.
    """
    config = config_load.load(text, file, REGISTRY, lenient=lenient)
    paths, endpoints = templates(config), endpoints_of(config)
    clients = {client.client_name for client in config.of(S3)}
    found = [problem for endpoint in endpoints for problem in lint(endpoint, paths, clients)]
    found += [problem for client in config.of(S3) for problem in lint_client(client)]
    found += inspect_caches(config)
    found += inspect_result_caches(config, paths)
    if not endpoints and not config.of(Jobs):
        found.append(Problem(Position(file, 1, 1), "no handlers configured", "warning"))
    once = list(dict.fromkeys(found))  # a header of the top level is in every endpoint
    problems = (*config.warnings, *config_load.presentable(once, text))
    config_load.refuse_errors(problems)
    return replace(config, warnings=problems)


def read_config(file: FilePath) -> str:
    """The text of a configuration file. Raises: ConfigError, with the place of what is no UTF-8."""
    try:
        octets = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError as error:
        before = octets[: error.start].decode().splitlines() or [""]
        place = Position(str(file), len(before), len(before[-1]) + 1)
        message = f"{place}: not UTF-8: byte 0x{octets[error.start]:02x} (save the file as UTF-8)"
        raise ConfigError(message) from error


def templates(config: Config) -> dict[str, Template]:
    """The `path` templates by name; a later definition replaces an earlier one."""
    return {name: template for path in config.of(Path) for name, template in path.templates()}


def build(
    config: Config,
    engine: Engine,
    counters: Counters,
    spool_directory: FilePath | None = None,
    rendering: str = "",
    request_timeout_s: float | None = None,
) -> Api:
    """Make the declared API ready to serve with `engine`.

    `spool_directory`: where large objects wait on their way, None for the system's temporary directory.
    `rendering`: how `engine` was told to make images, as text; kept answers count only for the same one.
    `request_timeout_s`: how long a request may take, None for as long as it likes. Object stores that fail
    are not to use it up.
    Raises: ConfigError for a directory of kept answers that cannot be used.
    """
    patience = None if request_timeout_s is None else Patience.of_requests(request_timeout_s)
    clients = {
        client.client_name: S3Client(client.account(), spool_directory, patience) for client in config.of(S3)
    }
    resources = Resources(
        templates(config),
        engine,
        counters,
        clients,
        caches(config, counters),
        shelves(config),
        tiers(config, clients),
        rendering,
        request_timeout_s,
    )
    endpoints = tuple(endpoint.build(resources) for endpoint in endpoints_of(config))
    return Api(endpoints, resources)
