"""Safelight, once for each policy."""

import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from peers.base import CORES, QUALITY, SIDE, Input, Launch

POLICIES = ("fast", "balanced")
CONFIGURATION = Path(__file__).with_name("safelight.sdl")


@dataclass(frozen=True, slots=True)
class Own:
    """`safelight serve` with `safelight.sdl`."""

    policy: str

    @property
    def name(self) -> str:
        return f"Safelight, {self.policy}"

    def version(self) -> str:
        return metadata.version("safelight")

    def launch(self, port: int, pictures: Path, directory: Path) -> Launch:
        (directory / "pictures").symlink_to(pictures)
        command = [sys.executable, "-m", "safelight", "serve", str(CONFIGURATION)]
        return Launch([*command, "--listen", f"127.0.0.1:{port}", "--workers", str(CORES)])

    def path(self, picture: Input) -> str:
        return f"/{self.policy}/{picture.output}/{SIDE}/{QUALITY}/{picture.file}"
