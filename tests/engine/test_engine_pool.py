"""What becomes of a pool whose workers meet the worst input: one request fails, all others do not notice."""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest
import structlog
import uvloop
from processes import children, wait_until_gone

from safelight.blob import FileBlob, MemoryBlob
from safelight.engine.pool import PoolEngine, PoolLimits
from safelight.errors import (
    BadRequest,
    Busy,
    ImageError,
    MemoryLimitExceeded,
    SafelightError,
    Timeout,
    TooLarge,
    UnsupportedMedia,
)
from safelight.image.result import Thumbnail
from safelight.image.settings import MEBIBYTE, ImageSettings
from safelight.image.spec import ThumbnailSpec

SPEC = ThumbnailSpec("fit", 10, 20, "JPEG")
SUFFIX = b"fit,10,20,JPEG"


@contextlib.asynccontextmanager
async def pool(
    *, handler: str = "HostileHandler", workers: int = 2, **limits: float
) -> AsyncIterator[PoolEngine]:
    engine = PoolEngine(
        ImageSettings(),
        workers=workers,
        limits=PoolLimits(**limits),  # type: ignore[arg-type]
        handler=f"engine_handlers:{handler}",
    )
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def one(engine: PoolEngine, data: bytes, *, urgent: bool = False) -> bytes:
    result = await engine.thumbnail(MemoryBlob(data), [SPEC], urgent=urgent)
    (output,) = result.outputs
    assert isinstance(output, Thumbnail)
    return output.data.removesuffix(SUFFIX)


async def works(engine: PoolEngine, data: bytes = b"an image") -> bool:
    return await one(engine, data) == hashlib.sha256(data).digest()


async def eventually(condition: Callable[[], bool], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it has not come to pass"
        await asyncio.sleep(0.005)


def descriptors(pid: int | str = "self") -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def of_process(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def template_pid() -> int:
    """The one template that this process has."""
    (pid,) = [pid for pid in children(os.getpid()) if b"safelight.engine" in of_process(pid, "cmdline")]
    return pid


# One request fails, and how


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        (b"hang", Timeout, "timeout"),
        (b"segv", UnsupportedMedia, "crash"),
        (b"abort", UnsupportedMedia, "crash"),
        (b"exit", UnsupportedMedia, "crash"),
        (b"eat_native", TooLarge, "memory"),
        (b"hang_up", ImageError, "protocol"),
        (b"say garbage", ImageError, "protocol"),
        (b"say [", ImageError, "protocol"),
        (b"say " + b"[" * 190, ImageError, "protocol"),
        (b'say [1,0,null,["image/png",1,1],[]]', ImageError, "protocol"),
        (b'say [2,0,null,["image/png",1,1],[["output","image/png",1,1,5]]]', ImageError, "protocol"),
        (b'say [1,0,null,["image/png",1,1],[["output","image/png",1,1,9999999999]]]', ImageError, "protocol"),
        (b'say [1,0,null,["image/png",1,1],[["output","image/png",1,1,-1]]]', ImageError, "protocol"),
        (b'say [1,0,null,["image/png\\r\\nX: y",1,1],[]]', ImageError, "protocol"),
        (b"say_much 200000", ImageError, "protocol"),
        (b"say_much 131073", ImageError, "protocol"),
        (b"send_descriptors", ImageError, "protocol"),
    ],
)
async def test_only_the_request_that_harms_a_worker_fails(
    data: bytes, error: type[SafelightError], reason: str
) -> None:
    async with pool(workers=1, transform_timeout_s=1, address_space_bytes=256 * MEBIBYTE) as engine:
        failing = asyncio.ensure_future(one(engine, data))
        others = [asyncio.ensure_future(works(engine, b"%d" % number)) for number in range(5)]
        with pytest.raises(error) as caught:
            await failing
        assert type(caught.value) is error
        assert await asyncio.gather(*others) == [True] * 5
        await eventually(lambda: engine.status().workers == 2)
        assert engine.status().restarts == {reason: 1}
        assert await works(engine)


async def test_memory_that_python_cannot_have_costs_no_worker() -> None:
    async with pool(workers=1, address_space_bytes=256 * MEBIBYTE, recycle_rss_bytes=1 << 40) as engine:
        pid, _ = (await one(engine, b"who")).split()
        with pytest.raises(TooLarge):
            await one(engine, b"eat")
        assert (await one(engine, b"who")).split()[0] == pid


