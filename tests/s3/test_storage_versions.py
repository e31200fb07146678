"""Versions of what storages hold: of what is there, and of exactly the content that was read."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from s3_clients import IMPATIENT, Clients
from s3_servers import S3Server

from safelight.blob import MemoryBlob
from safelight.errors import Forbidden, NotFound, StorageError
from safelight.storage.base import Storage
from safelight.storage.bounded import BoundedDirectory
from safelight.storage.cache import LAYOUT, CachedStorage, ObjectCache
from safelight.storage.file import FileStorage

LONG_AGO_S = 1_600_000_000
KEYS = ["a", "b/c", "b/d e+%ł.jpg"]
ODD_KEYS = ["x//y", "x/./y"]
"""The library that fetches objects cannot express them; another client does."""


class Files:
    """Files whose time of change is set, as that of a copy is."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.storage: Storage = FileStorage(root)

    def write(self, key: str, data: bytes, changed_s: float = LONG_AGO_S) -> None:
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (changed_s, changed_s))

    def delete(self, key: str) -> None:
        (self._root / key).unlink()


class Objects:
    def __init__(self, server: S3Server, bucket: str, clients: Clients) -> None:
        self._server = server
        self._bucket = bucket
        self.storage: Storage = clients(server.url).bucket(bucket)

    def write(self, key: str, data: bytes) -> None:
        self._server.write(self._bucket, key, data)

    def delete(self, key: str) -> None:
        self._server.delete(self._bucket, key)


@pytest.fixture(params=["file", "seaweed", "moto"])
def place(request: pytest.FixtureRequest, tmp_path: Path, clients: Clients) -> Files | Objects:
    if request.param == "file":
        return Files(tmp_path)
    server: S3Server = request.getfixturevalue(request.param)
    bucket = request.getfixturevalue("bucket") if request.param == "seaweed" else server.make_bucket()
    return Objects(server, bucket, clients)


async def test_what_was_read_has_the_version_of_what_is_there(place: Files | Objects) -> None:
    for key in KEYS:
        place.write(key, b"data")
        version = await place.storage.version(key)
        assert version
        assert (await place.storage.get(key, 100)).version == version
        assert await place.storage.version(key) == version


async def test_other_content_has_another_version(place: Files | Objects) -> None:
    place.write("a", b"old")
    read = await place.storage.get("a", 100)
    place.write("a", b"longer" if isinstance(place, Files) else b"new")
    version = await place.storage.version("a")
    assert version not in (read.version, "", None)
    assert read.data.read() in (b"old", b"lon")  # a file that is written in place changes under its reader


async def test_what_is_not_there_has_no_version(place: Files | Objects) -> None:
    place.write("b/c", b"data")
    for key in ("missing", "b/missing", "b/c/d"):
        assert await place.storage.version(key) is None
    place.delete("b/c")
    assert await place.storage.version("b/c") is None


@pytest.mark.parametrize("key", ["..", "../a", "a/../b", "a\0b"])
async def test_keys_that_lead_elsewhere_have_no_version(place: Files | Objects, key: str) -> None:
    with pytest.raises(Forbidden):
        await place.storage.version(key)


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_objects_with_odd_keys_have_versions(moto: S3Server, clients: Clients, key: str) -> None:
    bucket = moto.make_bucket()
    storage = clients(moto.url).bucket(bucket)
    assert await storage.version(key) is None
    await storage.put(key, MemoryBlob(b"data"), "image/png")
    version = await storage.version(key)
    assert version
    assert (await storage.get(key, 100)).version == version


async def test_a_store_that_cannot_be_reached_tells_no_version(
    proxy: FaultProxy, clients: Clients, bucket: str
) -> None:
    storage = clients(proxy.url, patience=IMPATIENT).bucket(bucket)
    with proxy.refusing(), pytest.raises(StorageError):
        await storage.version("a")


async def test_files_of_the_same_time_and_size_are_taken_for_the_same(tmp_path: Path) -> None:
    """So copies on several machines are."""
    one, two = Files(tmp_path / "one"), Files(tmp_path / "two")
    one.write("a", b"data")
    two.write("a", b"data")
    assert await one.storage.version("a") == await two.storage.version("a")


async def test_a_file_that_was_just_changed_is_read_without_a_version(tmp_path: Path) -> None:
    """Another change within a tick of the clock would have the same time."""
    storage = FileStorage(tmp_path)
    (tmp_path / "a").write_bytes(b"data")
    assert (await storage.get("a", 100)).version == ""
    assert await storage.version("a")


async def test_links_out_of_the_root_have_no_version(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"data")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").symlink_to(tmp_path / "secret")
    with pytest.raises(Forbidden):
        await FileStorage(tmp_path / "root").version("a")


async def test_devices_and_directories(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    storage = FileStorage(tmp_path)
    assert await storage.version("directory") is None
    assert await storage.version("pipe") is None
    assert await FileStorage(Path("/dev")).version("null") == ""


# Through a cache of objects


@pytest.fixture
def cached(tmp_path: Path) -> Callable[[Storage], CachedStorage]:
    directory = tmp_path / "copies"
    directory.mkdir()
    counted = Counter[str]()
    cache = ObjectCache(BoundedDirectory(directory, LAYOUT), lambda name: counted.update([name]))
    return lambda inner: CachedStorage(inner, cache, "bucket/{}".format, "public_url")


Cached = Callable[[Storage], CachedStorage]


async def test_a_copy_has_the_version_of_what_it_holds(place: Files | Objects, cached: Cached) -> None:
    storage = cached(place.storage)
    place.write("a", b"old")
    fetched = await storage.get("a", 100)
    place.write("a", b"newer")
    copy = await storage.get("a", 100)
    assert (copy.data.read(), copy.version) == (b"old", fetched.version)
    assert copy.version != await place.storage.version("a")


async def test_who_asks_for_the_version_puts_the_copy_right(place: Files | Objects, cached: Cached) -> None:
    storage = cached(place.storage)
    place.write("a", b"old")
    await storage.get("a", 100)
    await storage.version("a")
    place.write("a", b"newer")
    assert (await storage.get("a", 100)).data.read() == b"old"
    version = await storage.version("a")
    found = await storage.get("a", 100)
    assert (found.data.read(), found.version) == (b"newer", version)
    place.delete("a")
    assert await storage.version("a") is None
    with pytest.raises(NotFound):
        await storage.get("a", 100)


async def test_a_copy_that_a_store_has_left_has_no_version_and_goes(
    place: Files | Objects, cached: Cached
) -> None:
    storage = cached(place.storage)
    place.write("a", b"old")
    await storage.get("a", 100)
    await storage.put("a", MemoryBlob(b"new"), "image/png")
    assert (await storage.get("a", 100)).version == ""
    place.write("a", b"newer")
    await storage.version("a")
    assert (await storage.get("a", 100)).data.read() == b"newer"
