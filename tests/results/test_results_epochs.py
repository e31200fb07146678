"""The logical times that processes share: what is marked is seen, and a kill leaves nothing locked."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from safelight.errors import StorageError
from safelight.results.epochs import ALL, FILE_NAME, SLOTS, Epochs, place_slot, tag_slot, url_slot

CHANGER = """
import sys
from pathlib import Path
from safelight.results.epochs import Epochs

with Epochs(Path(sys.argv[1])).changing(sys.argv[2]):
    print("changing", flush=True)
    sys.stdin.read()
"""


def test_what_is_marked_is_later_than_what_was_before(tmp_path: Path) -> None:
    epochs = Epochs(tmp_path)
    before = epochs.now()
    epochs.mark(5)
    assert not epochs.unchanged([5], before)
    assert not epochs.unchanged([3, 5], before)
    assert epochs.unchanged([3, 4, ALL], before)
    assert epochs.unchanged([5], epochs.now())


def test_others_see_a_mark_at_once_and_after_a_restart(tmp_path: Path) -> None:
    one, other = Epochs(tmp_path), Epochs(tmp_path)
    before = one.now()
    one.mark(7)
    assert not other.unchanged([7], before)
    assert other.identity == one.identity
    assert not Epochs(tmp_path).unchanged([7], before)


def test_names_of_different_kinds_have_different_slots() -> None:
    slots = {place_slot("a"), url_slot("a"), tag_slot("a"), ALL}
    assert len(slots) == 4
    assert all(0 <= slot < SLOTS for slot in slots)


def test_names_that_are_no_utf8_have_slots() -> None:
    assert url_slot("/\udce9") != url_slot("/e")


def test_a_change_is_marked_before_it_is_made_and_locked_until_it_is(tmp_path: Path) -> None:
    epochs, reader = Epochs(tmp_path), Epochs(tmp_path)
    slot, before = place_slot("file:/images/a"), epochs.now()
    with epochs.changing("file:/images/a"):
        assert not reader.unchanged([slot], before)
        assert reader.is_changing(slot)
        assert epochs.is_changing(slot), "in the process that changes, too"
        assert not reader.is_changing(slot + 1)
    assert not reader.is_changing(slot)


def test_a_failed_change_is_over(tmp_path: Path) -> None:
    epochs = Epochs(tmp_path)
    with pytest.raises(RuntimeError), epochs.changing("x"):
        raise RuntimeError
    assert not epochs.is_changing(place_slot("x"))


def test_two_may_change_one_thing_at_a_time(tmp_path: Path) -> None:
    epochs = Epochs(tmp_path)
    with epochs.changing("x"):
        with epochs.changing("x"):
            pass
        assert epochs.is_changing(place_slot("x"))


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    epochs = Epochs(tmp_path)
    command = [sys.executable, "-c", CHANGER, str(tmp_path), "x"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as changer:
        assert changer.stdout is not None
        assert changer.stdout.readline() == b"changing\n"
        assert epochs.is_changing(place_slot("x"))
        changer.send_signal(signal.SIGKILL)
        changer.wait()
    assert not epochs.is_changing(place_slot("x"))


def test_an_emptied_directory_makes_everything_invalid(tmp_path: Path) -> None:
    one, other = Epochs(tmp_path), Epochs(tmp_path)
    identity = one.identity
    (tmp_path / FILE_NAME).unlink()
    other.mark(3)  # makes a new file
    one.mark(4)  # sees it
    assert one.identity == other.identity != identity


@pytest.mark.parametrize(
    ("size", "start"),
    [(0, b""), (4096, b""), (4096 + 8 * SLOTS, b"overwritten"), (4096 + 8 * SLOTS, b"SLepoch1" + b"\1" * 16)],
)
def test_a_file_that_is_cut_or_overwritten_is_replaced_before_a_mark(
    tmp_path: Path, size: int, start: bytes
) -> None:
    one, other = Epochs(tmp_path), Epochs(tmp_path)
    identity = one.identity
    with (tmp_path / FILE_NAME).open("r+b") as file:
        file.truncate(size)
        file.write(start)
    one.mark(4)
    other.mark(3)
    assert one.identity == other.identity != identity
    before = one.now()
    other.mark(4)
    assert not one.unchanged([4], before)


@pytest.mark.parametrize("content", [b"", b"something else", b"\0" * (4096 + 8 * SLOTS)])
def test_a_foreign_file_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    epochs = Epochs(tmp_path)
    before = epochs.now()
    epochs.mark(9)
    assert not epochs.unchanged([9], before)
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]


def test_a_file_of_full_length_is_made_so_that_marks_cannot_fail(tmp_path: Path) -> None:
    Epochs(tmp_path)
    status = (tmp_path / FILE_NAME).stat()
    assert status.st_blocks * 512 >= status.st_size


def test_a_directory_in_its_place_is_an_error_that_says_where(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(StorageError, match=str(tmp_path / FILE_NAME)):
        Epochs(tmp_path)


def test_what_clients_are_told_of_a_failed_change_has_no_path_of_the_server(tmp_path: Path) -> None:
    epochs = Epochs(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(StorageError, match="result cache: Is a directory") as caught, epochs.changing("x"):
        pass
    assert str(tmp_path) not in caught.value.message
    assert str(tmp_path / FILE_NAME) in (caught.value.detail or "")


def start_machine_again(directory: Path) -> None:
    """As the file is found then: it was used last while the machine ran another time."""
    with (directory / FILE_NAME).open("r+b") as file:
        file.seek(32)
        file.write(b"another boot ...")


def test_what_is_closed_in_order_outlives_a_start_of_the_machine(tmp_path: Path) -> None:
    one, other = Epochs(tmp_path), Epochs(tmp_path)
    identity, before = one.identity, one.now()
    one.mark(5)
    for epochs in (one, other):
        epochs.close()
    start_machine_again(tmp_path)
    again = Epochs(tmp_path)
    assert again.identity == identity
    assert not again.unchanged([5], before)
    assert Epochs(tmp_path).identity == identity, "also for the second one that comes"


@pytest.mark.parametrize("then", ["none is closed", "one is not closed", "opened again"])
def test_after_a_power_cut_nothing_is_valid(tmp_path: Path, then: str) -> None:
    """Changes may have been lost with it."""
    users = [Epochs(tmp_path), Epochs(tmp_path)]
    identity = users[0].identity
    users[0].mark(5)
    for epochs in {"none is closed": [], "one is not closed": users[1:], "opened again": users}[then]:
        epochs.close()
    if then == "opened again":
        users.append(Epochs(tmp_path))
        assert users[2].identity == identity
    start_machine_again(tmp_path)
    one, other = Epochs(tmp_path), Epochs(tmp_path)
    assert one.identity == other.identity != identity


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_what_root_replaces_belongs_to_who_had_it(tmp_path: Path) -> None:
    """A command of root, after a power cut and before the server has started."""
    Epochs(tmp_path)
    os.chown(tmp_path / FILE_NAME, 12345, 12345)
    start_machine_again(tmp_path)
    Epochs(tmp_path)
    status = (tmp_path / FILE_NAME).stat()
    assert (status.st_uid, status.st_gid) == (12345, 12345)