async def test_death_after_decoding_is_not_the_fault_of_the_input() -> None:
    async with pool(workers=1, handler="CrashesWhileAnswering") as engine:
        with pytest.raises(ImageError) as caught:
            await one(engine, b"crash")
        assert caught.value.message == "image processing failed"
        assert caught.value.detail == "worker killed by SIGABRT"
        assert await works(engine)


async def test_a_worker_killed_from_outside_without_lack_of_memory_is_an_image_error() -> None:
    async with pool(workers=1) as engine:
        pid = int((await one(engine, b"who")).split()[0])
        failing = asyncio.ensure_future(one(engine, b"hang"))
        await eventually(lambda: engine.status().busy == 1)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ImageError):
            await failing
        assert await works(engine)


async def test_the_log_names_the_input_and_its_last_words() -> None:
    with structlog.testing.capture_logs() as entries:
        async with pool(workers=1) as engine:
            with pytest.raises(UnsupportedMedia):
                await one(engine, b"abort")
            await eventually(lambda: bool(entries))
    entry = next(entry for entry in entries if entry["event"] == "image worker died")
    assert entry["input_sha256"] == hashlib.sha256(b"abort").hexdigest()
    assert entry["how"] == "killed by SIGABRT"
    assert entry["reason"] == "crash"
    assert "the decoder says goodbye" in entry["last_words"]


async def test_a_flood_of_complaints_neither_blocks_nor_reaches_the_log() -> None:
    async with pool(workers=1) as engine:
        assert await one(engine, b"complain") == hashlib.sha256(b"complain").digest()
        assert await works(engine)


async def test_an_answer_in_advance_is_refused() -> None:
    """A worker taken over must not answer the request after its own."""
    async with pool(workers=1) as engine:
        with contextlib.suppress(ImageError):
            await one(engine, b"say_twice 1")
        assert await works(engine)
        assert engine.status().restarts == {"protocol": 1}


async def test_many_at_once_with_random_deaths() -> None:
    chance = random.Random(7)
    deaths = {b"segv": UnsupportedMedia, b"abort": UnsupportedMedia, b"say x": ImageError, b"hang": Timeout}
    inputs = [
        chance.choice(list(deaths)[:3])
        if chance.random() < 0.12
        else b"%d" % number * chance.randrange(1, 90_000)
        for number in range(200)
    ]
    inputs[50] = inputs[51] = b"hang"
    async with pool(workers=2, transform_timeout_s=1.5, max_wait_s=30) as engine:
        answers = await asyncio.gather(*(one(engine, data) for data in inputs), return_exceptions=True)
        for data, answer in zip(inputs, answers, strict=True):
            expected = deaths.get(data)
            if expected:
                assert type(answer) is expected, data
            else:
                assert answer == hashlib.sha256(data).digest()
        assert sum(engine.status().restarts.values()) == sum(data in deaths for data in inputs)
        assert await works(engine)


@pytest.mark.parametrize(("data", "error"), [(b"hang", Timeout), (b"segv", UnsupportedMedia)])
async def test_the_spare_worker_serves_the_next_while_another_one_starts(
    data: bytes, error: type[SafelightError]
) -> None:
    async with pool(handler="SlowToWarmUp", workers=1, transform_timeout_s=0.3) as engine:
        failing = asyncio.ensure_future(one(engine, data))
        waiting = asyncio.ensure_future(works(engine))
        with pytest.raises(error):
            await failing
        assert await waiting
        assert engine.status().workers == 1


async def test_many_deaths_in_a_row_do_not_close_the_pool() -> None:
    async with pool(workers=1) as engine:
        for _ in range(10):
            with pytest.raises(UnsupportedMedia):
                await one(engine, b"segv")
        assert await works(engine)
        await eventually(lambda: engine.status().workers == 2)


# The jail


ALLOWED = {"start a thread", "read the clock", "random bytes"}


async def probe(handler: str) -> tuple[dict[str, str | None], PoolEngine]:
    async with pool(handler=handler, workers=1) as engine:
        answer = await one(engine, b"probe")
        return json.loads(answer), engine


async def test_the_jail() -> None:
    results, engine = await probe("HostileHandler")
    missing = engine.status().missing
    if missing:
        pytest.skip(f"weaker on this kernel: {missing}")
    assert {name for name, error in results.items() if error is None} == ALLOWED
    assert set(results.values()) == {None, "EPERM", "EACCES"}


