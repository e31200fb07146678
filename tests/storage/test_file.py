"""Files below a root: what every storage does, what none may do, and what survives a crash."""

import asyncio
import errno
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from safelight.blob import Blob, FileBlob, MemoryBlob
from safelight.errors import (
    BadRequest,
    Forbidden,
    MemoryLimitExceeded,
    NoSuchFile,
    NotFound,
    OutsideOfRoot,
    SafelightError,
    StorageError,
)
from safelight.storage.base import Storage
from safelight.storage.file import FileStorage

MEBIBYTE = 1 << 20
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


class Files:
    """Reads and writes what a `FileStorage` holds behind its back."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.storage: Storage = FileStorage(root)

    def read(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        (self.root / key).write_bytes(data)

    def names(self) -> list[str]:
        """All files, hidden ones too."""
        found = (path for path in self.root.rglob("*") if path.is_symlink() or not path.is_dir())
        return sorted(str(path.relative_to(self.root)) for path in found)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def stored(root: Path) -> Files:
    return Files(root)


@pytest.fixture
def storage(stored: Files) -> Storage:
    return stored.storage


async def content(storage: Storage, key: str, max_bytes: int = MEBIBYTE) -> bytes:
    blob = (await storage.get(key, max_bytes)).data
    try:
        return blob.read()
    finally:
        blob.close()


# The contract of every storage

KEYS = [
    "a",
    "a.jpg",
    "a/b",
    "a/b/c.jpg",
    "a b",
    "ł",
    "o\u0301",
    "a\nb",
    "?#%&",
    ".hidden",
    "..a",
    "a..",
    "-",
    "~",
    "\\",
]


@pytest.mark.parametrize("key", KEYS)
async def test_what_is_put_can_be_read(stored: Files, storage: Storage, key: str) -> None:
    await storage.put(key, MemoryBlob(b"data"))
    assert stored.read(key) == b"data"
    assert await content(storage, key) == b"data"
    assert stored.names() == [key]


@pytest.mark.parametrize("key", KEYS)
async def test_what_was_there_can_be_read(stored: Files, storage: Storage, key: str) -> None:
    stored.write(key, b"data")
    assert await content(storage, key) == b"data"


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_000])
async def test_sizes(stored: Files, storage: Storage, size: int) -> None:
    data = os.urandom(size)
    await storage.put("a", MemoryBlob(data))
    assert stored.read("a") == data
    blob = (await storage.get("a", size)).data
    assert (blob.size, blob.read()) == (size, data)


@pytest.mark.covers("s139")
async def test_put_replaces(stored: Files, storage: Storage) -> None:
    stored.write("a", b"a longer old content")
    await storage.put("a", MemoryBlob(b"new"))
    assert stored.read("a") == b"new"
    assert stored.names() == ["a"]


async def test_a_blob_of_a_file_can_be_put(stored: Files, storage: Storage) -> None:
    stored.write("a", b"data" * 1000)
    await storage.put("b/c", (await storage.get("a", MEBIBYTE)).data)
    assert stored.read("b/c") == b"data" * 1000


async def test_a_file_can_be_stored_over_itself(stored: Files, storage: Storage) -> None:
    stored.write("a", b"data")
    await storage.put("a", (await storage.get("a", MEBIBYTE)).data)
    assert stored.read("a") == b"data"


@pytest.mark.covers("s133")
@pytest.mark.parametrize("key", ["missing", "no/directory", "a/missing"])
async def test_a_missing_key(stored: Files, storage: Storage, key: str) -> None:
    stored.write("a/b", b"")
    with pytest.raises(NoSuchFile) as error:
        await storage.get(key, MEBIBYTE)
    assert error.value.message == f"file '{key}' not found"


async def test_delete(stored: Files, storage: Storage) -> None:
    stored.write("a/b", b"")
    stored.write("a/c", b"")
    await storage.delete("a/b")
    assert stored.names() == ["a/c"]


@pytest.mark.parametrize("key", ["missing", "no/directory", "a", "a/b/c"])
async def test_delete_of_what_is_no_file(stored: Files, storage: Storage, key: str) -> None:
    stored.write("a/b", b"")
    with pytest.raises(NotFound) as error:
        await storage.delete(key)
    assert error.value.message == f"file '{key}' not found"
    assert stored.names() == ["a/b"]


async def test_a_limit_may_be_met_exactly(stored: Files, storage: Storage) -> None:
    stored.write("a", b"12345")
    assert await content(storage, "a", 5) == b"12345"
    with pytest.raises(MemoryLimitExceeded, match="memory limit exceeded"):
        await storage.get("a", 4)


async def test_an_open_blob_keeps_its_content_when_the_key_is_replaced_or_deleted(
    stored: Files, storage: Storage
) -> None:
    stored.write("a", b"old")
    before = (await storage.get("a", MEBIBYTE)).data
    await storage.put("a", MemoryBlob(b"newer"))
    between = (await storage.get("a", MEBIBYTE)).data
    await storage.delete("a")
    assert (before.read(), between.read()) == (b"old", b"newer")


async def test_a_root_may_appear_later(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "later" / "root")
    with pytest.raises(NoSuchFile):
        await storage.get("a", MEBIBYTE)
    with pytest.raises(NotFound):
        await storage.delete("a")
    await storage.put("a", MemoryBlob(b"data"))
    assert (tmp_path / "later" / "root" / "a").read_bytes() == b"data"


@pytest.mark.parametrize("key", ["./a", "a/.", "a/", "a//", ".//a"])
async def test_dots_and_empty_parts_mean_nothing(stored: Files, storage: Storage, key: str) -> None:
    await storage.put(key, MemoryBlob(b"data"))
    assert stored.names() == ["a"]
    assert await content(storage, key) == b"data"


@pytest.mark.parametrize("key", ["", ".", "./", "././"])
async def test_a_key_that_names_nothing(stored: Files, storage: Storage, key: str) -> None:
    with pytest.raises(NotFound):
        await storage.get(key, MEBIBYTE)
    with pytest.raises(BadRequest):
        await storage.put(key, MemoryBlob(b"data"))
    with pytest.raises(NotFound):
        await storage.delete(key)
    assert stored.names() == []


# Attacks: keys

ATTACKS = {
    "parent": "../secret",
    "parent of a directory": "inside/../../secret",
    "parent that stays inside": "inside/../a",
    "parent at the end": "inside/..",
    "parent alone": "..",
    "parent after a dot": "./../secret",
    "parent after a double slash": "inside//../../secret",
    "parent of a missing directory": "missing/../../secret",
    "sibling with the same prefix": "../root2/secret",
    "absolute": "/etc/passwd",
    "absolute, twice": "//etc/passwd",
    "absolute, below the root": "{root}/a",
    "root directory": "/",
    "NUL at the end": "a\0",
    "NUL and an extension": "../secret\0.jpg",
    "NUL alone": "\0",
    "lone surrogate": "a\udc80",
    "surrogate of a byte escape": "\udcff\udcfe",
    "high surrogate": "\ud800",
}


@pytest.mark.covers("s134", "s135", "s136")
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("kind", ["plain", "dot", "link"])
async def test_keys_that_leave_the_root(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, attack: str, kind: str
) -> None:
    """Whatever the root is called: by its path, as `.`, or through a link."""
    (tmp_path / "root2").mkdir()
    for secret in (tmp_path / "secret", tmp_path / "root2" / "secret"):
        secret.write_bytes(b"secret")
    (root / "inside").mkdir()
    (root / "a").write_bytes(b"a")
    if kind == "dot":
        monkeypatch.chdir(root)
    (tmp_path / "link").symlink_to(root)
    storage = FileStorage({"plain": root, "dot": Path(), "link": tmp_path / "link"}[kind])
    key = attack.replace("{root}", str(root))
    for call in (storage.get(key, MEBIBYTE), storage.put(key, MemoryBlob(b"x")), storage.delete(key)):
        with pytest.raises(
            OutsideOfRoot, match=r"^file storage path '.*' outside of root direcotry$"
        ) as error:
            await call
        error.value.message.encode()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "root/a",
        "root2/secret",
        "secret",
    ]
    assert (tmp_path / "secret").read_bytes() == b"secret"


# Attacks: links

LINKS = {
    "file outside": ("../secret", OutsideOfRoot),
    "file outside, absolute": ("{tmp}/secret", OutsideOfRoot),
    "directory outside": ("..", OutsideOfRoot),
    "sibling with the same prefix": ("../root2/secret", OutsideOfRoot),
    "device outside": ("/dev/zero", OutsideOfRoot),
    "own root": (".", NotFound),
    "dangling": ("nothing", NotFound),
    "dangling outside": ("../nothing", NotFound),
    "loop": ("link", NotFound),
}


@pytest.mark.covers("s135")
@pytest.mark.parametrize(("target", "refusal"), LINKS.values(), ids=LINKS)
async def test_links_are_not_followed_out_of_the_root(
    tmp_path: Path, stored: Files, storage: Storage, target: str, refusal: type[SafelightError]
) -> None:
    (tmp_path / "root2").mkdir()
    for secret in (tmp_path / "secret", tmp_path / "root2" / "secret"):
        secret.write_bytes(b"secret")
    link = stored.root / "link"
    link.symlink_to(target.replace("{tmp}", str(tmp_path)))
    with pytest.raises(refusal):
        await storage.get("link", MEBIBYTE)
    await storage.put("link", MemoryBlob(b"data"))
    assert not link.is_symlink()  # the link itself was replaced, not what it points to
    assert stored.names() == ["link"]
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert (tmp_path / "root2" / "secret").read_bytes() == b"secret"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.covers("s135")
@pytest.mark.parametrize("target", ["..", "{tmp}", "../root2", "/dev"])
@pytest.mark.parametrize("below", ["", "inside/"])
async def test_directories_that_are_links_are_not_followed_out_of_the_root(
    tmp_path: Path, stored: Files, storage: Storage, target: str, below: str
) -> None:
    (tmp_path / "root2").mkdir()
    for secret in (tmp_path / "secret", tmp_path / "root2" / "secret"):
        secret.write_bytes(b"secret")
    (stored.root / below).mkdir(exist_ok=True)
    up = "../" if below and target.startswith("..") else ""
    (stored.root / below / "link").symlink_to(up + target.replace("{tmp}", str(tmp_path)))
    for name in ("secret", "zero", "new", "made/new"):
        key = f"{below}link/{name}"
        with pytest.raises((OutsideOfRoot, NotFound)):  # not found when there is nothing
            await storage.get(key, MEBIBYTE)
        with pytest.raises(OutsideOfRoot):
            await storage.put(key, MemoryBlob(b"x"))
        with pytest.raises(OutsideOfRoot):
            await storage.delete(key)
    key = f"{below}link/{'zero' if target == '/dev' else 'secret'}"
    with pytest.raises(OutsideOfRoot):
        await storage.get(key, MEBIBYTE)
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "new").exists()


async def test_links_inside_the_root_are_followed(stored: Files, storage: Storage) -> None:
    stored.write("real/a", b"data")
    (stored.root / "dir").symlink_to("real")
    (stored.root / "file").symlink_to("dir/a")
    (stored.root / "absolute").symlink_to(stored.root / "real")
    for key in ("dir/a", "file", "absolute/a"):
        assert await content(storage, key) == b"data"
    await storage.put("dir/b", MemoryBlob(b"more"))
    assert stored.read("real/b") == b"more"


async def test_the_root_itself_may_be_a_link(tmp_path: Path, stored: Files) -> None:
    (tmp_path / "link").symlink_to("root")
    storage = FileStorage(tmp_path / "link")
    await storage.put("a/b", MemoryBlob(b"data"))
    assert stored.read("a/b") == b"data"
    assert await content(storage, "a/b") == b"data"


async def test_a_directory_swapped_for_a_link_while_requests_run(
    tmp_path: Path, stored: Files, storage: Storage
) -> None:
    """The race between check and use: no round may read the secret or write beside it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a").write_bytes(b"secret")
    stored.write("real/a", b"data")
    stop = threading.Event()

    def swap() -> None:
        link, next_link = stored.root / "dir", stored.root / "next"
        while not stop.is_set():
            for target in ("real", outside):
                next_link.symlink_to(target)
                next_link.replace(link)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            try:
                assert await content(storage, "dir/a") == b"data"
                await storage.put("dir/b", MemoryBlob(b"x"))
            except (NotFound, Forbidden, BadRequest):
                continue
    finally:
        stop.set()
        swapper.join()
    assert [path.name for path in outside.iterdir()] == ["a"]


