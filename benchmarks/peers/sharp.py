"""sharp behind Node's own HTTP server: what a few lines of JavaScript reach."""

from dataclasses import dataclass
from pathlib import Path

from peers.base import QUALITY, SIDE, Input, Launch
from peers.node import modules, package_version

PROGRAM = Path(__file__).with_name("sharp_server.mjs")


@dataclass(frozen=True, slots=True)
class Sharp:
    """`sharp_server.mjs`, one process with libuv's threads."""

    directory: Path
    name = "node + sharp"

    def version(self) -> str | None:
        return package_version(self.directory, "sharp")

    def launch(self, port: int, pictures: Path, directory: Path) -> Launch:
        library = modules(self.directory) / "sharp"
        return Launch(["node", str(PROGRAM), str(library), str(port), str(pictures)])

    def path(self, picture: Input) -> str:
        return f"/{picture.file}?side={SIDE}&quality={QUALITY}&format={picture.output}"
