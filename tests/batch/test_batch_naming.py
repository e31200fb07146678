"""Names of results: variables, what is known early, and that no file name leads out of the root."""

import os
from pathlib import Path

import pytest

from safelight.batch.inputs import Input
from safelight.batch.naming import (
    BESIDE,
    FROM_RESULT,
    MAX_MARK,
    VARIABLES,
    Naming,
    NamingError,
    Target,
    completed,
    mark,
)
from safelight.batch.printable import printable
from safelight.blob import MemoryBlob
from safelight.errors import BadRequest, OutsideOfRoot
from safelight.image.result import ImageInfo, Thumbnail
from safelight.image.spec import ThumbnailSpec

CROP = ThumbnailSpec.parse("crop,128,96,jpeg")
CAT = Input("photos/2024/cat.tar.jpg", "2024/cat.tar.jpg", 7)


def early(template: str, item: Input = CAT, spec: ThumbnailSpec = CROP) -> Target | None:
    naming = Naming(template, [spec])
    return naming.early(item, naming.jobs[0])


def late(template: str, item: Input = CAT, spec: ThumbnailSpec = CROP) -> Target:
    naming = Naming(template, [spec])
    result = Thumbnail(b"result", "image/png", 3, 2)
    return naming.late(item, naming.jobs[0], MemoryBlob(b"input"), ImageInfo("image/gif", 30, 20), result)


@pytest.mark.parametrize(
    ("template", "path"),
    [
        (BESIDE, "photos/2024/cat.tar.crop-128x96.jpg"),
        ("#{path}.jpg", "photos/2024/cat.tar.jpg.jpg"),
        ("out/#{path}", "out/photos/2024/cat.tar.jpg"),
        ("out/#{dirname}/#{filename}", "out/photos/2024/cat.tar.jpg"),
        ("out/#{relative_path}", "out/2024/cat.tar.jpg"),
        ("out/#{relative_dirname}/#{basename}-#{extension}", "out/2024/cat.tar-jpg"),
        ("#{dirname}/../small/#{basename}.jpg", "photos/small/cat.tar.jpg"),
        ("../out/#{method}/#{width}x#{height}/#{index}.#{format}", "../out/crop/128x96/000007.jpeg"),
        ("#{basename}.#{image_mime_extension}", "cat.tar.jpg"),
        ("/srv/#{basename}", "/srv/cat.tar"),
        ("plain.jpg", "plain.jpg"),
    ],
)
def test_templates(template: str, path: str) -> None:
    target = early(template)
    assert target
    assert target.path == path
    assert late(template).path == path


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_width", "3"),
        ("image_height", "2"),
        ("image_mime_extension", "png"),
        ("input_image_width", "30"),
        ("input_image_height", "20"),
        ("input_image_mime_extension", "gif"),
        ("image_digest", "f6a214f7a5fcda0c"),
        ("digest", "c96c6d5be8d08a12"),
        ("input_digest", "c96c6d5be8d08a12"),
    ],
)
def test_variables_of_the_result_are_known_late(name: str, value: str) -> None:
    spec = ThumbnailSpec.parse("crop,1,1,input")
    assert early(f"out/#{{{name}}}", spec=spec) is None
    assert late(f"out/#{{{name}}}", spec=spec).key == value


def test_every_variable_can_be_used() -> None:
    for name in VARIABLES:
        assert late(f"out/x#{{{name}}}").key


def test_what_is_not_known_yet_stays_in_the_outline() -> None:
    naming = Naming("out/#{basename}-#{image_width}.jpg", [CROP])
    assert naming.outline(CAT, naming.jobs[0]) == "out/cat.tar-#{image_width}.jpg"


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("crop,128,96,jpeg", "crop-128x96"),
        ("fit,input,96,png", "fit-inputx96"),
        ("crop,1,2,jpeg,quality:80", "crop-1x2-quality-80"),
        ("crop,1,2,jpeg!rotate,90!blur", "crop-1x2-rotate-90-blur"),
        ("pad,1,2,jpeg,background-color:red!crop,0.1,0.2", "pad-1x2-background-color-red-crop-0.1-0.2"),
        ("../x,1,2,jpeg", "x-1x2"),
    ],
)
def test_marks_tell_the_specification(spec: str, name: str) -> None:
    assert mark(ThumbnailSpec.parse(spec)) == name


