"""Results are written whole or not at all, and only where they may."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from safelight.batch.naming import Target
from safelight.batch.writing import AlreadyThere, check_root, write
from safelight.errors import OutsideOfRoot, StorageError


@pytest.fixture(params=["nameless", "named", "named without links"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root on a file system that can make nameless files, on one that cannot, and on one without links."""
    if request.param != "nameless":
        monkeypatch.setattr(os, "open", _without_nameless(os.open))
    if request.param == "named without links":
        monkeypatch.setattr(os, "link", _refuse)
    return tmp_path / "root"


def _without_nameless(really: Callable[..., int]) -> Callable[..., int]:
    def opened(path: str, flags: int, *rest: int, **keywords: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return really(path, flags, *rest, **keywords)

    return opened


def _refuse(*_: object, **__: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def put(root: Path, key: str, data: bytes = b"data", *, overwrite: bool = False) -> None:
    write(Target(str(root), key), data, overwrite=overwrite)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def test_directories_are_made(root: Path) -> None:
    put(root, "a/b/c.jpg")
    assert (root / "a/b/c.jpg").read_bytes() == b"data"
    assert files(root) == ["a/b/c.jpg"]


def test_what_is_there_is_left_alone(root: Path) -> None:
    put(root, "c.jpg")
    with pytest.raises(AlreadyThere, match=r"c.jpg' exists already \(--overwrite or --skip-existing\)"):
        put(root, "c.jpg", b"other")
    assert (root / "c.jpg").read_bytes() == b"data"
    assert files(root) == ["c.jpg"]


def test_overwriting_replaces(root: Path) -> None:
    put(root, "c.jpg", overwrite=True)
    put(root, "c.jpg", b"other", overwrite=True)
    assert (root / "c.jpg").read_bytes() == b"other"
    assert files(root) == ["c.jpg"]


def test_a_dangling_link_is_something_that_is_there(root: Path, tmp_path: Path) -> None:
    root.mkdir()
    (root / "c.jpg").symlink_to(tmp_path / "outside")
    with pytest.raises(AlreadyThere):
        put(root, "c.jpg")
    put(root, "c.jpg", overwrite=True)
    assert not (root / "c.jpg").is_symlink()
    assert not (tmp_path / "outside").exists()


def test_permissions_are_those_that_the_user_asks_for(root: Path) -> None:
    before = os.umask(0o027)
    try:
        put(root, "c.jpg")
    finally:
        os.umask(before)
    assert (root / "c.jpg").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("key", ["link/c.jpg", "link/deeper/c.jpg"])
def test_links_do_not_lead_out_of_the_root(root: Path, tmp_path: Path, key: str) -> None:
    (tmp_path / "outside").mkdir()
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(OutsideOfRoot):
        put(root, key)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_sibling_whose_name_begins_alike_is_outside(root: Path, tmp_path: Path) -> None:
    (tmp_path / "rootless").mkdir()
    root.mkdir()
    (root / "link").symlink_to("../rootless")
    with pytest.raises(OutsideOfRoot):
        put(root, "link/c.jpg")


def test_the_root_may_be_a_link_and_links_inside_may_stay_inside(root: Path, tmp_path: Path) -> None:
    (tmp_path / "real/deep").mkdir(parents=True)
    root.symlink_to(tmp_path / "real")
    (tmp_path / "real/link").symlink_to("deep")
    put(root, "link/c.jpg")
    assert (tmp_path / "real/deep/c.jpg").read_bytes() == b"data"


@pytest.mark.parametrize(
    ("key", "reason"),
    [("file/c.jpg", "Not a directory"), ("x" * 300, "File name too long")],
)
def test_the_reason_is_told(root: Path, key: str, reason: str) -> None:
    put(root, "file")
    with pytest.raises(StorageError, match=reason):
        put(root, key)
    assert files(root) == ["file"]


def test_a_directory_is_not_replaced(root: Path) -> None:
    (root / "c.jpg").mkdir(parents=True)
    with pytest.raises(StorageError, match="Is a directory"):
        put(root, "c.jpg", overwrite=True)
    assert files(root) == []


def test_a_full_disk_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError, match="No space left on device"):
        put(root, "c.jpg")
    monkeypatch.undo()
    assert files(root) == []


def test_no_descriptor_is_lost(root: Path) -> None:
    put(root, "a/c.jpg")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(20):
        put(root, f"a/{number}.jpg")
        with pytest.raises(AlreadyThere):
            put(root, f"a/{number}.jpg")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_root_that_is_no_directory_is_found_out_early(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_root(str(tmp_path / "new/deeper"))
    with pytest.raises(StorageError, match="file' is not a directory"):
        check_root(str(tmp_path / "file/deeper"))