async def test_without_landlock_no_file_can_be_opened_at_all() -> None:
    results, engine = await probe("WithoutLandlock")
    assert "Landlock: the kernel has none" in engine.status().missing
    if not any("seccomp" in line for line in engine.status().missing):
        assert {name for name, error in results.items() if error is None} == ALLOWED
        assert results["open a secret"] == "EPERM"


async def test_without_filters_it_works_and_says_what_is_missing() -> None:
    with structlog.testing.capture_logs() as entries:
        async with pool(handler="WithoutFilters", workers=1) as engine:
            assert await works(engine)
            assert len(engine.status().missing) == 2
    (entry,) = [entry for entry in entries if entry["event"] == "image workers are jailed less tightly"]
    assert entry["log_level"] == "warning"


async def test_a_worker_sees_no_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    async with pool(workers=1) as engine:
        assert await works(engine)
        environment = of_process(template_pid(), "environ")
        assert b"hush" not in environment
        assert b"MALLOC_ARENA_MAX=1" in environment


async def test_nothing_of_an_earlier_request_lies_behind_the_input() -> None:
    async with pool(workers=1) as engine:
        secret = b"s" * 200_000
        assert await works(engine, secret)
        assert await one(engine, b"big 150000") == b"o" * 150_000
        assert set(await one(engine, b"peek")) == {0}


async def test_nothing_of_outputs_that_were_too_many_lies_behind_the_next_input() -> None:
    async with pool(workers=1, memory_bytes=MEBIBYTE) as engine:
        with pytest.raises(TooLarge):
            await engine.thumbnail(MemoryBlob(b"big 600000"), [SPEC, SPEC])
        assert set(await one(engine, b"peek")) == {0}


async def test_memory_of_large_requests_is_given_back() -> None:
    async with pool(workers=1) as engine:
        assert await works(engine, bytes(20 * MEBIBYTE))
        assert len(await one(engine, b"big 30000000")) == 30_000_000
        shared = sum(
            int(line.split()[1])
            for pid in children(template_pid())
            for line in of_process(pid, "status").splitlines()
            if line.startswith(b"RssShmem")
        )
        assert shared <= 8 * 1024 + 8
        assert await works(engine, os.urandom(9 * MEBIBYTE))


# Limits


async def test_an_input_larger_than_the_arena_is_refused() -> None:
    async with pool(workers=1, memory_bytes=MEBIBYTE) as engine:
        with pytest.raises(MemoryLimitExceeded):
            await one(engine, bytes(MEBIBYTE + 1))
        assert await works(engine, bytes(MEBIBYTE))
        with pytest.raises(TooLarge):
            await one(engine, b"big 1048577")
        assert engine.status().restarts == {}


async def test_specifications_are_bounded() -> None:
    async with pool(workers=1) as engine:
        with pytest.raises(BadRequest, match="too many"):
            await engine.thumbnail(MemoryBlob(b""), [SPEC] * 65)
        with pytest.raises(BadRequest, match="too long"):
            await engine.thumbnail(MemoryBlob(b""), [ThumbnailSpec("x" * 200_000, 1, 1, "PNG")])
        with pytest.raises(BadRequest, match="Unicode"):
            await engine.thumbnail(MemoryBlob(b""), [ThumbnailSpec("\udc80", 1, 1, "PNG")])
        assert await works(engine)


async def test_long_errors_arrive_shortened() -> None:
    async with pool(workers=1) as engine:
        specs = [ThumbnailSpec("fail", 1, 1, "é" * 1500)] * 32
        result = await engine.thumbnail(MemoryBlob(b"x"), specs)
        assert all(isinstance(output, BadRequest) for output in result.outputs)


async def test_a_full_line_is_busy_at_once() -> None:
    async with pool(workers=1, max_waiting=3, transform_timeout_s=5) as engine:
        tasks = [asyncio.ensure_future(one(engine, b"sleep 0.3")) for _ in range(4)]
        await eventually(lambda: engine.status().waiting == 3)
        with pytest.raises(Busy) as caught:
            await one(engine, b"x")
        assert not any(task.done() for task in tasks)
        assert caught.value.retry_after_s >= 1
        await asyncio.gather(*tasks)
        assert await works(engine)