def test_a_long_mark_is_cut_and_stays_its_own() -> None:
    marks = {mark(ThumbnailSpec.parse("crop,1,2,jpeg" + "!rotate,90" * 20 + f"!blur,{n}")) for n in (1, 2)}
    assert len(marks) == 2
    assert {len(one) for one in marks} == {MAX_MARK}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "out/#{basname}.jpg",
            "unknown variable 'basname' in 'out/#{basname}.jpg': did you mean 'basename'?",
        ),
        ("out/#{basename}/../x", "'..' after a variable in 'out/#{basename}/../x'"),
        ("", "'' names no file"),
        ("a/..", "'..' after a variable in 'a/..'"),
        ("a/.", "'a/.' names no file"),
    ],
)
def test_templates_that_cannot_be_used(template: str, message: str) -> None:
    with pytest.raises(NamingError) as caught:
        Naming(template, [CROP])
    assert caught.value.message == message


def test_an_unknown_variable_like_no_other_shows_them_all() -> None:
    with pytest.raises(NamingError, match=r"known are path, dirname, .*image_width"):
        Naming("#{zzzzzz}", [CROP])


def test_a_format_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(BadRequest, match="unknown format: XYZ"):
        Naming(BESIDE, [ThumbnailSpec.parse("crop,1,1,xyz")])


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("out/#{path}", "../x/a.jpg"),
        ("out/#{path}", "a/../../x.jpg"),
        ("out/#{dirname}/a.jpg", "../x.jpg"),
        ("#{dirname}-small/#{filename}", "../x/a.jpg"),
        ("#{dirname}-small/#{filename}", "/etc/a.jpg"),
        ("out/#{dirname}/#{basename}.jpg", "x/../..jpg"),
    ],
)
def test_no_file_name_leads_out_of_the_root(template: str, path: str) -> None:
    with pytest.raises(OutsideOfRoot):
        early(template, Input(path, path, 1))


def test_an_absolute_name_stays_below_the_root() -> None:
    target = early("out/#{path}", Input("/etc/a.jpg", "a.jpg", 1))
    assert target == Target("out/", "etc/a.jpg")


def test_beside_the_input_may_be_anywhere() -> None:
    target = early(BESIDE, Input("../../x/a.jpg", "a.jpg", 1))
    assert target == Target("../../x/", "a.crop-128x96.jpg")


def test_a_root_is_the_literal_beginning() -> None:
    assert Naming("a/b/c-#{basename}", [CROP]).literal_root == "a/b/"
    assert Naming("#{basename}", [CROP]).literal_root == "."
    assert Naming("/#{basename}", [CROP]).literal_root == "/"
    assert Naming(BESIDE, [CROP]).literal_root is None


def test_a_directory_gets_file_names(tmp_path: Path) -> None:
    name = "#{relative_dirname}/#{basename}.#{spec}.#{image_mime_extension}"
    assert completed("out/") == f"out/{name}"
    assert completed(str(tmp_path)) == f"{tmp_path}/{name}"
    assert completed("out") == "out"
    target = early("out/")
    assert target
    assert target.path == "out/2024/cat.tar.crop-128x96.jpg"


def test_names_of_any_bytes() -> None:
    name = os.fsdecode(b"caf\xe9\n.jpg")
    target = early("out/#{relative_path}", Input(f"p/{name}", name, 1))
    assert target
    assert os.fsencode(target.path) == b"out/caf\xe9\n.jpg"


def test_variables_do_not_overlap() -> None:
    assert len(VARIABLES) == len({*VARIABLES})
    assert set(FROM_RESULT) < set(VARIABLES)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä €", "plain ä €"),
        ("a\nb\tc\x1b[31m", "a\\nb\\tc\\x1b[31m"),
        (os.fsdecode(b"\xe9\x80"), "\\xe9\\x80"),
        ("\u202ereversed", "\\u202ereversed"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
