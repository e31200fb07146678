"""Specification texts: reference 4."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.errors import SpecError
from safelight.image.spec import Edit, ThumbnailSpec


def message(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        ThumbnailSpec.parse(text)
    return caught.value.message


MESSAGES = [
    pytest.param("!rotate,90", "missing method argument", marks=pytest.mark.covers("t020")),
    pytest.param("", "missing method argument", marks=pytest.mark.covers("t020")),
    pytest.param("crop", "missing width argument", marks=pytest.mark.covers("t021")),
    pytest.param("crop,,16,png", "missing width argument", marks=pytest.mark.covers("t022")),
    pytest.param("crop,128,png", "missing format argument", marks=pytest.mark.covers("t023")),
    pytest.param(
        "crop,128,bogous,png",
        "height value 'bogous' is not an integer or 'input'",
        marks=pytest.mark.covers("t024"),
    ),
    pytest.param(
        "crop,-1,16,png", "width value '-1' is not an integer or 'input'", marks=pytest.mark.covers("t025")
    ),
    pytest.param(
        "crop,1.5,16,png", "width value '1.5' is not an integer or 'input'", marks=pytest.mark.covers("t026")
    ),
    pytest.param(
        "crop,INPUT,16,png",
        "width value 'INPUT' is not an integer or 'input'",
        marks=pytest.mark.covers("t027"),
    ),
    pytest.param(
        "crop,128,128,png,fas-xyz", "missing option value for key 'fas-xyz'", marks=pytest.mark.covers("t029")
    ),
    pytest.param("crop,16,16,png,a:", "missing option value for key 'a'", marks=pytest.mark.covers("t030")),
    pytest.param(
        "crop,16,16,png,:v", "missing option key name for value 'v'", marks=pytest.mark.covers("t031")
    ),
    pytest.param(
        "crop,16,16,png,,a:b", "missing key-value pair on position 1", marks=pytest.mark.covers("t032")
    ),
    pytest.param(
        "crop,16,16,png,x,,a:b", "missing key-value pair on position 2", marks=pytest.mark.covers("t032")
    ),
    pytest.param("fit,16,16,png!!rotate,90", "missing edit name argument", marks=pytest.mark.covers("t036")),
    pytest.param("fit,16,16,png!a:b", "missing edit name argument", marks=pytest.mark.covers("t037")),
    pytest.param(
        "fit,16,16,png!rotate,background-color:red,30",
        "missing option value for key '30' for edit 'rotate'",
        marks=pytest.mark.covers("t038"),
    ),
    pytest.param("crop,16,16,,a:", "missing option value for key 'a'", marks=pytest.mark.covers("t039")),
]


@pytest.mark.covers("t042")
@pytest.mark.parametrize(("text", "core"), MESSAGES)
def test_messages(text: str, core: str) -> None:
    assert message(text) == f"{core} in spec '{text}'"


@pytest.mark.covers("t028")
def test_leading_zeros_are_decimal() -> None:
    assert ThumbnailSpec.parse("crop,016,08,png").width == 16


@pytest.mark.covers("t033")
def test_inner_colons_stay() -> None:
    assert ThumbnailSpec.parse("crop,1,1,png,a:b:c").options == {"a": "b:c"}


@pytest.mark.covers("t034")
def test_the_last_duplicate_wins() -> None:
    assert ThumbnailSpec.parse("crop,1,1,png,a:b,a:c").options == {"a": "c"}


@pytest.mark.covers("t035")
@pytest.mark.parametrize("text", ["crop,16,16,png,", "crop,16,16,png!", "crop,16,16,png,,,!!"])
def test_trailing_separators_are_dropped(text: str) -> None:
    assert ThumbnailSpec.parse(text) == ThumbnailSpec("crop", 16, 16, "png")


def test_edits_keep_arguments_and_options() -> None:
    spec = ThumbnailSpec.parse("fit,1,input,png!rotate,30,background-color:red!crop,0,0,1,1")
    assert spec.height is None
    assert spec.edits == (
        Edit("rotate", ("30",), {"background-color": "red"}),
        Edit("crop", ("0", "0", "1", "1")),
    )


words = st.text("abcdefgh0123456789.-_", min_size=1, max_size=8)
options = st.dictionaries(words, words, max_size=3)
edits = st.builds(Edit, words, st.lists(words, max_size=3).map(tuple), options)
sides = st.one_of(st.none(), st.integers(0, 99999))


@given(st.builds(ThumbnailSpec, words, sides, sides, words, options, st.lists(edits, max_size=3).map(tuple)))
def test_round_trip(spec: ThumbnailSpec) -> None:
    assert ThumbnailSpec.parse(str(spec)) == spec


@given(st.text("a1,!:", max_size=30))
def test_any_text_parses_or_is_a_spec_error(text: str) -> None:
    with suppress(SpecError):
        ThumbnailSpec.parse(text)
