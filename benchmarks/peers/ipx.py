"""ipx: an image server on sharp."""

from dataclasses import dataclass
from pathlib import Path

from peers.base import QUALITY, SIDE, Input, Launch
from peers.node import modules, package_version


@dataclass(frozen=True, slots=True)
class Ipx:
    """`ipx serve`, one process with libuv's threads. It brings a sharp of its own."""

    directory: Path
    name = "ipx"

    def version(self) -> str | None:
        return package_version(self.directory, "ipx")

    def launch(self, port: int, pictures: Path, directory: Path) -> Launch:
        program = str(modules(self.directory) / "ipx" / "bin" / "ipx.mjs")
        options = ["--dir", str(pictures), "--host", "127.0.0.1", "--port", str(port)]
        return Launch(["node", program, "serve", *options], {"NODE_ENV": "production"})

    def path(self, picture: Input) -> str:
        quality = f",quality_{QUALITY}" if picture.output == "jpeg" else ""
        return f"/resize_{SIDE}x{SIDE},fit_inside,format_{picture.output}{quality}/{picture.file}"
