"""The `safelight` command. Each subcommand is a module, imported only when it is asked for."""

import sys
from importlib import import_module
from importlib.util import find_spec

import click

from safelight import __version__
from safelight.errors import SafelightError

COMMANDS: dict[str, str] = {
    "serve": "safelight.cli.serve",
    "check": "safelight.cli.check",
    "show": "safelight.cli.show",
    "request": "safelight.cli.request",
    "cache": "safelight.cli.cache",
    "sign": "safelight.cli.sign",
    "statements": "safelight.cli.statements",
    "jobs": "safelight.cli.jobs",
    "thumbnailer": "safelight.cli.thumbnailer",
    "thumbnail": "safelight.cli.thumbnail",
    "identify": "safelight.cli.identify",
}
"""Names of subcommands and the modules whose `command` they are."""

FAILED = 1


class LazyGroup(click.Group):
    """Imports the module of a command when it runs, or when its help is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(name for name, module in COMMANDS.items() if find_spec(module))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        return import_module(module).command if module else None

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an error of ours becomes lines on standard error and exit code 1."""
        try:
            return super().invoke(ctx)
        except SafelightError as error:
            for line in error.message.splitlines():
                click.echo(line, err=True)
            if error.detail:
                click.echo(f"  {error.detail}", err=True)
            sys.exit(FAILED)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="safelight", message="%(prog)s %(version)s")
def main() -> None:
    """Self-hosted image server: declare your own image API in a short file and serve it."""
