"""The object cache: its format byte by byte, damage, and what is asked of the storage behind it."""

import asyncio
import fcntl
import hashlib
import math
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from safelight.blob import Blob, MemoryBlob
from safelight.errors import MemoryLimitExceeded, NoSuchFile, StorageError
from safelight.storage.base import MakeUrl, Stored
from safelight.storage.bounded import BoundedDirectory
from safelight.storage.cache import LAYOUT, CachedStorage, ObjectCache, check_directory
from safelight.storage.file import FileStorage
from safelight.url import Url, file_url, parse_url

MEBIBYTE = 1 << 20
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
URL = "https://bucket.s3.amazonaws.com/p/a.jpg"
HITS, MISSES, ERRORS = "total_s3_cache_hits", "total_s3_cache_misses", "total_s3_cache_errors"


def path_of(root: Path, key: str) -> Path:
    digits = hashlib.sha256(f"bucket/p/{key}".encode()).hexdigest()
    return root / digits[0:2] / digits[2:4] / digits[4:32]


def text(value: str) -> bytes:
    """MessagePack's `raw` as Ruby has always written it: fixraw up to 31 bytes, then raw16."""
    data = value.encode()
    return (bytes([0xA0 | len(data)]) if len(data) < 32 else b"\xda" + struct.pack(">H", len(data))) + data


def head(**values: bytes) -> bytes:
    return bytes([0x80 | len(values)]) + b"".join(text(name) + value for name, value in values.items())


def cache_file(head: bytes, data: bytes) -> bytes:
    return struct.pack("<I", len(head)) + head + data


GOOD = head(content_type=text("image/jpeg"), public_url=text(URL))
NIL = b"\xc0"


class Bucket:
    """A file storage with types and URLs of objects. Counts what it is asked for."""

    def __init__(self, root: Path) -> None:
        self.files = FileStorage(root)
        self.types: dict[str, str | None] = {}
        self.asked: Counter[str] = Counter()
        self.failing = False

    def url(self, key: str) -> Url:
        return Url("http", f"/bucket/p/{key}", "s3.example.com", 80, "Signature=a%2Bb")

    async def get(self, key: str, max_bytes: int) -> Stored:
        self.asked["get"] += 1
        found = await self.files.get(key, max_bytes)
        return Stored(found.data, lambda: self.url(key), self.types.get(key))

    async def put(self, key: str, data: Blob, content_type: str | None = None) -> MakeUrl:
        self.asked["put"] += 1
        if self.failing:
            raise StorageError("refused")
        await self.files.put(key, data)
        self.types[key] = content_type
        return partial(self.url, key)

    async def delete(self, key: str) -> None:
        self.asked["delete"] += 1
        await self.files.delete(key)


class Setting:
    """A cached bucket, its cache directory and what was counted."""

    def __init__(self, path: Path) -> None:
        self.root = path / "cache"
        self.root.mkdir()
        self.bucket = Bucket(path / "bucket")
        self.counted: Counter[str] = Counter()
        self.cache = ObjectCache(BoundedDirectory(self.root, LAYOUT), self.count)
        self.public = CachedStorage(self.bucket, self.cache, "bucket/p/{}".format, "public_url")
        self.private = CachedStorage(self.bucket, self.cache, "bucket/p/{}".format, "private_url")

    def count(self, name: str) -> None:
        self.counted[name] += 1

    def write(self, key: str, content: bytes) -> None:
        path_of(self.root, key).parent.mkdir(parents=True, exist_ok=True)
        path_of(self.root, key).write_bytes(content)

    def read(self, key: str) -> bytes:
        return path_of(self.root, key).read_bytes()


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


# The format


@pytest.mark.covers("s170", "s171")
async def test_a_stored_object_is_written_in_this_format(setting: Setting) -> None:
    await setting.public.put("a.jpg", MemoryBlob(b"data"), "image/jpeg")
    assert [path for path in setting.root.rglob("*") if len(path.name) == 28] == [
        path_of(setting.root, "a.jpg")
    ]
    content = setting.read("a.jpg")
    (length,) = struct.unpack("<I", content[:4])
    url = b"http://s3.example.com/bucket/p/a.jpg?Signature=a%2Bb"
    assert content[4] == 0x82
    assert text("content_type") + text("image/jpeg") in content[: 4 + length]
    assert text("public_url") + b"\xd9" + bytes([len(url)]) + url in content[: 4 + length]
    assert content[4 + length :] == b"data"