async def test_a_predicted_wait_beyond_the_limit_is_busy_at_once() -> None:
    async with pool(workers=1, max_wait_s=0.05) as engine:
        for _ in range(8):
            await one(engine, b"sleep 0.1")
        running = asyncio.ensure_future(one(engine, b"sleep 0.1"))
        await eventually(lambda: engine.status().busy == 1)
        with pytest.raises(Busy):
            await one(engine, b"x")
        await running
        assert await works(engine)


async def test_who_waits_too_long_after_all_is_told_so() -> None:
    async with pool(workers=1, max_wait_s=0.1) as engine:
        running = asyncio.ensure_future(one(engine, b"sleep 0.5"))
        await eventually(lambda: engine.status().busy == 1)
        with pytest.raises(Busy):
            await one(engine, b"x")
        assert not running.done()
        await running


async def test_urgent_requests_are_answered_while_everything_hangs() -> None:
    async with pool(workers=2, transform_timeout_s=5) as engine:
        stuck = [asyncio.ensure_future(one(engine, b"hang")) for _ in range(5)]
        await eventually(lambda: engine.status().busy == 2)
        for _ in range(3):
            assert await one(engine, b"x", urgent=True)
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()
        await asyncio.wait(stuck)


# Clients that go away


async def test_a_cancelled_request_leaves_the_line() -> None:
    async with pool(workers=1, max_waiting=1) as engine:
        running = asyncio.ensure_future(one(engine, b"sleep 0.2"))
        waiting = asyncio.ensure_future(one(engine, b"who"))
        await eventually(lambda: engine.status().waiting == 1)
        waiting.cancel()
        await eventually(lambda: engine.status().waiting == 0)
        last = asyncio.ensure_future(one(engine, b"who"))
        await running
        assert (await last).split()[1] == b"2"  # the cancelled one never ran


async def test_a_cancelled_running_request_ends_in_peace_and_answers_nobody() -> None:
    async with pool(workers=1) as engine:
        running = asyncio.ensure_future(one(engine, b"sleep 0.1"))
        await eventually(lambda: engine.status().busy == 1)
        running.cancel()
        assert await works(engine)
        assert engine.status().restarts == {}


async def test_a_cancelled_request_does_not_hold_a_worker_for_long() -> None:
    async with pool(workers=1, abandoned_timeout_s=0.1) as engine:
        running = asyncio.ensure_future(one(engine, b"hang"))
        await eventually(lambda: engine.status().busy == 1)
        running.cancel()
        assert await works(engine)
        assert engine.status().restarts == {"abandoned": 1}


async def test_random_cancellations_mix_nothing_up() -> None:
    chance = random.Random(3)
    async with pool(workers=2, max_wait_s=60) as engine:

        async def ask(number: int) -> None:
            data = b"%d" % number * 1000
            with contextlib.suppress(TimeoutError):
                answer = await asyncio.wait_for(one(engine, data), chance.choice([0, 0.0005, 0.005, 9]))
                assert answer == hashlib.sha256(data).digest()

        for start in range(0, 1000, 100):
            await asyncio.gather(*(ask(start + number) for number in range(100)))
        await eventually(lambda: engine.status().busy == engine.status().waiting == 0)
        assert engine.status().restarts == {}


# Coming and going


@pytest.mark.parametrize(
    ("limits", "reason"), [({"recycle_rss_bytes": 80 * MEBIBYTE}, "rss"), ({"recycle_requests": 3}, "count")]
)
async def test_recycling_between_requests(limits: dict[str, float], reason: str) -> None:
    async with pool(workers=1, **limits) as engine:
        pids = {(await one(engine, b"hoard 30000000")).split()[0] for _ in range(12)}
        assert 2 <= len(pids) <= 6
        restarts = engine.status().restarts
        assert set(restarts) == {reason}


async def test_a_dead_template_is_replaced_and_nobody_notices() -> None:
    async with pool(workers=2) as engine:
        template = template_pid()
        tasks = [asyncio.ensure_future(one(engine, b"sleep 0.05")) for _ in range(10)]
        await eventually(lambda: engine.status().busy == 2)
        os.kill(template, signal.SIGKILL)
        answers = await asyncio.gather(*tasks)
        assert set(answers) == {hashlib.sha256(b"sleep 0.05").digest()}
        await eventually(lambda: engine.status().workers == 3)
        assert engine.status().restarts == {"template": 3}


async def test_signals_for_the_server_do_not_end_its_helpers() -> None:
    async with pool(workers=1) as engine:
        template = template_pid()
        helpers = [template, *children(template)]
        assert len(helpers) == 3
        for pid in helpers:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
                os.kill(pid, number)
        assert await works(engine)
        assert [template, *children(template)] == helpers


