"""Names that collide are found before any work."""

from pathlib import Path

import pytest

from safelight.batch.inputs import Input, Listing
from safelight.batch.naming import Naming
from safelight.batch.survey import MAX_COMPLAINTS, NameConflict, Survey, survey
from safelight.image.spec import ThumbnailSpec

SPEC = "crop,8,8,jpeg"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def look(template: str, *names: str, specs: tuple[str, ...] = (SPEC,)) -> Survey:
    found = Survey()
    survey(Listing(names), Naming(template, [ThumbnailSpec.parse(spec) for spec in specs]), found)
    return found


def test_inputs_are_counted() -> None:
    found = look("#{dirname}/#{basename}.#{spec}.jpg", "a.jpg", "b.jpg")
    assert found.inputs == 2
    assert found.is_complete


@pytest.mark.parametrize(
    ("template", "names", "complaint"),
    [
        ("out.jpg", ["a.jpg", "b.jpg"], "'a.jpg' and 'b.jpg' would both become 'out.jpg'"),
        ("out/#{basename}.jpg", ["a.jpg", "a.png"], "'a.jpg' and 'a.png' would both become 'out/a.jpg'"),
        ("out/#{filename}", ["x/a.jpg", "y/a.jpg"], "'x/a.jpg' and 'y/a.jpg' would both become 'out/a.jpg'"),
        ("out/#{path}", ["a.jpg", "./a.jpg"], "'a.jpg' and './a.jpg' would both become 'out/a.jpg'"),
        ("out/#{path}", ["a.jpg", "a.jpg"], "several results of 'a.jpg' would be 'out/a.jpg'"),
    ],
)
def test_two_inputs_with_one_result(template: str, names: list[str], complaint: str) -> None:
    with pytest.raises(NameConflict) as caught:
        look(template, *names)
    assert caught.value.message.splitlines()[0] == complaint


def test_two_specifications_with_one_result() -> None:
    with pytest.raises(NameConflict, match=r"several results of 'a\.jpg' would be 'a-small\.jpg'"):
        look("#{dirname}/#{basename}-small.jpg", "a.jpg", specs=(SPEC, "fit,9,9,jpeg"))


def test_names_that_come_later_cannot_collide_now() -> None:
    look("out/#{digest}.jpg", "a.jpg", "a.png")


def test_only_some_complaints_are_shown() -> None:
    names = [f"{number}.{extension}" for number in range(50) for extension in ("jpg", "png")]
    with pytest.raises(NameConflict) as caught:
        look("out/#{basename}.jpg", *names)
    lines = caught.value.message.splitlines()
    assert len(lines) == MAX_COMPLAINTS + 2
    assert lines[-2] == "and 40 more"


def test_an_input_that_is_the_result_of_another_one() -> None:
    found = look("#{dirname}/#{basename}-s.jpg", "a.jpg", "a-s.jpg", "a-s-s.jpg", "b.jpg")
    items = [item for item in Listing(["a.jpg", "a-s.jpg", "a-s-s.jpg", "b.jpg"]) if isinstance(item, Input)]
    assert [item.path for item in items if found.is_result(item)] == ["a-s.jpg", "a-s-s.jpg"]


def test_an_input_may_be_its_own_result() -> None:
    assert look("#{path}", "a.jpg", "b.jpg").results == set()


def test_results_of_results_do_not_collide() -> None:
    look("#{dirname}/../small/#{filename}", "x/a.jpg", "small/a.jpg")


def test_it_can_be_stopped() -> None:
    found = Survey()
    survey(Listing(["a", "b"]), Naming("#{path}.x", [ThumbnailSpec.parse(SPEC)]), found, lambda: True)
    assert not found.is_complete
    assert found.inputs == 0
