"""Why a worker died, and what its request is told."""

import asyncio
import hashlib
import signal
from dataclasses import dataclass
from pathlib import Path

from safelight.engine.arena import Phase
from safelight.engine.member import Member
from safelight.errors import ImageError, SafelightError, TooLarge, UnsupportedMedia

STATUS_TIMEOUT_S = 1
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` for the counters, `how` and `last_words` for the log, `error` for the request.

    No error: the worker was not at fault, and neither was its input; another one may try.
    """

    reason: str
    how: str
    last_words: str
    error: SafelightError | None


def count_oom_kills() -> int:
    """Processes that the kernel has killed for memory since it was booted, in any control group."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


async def examine(member: Member, oom_kills_before: int) -> Verdict:
    """Find out how a process ended that hung up by itself."""
    try:
        status = await _status(member, STATUS_TIMEOUT_S)
    except TimeoutError:  # it has hung up and lives on, which no worker of ours does; or the machine is slow
        member.kill()
        status = await _status(member, None)
        if status == -signal.SIGKILL:
            return Verdict("protocol", "hung up", "", ImageError("image processing failed"))
    words = member.complaints.last_words()
    if status is None:
        return Verdict("template", "died with the template", words, None)
    how = _describe(status)
    out_of_memory = member.complaints.lament_memory() or (
        status == -signal.SIGKILL and count_oom_kills() > oom_kills_before
    )
    if out_of_memory:
        return Verdict("memory", how, words, TooLarge("image too large: out of memory", detail=how))
    if member.arena.phase is Phase.DECODING and status != -signal.SIGKILL:
        error = UnsupportedMedia("image cannot be decoded", detail=f"the decoder has crashed: {how}")
        return Verdict("crash", how, words, error)
    return Verdict("crash", how, words, ImageError("image processing failed", detail=f"worker {how}"))


async def digest(member: Member) -> str | None:
    """SHA-256 of the input of the job it had, from the arena that it leaves, in turns with other work."""
    if member.job is None:
        return None
    summary = hashlib.sha256()
    for start in range(0, member.job.image.size, PIECE_BYTES):
        summary.update(member.arena.body[start : min(start + PIECE_BYTES, member.job.image.size)])
        await asyncio.sleep(0)
    return summary.hexdigest()


async def _status(member: Member, timeout_s: float | None) -> int | None:
    async with asyncio.timeout(timeout_s):
        return await asyncio.shield(member.forked.ended)


def _describe(status: int) -> str:
    if status >= 0:
        return f"exited with {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
