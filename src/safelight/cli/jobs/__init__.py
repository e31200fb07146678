"""`safelight jobs`: run the image job server, or talk to one; commands are imported when they run."""

from importlib import import_module
from typing import Any

import click
from click.core import ParameterSource

COMMANDS: dict[str, str] = {
    "submit": "safelight.cli.jobs.submit",
    "list": "safelight.cli.jobs.look",
    "show": "safelight.cli.jobs.look",
    "export": "safelight.cli.jobs.look",
    "retry": "safelight.cli.jobs.change",
    "cancel": "safelight.cli.jobs.change",
}
"""Names of commands, and the modules that have them as `NAME_command`."""


class JobCommands(click.Group):
    """The server, whose options come first, and the commands that talk to it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        return getattr(import_module(module), f"{cmd_name}_command") if module else None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Commands need no server, which takes longer to import than most of them to run."""
        if not args or args[0] not in COMMANDS:
            self.params = _server().params
        return super().parse_args(ctx, args)


@click.group(cls=JobCommands, invoke_without_command=True, subcommand_metavar="[COMMAND [ARGS]...]")
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Fetch images from URLs, resize or rasterise them, deliver them to URLs.

    Without a COMMAND this is the server, and all options are its own. Jobs are taken by POST at /jobs, or on
    any other path in the words of imgserve, and kept in a queue that survives crashes. Without --config
    public addresses may be sources, and nothing may be a destination.

    The commands talk to a server that runs.
    """
    if context.invoked_subcommand is None:
        context.invoke(_server(), **options)
    else:
        _refuse_server_options(context, context.invoked_subcommand)


def _server() -> click.Command:
    from safelight.cli.jobs.serve import server_command

    return server_command


def _refuse_server_options(context: click.Context, command: str) -> None:
    """Raises: click.UsageError for what somebody has typed and nobody would heed."""
    for parameter in context.command.params:
        if context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"'{parameter.opts[-1]}' is an option of the server, not of '{command}'")