@pytest.mark.covers("s170", "s171", "s172", "s201")
async def test_a_file_of_the_original_server_is_a_hit(setting: Setting) -> None:
    setting.write("a.jpg", cache_file(GOOD, b"data"))
    found = await setting.public.get("a.jpg", MEBIBYTE)
    assert found.data.read() == b"data"
    assert found.content_type == "image/jpeg"
    assert found.url() == parse_url(URL)
    assert setting.bucket.asked == {}
    assert setting.counted == {HITS: 1}


@pytest.mark.parametrize(
    ("encoded", "content_type", "url"),
    [
        (head(content_type=NIL, public_url=text(URL)), None, URL),
        (head(content_type=text("image/png"), public_url=text(URL), private_url=NIL), "image/png", URL),
        (head(content_type=b"\xc4\x09image/png", public_url=text(URL)), "image/png", URL),  # bytes
        (head(content_type=text("a/b"), public_url=text("https://h:443/a%2Ba")), "a/b", "https://h/a%2Ba"),
        (head(more=b"\x93\x01\x02\x03", content_type=text("a/b"), public_url=text(URL)), "a/b", URL),
        (b"\xde\x00\x02" + GOOD[1:], "image/jpeg", URL),  # map 16
    ],
)
async def test_other_ways_to_write_a_head(
    setting: Setting, encoded: bytes, content_type: str | None, url: str
) -> None:
    setting.write("a", cache_file(encoded, b"data"))
    found = await setting.public.get("a", MEBIBYTE)
    assert (found.data.read(), found.content_type, str(found.url())) == (b"data", content_type, url)
    assert setting.counted == {HITS: 1}


@pytest.mark.parametrize(
    "encoded",
    [
        head(content_type=text("a/b"), private_url=text(URL), more=b"\x2a"),
        head(content_type=text("a/b"), private_url=text(URL), public_url=NIL, more=b"\x2a"),
        head(private_url=text(URL), more=b"\x2a"),
    ],
)
@pytest.mark.covers("s201")
async def test_what_a_head_lacks_is_fetched_and_added(setting: Setting, encoded: bytes) -> None:
    setting.write("a", cache_file(encoded, b"data"))
    await setting.bucket.files.put("a", MemoryBlob(b"data"))
    setting.bucket.types["a"] = "image/gif"
    with capture_logs() as lines:
        found = await setting.public.get("a", MEBIBYTE)
    assert (found.content_type, str(found.url())) == (
        "image/gif",
        "http://s3.example.com/bucket/p/a?Signature=a%2Bb",
    )
    assert setting.bucket.asked == {"get": 1}
    assert setting.counted == {MISSES: 1}
    assert lines == []
    again = await setting.public.get("a", MEBIBYTE)
    assert (again.data.read(), again.content_type, again.url()) == (b"data", "image/gif", found.url())
    assert str((await setting.private.get("a", MEBIBYTE)).url()) == URL
    assert setting.bucket.asked == {"get": 1}
    assert text("more") + b"\x2a" in setting.read("a")


async def test_a_link_that_has_ended_is_made_again(setting: Setting) -> None:
    await setting.bucket.files.put("a", MemoryBlob(b"data"))
    ended = head(content_type=text("a/b"), public_url=text(f"{URL}?Expires=1700000000&Signature=x"))
    setting.write("a", cache_file(ended, b"data"))
    found = await setting.public.get("a", MEBIBYTE)
    assert str(found.url()) == "http://s3.example.com/bucket/p/a?Signature=a%2Bb"
    assert (setting.bucket.asked, setting.counted) == ({"get": 1}, {MISSES: 1})


