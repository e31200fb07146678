"""What processes have used, from /proc, and how busy the machine was otherwise."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PARENT, _UTIME, _CSTIME = 1, 11, 14  # fields of /proc/<pid>/stat, counted after the name
_BUSY = (0, 1, 2, 5, 6)  # user, nice, system, irq, softirq of the first line of /proc/stat


def description() -> str:
    """Day, cores and processor, for the head of a table."""
    lines = (PROC / "cpuinfo").read_text().splitlines()
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown"
    )
    return f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores, {model}"


def tree_cpu_s(root: int) -> float:
    """CPU seconds, user and system, of `root` and everything below it, children that have ended included.

    Ends are counted when their parent has waited for them.
    """
    stats = _all_stats()
    children: dict[int, list[int]] = {}
    for pid, fields in stats.items():
        children.setdefault(fields[_PARENT], []).append(pid)
    ticks, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        ticks += sum(stats[pid][_UTIME : _CSTIME + 1]) if pid in stats else 0
        waiting += children.get(pid, [])
    return ticks * TICK_S


def _all_stats() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text("utf-8", "replace")
            except OSError:  # it has ended meanwhile
                continue
            after_name = text.rpartition(")")[2].split()
            found[int(entry.name)] = [0, *map(int, after_name[1:])]
    return found


@dataclass(frozen=True, slots=True)
class Moment:
    """Time and CPU seconds that the whole machine has used so far."""

    at_s: float
    busy_s: float

    @classmethod
    def now(cls) -> "Moment":
        fields = (PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
        return cls(time.monotonic(), sum(int(fields[index]) for index in _BUSY) * TICK_S)

    def cores_since(self, earlier: "Moment") -> float:
        """How many cores were busy on average."""
        return (self.busy_s - earlier.busy_s) / max(self.at_s - earlier.at_s, TICK_S)