# Attacks: names and kinds of files


@pytest.mark.parametrize("key", ["a" * 256, "d/" + "ł" * 128, "a" * 5000, "/".join(["ab"] * 2000)])
async def test_names_that_are_too_long(stored: Files, storage: Storage, key: str) -> None:
    """The caller's fault, not the server's. What could not be read again is not stored either."""
    with pytest.raises(NotFound):
        await storage.get(key, MEBIBYTE)
    with pytest.raises(NotFound):
        await storage.delete(key)
    with pytest.raises(BadRequest):
        await storage.put(key, MemoryBlob(b"x"))
    assert stored.names() == []


async def test_the_longest_name(stored: Files, storage: Storage) -> None:
    await storage.put("a" * 255, MemoryBlob(b"data"))
    assert await content(storage, "a" * 255) == b"data"


@pytest.fixture
def special(stored: Files) -> Iterator[Callable[[str], None]]:
    """Puts a file of some kind at `x`."""
    held: list[socket.socket] = []

    def make(kind: str) -> None:
        path = stored.root / "x"
        if kind == "directory":
            path.mkdir()
        elif kind == "FIFO":
            os.mkfifo(path)
        else:
            held.append(socket.socket(socket.AF_UNIX))
            before = Path.cwd()
            os.chdir(stored.root)  # socket paths are short
            try:
                held[0].bind("x")
            finally:
                os.chdir(before)

    yield make
    for each in held:
        each.close()


