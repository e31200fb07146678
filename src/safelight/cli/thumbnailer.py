"""`safelight thumbnailer`: run the stateless thumbnailer."""

from typing import Any

import click

from safelight.cli.options import host_settings, process_settings, server_options, start_server
from safelight.server.listeners import absolute_listener
from safelight.server.stats import Statistics
from safelight.server.thumbnailer import STATISTICS, thumbnailer

DEFAULT_LISTENER = "127.0.0.1:3100"


@click.command()
@server_options(DEFAULT_LISTENER)
def command(**options: Any) -> None:
    """Serve thumbnails of the images that clients send; nothing is stored.

    PUT an image to /thumbnail/SPEC for one thumbnail, to /thumbnails/SPEC/SPEC... for several from one
    decode, to /identify for its type and size. SPEC is METHOD,WIDTH,HEIGHT,FORMAT[,KEY:VALUE...][!EDIT...].
    """
    listeners = tuple(map(absolute_listener, options["listen"] or (DEFAULT_LISTENER,)))
    settings = host_settings(options)
    start_server(
        options,
        process_settings(listeners, None, options),
        lambda say, _warn: lambda: thumbnailer(settings, say),
        Statistics(STATISTICS),
    )
