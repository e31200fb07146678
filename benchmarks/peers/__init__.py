"""Servers that Safelight is measured against, and Safelight itself: one adapter each.

An adapter says how its server is started on a directory of pictures, without caches, and under which path a
thumbnail is to be had. `benchmarks/peers/install` puts the servers into a scratch directory.
"""

import os
from pathlib import Path

from peers.base import Server
from peers.ipx import Ipx
from peers.nginx import Nginx
from peers.own import POLICIES, Own
from peers.sharp import Sharp
from peers.thumbor import Thumbor

INSTALL = "benchmarks/peers/install"


def scratch() -> Path:
    """Where `benchmarks/peers/install` puts the servers when it is told nothing else."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "safelight-peers"


def own() -> list[Server]:
    return [Own(policy) for policy in POLICIES]


def installed(directory: Path) -> list[Server]:
    """The servers of others in `directory`; prints which are missing, and what brings them."""
    everyone: list[Server] = [Sharp(directory), Ipx(directory), Thumbor(directory), Nginx(directory)]
    missing = [server.name for server in everyone if server.version() is None]
    if missing:
        print(f"Not in {directory}: {', '.join(missing)}. `{INSTALL} {directory}` installs them.\n")
    return [server for server in everyone if server.name not in missing]
