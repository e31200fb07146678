"""`safelight jobs`: run the image job server, or talk to one; commands are imported when they run."""

from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from safelight.cli.options import option, server_options

DEFAULT_LISTENER = "127.0.0.1:8602"
LEGACY_LISTENER = "0.0.0.0:8602"
DEFAULT_DIRECTORY = Path("safelight-jobs")

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
    """The server, which has the options, and the commands that talk to it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        return getattr(import_module(module), f"{cmd_name}_command") if module else None


@click.group(cls=JobCommands, invoke_without_command=True, subcommand_metavar="[COMMAND [ARGS]...]")
@option("--config", type=click.Path(dir_okay=False, path_type=Path), help="Configuration with a jobs block.")
@option("--legacy", is_flag=True, help="As open as imgserve was: any source, any destination, any file.")
@option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DIRECTORY,
    help="Directory that the queue is kept in.",
)
@server_options(f"{DEFAULT_LISTENER}, or {LEGACY_LISTENER} with --legacy")
@click.pass_context
def command(context: click.Context, /, config: Path | None, legacy: bool, data: Path, **options: Any) -> None:
    """Fetch images from URLs, resize or rasterise them, deliver them to URLs.

    Without a COMMAND this is the server, and all options are its own. Jobs are taken by POST at /jobs, or on
    any other path in the words of imgserve, and kept in a queue that survives crashes. Without --config
    public addresses may be sources, and nothing may be a destination.

    The commands talk to a server that runs.
    """
    if context.invoked_subcommand is not None:
        _refuse_server_options(context, context.invoked_subcommand)
        return
    from safelight.cli.jobs.serve import serve

    default = LEGACY_LISTENER if legacy else DEFAULT_LISTENER
    serve(config, data, options["listen"] or (default,), options, legacy=legacy)


def _refuse_server_options(context: click.Context, command: str) -> None:
    """Raises: click.UsageError for what somebody has typed and nobody would heed."""
    for parameter in context.command.params:
        name = parameter.name or ""
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"'{parameter.opts[-1]}' is an option of the server, not of '{command}'")
