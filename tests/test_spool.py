"""Bytes that arrive in pieces: kept whole and in order, in memory while they are few, then in a file."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from safelight.blob import MemoryBlob, SpooledBlob
from safelight.errors import StorageError
from safelight.spool import MEMORY_BYTES, Spool

PIECE = bytes(range(256)) * 256


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("pieces", [[], [b""], [b"a"], [b"a", b"", b"bc"], [b"x" * MEMORY_BYTES]])
async def test_little_stays_in_memory(tmp_path: Path, pieces: list[bytes]) -> None:
    spool = Spool(tmp_path)
    for piece in pieces:
        await spool.add(piece)
    blob = await spool.finish()
    assert isinstance(blob, MemoryBlob)
    assert (blob.size, blob.read()) == (len(b"".join(pieces)), b"".join(pieces))


@pytest.mark.parametrize("count", [17, 32, 33, 100])
async def test_much_goes_to_a_file_without_a_name(tmp_path: Path, count: int) -> None:
    spool = Spool(tmp_path)
    pieces = [bytes([number]) + PIECE for number in range(count)]
    for piece in pieces:
        await spool.add(piece)
    blob = await spool.finish()
    assert isinstance(blob, SpooledBlob)
    assert blob.read() == bytes(blob.buffer()) == b"".join(pieces)
    assert os.fstat(blob.fileno()).st_nlink == 0
    assert list(tmp_path.iterdir()) == []


async def test_many_small_pieces(tmp_path: Path) -> None:
    """More than one system call takes, empty ones among them."""
    spool = Spool(tmp_path)
    pieces = [bytes([number % 256]) * (number % 1000) for number in range(5_000)]
    for piece in pieces:
        await spool.add(piece)
    assert (await spool.finish()).read() == b"".join(pieces)


async def test_the_system_may_write_less_than_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.writev

    def write_some(descriptor: int, views: list[memoryview]) -> int:
        return write(descriptor, [views[0][:-1] or views[0]] if len(views) % 2 else views[:2])

    monkeypatch.setattr(os, "writev", write_some)
    spool = Spool(tmp_path)
    pieces = [bytes([number]) * 40_000 for number in range(100)]
    for piece in pieces:
        await spool.add(piece)
    assert (await spool.finish()).read() == b"".join(pieces)


async def test_one_piece_can_be_large(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    await spool.add(PIECE * 50)
    assert (await spool.finish()).read() == PIECE * 50


async def test_what_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    before = open_descriptors()
    spool = Spool(tmp_path)
    await spool.add(PIECE * 50)
    assert open_descriptors() == before + 1
    spool.close()
    spool.close()
    assert open_descriptors() == before
    assert list(tmp_path.iterdir()) == []


async def test_closing_afterwards_does_not_harm_the_blob(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    await spool.add(PIECE * 50)
    blob = await spool.finish()
    spool.close()
    assert blob.read() == PIECE * 50


async def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "missing")
    await spool.add(PIECE)
    with pytest.raises(StorageError, match="temporary file cannot be written") as caught:
        await spool.add(PIECE * 50)
    assert caught.value.detail
    spool.close()


async def test_a_cancelled_addition_can_be_closed(tmp_path: Path) -> None:
    """The thread that writes is waited for, so no descriptor is closed under it."""
    before = open_descriptors()
    spool = Spool(tmp_path)
    adding = asyncio.create_task(spool.add(PIECE * 500))
    await asyncio.sleep(0)
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    spool.close()
    assert open_descriptors() == before


async def test_it_is_waited_for_however_often_it_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deadline, then a client that leaves: the descriptor may be that of another file by then."""
    may_write, write, written = threading.Event(), os.writev, list[int]()

    def write_later(descriptor: int, views: list[memoryview]) -> int:
        may_write.wait(30)
        written.append(write(descriptor, views))
        return written[-1]

    monkeypatch.setattr(os, "writev", write_later)
    spool = Spool(tmp_path)
    adding = asyncio.create_task(spool.add(PIECE * 500))
    for _ in range(3):
        await asyncio.sleep(0.01)
        adding.cancel()
    await asyncio.sleep(0.01)
    assert not adding.done()
    may_write.set()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert sum(written) == len(PIECE) * 500
    spool.close()