DAMAGE = {
    "empty": b"",
    "three bytes": b"\x01\x00\x00",
    "length beyond the file": struct.pack("<I", 100) + GOOD,
    "length of 4 GB": b"\xff\xff\xff\xff" + GOOD + b"data",
    "length in the other byte order": struct.pack(">I", len(GOOD)) + GOOD + b"data",
    "no head": cache_file(b"", b"data"),
    "an array": cache_file(b"\x90", b"data"),
    "nil": cache_file(NIL, b"data"),
    "a map that is too short": cache_file(b"\x83" + GOOD[1:], b"data"),
    "a map that is too long": cache_file(b"\x81" + GOOD[1:], b"data"),
    "a map of 4 billion": cache_file(b"\xdf\xff\xff\xff\xff", b"data"),
    "a key that is a number": cache_file(b"\x81\x01\x02", b"data"),
    "a key that is a map": cache_file(b"\x81\x81\x01\x02\x03", b"data"),
    "a key that is no text": cache_file(b"\x81\xa1\xff\xc0", b"data"),
    "nested too deeply": cache_file(b"\x81\xa1a" + b"\x91" * 60_000, b"data"),
    "a byte that means nothing": cache_file(b"\x81\xa1a\xc1", b"data"),
    "a type that is a number": cache_file(head(content_type=b"\x01", public_url=text(URL)), b"data"),
    "a type that is no text": cache_file(head(content_type=b"\xa1\xff", public_url=text(URL)), b"data"),
    "a type with a line end": cache_file(head(content_type=text("a\r\nb"), public_url=text(URL)), b"data"),
    **{
        f"changed at {when}": cache_file(
            head(content_type=NIL, public_url=text(URL), modified=b"\xcb" + struct.pack(">d", when)), b"data"
        )
        for when in (math.nan, math.inf, -math.inf, 1e300, 253_402_300_800.0)
    },
    "a URL that is a number": cache_file(head(content_type=NIL, public_url=b"\x01"), b"data"),
    "a URL that is none": cache_file(head(content_type=NIL, public_url=text("nonsense")), b"data"),
    "a URL with a line end": cache_file(head(content_type=NIL, public_url=text("http://h/\r\na")), b"data"),
}


@pytest.mark.covers("s173")
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
async def test_damage_is_a_miss_and_mended(setting: Setting, damage: bytes) -> None:
    setting.write("a", damage)
    await setting.bucket.files.put("a", MemoryBlob(b"right"))
    with capture_logs() as lines:
        found = await setting.public.get("a", MEBIBYTE)
    assert found.data.read() == b"right"
    assert setting.counted == {MISSES: 1, ERRORS: 1}
    assert [(line["log_level"], line["object"]) for line in lines] == [("warning", "bucket/p/a")]
    assert (await setting.public.get("a", MEBIBYTE)).data.read() == b"right"
    assert setting.bucket.asked == {"get": 1}
    assert setting.counted == {MISSES: 1, ERRORS: 1, HITS: 1}


# Data


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 3 * MEBIBYTE])
async def test_data_of_all_sizes(setting: Setting, size: int) -> None:
    data = os.urandom(size)
    setting.write("a", cache_file(GOOD, data))
    blob = (await setting.public.get("a", size)).data
    buffer = bytearray(size + 10)
    assert blob.size == size
    assert blob.read() == data
    assert blob.fileno() is None  # who reads a descriptor begins at the head of the file
    assert (blob.read_at(0, 7), blob.read_at(5, 7)) == (data[:7], data[5:12])
    assert (blob.read_at(size - 1, 7) if size else b"", blob.read_at(size, 7)) == (data[-1:], b"")
    assert blob.readinto(memoryview(buffer)) == size
    assert buffer == data + bytes(10)
    assert blob.sha256 == hashlib.sha256(data).hexdigest()
    blob.close()


@pytest.mark.parametrize("size", [100, 100_000])
async def test_a_copy_is_charged_like_an_object(setting: Setting, size: int) -> None:
    setting.write("a", cache_file(GOOD, bytes(size)))
    assert (await setting.public.get("a", size)).data.size == size
    with pytest.raises(MemoryLimitExceeded):
        await setting.public.get("a", size - 1)
    assert setting.bucket.asked == {}


