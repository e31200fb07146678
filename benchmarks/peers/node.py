"""Packages from npm, as `benchmarks/peers/install` lays them."""

import json
from pathlib import Path


def modules(directory: Path) -> Path:
    return directory / "node" / "node_modules"


def package_version(directory: Path, name: str) -> str | None:
    try:
        return json.loads((modules(directory) / name / "package.json").read_text())["version"]
    except FileNotFoundError:
        return None