@pytest.mark.parametrize("kind", ["directory", "FIFO", "socket"])
async def test_what_is_no_file_is_not_found_and_never_blocks(
    storage: Storage, special: Callable[[str], None], kind: str
) -> None:
    special(kind)
    with pytest.raises(NotFound):
        await asyncio.wait_for(storage.get("x", MEBIBYTE), 5)
    with pytest.raises(NotFound):
        await asyncio.wait_for(storage.get("x/below", MEBIBYTE), 5)


async def test_a_directory_is_not_replaced_by_a_file(stored: Files, storage: Storage) -> None:
    stored.write("x/a", b"data")
    with pytest.raises(BadRequest):
        await storage.put("x", MemoryBlob(b"new"))
    with pytest.raises(BadRequest):
        await storage.put("x/a/b", MemoryBlob(b"new"))
    assert stored.names() == ["x/a"]


@pytest.mark.covers("s193")
async def test_an_endless_device_exceeds_every_limit() -> None:
    with pytest.raises(MemoryLimitExceeded):
        await FileStorage(Path("/dev")).get("zero", 3 * MEBIBYTE)


async def test_an_empty_device_is_empty() -> None:
    assert await content(FileStorage(Path("/dev")), "null") == b""


# Trouble with the system


CHILD = """
import asyncio, concurrent.futures.thread, os, resource, signal, sys
from pathlib import Path
from safelight.blob import MemoryBlob
from safelight.errors import SafelightError
from safelight.storage.file import FileStorage

_, root, action, key, size, limit = sys.argv
storage = FileStorage(Path(root))
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if limit != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    if action == "get":
        asyncio.run(storage.get(key, 1 << 20))
    else:
        asyncio.run(storage.put(key, MemoryBlob(bytes(int(size)))))
except SafelightError as error:
    print(f"{type(error).__name__}: {error}")
"""


