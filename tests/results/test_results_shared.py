"""What decides whether a shared answer holds, step by step: real storages, one of them with a gate."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from machines import eventually
from structlog.testing import capture_logs

from safelight.blob import Blob, MemoryBlob
from safelight.errors import NotFound, StorageError, StorageUnreachable, Timeout
from safelight.results import circuit, tier
from safelight.results.circuit import Circuit, Unavailable
from safelight.results.entry import Entry, Head, Read, checksum
from safelight.results.epochs import ALL, place_slot, url_slot
from safelight.results.reading import Origin, Reading
from safelight.results.shared import Shared
from safelight.results.shelf import Shelf, name_of
from safelight.results.tier import MAX_BYTES, Tier, purge_all
from safelight.storage.base import Stored
from safelight.storage.file import FileStorage
from safelight.url import Url

TIMEOUT_S = 30
URL = url_slot("/a")
NAME = name_of(("key",))


class Gated:
    """A storage whose answers about versions are held back, once they are known, while the gate is shut."""

    def __init__(self, inner: FileStorage) -> None:
        self._inner = inner
        self.is_blind = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()

    def place(self, key: str) -> str:
        return self._inner.place(key)

    async def get(self, key: str, max_bytes: int) -> Stored:
        return await self._inner.get(key, max_bytes)

    async def version(self, key: str) -> str | None:
        version = await self._inner.version(key)
        self.asked.set()
        await self.gate.wait()
        return "" if self.is_blind else version

    async def put(self, key: str, data: Blob, content_type: str | None = None) -> Callable[[], Url]:
        return await self._inner.put(key, data, content_type)

    async def delete(self, key: str) -> None:
        await self._inner.delete(key)


class Setting:
    """A machine that knows nothing yet, and an answer made of the file `a` that another has shared."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.images = Gated(FileStorage(directory / "images"))
        self.place = self.images.place("a")
        self.tier = Tier(FileStorage(directory / "tier"), "tier/")
        self.shelf = Shelf(directory / "cache", None)
        self.elsewhere = Shelf(directory / "elsewhere", None)
        origin = Origin("images", self.images)
        self.shared = Shared(self.tier, self.shelf, [origin], recheck_s=3600)

    async def make(self, version: str | None = None) -> None:
        """`version`: of the image, if not its own."""
        await self.images.put("a", MemoryBlob(b"image"))
        version = version if version is not None else await self.images.version("a")
        body = MemoryBlob(b"answer")
        slots = (URL, place_slot(self.place))
        head = Head(
            name=NAME,
            epochs=self.elsewhere.epochs.identity,
            made=1,
            slots=slots,
            kept_at=0,
            content_type="text/plain",
            cache_control=None,
            facts=(),
            etag='"a"',
            modified=None,
            size=body.size,
            checksum=checksum(body),
            reads=(Read("images", "a", version),),
            marks=tuple((slot, "") for slot in (ALL, *slots)),
        )
        assert await self.elsewhere.keep(("key",), Entry(head, body))
        self.tier.offer(NAME, lambda: self.elsewhere.content(NAME))
        await self.tier_holds(NAME)

    async def tier_holds(self, name: str) -> None:
        """Wait for an object."""
        await eventually((self._directory / "tier" / "answers" / name).exists)

    def reading(self) -> Reading:
        return Reading(self.shelf.epochs, URL)

    async def find(self, reading: Reading) -> Entry | None:
        return await self.shared.find(NAME, reading, (URL,), lambda _: True)

    async def close(self) -> None:
        await self.tier.close()
        self.shelf.epochs.close()
        self.elsewhere.epochs.close()


@pytest.fixture
async def setting(tmp_path: Path):
    made = Setting(tmp_path)
    await made.make()
    yield made
    await made.close()


