"""A directory of bounded size: what stays, what goes, and what many processes and kills cannot break."""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from safelight.blob import MemoryBlob
from safelight.errors import StorageError
from safelight.storage.bounded import BoundedDirectory

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
LAYOUT = ("[0-9a-f]{2}", "[0-9a-f]{4}")
HOUR_S = 3600
PATIENCE_S = 60


def put(directory: BoundedDirectory, name: str, data: bytes) -> None:
    directory.write(name, [MemoryBlob(data)])


def content(directory: BoundedDirectory, name: str) -> bytes | None:
    descriptor = directory.open(name)
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def age(path: Path, seconds: float) -> None:
    """Make a file look as if it was last used that long ago."""
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def ours(root: Path) -> dict[str, int]:
    """Sizes of the files by name. Files may vanish while they are counted."""
    sizes: dict[str, int] = {}
    for path in root.glob("[0-9a-f][0-9a-f]/[0-9a-f]*"):
        try:
            sizes[f"{path.parent.name}/{path.name}"] = path.stat().st_size
        except FileNotFoundError:
            continue
    return sizes


def wait_for_sweep(directory: BoundedDirectory) -> None:
    """Until the sweep that a write may have started is over."""
    if directory._sweeper:
        directory._sweeper.join(PATIENCE_S)
        assert not directory._sweeper.is_alive()