async def test_a_copy_that_is_replaced_stays_readable(setting: Setting) -> None:
    await setting.public.put("a", MemoryBlob(bytes([1]) * MEBIBYTE))
    blob = (await setting.public.get("a", MEBIBYTE)).data
    await setting.public.put("a", MemoryBlob(b"new"))
    assert blob.read() == bytes([1]) * MEBIBYTE
    blob.close()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_no_descriptor_stays_open(setting: Setting) -> None:
    for key, content in enumerate(
        [*DAMAGE.values(), cache_file(GOOD, bytes(MEBIBYTE)), cache_file(GOOD, b"x")]
    ):
        setting.write(str(key), content)
    before = open_descriptors()
    for key in range(len(DAMAGE) + 2):
        for url_key in ("public_url", "private_url"):
            if found := setting.cache.get(f"bucket/p/{key}", url_key, MEBIBYTE):
                found.data.close()
    with pytest.raises(MemoryLimitExceeded):
        setting.cache.get(f"bucket/p/{len(DAMAGE)}", "public_url", 1)
    assert open_descriptors() == before


# Reading and writing through


@pytest.mark.covers("s172", "s201")
async def test_the_second_read_is_a_hit(setting: Setting) -> None:
    await setting.bucket.files.put("a", MemoryBlob(b"data"))
    setting.bucket.types["a"] = "image/gif"
    first = await setting.public.get("a", MEBIBYTE)
    second = await setting.public.get("a", MEBIBYTE)
    assert (first.data.read(), first.url(), first.content_type) == (
        b"data",
        second.url(),
        second.content_type,
    )
    assert second.data.read() == b"data"
    assert setting.bucket.asked == {"get": 1}
    assert setting.counted == {MISSES: 1, HITS: 1}


@pytest.mark.covers("s174", "s201")
async def test_a_store_makes_a_later_read_a_hit(setting: Setting) -> None:
    make_url = await setting.public.put("a", MemoryBlob(b"data"), "image/gif")
    found = await setting.public.get("a", MEBIBYTE)
    assert (found.data.read(), found.url(), found.content_type) == (b"data", make_url(), "image/gif")
    assert setting.bucket.asked == {"put": 1}
    assert setting.counted == {HITS: 1}


async def test_a_store_replaces_all_of_a_copy(setting: Setting) -> None:
    setting.write(
        "a", cache_file(head(content_type=text("a/b"), private_url=text(URL), more=b"\x2a"), b"old")
    )
    await setting.public.put("a", MemoryBlob(b"new"), None)
    assert (await setting.public.get("a", MEBIBYTE)).content_type is None
    assert b"more" not in setting.read("a")


async def test_a_miss_that_the_storage_misses_too(setting: Setting) -> None:
    with pytest.raises(NoSuchFile):
        await setting.public.get("a", MEBIBYTE)
    assert not path_of(setting.root, "a").exists()


async def test_a_store_that_fails_leaves_no_copy(setting: Setting) -> None:
    """Nobody knows what the storage holds after it."""
    await setting.public.put("a", MemoryBlob(b"old"))
    setting.bucket.failing = True
    with pytest.raises(StorageError):
        await setting.public.put("a", MemoryBlob(b"new"))
    assert not path_of(setting.root, "a").exists()


@pytest.mark.parametrize("there", [True, False])
async def test_a_delete_drops_the_copy(setting: Setting, there: bool) -> None:
    await setting.public.put("a", MemoryBlob(b"data"))
    if there:
        await setting.public.delete("a")
    else:
        await setting.bucket.files.delete("a")
        with pytest.raises(NoSuchFile):
            await setting.public.delete("a")
    with pytest.raises(NoSuchFile):
        await setting.public.get("a", MEBIBYTE)


async def test_dropping(setting: Setting) -> None:
    await setting.public.put("a", MemoryBlob(b"data"))
    await setting.cache.drop("bucket/p/a")
    await setting.cache.drop("bucket/p/a")
    assert not path_of(setting.root, "a").exists()


