"""What every storage does, whatever it stores in; looked at behind its back."""

import asyncio
import os
from pathlib import Path
from typing import Protocol

import pytest
from s3_clients import Clients, content
from s3_servers import S3Server

from safelight.blob import FileBlob, MemoryBlob
from safelight.errors import Forbidden, MemoryLimitExceeded, NotFound
from safelight.storage.base import Storage
from safelight.storage.file import FileStorage

MEBIBYTE = 1 << 20


class Place(Protocol):
    """A storage and the way around it."""

    storage: Storage

    def read(self, key: str) -> bytes: ...

    def write(self, key: str, data: bytes) -> None: ...

    def keys(self) -> list[str]: ...


class Directory:
    def __init__(self, root: Path) -> None:
        self._root = root
        self.storage: Storage = FileStorage(root)

    def read(self, key: str) -> bytes:
        return (self._root / key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        (self._root / key).parent.mkdir(parents=True, exist_ok=True)
        (self._root / key).write_bytes(data)

    def keys(self) -> list[str]:
        return sorted(
            str(path.relative_to(self._root)) for path in self._root.rglob("*") if not path.is_dir()
        )


class ObjectStore:
    def __init__(self, server: S3Server, bucket: str, clients: Clients) -> None:
        self._server = server
        self._bucket = bucket
        self.storage: Storage = clients(server.url).bucket(bucket)

    def read(self, key: str) -> bytes:
        return self._server.read(self._bucket, key)

    def write(self, key: str, data: bytes) -> None:
        self._server.write(self._bucket, key, data)

    def keys(self) -> list[str]:
        return self._server.keys(self._bucket)


@pytest.fixture(params=["file", "seaweed", "moto"])
def place(request: pytest.FixtureRequest, tmp_path: Path, clients: Clients) -> Place:
    if request.param == "file":
        return Directory(tmp_path)
    server: S3Server = request.getfixturevalue(request.param)
    bucket = request.getfixturevalue("bucket") if request.param == "seaweed" else server.make_bucket()
    return ObjectStore(server, bucket, clients)


async def test_what_was_put_is_read_at_once(place: Place) -> None:
    for key in ("a", "b/c", "b/d e+%ł.jpg"):
        await place.storage.put(key, MemoryBlob(key.encode()), "image/png")
        assert await content(place.storage, key) == place.read(key) == key.encode()
    assert place.keys() == ["a", "b/c", "b/d e+%ł.jpg"]


async def test_what_others_put_can_be_read(place: Place) -> None:
    place.write("b/c", b"theirs")
    assert await content(place.storage, "b/c") == b"theirs"
    place.write("b/c", b"theirs, newer")
    assert await content(place.storage, "b/c") == b"theirs, newer"


@pytest.mark.parametrize("size", [0, 1, MEBIBYTE - 1, MEBIBYTE, MEBIBYTE + 1, 5 * MEBIBYTE])
async def test_contents_are_the_same_bytes(place: Place, size: int) -> None:
    data = os.urandom(size)
    await place.storage.put("a", MemoryBlob(data), "image/png")
    assert place.read("a") == data
    blob = (await place.storage.get("a", size)).data
    assert (blob.size, blob.read(), blob.read_at(size // 2, 9)) == (
        size,
        data,
        data[size // 2 : size // 2 + 9],
    )


async def test_files_can_be_put(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(b"data" * 1000)
    blob = FileBlob(os.open(source, os.O_RDONLY), 4000)
    await place.storage.put("copy", blob, "image/png")
    assert place.read("copy") == b"data" * 1000


async def test_put_replaces(place: Place) -> None:
    await place.storage.put("a", MemoryBlob(b"a longer old content"), "image/png")
    await place.storage.put("a", MemoryBlob(b"new"), "image/png")
    assert await content(place.storage, "a") == place.read("a") == b"new"
    assert place.keys() == ["a"]


async def test_what_is_read_stays_when_the_key_changes(place: Place) -> None:
    place.write("a", b"old" * MEBIBYTE)
    before = (await place.storage.get("a", 8 * MEBIBYTE)).data
    await place.storage.put("a", MemoryBlob(b"new"), "image/png")
    await place.storage.delete("a")
    assert before.read() == b"old" * MEBIBYTE


async def test_delete(place: Place) -> None:
    for key in ("a", "b/c", "b/d"):
        place.write(key, b"data")
    await place.storage.delete("b/c")
    assert place.keys() == ["a", "b/d"]
    with pytest.raises(NotFound):
        await content(place.storage, "b/c")


async def test_what_is_missing(place: Place) -> None:
    place.write("b/c", b"data")
    for key in ("missing", "b/missing", "b", "b/c/d"):
        for request in (place.storage.get(key, MEBIBYTE), place.storage.delete(key)):
            with pytest.raises(NotFound) as caught:
                await request
            assert f"'{key}'" in caught.value.message
    assert place.keys() == ["b/c"]


async def test_too_large(place: Place) -> None:
    place.write("a", b"12345")
    assert await content(place.storage, "a", 5) == b"12345"
    with pytest.raises(MemoryLimitExceeded, match="memory limit exceeded"):
        await place.storage.get("a", 4)
    assert await content(place.storage, "a", 5) == b"12345"


@pytest.mark.parametrize("key", ["..", "../a", "a/../b", "a/..", "a\0b", "\0"])
async def test_keys_that_lead_elsewhere(place: Place, key: str) -> None:
    place.write("b", b"data")
    for request in (
        place.storage.get(key, MEBIBYTE),
        place.storage.put(key, MemoryBlob(b"x"), "image/png"),
        place.storage.delete(key),
    ):
        with pytest.raises(Forbidden):
            await request
    assert place.keys() == ["b"]


async def test_readers_meet_whole_contents_only(place: Place) -> None:
    """Whatever somebody writes meanwhile."""
    contents = [bytes([number]) * (MEBIBYTE + number) for number in range(8)]
    await place.storage.put("a", MemoryBlob(contents[0]), "image/png")
    is_written = asyncio.Event()

    async def write() -> None:
        for data in contents:
            await place.storage.put("a", MemoryBlob(data), "image/png")
        is_written.set()

    async def read() -> None:
        while not is_written.is_set():
            assert await content(place.storage, "a") in contents
            await asyncio.sleep(0)

    await asyncio.gather(write(), read(), read())
    assert await content(place.storage, "a") == contents[-1]


async def test_writers_at_the_same_time(place: Place) -> None:
    contents = [bytes([number]) * 100_000 for number in range(10)]
    await asyncio.gather(*(place.storage.put("a", MemoryBlob(data), "image/png") for data in contents))
    assert await content(place.storage, "a") == place.read("a")
    assert place.read("a") in contents
    await asyncio.gather(
        *(
            place.storage.put(f"b/{number}", MemoryBlob(data), "image/png")
            for number, data in enumerate(contents)
        )
    )
    assert [place.read(f"b/{number}") for number in range(10)] == contents
