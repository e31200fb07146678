"""`httpthumbnailer`: the stateless thumbnailer with the command line and the habits of the older server."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safelight import __version__
from safelight.cli.dropin.options import Option
from safelight.cli.dropin.program import SPEED_OPTION, Program, Service, read_command_line, run
from safelight.image.formats import INPUT_FORMATS, OUTPUT_FORMATS
from safelight.image.settings import MEBIBYTE, ImageSettings
from safelight.image.speed import Speed
from safelight.server.hosting import HostSettings, Say
from safelight.server.process import Load
from safelight.server.stats import Statistics
from safelight.server.thumbnailer import STATISTICS, thumbnailer

PLUGINS = "/usr/share/httpthumbnailer/plugins"
PIXEL_BYTES = 8  # four channels of 16 bits, as the older server counts (reference/thumbnailer section 10)
PNG_QUALITY = 95
INTERLACE_NAMES = (
    "UndefinedInterlace NoInterlace LineInterlace PlaneInterlace PartitionInterlace "
    "GIFInterlace JPEGInterlace PNGInterlace"
)
"""As `safelight.image.save` has them, which cannot be imported without libvips."""

PROGRAM = Program(
    "httpthumbnailer",
    "1.3.0",
    "Stateless HTTP image thumbnailing, editing and conversion server",
    (
        Option("formats", "show library versions, formats and interlace names", "F"),
        Option(
            "limit-disk",
            "MiB; images may have as many pixels, of 8 bytes, as this or --limit-memory allows, whichever is"
            " more; no file is written",
            None,
            "number",
            1024,
        ),
        Option("plugins", "directory with plugins (*.py), repeatable", None, "texts", [PLUGINS]),
        Option("no-optimization", "read images at full size, however small the thumbnail is"),
        Option("no-downsample", "do not shrink images by powers of two before editing them"),
        Option("reload", "accepted, no effect: images are never read larger than they are"),
        Option("no-upscale-fix", "accepted, no effect: images are never read larger than they are"),
        Option("auto-orient", "apply the EXIF orientation first"),
        SPEED_OPTION,
    ),
    "127.0.0.1:3100",
)


def main() -> None:
    """Run the command; the entry point of the console script."""
    parsed = read_command_line(PROGRAM, sys.argv[1:])
    if parsed.values["formats"]:
        sys.stdout.write(formats())
        return
    ignored = " ".join(parsed.arguments)
    notices = [f"arguments are ignored, there is no configuration file: {ignored}"] if ignored else []

    def load(settings: HostSettings, say: Say) -> Load:
        settings = replace(settings, images=image_settings(parsed.values))
        return lambda: thumbnailer(settings, say)

    run(PROGRAM, parsed.values, notices, Service(load, Statistics(STATISTICS)))


def image_settings(options: Mapping[str, Any]) -> ImageSettings:
    """How images are treated; the plugin directory of the older package may be missing without a warning."""
    plugins = [path for path in options["plugins"] if path != PLUGINS or Path(path).is_dir()]
    return ImageSettings(
        speed=Speed(options["speed"]),
        auto_orient=options["auto-orient"],
        max_pixels=max(options["limit-memory"], options["limit-disk"]) * MEBIBYTE // PIXEL_BYTES,
        png_quality=PNG_QUALITY,
        shrink_on_load=not options["no-optimization"],
        downsample=not (options["no-optimization"] or options["no-downsample"]),
        plugins=tuple(str(Path(path).absolute()) for path in plugins),
    )


def formats() -> str:
    """What `--formats` prints: four headings with indented lines."""
    sections = {
        "Versions": (
            f"Safelight {__version__}",
            f"libvips {version('pyvips-binary')}",
            f"pyvips {version('pyvips')}",
            f"Pillow {version('pillow')}",
        ),
        "Input formats": (_listed(*INPUT_FORMATS),),
        "Output formats": (_listed(*OUTPUT_FORMATS, "jpg", "tif"),),
        "Supported Interlace": (INTERLACE_NAMES,),
    }
    blocks = (f"{title}:\n" + "".join(f"\t{line}\n" for line in lines) for title, lines in sections.items())
    return "\n".join(blocks)


def _listed(*names: str) -> str:
    return " ".join(sorted(name.lower() for name in names))


if __name__ == "__main__":
    main()
