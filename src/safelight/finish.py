"""Work that goes on although nobody waits for it any more."""

import asyncio
from collections.abc import Coroutine
from typing import Any

_under_way: "set[asyncio.Task[None]]" = set()
"""Held here, or they could be collected: who has begun them may be gone."""


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, to its end also if the caller is cancelled. Raises: what `work` raises."""
    task = asyncio.create_task(work)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    await asyncio.shield(task)