class SlowBucket(Bucket):
    """Hands over what it has read only when told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.has_read = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def get(self, key: str, max_bytes: int) -> Stored:
        found = await super().get(key, max_bytes)
        self.has_read.set()
        await self.may_go_on.wait()
        return found


@pytest.mark.parametrize("change", ["put", "delete"])
async def test_a_slow_read_does_not_bring_back_what_has_changed(setting: Setting, change: str) -> None:
    slow = SlowBucket(setting.bucket.files.root)
    storage = CachedStorage(slow, setting.cache, "bucket/p/{}".format, "public_url")
    await slow.files.put("a", MemoryBlob(b"old"))
    reading = asyncio.create_task(storage.get("a", MEBIBYTE))
    await slow.has_read.wait()
    if change == "put":
        await storage.put("a", MemoryBlob(b"new"))
    else:
        await storage.delete("a")
    slow.may_go_on.set()
    assert (await reading).data.read() == b"old"
    copy = setting.cache.get("bucket/p/a", "public_url", MEBIBYTE)
    assert copy is None or copy.data.read() == b"new"


class Disk:
    """Holds up the first write to it until `go_on` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_writing, self.go_on = threading.Event(), threading.Event()
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self.fsync)

    def fsync(self, descriptor: int) -> None:
        if not self.is_writing.is_set():
            self.is_writing.set()
            assert self.go_on.wait(30)
        self._fsync(descriptor)


