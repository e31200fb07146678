"""Bytes in memory and in files."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from safelight.blob import CHUNK_BYTES, Blob, FileBlob, MemoryBlob

Make = Callable[[bytes], Blob]


@pytest.fixture(params=["memory", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    made: list[Blob] = []

    def make(data: bytes) -> Blob:
        if request.param == "memory":
            made.append(MemoryBlob(data))
        else:
            path = tmp_path / str(len(made))
            path.write_bytes(data)
            made.append(FileBlob(os.open(path, os.O_RDONLY), len(data)))
        return made[-1]

    yield make
    for blob in made:
        blob.close()


@pytest.mark.parametrize("data", [b"", b"a", b"0123456789", bytes(range(256)) * 3000])
def test_the_content_can_be_read_any_number_of_times(make: Make, data: bytes) -> None:
    blob = make(data)
    for _ in range(2):
        assert blob.read() == data
        assert blob.size == len(data)
        assert blob.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("offset", "count", "piece"),
    [
        (0, 4, b"0123"),
        (3, 3, b"345"),
        (8, 5, b"89"),
        (10, 1, b""),
        (99, 1, b""),
        (0, 0, b""),
        (0, 99, b"0123456789"),
    ],
)
def test_reading_a_part(make: Make, offset: int, count: int, piece: bytes) -> None:
    assert make(b"0123456789").read_at(offset, count) == piece


@pytest.mark.parametrize("room", [10, 15])
def test_reading_into_a_buffer(make: Make, room: int) -> None:
    buffer = bytearray(room)
    assert make(b"0123456789").readinto(memoryview(buffer)) == 10
    assert bytes(buffer) == b"0123456789".ljust(room, b"\0")


def test_only_a_file_has_a_descriptor(make: Make) -> None:
    blob = make(b"data")
    descriptor = blob.fileno()
    assert descriptor is None or os.pread(descriptor, 4, 0) == b"data"


def test_a_digest_is_made_in_pieces(tmp_path: Path) -> None:
    pieces: list[int] = []

    class Watched(MemoryBlob):
        def read_at(self, offset: int, count: int) -> bytes:
            pieces.append(count)
            return super().read_at(offset, count)

    data = bytes(CHUNK_BYTES * 2 + 1)
    assert Watched(data).sha256 == hashlib.sha256(data).hexdigest()
    assert max(pieces) == CHUNK_BYTES


def test_a_file_cut_short_says_how_much_there_was(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    blob = FileBlob(os.open(path, os.O_RDONLY), 10)
    os.truncate(path, 4)
    assert blob.readinto(memoryview(bytearray(10))) == 4
    assert blob.read() == b"0123"
    blob.close()


def test_a_file_that_grows_keeps_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123")
    blob = FileBlob(os.open(path, os.O_RDONLY), 4)
    path.write_bytes(b"01234567")
    assert blob.read() == b"0123"
    assert blob.read_at(2, 10) == b"23"
    blob.close()


def test_closing_twice_closes_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"data")
    descriptor = os.open(path, os.O_RDONLY)
    blob = FileBlob(descriptor, 4)
    blob.close()
    reused = os.open(path, os.O_RDONLY)
    blob.close()
    del blob
    assert reused == descriptor
    assert os.read(reused, 4) == b"data"
    os.close(reused)


def test_a_forgotten_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"data")
    descriptor = os.open(path, os.O_RDONLY)
    blob = FileBlob(descriptor, 4)
    del blob
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