def counted(root: Path, max_bytes: int) -> BoundedDirectory:
    """A directory after its first sweep: what is written during one may be counted twice, or not at all."""
    directory = BoundedDirectory(root, LAYOUT, max_bytes)
    put(directory, "ff/ffff", b"x")
    wait_for_sweep(directory)
    directory.remove("ff/ffff")
    return directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def public() -> Iterator[Path]:
    """A root that everybody can reach and write."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


# One file


def test_what_was_written_is_read(root: Path) -> None:
    directory = BoundedDirectory(root, LAYOUT)
    directory.write("ab/cdef", [MemoryBlob(b"one"), MemoryBlob(b""), MemoryBlob(b"two")])
    assert content(directory, "ab/cdef") == b"onetwo"
    assert (root / "ab/cdef").read_bytes() == b"onetwo"


@pytest.mark.parametrize("obstacle", [None, "ab", "ab/cdef/"])
def test_what_is_not_there(root: Path, obstacle: str | None) -> None:
    """Also where a file stands in place of a directory, or a directory in place of a file."""
    if obstacle and obstacle.endswith("/"):
        (root / obstacle).mkdir(parents=True)
    elif obstacle:
        (root / obstacle).touch()
    assert BoundedDirectory(root, LAYOUT).open("ab/cdef") is None


def test_no_reader_waits_for_a_pipe(root: Path) -> None:
    (root / "ab").mkdir()
    os.mkfifo(root / "ab/cdef")
    assert BoundedDirectory(root, LAYOUT).open("ab/cdef") is None


def test_a_link_is_not_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "ab").mkdir()
    (root / "ab/cdef").symlink_to(tmp_path / "secret")
    directory = BoundedDirectory(root, LAYOUT)
    with pytest.raises(StorageError):
        directory.open("ab/cdef")
    put(directory, "ab/cdef", b"new")
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert content(directory, "ab/cdef") == b"new"


def test_a_reader_keeps_what_it_has_opened(root: Path) -> None:
    directory = BoundedDirectory(root, LAYOUT)
    put(directory, "ab/cdef", b"old")
    descriptor = directory.open("ab/cdef")
    assert descriptor is not None
    put(directory, "ab/cdef", b"new and longer")
    with os.fdopen(descriptor, "rb") as file:
        assert file.read() == b"old"
    assert content(directory, "ab/cdef") == b"new and longer"


def test_what_somebody_writes_in_place_counts_as_absent(root: Path) -> None:
    directory = BoundedDirectory(root, LAYOUT)
    put(directory, "ab/cdef", b"data")
    with (root / "ab/cdef").open("r+b") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert directory.open("ab/cdef") is None
    assert content(directory, "ab/cdef") == b"data"


def test_an_open_file_holds_off_who_writes_in_place(root: Path) -> None:
    directory = BoundedDirectory(root, LAYOUT)
    put(directory, "ab/cdef", b"data")
    descriptor = directory.open("ab/cdef")
    assert descriptor is not None
    with (root / "ab/cdef").open("r+b") as writer:
        with pytest.raises(BlockingIOError):
            fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
        fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_removing(root: Path) -> None:
    directory = BoundedDirectory(root, LAYOUT)
    put(directory, "ab/cdef", b"data")
    directory.remove("ab/cdef")
    directory.remove("ab/cdef")
    directory.remove("99/9999")
    assert directory.open("ab/cdef") is None


# The bound


def test_without_a_bound_everything_stays(root: Path) -> None:
    directory = BoundedDirectory(root, LAYOUT)
    for number in range(50):
        put(directory, f"ab/{number:04x}", bytes(1000))
    assert len(ours(root)) == 50


def test_the_least_recently_used_go_first(root: Path) -> None:
    directory = counted(root, 10_000)
    for number in range(10):
        put(directory, f"ab/{number:04x}", bytes(1000))
    for number in range(10):
        age(root / f"ab/{number:04x}", HOUR_S - number)
    assert content(directory, "ab/0000") is not None  # now the youngest
    put(directory, "cd/0000", bytes(400))
    wait_for_sweep(directory)
    left = set(ours(root))
    assert left == {"cd/0000", "ab/0000"} | {f"ab/{number:04x}" for number in range(3, 10)}


def test_replacing_and_removing_give_back_their_room(root: Path) -> None:
    """Otherwise the sum of all that was ever written would soon ask for a sweep."""
    directory = counted(root, 10_000)
    put(directory, "ab/0000", bytes(4000))
    age(root / "ab/0000", HOUR_S)
    first = directory._sweeper
    for _ in range(20):
        put(directory, "ab/0001", bytes(2000))
    for number in range(2, 22):
        put(directory, f"ab/{number:04x}", bytes(1500))
        directory.remove(f"ab/{number:04x}")
    assert directory._sweeper is first
    assert set(ours(root)) == {"ab/0000", "ab/0001"}


def test_what_is_larger_than_the_bound_is_not_kept(root: Path) -> None:
    directory = BoundedDirectory(root, LAYOUT, 1000)
    put(directory, "ab/0000", bytes(1000))
    put(directory, "ab/0001", b"small")
    put(directory, "ab/0001", bytes(1001))
    assert "ab/0001" not in ours(root)


@pytest.mark.parametrize("total", [None, b"", b"nonsense", b"nonsense that is long", b"\xff" * 9])
def test_files_from_before_are_counted_at_the_first_write(root: Path, total: bytes | None) -> None:
    (root / "ab").mkdir()
    for number in range(20):
        (root / f"ab/{number:04x}").write_bytes(bytes(1000))
        age(root / f"ab/{number:04x}", HOUR_S - number)
    if total is not None:
        (root / ".safelight-total").write_bytes(total)
    directory = BoundedDirectory(root, LAYOUT, 10_000)
    put(directory, "cd/0000", b"x")
    wait_for_sweep(directory)
    assert sum(ours(root).values()) <= 9001
    assert "cd/0000" in ours(root)
    assert "ab/0013" in ours(root)


def test_a_sweep_corrects_the_total(root: Path) -> None:
    """Too high after somebody has removed files: then a sweep counts anew and removes nothing."""
    directory = counted(root, 10_000)
    for number in range(10):
        put(directory, f"ab/{number:04x}", bytes(1000))
    for number in range(8):
        (root / f"ab/{number:04x}").unlink()
    put(directory, "cd/0000", bytes(100))
    wait_for_sweep(directory)
    for number in range(7):
        put(directory, f"ef/{number:04x}", bytes(1000))
    assert len(ours(root)) == 10


def test_a_lowered_bound_is_met_at_the_next_write(root: Path) -> None:
    for number in range(10):
        put(BoundedDirectory(root, LAYOUT, 10_000), f"ab/{number:04x}", bytes(1000))
    put(BoundedDirectory(root, LAYOUT, 5_000), "ab/ffff", b"x")
    assert sum(ours(root).values()) <= 4501


def test_files_of_others_stay(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "0000").write_bytes(bytes(5000))
    foreign = [
        "0000",
        "readme.txt",
        "ab/readme.txt",
        "ab/00000",
        "ab/cd/0000",
        "zz/0000",
        "ab/.hidden",
        ".part",
        "zz/.0123.part",
    ]
    for name in foreign:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(bytes(5000))
        age(root / name, 2 * HOUR_S)
    (root / "ab/ffff").symlink_to(outside / "0000")
    (root / "ff").symlink_to(outside)
    directory = BoundedDirectory(root, LAYOUT, 10_000)
    for number in range(20):
        put(directory, f"ab/{number:04x}", bytes(1000))
    wait_for_sweep(directory)
    assert len(ours(root)) < 20 + 3
    assert [name for name in foreign if not (root / name).is_file()] == []
    assert (root / "ab/ffff").is_symlink()
    assert (outside / "0000").is_file()


def test_a_sweep_removes_what_killed_writers_left(root: Path) -> None:
    (root / "ab").mkdir()
    for name, seconds in (("old", HOUR_S + 60), ("fresh", HOUR_S - 60)):
        (root / f"ab/.{name}.part").touch()
        age(root / f"ab/.{name}.part", seconds)
    directory = BoundedDirectory(root, LAYOUT, 1000)
    put(directory, "ab/0000", b"x")
    wait_for_sweep(directory)
    assert not (root / "ab/.old.part").exists()
    assert (root / "ab/.fresh.part").exists()


def test_a_sweep_elsewhere_stops_neither_readers_nor_writers(root: Path) -> None:
    directory = counted(root, 10_000)
    for number in range(10):
        put(directory, f"ab/{number:04x}", bytes(1000))
    with (root / ".safelight-sweep").open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        put(directory, "cd/0000", bytes(100))
        wait_for_sweep(directory)
        assert content(directory, "ab/0000") == bytes(1000)
        assert len(ours(root)) == 11
    put(directory, "cd/0001", bytes(100))
    wait_for_sweep(directory)
    assert sum(ours(root).values()) <= 9100


# Trouble


def test_a_root_that_is_missing(tmp_path: Path) -> None:
    directory = BoundedDirectory(tmp_path / "missing", LAYOUT, 1000)
    assert directory.open("ab/cdef") is None
    with pytest.raises(StorageError, match=r"No such file or directory: '.*/missing/ab/cdef'"):
        put(directory, "ab/cdef", b"x")
    assert not (tmp_path / "missing").exists()


def test_a_directory_in_place_of_a_file(root: Path) -> None:
    (root / "ab/cdef").mkdir(parents=True)
    directory = BoundedDirectory(root, LAYOUT)
    with pytest.raises(StorageError, match=r"'.*/ab/cdef'"):
        put(directory, "ab/cdef", b"x")
    with pytest.raises(StorageError, match=r"'.*/ab/cdef'"):
        directory.remove("ab/cdef")


CHILD = """
import os, sys
from pathlib import Path
from safelight.blob import MemoryBlob
from safelight.errors import StorageError
from safelight.storage.bounded import BoundedDirectory

