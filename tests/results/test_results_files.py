"""Files of answers: damaged and foreign ones, a full disk, the bound of a directory, the bound of memory."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import structlog
from results_site import Site, Sites

from safelight.blob import MemoryBlob
from safelight.results.entry import Entry, Head, checksum, unpacked, written
from safelight.results.memory import Memory
from safelight.results.shelf import Shelf, name_of

CONFIGURATION = """
path "name" "#{path}"
get "images" {
    cache root="cache" OPTIONS
    source_file "image" root="images" path="name"
    output_image "image"
}
"""
CONTENT = bytes(range(250)) * 40
LARGE = bytes(range(250)) * 4000

Damage = Callable[[bytes], bytes]

DAMAGES: dict[str, Damage] = {
    "nothing": lambda _: b"",
    "a little": lambda content: content[:7],
    "within the head": lambda content: content[:60],
    "without its end": lambda content: content[:-1],
    "with more at its end": lambda content: content + b"x",
    "another length of the head": lambda content: content[:4] + b"\xff\xff\xff\x7f" + content[8:],
    "a bit of the head": lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:],
    "another format": lambda _: b"\x89PNG\r\n\x1a\n" + bytes(2000),
    "text": lambda _: b"hello " * 300,
}
A_BIT_OF_THE_BODY: Damage = lambda content: content[:-9] + bytes([content[-9] ^ 4]) + content[-8:]  # noqa: E731


def site(sites: Sites, options: str = "") -> Site:
    return sites(CONFIGURATION.replace("OPTIONS", options))


async def damaged(sites: Sites, content: bytes, damage: Damage) -> Site:
    """A site that has not read yet what another has kept, and what was damaged then."""
    first = site(sites)
    first.write("images/a", content)
    await first.get("/images/a")
    (file,) = first.kept()
    file.write_bytes(damage(file.read_bytes()))
    return site(sites)


@pytest.mark.parametrize(
    "damage", [*DAMAGES.values(), A_BIT_OF_THE_BODY], ids=[*DAMAGES, "a bit of the body"]
)
async def test_a_damaged_file_counts_as_absent_and_is_replaced(sites: Sites, damage: Damage) -> None:
    other = await damaged(sites, CONTENT, damage)
    answer = await other.get("/images/a")
    assert answer.content == CONTENT
    assert answer.headers["cache-status"] == "safelight; fwd=miss; stored"
    assert await site(sites).state("/images/a") == "hit"


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_large_damaged_file_counts_as_absent(sites: Sites, damage: Damage) -> None:
    other = await damaged(sites, LARGE, damage)
    assert (await other.get("/images/a")).content == LARGE


async def test_the_file_of_another_answer_counts_as_absent(sites: Sites) -> None:
    first = site(sites)
    for name in ("a", "b"):
        first.write(f"images/{name}", name.encode())
        await first.get(f"/images/{name}")
    one, two = first.kept()
    first_content, second_content = one.read_bytes(), two.read_bytes()
    one.write_bytes(second_content)
    two.write_bytes(first_content)
    other = site(sites)
    assert (await other.get("/images/a")).content == b"a"
    assert (await other.get("/images/b")).content == b"b"


async def test_an_answer_from_the_future_is_served_where_there_is_no_max_age(sites: Sites) -> None:
    """Somebody has set the clock back."""

    def in_a_day(content: bytes) -> bytes:
        name = "/".join(next(Path("cache").glob("??/*")).parts[1:])
        entry = unpacked(MemoryBlob(content), name)
        head = msgspec.structs.replace(entry.head, kept_at=entry.head.kept_at + 86_400)
        return b"".join(part.read() for part in written(Entry(head, entry.body)))

    other = await damaged(sites, CONTENT, in_a_day)
    answer = await other.get("/images/a")
    assert (answer.content, answer.headers["cache-status"]) == (CONTENT, "safelight; hit")


async def test_links_and_directories_are_no_answers(sites: Sites) -> None:
    first = site(sites)
    first.write("images/a", CONTENT)
    await first.get("/images/a")
    (file,) = first.kept()
    target = file.rename("images/elsewhere")
    file.symlink_to(Path(target).absolute())
    assert await site(sites).state("/images/a") == "fwd=miss"


async def test_an_emptied_directory_is_an_empty_cache(sites: Sites) -> None:
    first = site(sites)
    first.write("images/a", CONTENT)
    await first.get("/images/a")
    for file in (*first.kept(), *Path("cache").glob(".safelight*")):
        file.unlink()
    other = site(sites)
    assert await other.state("/images/a") == "fwd=miss"
    assert await other.state("/images/a") == "hit"


async def test_where_nothing_can_be_written_answers_are_not_kept_and_that_is_said_once(sites: Sites) -> None:
    first = site(sites)
    for number in range(256):
        Path(f"cache/{number:02x}").write_bytes(b"in the way")
    with structlog.testing.capture_logs() as logs:
        for name in ("a", "b", "a"):
            first.write(f"images/{name}", CONTENT)
            answer = await first.get(f"/images/{name}")
            assert answer.content == CONTENT
            assert answer.headers["cache-status"] == "safelight; fwd=miss"
    assert [log["event"] for log in logs] == ["result cache: cannot keep answers"]


async def test_the_directory_stays_within_its_bound(sites: Sites) -> None:
    first, shelf = site(sites, 'max-size="100kB"'), Shelf(Path("cache"), None)
    for number in range(40):
        first.write(f"images/{number}", CONTENT)
        assert (await first.get(f"/images/{number}")).content == CONTENT
        assert shelf.usage().size <= 106_000
    assert await first.state("/images/39") == "hit"


async def test_an_answer_larger_than_the_bound_is_served_and_not_kept(sites: Sites) -> None:
    first = site(sites, 'max-size="100kB"')
    first.write("images/a", LARGE)
    for _ in range(2):
        answer = await first.get("/images/a")
        assert answer.content == LARGE
        assert answer.headers["cache-status"] == "safelight; fwd=miss"
    assert first.kept() == []


async def test_several_bounds_of_one_directory_the_smallest_counts(sites: Sites) -> None:
    two = CONFIGURATION.replace("OPTIONS", 'max-size="1GB"') + CONFIGURATION.replace(
        "OPTIONS", 'max-size="100kB"'
    )
    first = sites(two)
    first.write("images/a", LARGE)
    await first.get("/images/a")
    assert first.kept() == []


def entry(size: int) -> Entry:
    body = MemoryBlob(bytes(size))
    head = Head(
        name="x",
        epochs="",
        made=1,
        slots=(),
        kept_at=0,
        content_type="image/png",
        cache_control=None,
        facts=(),
        etag='"x"',
        modified=None,
        size=size,
        checksum=checksum(body),
    )
    return Entry(head, body)


def test_memory_holds_what_was_used_last() -> None:
    memory = Memory(max_bytes=100_000)
    for number in range(20):
        memory.put((str(number),), entry(10_000))
        assert memory.get(("0",)) is not None or number > 12 or number == 0
    held = [number for number in range(20) if memory.get((str(number),))]
    assert 0 in held
    assert 19 in held
    assert len(held) <= 10


def test_memory_holds_nothing_large() -> None:
    memory = Memory()
    memory.put(("a",), entry(10))
    memory.put(("a",), entry(100_000))
    assert memory.get(("a",)) is None


async def test_a_shelf_says_what_it_holds_and_can_be_cleared(sites: Sites, tmp_path: Path) -> None:
    first = site(sites)
    for name in ("a", "b"):
        first.write(f"images/{name}", CONTENT)
        await first.get(f"/images/{name}")
    shelf = Shelf(tmp_path / "cache", None)
    answers, size = shelf.usage()
    assert answers == 2
    assert 2 * len(CONTENT) < size < 2 * len(CONTENT) + 2000
    assert shelf.clear() == 2
    assert shelf.usage() == (0, 0)
    assert await first.state("/images/a") == "fwd=miss"


def test_names_of_files_tell_nothing_and_differ() -> None:
    names = {name_of(key) for key in [("a", "b"), ("ab",), ("a", None, "b"), ("a", "\udce9"), ("a', 'b",)]}
    assert len(names) == 5
    assert all(len(name) == 33 for name in names)
