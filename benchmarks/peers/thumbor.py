"""thumbor, on its default engine."""

from dataclasses import dataclass
from pathlib import Path

from peers.base import CORES, QUALITY, SIDE, Input, Launch

CONFIGURATION = """
LOADER = "thumbor.loaders.file_loader"
FILE_LOADER_ROOT_PATH = {pictures!r}
STORAGE = "thumbor.storages.no_storage"
RESULT_STORAGE = None
"""


@dataclass(frozen=True, slots=True)
class Thumbor:
    """`thumbor`, a process for each core."""

    directory: Path
    name = "thumbor"

    def version(self) -> str | None:
        found = self.directory.glob("thumbor/lib/python*/site-packages/thumbor-*.dist-info")
        return next((path.name.split("-")[1].removesuffix(".dist") for path in found), None)

    def launch(self, port: int, pictures: Path, directory: Path) -> Launch:
        configuration = directory / "thumbor.conf"
        configuration.write_text(CONFIGURATION.format(pictures=str(pictures)))
        program = str(self.directory / "thumbor" / "bin" / "thumbor")
        options = ["--ip", "127.0.0.1", "--port", str(port), "--processes", str(CORES)]
        return Launch([program, *options, "--log-level", "error", "--conf", str(configuration)])

    def path(self, picture: Input) -> str:
        quality = f"quality({QUALITY}):" if picture.output == "jpeg" else ""
        filters = f"filters:{quality}format({picture.output})"
        return f"/unsafe/fit-in/{SIDE}x{SIDE}/{filters}/{picture.file}"
