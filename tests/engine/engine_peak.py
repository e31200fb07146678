"""Predicted and real peak memory of one request, in a process of its own.

Standard input is made into what the first argument says, by the policy that the second one names.
Prints both in bytes, without the input: here it is in memory of its own, in a pool in shared memory.
"""

import contextlib
import sys
from pathlib import Path

from safelight.image.cost import NotGranted
from safelight.image.pipeline import thumbnail, warm_up
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec
from safelight.image.speed import Speed


def main() -> None:
    settings = ImageSettings(speed=Speed(sys.argv[2]))
    warm_up(settings)
    data = sys.stdin.buffer.read()
    specs = [ThumbnailSpec.parse(text) for text in sys.argv[1].split("/")]
    predicted = 0
    try:
        thumbnail(data, specs, settings, granted_bytes=0)
    except NotGranted as error:
        predicted = error.needed_bytes - len(data)
    before = reset_peak()
    made = thumbnail(data, specs, settings, granted_bytes=predicted + len(data))
    failures = [str(output) for output in made.outputs if isinstance(output, Exception)]
    assert not failures, failures
    print(predicted, peak_bytes() - before)


def reset_peak() -> int:
    """Forget the peak so far, where the kernel lets us (proc_pid_clear_refs(5)); and return it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


main()
