"""Shared memory: nothing stale, nothing kept, nothing cut short."""

import errno
import os
from collections.abc import Iterator

import pytest

from safelight.engine.arena import HEADER_BYTES, KEPT_BYTES, Arena, Phase, create_memfd

CAPACITY = 32 << 20


@pytest.fixture
def memfd() -> Iterator[int]:
    descriptor = create_memfd(CAPACITY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def arena(memfd: int) -> Iterator[Arena]:
    arena = Arena(memfd, CAPACITY)
    yield arena
    arena.close()


def taken_bytes(memfd: int) -> int:
    return os.fstat(memfd).st_blocks * 512


def test_it_is_sparse_and_cannot_change_its_length(memfd: int, arena: Arena) -> None:
    assert taken_bytes(memfd) == 0
    assert len(arena.body) == CAPACITY
    for size in (0, CAPACITY + 2 * HEADER_BYTES):
        with pytest.raises(OSError) as caught:  # noqa: PT011
            os.ftruncate(memfd, size)
        assert caught.value.errno == errno.EPERM


def test_two_mappings_are_one_memory(memfd: int, arena: Arena) -> None:
    other = Arena(memfd, CAPACITY)
    other.body[:3] = b"abc"
    other.phase = Phase.DECODING
    assert bytes(arena.body[:3]) == b"abc"
    assert arena.phase is Phase.DECODING
    other.close()


def test_a_nonsensical_phase_is_none(memfd: int, arena: Arena) -> None:
    os.pwrite(memfd, b"\xff", 0)
    assert arena.phase is None


def test_what_lies_behind_a_shorter_input_is_zeroed(arena: Arena) -> None:
    arena.forget_beyond(10_000)
    arena.body[:10_000] = b"x" * 10_000
    arena.touched(20_000)
    arena.body[:20_000] = b"y" * 20_000
    arena.forget_beyond(5)
    assert bytes(arena.body[:20_001]) == b"y" * 5 + bytes(19_996)


def test_memory_beyond_what_is_kept_is_given_back(memfd: int, arena: Arena) -> None:
    size = KEPT_BYTES + (4 << 20)
    arena.body[:size] = b"x" * size
    arena.touched(size)
    arena.shrink()
    assert taken_bytes(memfd) <= KEPT_BYTES + HEADER_BYTES
    assert bytes(arena.body[KEPT_BYTES - 1 : KEPT_BYTES + 2]) == b"x\0\0"
    arena.shrink(0)
    assert taken_bytes(memfd) <= HEADER_BYTES
