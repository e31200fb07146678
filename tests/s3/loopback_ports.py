"""Ports on loopback for servers that cannot choose one themselves, or that return to theirs later."""

import random
import socket
from pathlib import Path

LOWEST = 12_000
RESERVED = range(18_000, 20_000)
"""Left to servers that people start by hand on the numbers of the manuals."""


def free_ports(count: int) -> list[int]:
    """Different ports that are free on 127.0.0.1 now.

    They lie below the ephemeral range, from which systems take the ports of outgoing connections and of
    listeners on port 0: between this choice and the bind only another caller of this function can take one.
    """
    chosen: list[int] = []
    while len(chosen) < count:
        port = random.randrange(LOWEST, _lowest_ephemeral_port())
        if port not in chosen and port not in RESERVED and _is_free(port):
            chosen.append(port)
    return chosen


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _lowest_ephemeral_port() -> int:
    path = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest = int(path.read_text().split()[0]) if path.exists() else 32_768
    return lowest if lowest > 2 * LOWEST else 32_768