@pytest.mark.parametrize("state", ["idle", "busy"])
async def test_close_leaves_no_process_and_no_descriptor(state: str) -> None:
    before = descriptors()
    async with pool(workers=2) as engine:
        template = template_pid()
        helpers = [template, *children(template)]
        tasks = [asyncio.ensure_future(one(engine, b"hang")) for _ in range(4 if state == "busy" else 0)]
        await asyncio.sleep(0)
        await engine.close()
        for task in tasks:
            with pytest.raises(Busy):
                await task
        assert not any(psutil.pid_exists(pid) for pid in helpers)
        assert descriptors() == before


async def test_closing_in_the_middle_of_deaths() -> None:
    before = descriptors()
    engine = PoolEngine(ImageSettings(), workers=2, handler="engine_handlers:HostileHandler")
    await engine.start()
    tasks = [asyncio.ensure_future(one(engine, b"segv")) for _ in range(6)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await engine.close()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(answer) for answer in answers} <= {Busy, UnsupportedMedia}
    assert descriptors() == before


def test_kill_9_of_the_server_leaves_no_orphan() -> None:
    script = textwrap.dedent(
        """
        import asyncio, os, sys
        from safelight.blob import MemoryBlob
        from safelight.engine.pool import PoolEngine
        from safelight.image.settings import ImageSettings

        async def main():
            engine = PoolEngine(ImageSettings(), workers=2, handler="engine_handlers:HostileHandler")
            await engine.start()
            task = asyncio.create_task(engine.thumbnail(MemoryBlob(b"hang"), []))
            await asyncio.sleep(0.05)
            print("ready", flush=True)
            await task

        asyncio.run(main())
        """
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as server:
        assert server.stdout
        assert server.stdout.readline() == b"ready\n"
        (template,) = children(server.pid)
        helpers = [template, *children(template)]
        assert len(helpers) == 4
        server.kill()
        wait_until_gone(helpers)


async def test_descriptors_do_not_leak(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"x" * 1000)
    async with pool(workers=2, recycle_requests=50) as engine:
        await works(engine)
        before = descriptors()
        for number in range(500):
            if number % 3:
                blob = FileBlob(os.open(path, os.O_RDONLY), 1000)
                await engine.thumbnail(blob, [SPEC])
                blob.close()
            else:
                await works(engine)
        await eventually(lambda: engine.status().workers == 3)
        # A process is replaced after 50 to 55 jobs, and up to three may each be short of that by one job.
        assert engine.status().restarts["count"] >= (501 - 3 * 54) // 55
        await eventually(lambda: descriptors() == before)
        assert descriptors(template_pid()) < 12


@pytest.mark.parametrize("free", [0, 2, 4])
async def test_a_lack_of_descriptors_closes_no_place(free: int) -> None:
    async with pool(workers=1) as engine:
        before = descriptors()
        with all_descriptors_taken_but(free):
            with pytest.raises(UnsupportedMedia):
                await one(engine, b"segv")
            await asyncio.sleep(0.5)
        await eventually(lambda: engine.status().workers == 2)
        assert await works(engine)
        assert descriptors() == before


@contextlib.contextmanager
def all_descriptors_taken_but(free: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 50, hard))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(free):
            os.close(taken.pop())
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_file_cut_short_costs_its_request_only(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"x" * 100_000)
    async with pool(workers=1) as engine:
        blob = FileBlob(os.open(path, os.O_RDONLY), 100_000)
        os.truncate(path, 5000)
        with pytest.raises(ImageError, match="cut short"):
            await engine.thumbnail(blob, [SPEC])
        blob.close()
        with pytest.raises(ImageError, match="cannot be read"):
            await engine.thumbnail(blob, [SPEC])
        assert await works(engine)
        assert engine.status().restarts == {}


async def test_an_import_that_starts_threads_fails_the_start() -> None:
    engine = PoolEngine(ImageSettings(), workers=1, handler="engine_handlers:StartsThread")
    with pytest.raises(ImageError) as caught:
        await engine.start()
    assert "has started threads" in (caught.value.detail or "")


def test_on_uvloop() -> None:
    async def main() -> None:
        async with pool(workers=1) as engine:
            assert await works(engine)
            with pytest.raises(UnsupportedMedia):
                await one(engine, b"segv")
            assert await works(engine)

    uvloop.run(main())