_, root, max_bytes, *actions = sys.argv
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
directory = BoundedDirectory(Path(root), ("[0-9a-f]{2}", "[0-9a-f]{4}"), int(max_bytes))
for action in actions:
    verb, name = action.split(":")
    try:
        if verb == "open":
            print("opened" if directory.open(name) is not None else "absent")
        elif verb == "remove":
            directory.remove(name)
            print("removed")
        else:
            directory.write(name, [MemoryBlob(bytes(1000))])
            print("written")
    except StorageError as error:
        print(error)
"""


def unprivileged(root: Path, max_bytes: int, *actions: str) -> list[str]:
    """What a process without root's powers is told."""
    command = [sys.executable, "-c", CHILD, str(root), str(max_bytes), *actions]
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT)
    return [line for line in result.stdout.splitlines() if "warning" not in line]


def test_permissions_are_missing(public: Path) -> None:
    (public / "ab").mkdir()
    (public / "ab/0000").write_bytes(b"x")
    (public / "ab/0000").chmod(0)
    (public / "ab").chmod(0o555)
    told = unprivileged(public, 10_000, "open:ab/0000", "write:ab/0001", "remove:ab/0000")
    denied = f"Permission denied: '{public}/ab"
    assert told == [f"{denied}/0000'", f"{denied}/0001'", f"{denied}/0000'"]