async def test_an_answer_that_holds_becomes_one_of_this_machine(setting: Setting) -> None:
    reading = setting.reading()
    found = await setting.find(reading)
    assert found is not None
    assert found.body.read() == b"answer"
    assert reading.is_current()
    assert await setting.shelf.keep(("key",), found)
    assert setting.shelf.get(("key",), URL, 0) is found
    with setting.shelf.epochs.changing(setting.place):
        pass
    assert setting.shelf.get(("key",), URL, 0) is None


async def test_who_asks_after_a_change_does_not_join_a_look_up_that_began_before(setting: Setting) -> None:
    """The old version was already told when the change was made."""
    setting.images.gate.clear()
    setting.images.asked.clear()
    reading = setting.reading()
    finding = asyncio.create_task(setting.find(reading))
    await asyncio.wait_for(setting.images.asked.wait(), TIMEOUT_S)
    assert reading.is_current()
    with setting.shelf.epochs.changing(setting.place):
        await setting.images.put("a", MemoryBlob(b"another image"))
    assert not reading.is_current()
    setting.images.gate.set()
    assert await asyncio.wait_for(finding, TIMEOUT_S) is not None
    assert not reading.is_current(), "so it is not kept"


async def test_what_is_being_changed_is_not_looked_up(setting: Setting) -> None:
    """The change is announced already, and its version still the old one."""
    with setting.shelf.epochs.changing(setting.place):
        assert await setting.find(setting.reading()) is None


async def test_two_unknown_versions_are_not_the_same(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    await setting.make(version="")
    setting.images.is_blind = True
    assert await setting.find(setting.reading()) is None
    await setting.close()


async def test_a_look_up_that_finds_nothing_leaves_nothing_behind(setting: Setting) -> None:
    await setting.images.put("a", MemoryBlob(b"another image"))
    reading = setting.reading()
    assert await setting.find(reading) is None
    assert reading.slots == [URL]
    assert reading.marks is not None
    with setting.shelf.epochs.changing(setting.place):
        pass
    assert reading.is_current()


@pytest.mark.parametrize("slot", [ALL, URL, "place"])
async def test_a_purge_makes_it_invalid(setting: Setting, slot: int | str) -> None:
    await setting.tier.purge(place_slot(setting.place) if isinstance(slot, str) else slot)
    assert await setting.find(setting.reading()) is None


async def test_a_second_purge_is_another_one(setting: Setting) -> None:
    await setting.tier.purge(URL)
    first = await setting.tier.mark(URL)
    await asyncio.sleep(0.02)  # versions of files have the time, those of objects a digest as well
    await setting.tier.purge(URL)
    assert await setting.tier.mark(URL) not in ("", first)


async def test_an_unpurged_url_of_an_equal_answer_may_use_it(setting: Setting) -> None:
    other = url_slot("/b")
    reading = Reading(setting.shelf.epochs, other)
    assert await setting.shared.find(NAME, reading, (other,), lambda _: True) is not None
    await setting.tier.purge(other)
    reading = Reading(setting.shelf.epochs, other)
    assert await setting.shared.find(NAME, reading, (other,), lambda _: True) is None
    assert await setting.find(setting.reading()) is not None


class Hanging(Gated):
    """A storage that takes nothing."""

    async def put(self, key: str, data: Blob, content_type: str | None = None) -> Callable[[], Url]:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_purge_tells_everybody_who_can_be_told(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tier, "PURGE_S", 0.1)
    (tmp_path / "no-directory").write_text("x")
    broken = Tier(FileStorage(tmp_path / "no-directory"), "broken/")
    hanging = Tier(Hanging(FileStorage(tmp_path)), "hanging/")
    with pytest.raises(StorageUnreachable) as raised:
        await purge_all([broken, hanging, setting.tier], [URL, ALL])
    said = raised.value.message
    assert said.startswith("dropped on this machine, but other machines may not know: ")
    assert said.endswith("; 'hanging/' cannot be reached within 0 seconds")
    for slot in (URL, ALL):
        assert await setting.tier.mark(slot) != ""


class TooMuch(Blob):
    """What nobody may read, for its size."""

    def __init__(self) -> None:
        self.size = MAX_BYTES + 1
        self.is_read = False

    def read_at(self, offset: int, count: int) -> bytes:
        self.is_read = True
        return bytes(count)


async def test_what_is_too_large_is_not_put(setting: Setting) -> None:
    large, small = TooMuch(), name_of(("another key",))
    with capture_logs() as logs:
        setting.tier.offer(name_of(("large",)), lambda: large)
        setting.tier.offer(small, lambda: MemoryBlob(b"small"))
        await setting.tier_holds(small)
    assert not large.is_read
    assert logs == []


# Circuits


def failing(error: Exception) -> Callable[[], Awaitable[str]]:
    async def work() -> str:
        raise error

    return work


async def working() -> str:
    return "done"


async def hanging() -> str:
    await asyncio.Event().wait()
    return "never"


async def test_after_a_failure_there_is_a_pause_and_one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit, "PAUSE_S", 0.2)
    asked = Circuit("it")
    with capture_logs() as logs:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await asked.call(failing(StorageError("down")), TIMEOUT_S)
        with pytest.raises(Unavailable):  # although it would work
            await asked.call(working, TIMEOUT_S)
        await asyncio.sleep(0.25)
        trying = asyncio.create_task(asked.call(hanging, TIMEOUT_S))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):  # while another one tries
            await asked.call(working, TIMEOUT_S)
        trying.cancel()
        await asyncio.sleep(0.25)
        assert await asked.call(working, TIMEOUT_S) == "done"
        assert await asked.call(working, TIMEOUT_S) == "done"
    assert [line["reason"] for line in logs] == ["down"]


