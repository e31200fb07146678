"""`httpimagestore`: the image store with the command line and the habits of the older server."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import structlog

from safelight.api import read_config
from safelight.cli.dropin.options import Option
from safelight.cli.dropin.program import SPEED_OPTION, Program, Service, read_command_line, refuse_usage, run
from safelight.cli.httpthumbnailer import PNG_QUALITY
from safelight.image.settings import ImageSettings
from safelight.image.speed import Speed
from safelight.server.hosting import EMBEDDED, HostSettings, Say
from safelight.server.image_store import load_store
from safelight.server.process import Load
from safelight.server.stats import Statistics

ENGINE_VARIABLE = "SAFELIGHT_THUMBNAILER"

PROGRAM = Program(
    "httpimagestore",
    "1.9.0",
    "HTTP image storage and thumbnailing server, its API declared in the file CONFIG",
    (
        Option(
            "thumbnailer",
            "URL of the server that processes images, unless CONFIG names one; 'embedded': our own workers",
            None,
            "text",
            os.environ.get(ENGINE_VARIABLE, EMBEDDED),
        ),
        Option("auto-orient", "apply the EXIF orientation first"),
        SPEED_OPTION,
    ),
    "127.0.0.1:3000",
    arguments="CONFIG",
)

_log = structlog.get_logger("safelight.cli")


def main() -> None:
    """Run the command; the entry point of the console script."""
    parsed = read_command_line(PROGRAM, sys.argv[1:])
    if not parsed.arguments:
        refuse_usage(PROGRAM, "mandatory argument 'config' not given")
    file, *ignored = parsed.arguments
    notices = [f"more arguments than CONFIG are ignored: {' '.join(ignored)}"] if ignored else []
    images = ImageSettings(
        speed=Speed(parsed.values["speed"]),
        auto_orient=parsed.values["auto-orient"],
        png_quality=PNG_QUALITY,
    )
    path = Path(file).absolute()

    def load(settings: HostSettings, say: Say) -> Load:
        settings = replace(settings, images=images, thumbnailer=parsed.values["thumbnailer"])
        return lambda: load_store(read_config(path), file, settings, say, lenient=True, warn=_log.warning)

    run(PROGRAM, parsed.values, notices, Service(load, Statistics()))


if __name__ == "__main__":
    main()