def test_an_unwritable_root(public: Path) -> None:
    public.chmod(0o555)
    assert unprivileged(public, 10_000, "open:ab/0000", "write:ab/0000") == [
        "absent",
        f"Permission denied: '{public}/ab/0000'",
    ]


def test_a_file_of_somebody_else_can_be_read(public: Path) -> None:
    (public / "ab").mkdir()
    (public / "ab/0000").write_bytes(b"x")
    (public / "ab/0000").chmod(0o444)
    assert unprivileged(public, 10_000, "open:ab/0000") == ["opened"]


def test_the_bound_holds_where_nothing_can_be_removed(public: Path) -> None:
    (public / "ab").mkdir()
    for number in range(10):
        (public / f"ab/{number:04x}").write_bytes(bytes(1000))
        (public / f"ab/{number:04x}").chmod(0o444)
    (public / "ab").chmod(0o555)
    (public / "cd").mkdir()
    (public / "cd").chmod(0o777)
    told = unprivileged(public, 5_000, *(f"write:cd/{number:04x}" for number in range(9)))
    assert told[-1].startswith(f"'{public}' is full: ")
    assert sum(ours(public).values()) <= 10_000 + 5_250


# Many processes, and kills

WORKER = """
import os, random, sys
from itertools import count
from pathlib import Path
from safelight.blob import MemoryBlob
from safelight.storage.bounded import BoundedDirectory

_, root, max_bytes, seed, rounds = sys.argv
numbers = random.Random(int(seed))
directory = BoundedDirectory(Path(root), ("[0-9a-f]{2}", "[0-9a-f]{4}"), int(max_bytes))
print("ready", flush=True)
for round_number in count():
    if round_number == int(rounds):
        break
    name = f"{numbers.randrange(8):02x}/{numbers.randrange(500):04x}"
    if numbers.random() < 0.6:
        directory.write(name, [MemoryBlob(bytes([numbers.randrange(1, 256)]) * numbers.randrange(1, 2000))])
    elif numbers.random() < 0.1:
        directory.remove(name)
    else:
        descriptor = directory.open(name)
        if descriptor is not None:
            data = os.pread(descriptor, 4000, 0)
            assert data and data.count(data[:1]) == len(data)
            os.close(descriptor)
"""
BOUND = 400_000


def start_worker(root: Path, seed: int, rounds: int = -1) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", WORKER, str(root), str(BOUND), str(seed), str(rounds)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT)
    assert worker.stdout
    assert worker.stdout.readline() == b"ready\n"
    return worker


def is_whole(path: Path) -> bool:
    data = path.read_bytes()
    return data != b"" and data.count(data[:1]) == len(data)


def test_the_bound_holds_under_four_writers(root: Path) -> None:
    workers = [start_worker(root, seed, 1500) for seed in range(4)]
    highest = 0
    while any(worker.poll() is None for worker in workers):
        highest = max(highest, sum(ours(root).values()))
    assert [worker.wait(PATIENCE_S) for worker in workers] == [0] * 4
    for worker in workers:
        worker.communicate()
    assert 0.8 * BOUND < highest <= 1.1 * BOUND


def test_kills_leave_whole_files_and_the_next_process_restores_the_bound(root: Path) -> None:
    for round_number in range(4):
        workers = [start_worker(root, 10 * round_number + seed) for seed in range(3)]
        time.sleep(0.05 + 0.1 * round_number)  # a kill at no moment in particular
        for worker in workers:
            worker.kill()
            worker.communicate(timeout=PATIENCE_S)
    assert [name for name in ours(root) if not is_whole(root / name)] == []
    last = start_worker(root, 99, 500)
    assert last.wait(PATIENCE_S) == 0
    last.communicate()
    assert sum(ours(root).values()) <= 1.1 * BOUND
