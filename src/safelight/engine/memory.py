"""How much memory there is, and how much of it the image work in flight has been granted."""

import resource
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC = Path("/proc")
_LIMIT_FILES = {"cgroup2": "memory.max", "cgroup": "memory.limit_in_bytes"}


def default_limit_bytes() -> int:
    """For image work: half of what this process may use. The rest is for servers, files and others."""
    return available_bytes() // 2


def available_bytes(proc: Path = PROC) -> int:
    """What this process may use: the machine's memory, or less by a control group or RLIMIT_AS."""
    bounds = [_machine_bytes(proc), *_group_bounds(proc)]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        bounds.append(soft)
    return min(bounds)


def _machine_bytes(proc: Path) -> int:
    lines = (proc / "meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemTotal:"))


def _group_bounds(proc: Path) -> Iterator[int]:
    """Limits of the control groups of this process and of all above that are visible (cgroups(7))."""
    try:
        mounts = (proc / "self" / "mountinfo").read_text().splitlines()
        groups = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    paths = {
        "cgroup2" if not controllers else "cgroup": path
        for _, controllers, path in (line.split(":", 2) for line in groups)
        if not controllers or "memory" in controllers.split(",")
    }
    for line in mounts:
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(" ")[-1].split(",")):
            root, mounted = before.split()[3:5]
            yield from _bounds_upward(Path(mounted), root, paths.get(kind, root), _LIMIT_FILES[kind])


def _bounds_upward(mounted: Path, root: str, group: str, name: str) -> Iterator[int]:
    """The limits in `mounted`, where the hierarchy is visible from `root` on, from `group` to the top."""
    inside = PurePosixPath(group)
    below = inside.relative_to(root) if inside.is_relative_to(root) else PurePosixPath()
    for directory in (below, *below.parents):
        try:
            text = (mounted / directory / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # the other value is "max"
            yield int(text)


class Grants:
    """Shares `limit_bytes` out among at most `workers` jobs at a time.

    What a job takes is not known before a worker has read its header. Until then it is granted an equal share
    for each worker, or what is left; a worker that finds more to be needed gives the job back.
    """

    def __init__(self, limit_bytes: int, workers: int) -> None:
        self.limit_bytes = limit_bytes
        self._share_bytes = limit_bytes // workers

    def offer(self, admitted_bytes: int, least_bytes: int, needed_bytes: int | None) -> int | None:
        """Bytes for one more job beside what is admitted; None: it must wait.

        `least_bytes`: without these, trying is no use. `needed_bytes`: what it takes, if that is known.
        """
        free_bytes = self.limit_bytes - admitted_bytes
        if needed_bytes is not None:
            return needed_bytes if needed_bytes <= free_bytes else None
        if least_bytes > free_bytes:
            return None
        return min(max(self._share_bytes, least_bytes), free_bytes)