def unprivileged(root: Path, action: str, key: str, *, size: int = 1, limit: int = 0) -> str:
    """What a process without root's powers is told; it may write files of at most `limit` bytes."""
    command = [sys.executable, "-c", CHILD, str(root), action, key, str(size), str(limit)]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout.strip()


@pytest.fixture
def public() -> Iterator[Path]:
    """A root that everybody can reach and write."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


def test_permission_to_read_is_missing(public: Path) -> None:
    (public / "a").write_bytes(b"data")
    (public / "a").chmod(0)
    assert unprivileged(public, "get", "a") == "StorageError: Permission denied: 'a'"


@pytest.mark.parametrize("key", ["a", "d/a"])
def test_permission_to_write_is_missing(public: Path, key: str) -> None:
    public.chmod(0o555)
    assert unprivileged(public, "put", key) == f"StorageError: Permission denied: '{key}'"
    assert list(public.iterdir()) == []


@pytest.mark.parametrize("key", ["old", "new"])
def test_a_write_that_cannot_be_finished_leaves_what_was_there(public: Path, key: str) -> None:
    (public / "old").write_bytes(b"old")
    told = unprivileged(public, "put", key, size=5000, limit=1000)
    assert told == f"StorageError: File too large: '{key}'"
    assert [path.name for path in public.iterdir()] == ["old"]
    assert (public / "old").read_bytes() == b"old"


FULL_DISK = """
import asyncio, ctypes, sys
from pathlib import Path
from safelight.blob import MemoryBlob
from safelight.errors import StorageError
from safelight.storage.file import FileStorage