async def cancelled(task: "asyncio.Task[Stored] | asyncio.Task[MakeUrl]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def until_idle() -> None:
    """Until all that was begun here is over, but for this task. No thread can be had afterwards."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
    await asyncio.get_running_loop().shutdown_default_executor()


@pytest.mark.parametrize("change", ["put", "delete"])
async def test_a_cancelled_read_does_not_bring_back_what_has_changed(
    setting: Setting, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that writes its copy goes on, and may be the last to write."""
    await setting.bucket.put("a", MemoryBlob(b"old"))
    disk = Disk(monkeypatch)
    reading = asyncio.create_task(setting.public.get("a", MEBIBYTE))
    assert await asyncio.to_thread(disk.is_writing.wait, 30)
    await cancelled(reading)
    if change == "put":
        await setting.public.put("a", MemoryBlob(b"new"))
    else:
        await setting.public.delete("a")
    disk.go_on.set()
    await until_idle()
    copy = setting.cache.get("bucket/p/a", "public_url", MEBIBYTE)
    assert copy is None or copy.data.read() == b"new"


@pytest.mark.parametrize("fails", [False, True], ids=["stored", "refused"])
async def test_a_cancelled_store_leaves_no_old_copy(setting: Setting, *, fails: bool) -> None:
    """Also where no thread is free to begin with it."""
    await setting.public.put("a", MemoryBlob(b"old"))
    has_stored, go_on = asyncio.Event(), threading.Event()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    real_put = setting.bucket.put

    async def put(key: str, data: Blob, content_type: str | None = None) -> MakeUrl:
        make_url = await real_put(key, data, content_type)
        asyncio.get_running_loop().run_in_executor(None, go_on.wait, 30)
        has_stored.set()
        if fails:
            raise StorageError("refused")
        return make_url

    setting.bucket.put = put
    storing = asyncio.create_task(setting.public.put("a", MemoryBlob(b"new")))
    await has_stored.wait()
    await asyncio.sleep(0.01)
    await cancelled(storing)
    go_on.set()
    await until_idle()
    copy = setting.cache.get("bucket/p/a", "public_url", MEBIBYTE)
    assert copy is None or copy.data.read() == b"new"


class SharingBucket(Bucket):
    """Gives all who ask at the same time the same data, as a download that they share."""

    async def get(self, key: str, max_bytes: int) -> Stored:
        return Stored(self.data, lambda: self.url(key))

    data = MemoryBlob(b"data")


async def test_what_many_have_downloaded_together_is_written_once(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    monkeypatch.setattr(os, "fsync", written.append)
    sharing = SharingBucket(setting.bucket.files.root)
    storage = CachedStorage(sharing, setting.cache, "bucket/p/{}".format, "public_url")
    found = await asyncio.gather(*(storage.get("a", MEBIBYTE) for _ in range(20)))
    assert {stored.data.read() for stored in found} == {b"data"}
    assert len(written) == 1
    assert setting.read("a").endswith(b"data")


# Trouble with the directory


async def test_a_copy_under_an_exclusive_lock_is_a_miss(setting: Setting) -> None:
    await setting.public.put("a", MemoryBlob(b"data"))
    with path_of(setting.root, "a").open("r+b") as writer, capture_logs() as lines:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert (await setting.public.get("a", MEBIBYTE)).data.read() == b"data"
    assert setting.counted == {MISSES: 1}
    assert lines == []


async def test_a_directory_that_has_gone(setting: Setting) -> None:
    setting.root.rmdir()
    with capture_logs() as lines:
        await setting.public.put("a", MemoryBlob(b"data"))
        assert (await setting.public.get("a", MEBIBYTE)).data.read() == b"data"
    assert [line["log_level"] for line in lines] == ["warning", "warning"]


async def test_a_write_that_fails_leaves_no_old_copy(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    await setting.public.put("a", MemoryBlob(b"old"))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, capture_logs() as lines:
        cache = setting.cache
        await setting.bucket.put("a", MemoryBlob(b"new"))
        patch.setattr(os, "fsync", full)
        with cache.watched("bucket/p/a") as watch:
            stored = Stored(MemoryBlob(b"new"), lambda: file_url("a"))
            await cache.keep("bucket/p/a", stored, "public_url", watch, replaced=True)
    assert [line["event"] for line in lines] == ["cannot write S3 object cache file"]
    assert (await setting.public.get("a", MEBIBYTE)).data.read() == b"new"


CHILD = """
import asyncio, concurrent.futures.thread, os, sys
from pathlib import Path
from safelight.blob import MemoryBlob
from safelight.errors import ConfigError
from safelight.storage.bounded import BoundedDirectory
from safelight.storage.cache import LAYOUT, CachedStorage, ObjectCache, check_directory
from safelight.storage.file import FileStorage

_, root, bucket = sys.argv
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
try:
    print(check_directory(Path(root)))
except ConfigError as error:
    print(error)
if bucket:
    cache = ObjectCache(BoundedDirectory(Path(root), LAYOUT), lambda name: print(name))
    storage = CachedStorage(FileStorage(Path(bucket)), cache, "bucket/{}".format, "public_url")
    asyncio.run(storage.put("a", MemoryBlob(b"data")))
    print(asyncio.run(storage.get("a", 100)).data.read())
"""


def unprivileged(root: Path, bucket: Path | str = "") -> list[str]:
    """What a process without root's powers is told."""
    command = [sys.executable, "-c", CHILD, str(root), str(bucket)]
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT)
    return [line for line in result.stdout.splitlines() if "warning" not in line]


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that everybody can reach and write."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


@pytest.mark.covers("s175")
def test_a_directory_that_is_none_only_warns(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("missing", "file"):
        path = tmp_path / name
        expected = f"S3 object cache directory '{path}' does not exist or not a directory"
        assert check_directory(path) == expected
    assert check_directory(tmp_path) is None


@pytest.mark.covers("s175")
@pytest.mark.parametrize(("mode", "ability"), [(0o555, "writable"), (0o666, "readable"), (0, "readable")])
def test_a_directory_of_no_use_is_refused(public: Path, mode: int, ability: str) -> None:
    public.chmod(mode)
    try:
        assert unprivileged(public) == [f"S3 object cache directory '{public}' is not {ability}"]
    finally:
        public.chmod(0o777)


def test_requests_go_on_without_permission_for_the_cache(public: Path) -> None:
    (public / "cache").mkdir(0o555)
    (public / "bucket").mkdir()
    (public / "bucket").chmod(0o777)
    told = unprivileged(public / "cache", public / "bucket")
    assert told[-1] == "b'data'"
    assert MISSES in told