async def test_nobody_waits_for_long() -> None:
    with pytest.raises(Unavailable), capture_logs() as logs:
        await Circuit("it").call(hanging, 0.05)
    assert [line["reason"] for line in logs] == ["too slow"]


async def test_an_answer_is_no_failure() -> None:
    asked = Circuit("it")
    with capture_logs() as logs:
        for _ in range(2):
            with pytest.raises(NotFound):
                await asked.call(failing(NotFound("there is none")), TIMEOUT_S)
    assert logs == []


def about_many() -> Circuit:
    return Circuit("them", (StorageUnreachable, Timeout, TimeoutError), needed=2)


async def fail(asked: Circuit, about: str, error: Exception | None = None) -> None:
    with pytest.raises(Unavailable):
        await asked.call(failing(error or StorageUnreachable("down")), TIMEOUT_S, about)


async def test_what_fails_again_and_again_holds_up_nothing_else() -> None:
    asked = about_many()
    for _ in range(5):
        await fail(asked, "bad")
    assert await asked.call(working, TIMEOUT_S, "good") == "done"
    await fail(asked, "another")
    assert await asked.call(working, TIMEOUT_S, "good") == "done"


async def test_failures_that_say_nothing_about_others_lead_to_no_pause() -> None:
    asked = about_many()
    for about in ("a", "b", "c"):
        await fail(asked, about, StorageError("the object store answered 400"))
    assert await asked.call(working, TIMEOUT_S, "d") == "done"


async def test_several_that_fail_lead_to_a_pause_and_as_many_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(circuit, "PAUSE_S", 0.2)
    asked = about_many()
    with capture_logs() as logs:
        await fail(asked, "a")
        await fail(asked, "b")
        assert asked.is_paused
        await asyncio.sleep(0.25)
        trying = [asyncio.create_task(asked.call(hanging, TIMEOUT_S, about)) for about in ("a", "b")]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):  # while those try
            await asked.call(working, TIMEOUT_S, "c")
        trying[0].cancel()
        await asyncio.gather(trying[0], return_exceptions=True)
        assert await asked.call(working, TIMEOUT_S, "c") == "done"
        trying[1].cancel()
        await asyncio.gather(trying[1], return_exceptions=True)
    assert [line["event"] for line in logs] == ["result cache: cannot ask", "result cache: going on alone"]
