"""Which files arguments stand for."""

import os
from pathlib import Path

import pytest

from safelight.batch.inputs import HIDDEN, NO_IMAGE, RESULT, Found, Input, Listing, Skipped, Unreadable
from safelight.batch.naming import BESIDE, Naming
from safelight.image.spec import ThumbnailSpec

NOT_UTF8 = os.fsdecode(b"caf\xe9.jpg")


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")


def found(*arguments: str) -> list[Found]:
    return list(Listing(arguments))


def paths(*arguments: str) -> list[str]:
    return [item.path for item in found(*arguments) if isinstance(item, Input)]


def skipped(*arguments: str) -> dict[str, str]:
    return {item.path: item.why for item in found(*arguments) if isinstance(item, Skipped)}


def test_directories_are_searched_at_any_depth_in_the_order_of_names() -> None:
    make("p/b.jpg", "p/a.PNG", "p/d/z.webp", "p/d/e/y.gif", "p/c.tif")
    assert paths("p") == ["p/a.PNG", "p/b.jpg", "p/c.tif", "p/d/z.webp", "p/d/e/y.gif"]


def test_the_relative_path_begins_below_the_directory_that_was_given() -> None:
    make("p/d/a.jpg", "q/b.jpg")
    items = [item for item in found("p/", "q/b.jpg", "./p/d") if isinstance(item, Input)]
    assert [(item.path, item.relative_path, item.index) for item in items] == [
        ("p/d/a.jpg", "d/a.jpg", 1),
        ("q/b.jpg", "b.jpg", 2),
        ("./p/d/a.jpg", "a.jpg", 3),
    ]


def test_hidden_entries_and_files_that_are_not_called_images_are_skipped_and_told() -> None:
    make("p/.a.jpg", "p/.git/b.jpg", "p/c.txt", "p/d", "p/e.jpg")
    assert paths("p") == ["p/e.jpg"]
    assert skipped("p") == {"p/.a.jpg": HIDDEN, "p/.git": HIDDEN, "p/c.txt": NO_IMAGE, "p/d": NO_IMAGE}


def test_named_files_are_always_tried() -> None:
    make(".a", "b.txt")
    assert paths(".a", "b.txt", "missing.jpg") == [".a", "b.txt", "missing.jpg"]


def test_links_to_directories_are_not_followed() -> None:
    make("p/a.jpg", "elsewhere/b.jpg")
    Path("p/loop").symlink_to("..")
    Path("p/other.jpg").symlink_to("../elsewhere")
    assert paths("p") == ["p/a.jpg"]
    assert skipped("p") == {"p/loop": NO_IMAGE, "p/other.jpg": NO_IMAGE}


def test_a_link_that_is_named_is_followed() -> None:
    make("real/a.jpg")
    Path("link").symlink_to("real")
    assert paths("link") == ["link/a.jpg"]


def test_links_to_files_are_followed_and_broken_ones_tried() -> None:
    make("a.jpg", "p/x.jpg")
    Path("p/good.jpg").symlink_to("../a.jpg")
    Path("p/broken.jpg").symlink_to("nowhere")
    assert paths("p") == ["p/broken.jpg", "p/good.jpg", "p/x.jpg"]


def test_pipes_and_sockets_in_directories_are_skipped() -> None:
    make("p/a.jpg")
    os.mkfifo("p/b.jpg")
    assert paths("p") == ["p/a.jpg"]


def test_a_directory_that_cannot_be_listed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    make("p/a.jpg", "p/locked/b.jpg", "p/z/c.jpg")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path == "p/locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert Unreadable("p/locked", "Permission denied") in found("p")
    assert paths("p") == ["p/a.jpg", "p/z/c.jpg"]


def test_names_may_hold_newlines_and_bytes_that_are_no_utf_8() -> None:
    make("p/a\nb.jpg", f"p/{NOT_UTF8}", "p/ä €.jpg")
    assert set(paths("p")) == {"p/a\nb.jpg", f"p/{NOT_UTF8}", "p/ä €.jpg"}


def test_standard_input_is_an_input() -> None:
    assert found("-") == [Input("stdin", "stdin", 1, is_stdin=True)]


def test_results_of_earlier_runs_are_skipped() -> None:
    make("p/a.jpg", "p/a.crop-128x128.jpg", "p/a.fit-inputx9-quality-80.webp", "p/my.crop.jpg", "p/b-1x1.jpg")
    naming = Naming(BESIDE, [ThumbnailSpec.parse("limit,64,64,jpeg")])
    listed = list(Listing(["p"], naming.holds_results, naming.is_result))
    assert [item.path for item in listed if isinstance(item, Input)] == [
        "p/a.jpg",
        "p/b-1x1.jpg",
        "p/my.crop.jpg",
    ]
    assert Skipped("p/a.crop-128x128.jpg", RESULT) in listed


@pytest.mark.parametrize(
    "template", ["p/out/#{relative_path}", "./p/out/x/#{filename}", "#{dirname}/out/#{filename}"]
)
def test_the_directory_of_the_results_is_not_searched(template: str) -> None:
    make("p/a.jpg", "p/out/a.jpg", "p/out/x/a.jpg")
    naming = Naming(template, [ThumbnailSpec.parse("limit,64,64,jpeg")])
    listed = Listing(["p"], naming.holds_results, naming.is_result)
    expected = ["p/a.jpg", "p/out/a.jpg"] if "x" in template else ["p/a.jpg"]
    assert [item.path for item in listed if isinstance(item, Input)] == expected


def test_a_large_directory_is_listed_lazily() -> None:
    make(*(f"p/{number}/a.jpg" for number in range(50)))
    listing = iter(Listing(["p"]))
    next(listing)
    make("p/9/later.jpg")
    assert "p/9/later.jpg" in [item.path for item in listing if isinstance(item, Input)]
