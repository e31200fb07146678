"""From a configuration file to an API that can serve: load, declare, check, build."""

from dataclasses import replace

from safelight.config import load as config_load
from safelight.config.load import Config
from safelight.config.problem import Problem
from safelight.engine.base import Engine
from safelight.model import Api, Counters, Resources
from safelight.statements import REGISTRY
from safelight.statements.clients import S3, Thumbnailer
from safelight.statements.endpoint import EndpointStatement
from safelight.statements.lint import lint
from safelight.statements.paths import Path
from safelight.template import Template

NO_REMOTE = "the remote engine comes with the next release; the embedded engine is used instead"


def load_config(text: str, file: str, *, lenient: bool = False) -> Config:
    """Declare a configuration and gather warnings about what can never work.

    `lenient`: unknown statements and attributes are warnings, unless they are meant to guard an endpoint.
    Raises: ConfigError holding all complaints.
    """
    config = config_load.load(text, file, REGISTRY, single=(Thumbnailer, S3), lenient=lenient)
    paths = templates(config)
    linted = [problem for endpoint in config.of(EndpointStatement) for problem in lint(endpoint, paths)]
    remote = [Problem(statement.tag.position, NO_REMOTE, "warning") for statement in config.of(Thumbnailer)]
    return replace(config, warnings=(*config.warnings, *remote, *linted))


def templates(config: Config) -> dict[str, Template]:
    """The `path` templates by name; a later definition replaces an earlier one."""
    return {name: template for path in config.of(Path) for name, template in path.templates()}


def build(config: Config, engine: Engine, counters: Counters) -> Api:
    """Make the declared API ready to serve with `engine`."""
    resources = Resources(templates(config), engine, counters)
    endpoints = tuple(endpoint.build(resources) for endpoint in config.of(EndpointStatement))
    return Api(endpoints, resources)
