"""Latency under a fixed arrival rate: requests come at 50 and 80 % of what a server can do, answered or not.

Each round finds a server's capacity by a closed loop, then asks at the two rates, and goes on to the next
server. Times are from the moment at which a request was due, so that waiting behind a slow one counts. The
client has no cores of its own: capacity is what the server reaches beside it.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median

from load import Client, Load, percentile
from machine import Moment, tree_cpu_s
from peers.base import Input, Running, running
from peers_vs_safelight import BASELINE, CONNECTIONS, MEDIUM, contest, read_options

SHARES = (0.5, 0.8)
CAPACITY_S, RATE_S = 2.0, 5.0
INPUTS = (BASELINE, MEDIUM)


@dataclass(slots=True)
class Found:
    """Answers a second of a closed loop, and seconds of each request by share of that, of all rounds."""

    per_s: list[float] = field(default_factory=list[float])
    waits_s: dict[float, list[float]] = field(default_factory=lambda: {share: [] for share in SHARES})
    foreign_cores: list[float] = field(default_factory=list[float])


def go_round(
    servers: Sequence[Running], client: Client, picture: Input, rounds: int, seconds: float
) -> dict[str, Found]:
    """By name of the server: capacity and both rates, then the next server, `rounds` times."""
    found = {started.server.name: Found() for started in servers if started.server.path(picture)}
    for _ in range(rounds):
        for started in servers:
            path = started.server.path(picture)
            if path is None:
                continue
            one = found[started.server.name]
            before, used = Moment.now(), tree_cpu_s(started.pid)
            closed = client.closed(started.port, path, CONNECTIONS, CAPACITY_S)
            loads = [closed]
            for share in SHARES:
                loads.append(client.open(started.port, path, share * closed.per_s, seconds))
                one.waits_s[share] += loads[-1].waits_s
            one.per_s.append(closed.per_s)
            one.foreign_cores.append(_foreign_cores(before, tree_cpu_s(started.pid) - used, loads))
    return found


def _foreign_cores(before: Moment, server_cpu_s: float, loads: Sequence[Load]) -> float:
    """Cores that neither server nor client used, on average."""
    after = Moment.now()
    ours_s = server_cpu_s + sum(load.client_cpu_s for load in loads)
    return after.cores_since(before) - ours_s / (after.at_s - before.at_s)


def table(picture: Input, found: dict[str, Found]) -> None:
    columns = [f"{figure} at {share:.0%}" for share in SHARES for figure in ("p50", "p99", "most")]
    print(f"\n### {picture.title}, milliseconds\n")
    print(f"| | capacity/s | {' | '.join(columns)} |")
    print(f"|---|---{'|---' * len(columns)}|")
    for name, one in found.items():
        cells = [name, f"{median(one.per_s):.1f}"]
        for waits_s in one.waits_s.values():
            cells += [f"{1000 * percentile(waits_s, share):.0f}" for share in (50, 99, 100)]
        print(f"| {' | '.join(cells)} |")
    foreign = [cores for one in found.values() for cores in one.foreign_cores]
    rounds = max(len(one.per_s) for one in found.values())
    print(
        f"\n{rounds} rounds; foreign load, cores: median {median(foreign):.2f}, at most {max(foreign):.2f}.",
        flush=True,
    )


def main() -> None:
    options = read_options(__doc__, 3, RATE_S)
    with ExitStack() as stack:
        servers, directory, pictures = stack.enter_context(contest(options.peers))
        client = stack.enter_context(Client())
        started = [
            stack.enter_context(running(server, pictures, directory / f"server-{number}"))
            for number, server in enumerate(servers)
        ]
        for picture in INPUTS:
            table(picture, go_round(started, client, picture, options.rounds, options.seconds))


if __name__ == "__main__":
    main()