NEW_NAMESPACE, PRIVATE = 0x00020000, 1 << 18 | 1 << 14
libc = ctypes.CDLL(None)
disk = Path(sys.argv[1])
if (
    libc.unshare(NEW_NAMESPACE)
    or libc.mount(b"none", b"/", None, PRIVATE, None)
    or libc.mount(b"none", str(disk).encode(), b"tmpfs", 0, b"size=64k")
):
    sys.exit("mounting is not allowed")
storage = FileStorage(disk)
asyncio.run(storage.put("a", MemoryBlob(b"old")))
for key in ("a", "b"):
    try:
        asyncio.run(storage.put(key, MemoryBlob(bytes(200_000))))
    except StorageError as error:
        print(error, [path.name for path in disk.iterdir()], (disk / "a").read_bytes())
"""


def test_a_full_file_system(tmp_path: Path) -> None:
    """A real one of 64 KiB, in a mount namespace of its own; needs root."""
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    result = subprocess.run(command, check=False, capture_output=True, text=True, env=ENVIRONMENT)
    if result.stderr.strip() == "mounting is not allowed":
        return  # the same fault is simulated below
    assert result.stdout.splitlines() == [
        "No space left on device: 'a' ['a'] b'old'",
        "No space left on device: 'b' ['a'] b'old'",
    ]


@pytest.mark.parametrize("call", ["write", "fsync", "link", "rename"])
@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
async def test_a_full_or_broken_disk(
    stored: Files, storage: Storage, monkeypatch: pytest.MonkeyPatch, call: str, fault: int
) -> None:
    stored.write("a", b"old")

    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(fault, os.strerror(fault))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageError, match=rf"^{os.strerror(fault)}: 'a'$"):
            await storage.put("a", MemoryBlob(b"new"))
    assert stored.read("a") == b"old"
    assert stored.names() == ["a"]


async def test_short_writes_are_continued(
    stored: Files, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data[:7])))
    await storage.put("a", MemoryBlob(b"more than seven bytes"))
    monkeypatch.undo()
    assert stored.read("a") == b"more than seven bytes"


async def test_a_source_that_was_cut_short_is_not_stored(stored: Files, storage: Storage) -> None:
    stored.write("source", b"0123456789")
    blob = (await storage.get("source", MEBIBYTE)).data
    os.truncate(stored.root / "source", 4)
    with pytest.raises(StorageError, match="cut short"):
        await storage.put("copy", blob)
    assert stored.names() == ["source"]


async def test_no_descriptor_is_left_open(stored: Files, storage: Storage) -> None:
    stored.write("a/b/c", b"data")
    (stored.root / "out").symlink_to("..")

    def count() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (pathlib keeps a descriptor as long)

    await storage.put("warm/up", MemoryBlob(b"x"))
    before = count()
    for key in ("a/b/c", "a/b", "a/missing", "missing/a", "out/a", "../a", "a/b/c/d", "/", "d/e"):
        for call in (storage.get(key, 2), storage.put(key, MemoryBlob(b"x")), storage.delete(key)):
            try:
                blob = await call
            except SafelightError:
                continue
            if isinstance(blob, Blob):
                blob.close()
    assert count() == before


# Durability and visibility


class Calls:
    """Spies on the calls that make a write durable, in order."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        for name in ("fsync", "rename", "link", "unlink", "mkdir"):
            patch.setattr(os, name, self._spy(name, getattr(os, name)))

    def _spy(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def spied(*arguments: object, **options: object) -> object:
            if name == "fsync":
                path = Path(f"/proc/self/fd/{arguments[0]}").readlink()
                self.made.append("fsync directory" if path.is_dir() else "fsync file")
            else:
                self.made.append(name)
            return real(*arguments, **options)

        return spied


async def test_a_write_is_durable_before_it_succeeds(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch)
    await storage.put("a", MemoryBlob(b"data"))
    content_synced = calls.made.index("fsync file")
    named = max(calls.made.index(name) for name in ("rename", "link") if name in calls.made)
    assert content_synced < named
    assert calls.made[-1] == "fsync directory"


async def test_a_new_directory_is_durable_too(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    await storage.put("a/b/c", MemoryBlob(b"data"))
    assert calls.made[:4] == ["mkdir", "fsync directory"] * 2
    assert calls.made[-1] == "fsync directory"


async def test_a_new_root_is_durable_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    await FileStorage(tmp_path / "new" / "root").put("a", MemoryBlob(b"data"))
    assert calls.made[:4] == ["mkdir", "fsync directory"] * 2


async def test_a_delete_is_durable(stored: Files, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    stored.write("a", b"")
    calls = Calls(monkeypatch)
    await storage.delete("a")
    assert calls.made == ["unlink", "fsync directory"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0, 0o666)])
async def test_the_umask_is_respected(stored: Files, storage: Storage, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        await storage.put("d/a", MemoryBlob(b"data"))
    finally:
        os.umask(before)
    assert (stored.root / "d/a").stat().st_mode & 0o777 == mode
    assert (stored.root / "d").stat().st_mode & 0o777 == 0o777 & ~umask


async def test_file_systems_without_nameless_files(
    stored: Files, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refusing(path: object, flags: int, *rest: object, **options: object) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real(path, flags, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refusing)
    await storage.put("a", MemoryBlob(b"data"))
    await storage.put("a", MemoryBlob(b"newer"))
    monkeypatch.setattr(os, "fsync", lambda _descriptor: (_ for _ in ()).throw(OSError(errno.EIO, "I/O")))
    with pytest.raises(StorageError):
        await storage.put("b", MemoryBlob(b"data"))
    monkeypatch.undo()
    assert stored.read("a") == b"newer"
    assert stored.names() == ["a"]


def test_readers_and_writers_never_meet_half_a_file(stored: Files) -> None:
    """Every content is one byte repeated; sizes differ, so a mixture would show."""
    contents = [bytes([number]) * (100_000 + 50_000 * number) for number in range(1, 5)]
    stored.write("a", contents[0])
    stop = threading.Event()
    seen: set[int] = set()
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            failures.append(error)

    def read() -> None:
        blob = asyncio.run(FileStorage(stored.root).get("a", MEBIBYTE)).data
        assert isinstance(blob, FileBlob)
        data = blob.read()
        blob.close()
        assert len(data) == blob.size
        assert data in contents
        seen.add(data[0])

    def writer(own: bytes) -> Callable[[], None]:
        return lambda: FileStorage(stored.root)._write("a", MemoryBlob(own))

    threads = [threading.Thread(target=guarded, args=[writer(own)]) for own in contents]
    threads += [threading.Thread(target=guarded, args=[read]) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(seen) > 1
    assert stored.names() == ["a"]


async def test_many_writers_into_one_new_directory(stored: Files, storage: Storage) -> None:
    await asyncio.gather(*(storage.put(f"a/b/{number}", MemoryBlob(b"x")) for number in range(20)))
    assert len(stored.names()) == 20


# Crashes

WRITER = textwrap.dedent("""
    import sys
    from itertools import count
    from pathlib import Path
    from safelight.blob import MemoryBlob
    from safelight.storage.file import FileStorage

    storage = FileStorage(Path(sys.argv[1]))
    print("ready", flush=True)
    for number in count():
        storage._write(sys.argv[2].format(number), MemoryBlob(bytes([number % 255 + 1]) * 3_000_000))
""")


def kill_while_writing(root: Path, name: str, after_s: float) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), name],
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    with writer:
        assert writer.stdout
        writer.stdout.readline()
        time.sleep(after_s)
        writer.kill()


def is_whole(data: bytes) -> bool:
    return len(data) == 3_000_000 and data.count(data[:1]) == len(data)


def test_a_killed_writer_of_new_files_leaves_whole_files_only(stored: Files) -> None:
    for round_number in range(6):
        kill_while_writing(stored.root, f"{round_number}-{{}}", 0.01 + 0.007 * round_number)
        names = stored.names()
        assert all(is_whole(stored.read(name)) for name in names if not name.endswith(".part"))
        assert [name for name in names if name.endswith(".part")] == []


def test_a_killed_writer_leaves_the_old_or_the_new_content(stored: Files) -> None:
    stored.write("a", bytes([1]) * 3_000_000)
    for round_number in range(6):
        kill_while_writing(stored.root, "a", 0.01 + 0.007 * round_number)
        assert is_whole(stored.read("a"))


MORTAL = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    from safelight.blob import MemoryBlob
    from safelight.storage.file import FileStorage

    _, root, name, call, moment = sys.argv
    real = getattr(os, call)

    def fatal(*arguments, **options):
        if moment == "after":
            real(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(os, call, fatal)
    FileStorage(Path(root))._write(name, MemoryBlob(b"new"))
""")


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("call", ["write", "fsync", "link", "rename"])
@pytest.mark.parametrize("name", ["old", "fresh"])
def test_killed_at_each_step(stored: Files, name: str, call: str, moment: str) -> None:
    """A new file never leaves debris. Replacing one has a single moment that does: between the two names."""
    stored.write("old", b"old")
    command = [sys.executable, "-c", MORTAL, str(stored.root), name, call, moment]
    subprocess.run(command, check=False, env=ENVIRONMENT)
    debris = [found for found in stored.names() if found not in ("old", "fresh")]
    assert stored.read("old") in ((b"old", b"new") if name == "old" else (b"old",))
    if "fresh" in stored.names():
        assert stored.read("fresh") == b"new"
    between_names = name == "old" and (call, moment) in (("link", "after"), ("rename", "before"))
    assert len(debris) == (1 if between_names else 0)
