"""Edits: reference 7.4, 7.5, 15."""

import logging
import re

import numpy as np
import pytest
from image_makers import DATA, canvas_s, error_of, flat, gradient, make, make_one, photo_p, pixels, png, size
from pyvips import Image

from safelight.errors import BadRequest
from safelight.image.edit import EDITS, Operation
from safelight.image.method import METHODS

BOX = "0.4,0.4,0.2,0.2"  # pixels 320..479 x 240..359 of S
WHITE, BLACK, BLUE = (255, 255, 255), (0, 0, 0), (0, 0, 255)


def edited(samples: np.ndarray, edit: str) -> np.ndarray:
    """S after one edit; `limit` changes nothing."""
    return pixels(png(samples), f"limit,1280,1280,png!{edit}")


def message(edit: str) -> str:
    error = error_of(photo_p(), f"fit,32,32,png!{edit}")
    assert isinstance(error, BadRequest)
    assert "\n" not in error.message
    return error.message


def test_the_edits_are_registered() -> None:
    names = "resize_crop resize_fit resize_limit rotate crop pixelate blur rectangle resize_stretch caption"
    assert list(EDITS) == names.split()


# --- rotate


@pytest.mark.covers("t060", "t061", "t078")
@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ("rotate,90", (128, 91)),
        ("rotate,30", (117, 128)),
        ("rotate,-30", (117, 128)),
        ("rotate,90!rotate,30", (128, 117)),
        ("rotate,0", (91, 128)),
        ("rotate,360", (91, 128)),
        ("rotate,-360", (91, 128)),
        ("rotate,720", (91, 128)),
        ("rotate,180", (91, 128)),
    ],
)
def test_rotate_sizes(edits: str, expected: tuple[int, int]) -> None:
    assert size(photo_p(), f"fit,128,128,png!{edits}") == expected


@pytest.mark.covers("t060")
def test_rotate_grows_the_canvas() -> None:
    width, height = size(photo_p(), "limit,9999,9999,png!rotate,30")
    assert abs(width - 800) <= 2
    assert abs(height - 877) <= 2


@pytest.mark.covers("t062")
def test_rotate_is_clockwise() -> None:
    y, x = np.mgrid[0:2, 0:4]
    result = pixels(png(np.dstack([10 * x, 10 * y, 0 * x])), "limit,9,9,png!rotate,90")
    assert result.shape == (4, 2, 3)
    found = [tuple(result[row, column, :2]) for column, row in ((0, 0), (1, 0), (0, 3), (1, 3))]
    assert found == [(0, 10), (0, 0), (30, 10), (30, 0)]


@pytest.mark.covers("t063", "t064")
@pytest.mark.parametrize(
    ("spec", "colour"),
    [
        ("fit,128,128,png!rotate,30,background-color:blue", BLUE),
        ("fit,128,128,png,background-color:red!rotate,30", (255, 0, 0)),
        ("fit,128,128,png,background-color:red!rotate,30,background-color:blue", BLUE),
        ("fit,128,128,png!rotate,30", WHITE),
        pytest.param(
            "fit,128,128,png!rotate,30,background-color:0x00f", BLUE, marks=pytest.mark.covers("t099")
        ),
    ],
)
def test_rotate_background(spec: str, colour: tuple[int, ...]) -> None:
    assert tuple(pixels(photo_p(), spec)[4, 4]) == colour


@pytest.mark.covers("t075", "t076")
@pytest.mark.parametrize(
    ("edit", "text"),
    [
        ("rotate", "expected argument 'angle' to be a float but got no value"),
        ("rotate,xyz", "expected argument 'angle' to be a float, got: xyz"),
        ("rotate,5.", "expected argument 'angle' to be a float, got: 5."),
        ("rotate,nan", "expected argument 'angle' to be a float, got: nan"),
        ("rotate,1e400", "expected argument 'angle' to be a float, got: 1e400"),
    ],
)
def test_bad_angles(edit: str, text: str) -> None:
    assert message(edit) == f"error while applying edit 'rotate': {text}"


@pytest.mark.covers("t080")
@pytest.mark.parametrize("angle", ["0x5a", "9_0", "+90", "90.0", "9e1"])
def test_angles_in_other_notations(angle: str) -> None:
    assert size(photo_p(), f"fit,128,128,png!rotate,{angle}") == (128, 91)


@pytest.mark.parametrize("angle", ["1e300", "-1e-300", "123456789.5"])
def test_absurd_angles_are_survived(angle: str) -> None:
    make_one(photo_p(), f"fit,16,16,png!rotate,{angle}")


def test_bad_rotate_colour() -> None:
    assert message("rotate,30,background-color:ff0000") == "invalid color name: ff0000"


# --- crop


@pytest.mark.covers("t065", "t066")
@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("0.1,0.0,0.8,1.0", (73, 128)),
        ("0.0,0.1,1.0,0.8", (113, 128)),
        ("0.1,0.1,0.8,0.8", (91, 128)),
        ("0,0,1,1", (91, 128)),
        ("-20.2,-20.2,1.8,10.8", (91, 128)),
        ("0,0,1.8,10.8", (91, 128)),
        ("0.2,0,10,1", (73, 128)),
        ("0,0.2,1,10", (113, 128)),
        ("0.2,0.2,10,10", (91, 128)),
        ("-10,0,0.8,1", (73, 128)),
        ("0,-10,1,0.8", (113, 128)),
        ("-10,-10,0.8,0.8", (91, 128)),
        ("0.2,0.2,1,1", (91, 128)),
        ("0.2,0.2,-1,-1", (128, 128)),
    ],
)
def test_crop_sizes(region: str, expected: tuple[int, int]) -> None:
    assert size(photo_p(), f"fit,128,128,png!crop,{region}") == expected


def test_crop_pixels() -> None:
    result = pixels(gradient(100, 100), "limit,200,200,png!crop,0.25,0.5,0.1,0.2")
    assert result.shape == (20, 10, 3)
    assert tuple(result[0, 0, :2]) == (25, 50)


def test_crop_of_nothing_is_one_pixel() -> None:
    assert size(gradient(100, 100), "limit,200,200,png!crop,0.2,0.2,0,0.5") == (1, 50)


@pytest.mark.parametrize(
    "edit", ["crop,1,0,1,1", "crop,0,1.5,1,1", "blur,1,0,1,1", "pixelate,0,2,1,1", "rectangle,1,1,1,1"]
)
def test_regions_outside_are_refused(edit: str) -> None:
    name = edit.split(",")[0]
    assert message(edit).startswith(f"error while applying edit '{name}': region begins outside of the image")


def test_missing_region_argument() -> None:
    text = "error while applying edit 'blur': expected argument 'box_width' to be a float but got no value"
    assert message("blur,0,0") == text
    assert message("crop,0").startswith(
        "error while applying edit 'crop': expected argument 'y' to be a float"
    )


# --- pixelate


@pytest.mark.covers("t067")
def test_pixelate_cells() -> None:
    samples = canvas_s()
    colours = {
        (359, 269): (255, 0, 0),
        (439, 269): (0, 255, 0),
        (359, 329): (0, 0, 255),
        (439, 329): (9, 9, 9),
    }
    for (x, y), colour in colours.items():
        samples[y, x] = colour
    samples[270, 360] = (1, 2, 3)
    result = edited(samples, f"pixelate,{BOX},size:0.1")
    assert (result[240:340, 320:420] == (255, 0, 0)).all()
    assert (result[240:340, 420:480] == (0, 255, 0)).all()
    assert (result[340:360, 320:420] == (0, 0, 255)).all()
    assert (result[340:360, 420:480] == (9, 9, 9)).all()
    assert (result[:, :320] == 255).all()
    assert (result[:, 480:] == 255).all()
    assert (result[:240] == 255).all()
    assert (result[360:] == 255).all()


@pytest.mark.parametrize("edit", [f"pixelate,{BOX},size:0", "pixelate,0.1,0.1,0,0.5"])
def test_pixelate_without_effect(edit: str) -> None:
    data = gradient(100, 100)
    assert np.array_equal(pixels(data, f"limit,200,200,png!{edit}"), pixels(data, "limit,200,200,png"))


def test_pixelate_with_a_huge_cell_gives_one_colour() -> None:
    result = pixels(gradient(100, 100), "limit,200,200,png!pixelate,0,0,1,1,size:1e30")
    assert (result == result[0, 0]).all()


def test_a_banner_can_become_one_cell() -> None:
    banner = Image.black(12_000, 20, bands=3).copy(interpretation="srgb").pngsave_buffer()
    assert size(banner, "limit,input,input,png!pixelate,0,0,1,1,size:1") == (12_000, 20)


# --- blur


@pytest.mark.covers("t068")
def test_blur_of_a_flat_field_changes_nothing() -> None:
    assert (edited(canvas_s(), f"blur,{BOX},sigma:0.05") == 255).all()


@pytest.mark.covers("t069")
def test_blur_does_not_bleed_from_the_right_and_bottom() -> None:
    samples = canvas_s()
    samples[:, 480:] = 0
    samples[360:] = 0
    result = edited(samples, f"blur,{BOX},sigma:0.05")
    assert (result[240:360, 320:480] == 255).all()


@pytest.mark.covers("t069")
def test_blur_bleeds_from_the_left() -> None:
    samples = canvas_s()
    samples[:, 300:] = 0
    result = edited(samples, f"blur,{BOX},sigma:0.05")
    assert abs(result[300, 320, 0] - 86) <= 4
    assert tuple(result[300, 319]) == BLACK


@pytest.mark.covers("t068")
def test_blur_stays_inside_its_region() -> None:
    rng = np.random.default_rng(1)
    samples = rng.integers(0, 256, (600, 800, 3))
    result = edited(samples, f"blur,{BOX},sigma:0.01")
    changed = (result != samples).any(axis=2)
    assert changed[240:360, 320:480].mean() > 0.9
    changed[240:360, 320:480] = False
    assert not changed.any()


@pytest.mark.covers("t070")
def test_blur_is_capped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    samples = canvas_s()
    samples[:, 300:] = 0
    with caplog.at_level(logging.WARNING, "safelight.image"):
        capped = edited(samples, f"blur,{BOX},sigma:0.9")
    assert [record.getMessage() for record in caplog.records] == [
        "limiting effective sigma from 900 down to 50"
    ]
    assert np.array_equal(capped, edited(samples, f"blur,{BOX},sigma:0.05"))


def test_blur_radius_shortens_the_kernel() -> None:
    samples = canvas_s()
    samples[:, 400:] = 0
    result = edited(samples, f"blur,{BOX},sigma:0.05,radius:0.003")
    assert tuple(result[300, 396]) == WHITE
    assert tuple(result[300, 404]) == BLACK
    assert 100 < result[300, 399, 0] < 160


@pytest.mark.parametrize("edit", [f"blur,{BOX},sigma:0", "blur,0.1,0.1,0,0"])
def test_blur_without_effect(edit: str) -> None:
    data = gradient(100, 100)
    assert np.array_equal(pixels(data, f"limit,200,200,png!{edit}"), pixels(data, "limit,200,200,png"))


def test_negative_sigma() -> None:
    text = "expected argument 'sigma' to be an unsigned float, got negative value: -1"
    assert message(f"blur,{BOX},sigma:-1") == f"error while applying edit 'blur': {text}"


# --- rectangle


@pytest.mark.covers("t071", "t072")
@pytest.mark.parametrize(
    ("option", "colour"), [("", BLACK), (",color:blue", BLUE), (",color:0x00f", BLUE), (",color:#00f", BLUE)]
)
def test_rectangle(option: str, colour: tuple[int, ...]) -> None:
    result = edited(canvas_s(), f"rectangle,{BOX}{option}")
    assert (result[240:360, 320:480] == colour).all()
    result[240:360, 320:480] = 255
    assert (result == 255).all()


def test_translucent_rectangle_blends() -> None:
    result = edited(canvas_s(), f"rectangle,{BOX},color:#0000ff80")
    assert np.abs(result[300, 400] - (127, 127, 255)).max() <= 1


@pytest.mark.parametrize("edit", [f"rectangle,{BOX},color:none", "rectangle,0.5,0.5,0,0"])
def test_rectangle_without_effect(edit: str) -> None:
    assert (edited(canvas_s(), edit) == 255).all()


def test_bad_rectangle_colour_has_no_colon() -> None:
    assert message(f"rectangle,{BOX},color:ff0000") == "invalid color name ff0000"


# --- resize


@pytest.mark.covers("t073")
@pytest.mark.parametrize(
    ("edit", "shape", "inside", "outside"),
    [
        ("resize_fit,400,400", (300, 400), [(160, 120), (200, 150), (239, 179)], [(159, 119), (240, 180)]),
        ("resize_crop,300,300", (300, 300), [(120, 120), (160, 160), (179, 179)], [(119, 119), (180, 180)]),
        ("resize_limit,400,400", (300, 400), [(160, 120), (239, 179)], [(159, 119), (240, 180)]),
        ("resize_limit,900,900", (600, 800), [(320, 240), (479, 359)], [(319, 239), (480, 360)]),
    ],
)
def test_resize_edits(edit: str, shape, inside, outside) -> None:
    result = edited(canvas_s(), f"{edit}!rectangle,{BOX},color:blue")
    assert result.shape[:2] == shape
    assert all(tuple(result[y, x]) == BLUE for x, y in inside)
    assert all(tuple(result[y, x]) == WHITE for x, y in outside)


@pytest.mark.covers("t074")
@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ("resize_fit,0,50", (50, 50)),
        ("resize_fit,30,0", (30, 30)),
        ("resize_fit,30.5,40.7", (31, 31)),
        ("resize_crop,30.5,40.7", (30, 40)),
        ("resize_crop,100,100", (100, 100)),
        ("resize_limit,200,30", (30, 30)),
    ],
)
def test_resize_sizes(edit: str, expected: tuple[int, int]) -> None:
    assert size(gradient(100, 100), f"limit,999,999,png!{edit}") == expected


@pytest.mark.parametrize(
    "edit", ["resize_fit,0,0", "resize_fit,-5,5", "resize_crop,0,0", "resize_crop,-5,10", "resize_limit,-1,3"]
)
def test_impossible_sizes(edit: str) -> None:
    name = edit.split(",")[0]
    assert message(edit).startswith(f"error while applying edit '{name}': expected width ")


@pytest.mark.covers("t081")
def test_negative_float_x_is_refused_here() -> None:
    text = "expected argument 'float-x' to be an unsigned float, got negative value: -0.5"
    assert message("resize_crop,10,20,float-x:-0.5") == f"error while applying edit 'resize_crop': {text}"


# --- any edit


@pytest.mark.covers("t077")
def test_extra_arguments_are_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "safelight.image"):
        assert size(photo_p(), "fit,128,128,png!rotate,90,1,2") == (128, 91)
    assert [record.getMessage() for record in caplog.records] == ["extra arguments to edit 'rotate': 1, 2"]


@pytest.mark.covers("t078")
def test_edits_run_in_order() -> None:
    first = edited(canvas_s(), f"rectangle,{BOX}!rectangle,{BOX},color:blue")
    assert tuple(first[300, 400]) == BLUE


@pytest.mark.covers("t079")
def test_edits_do_not_leak_into_other_outputs() -> None:
    data = flat(100, 100, WHITE)
    plain, drawn, again = make(data, "fit,50,50,png", "fit,50,50,png!rectangle,0,0,1,1", "fit,50,50,png")
    assert plain.data == again.data != drawn.data


@pytest.mark.covers("t082")
def test_unknown_edit() -> None:
    assert message("nope,1") == "no edit with name 'nope' is supported"


def test_edit_errors_come_before_those_of_the_method() -> None:
    assert error_of(photo_p(), "blah,128,128,xyz!nope,1").message == "no edit with name 'nope' is supported"


def test_multipart_example() -> None:
    assert size(photo_p(), "fit,32,32,png!rotate,90") == (32, 23)


def test_edits_see_the_same_relative_picture_at_any_input_size() -> None:
    small, large = flat(400, 400, WHITE), flat(1600, 1600, WHITE)
    specs = "fit,100,100,png!rectangle,0.25,0.25,0.5,0.5,color:blue"
    assert np.abs(pixels(small, specs) - pixels(large, specs)).mean() < 1


@pytest.mark.parametrize(
    ("edit", "expected"),
    [("resize_stretch,30,90", (30, 90)), ("resize_stretch,300.4,7.5", (300, 8))],
)
def test_resize_stretch_does_not_keep_the_ratio(edit: str, expected: tuple[int, int]) -> None:
    assert size(photo_p(), f"limit,1280,1280,png!{edit}") == expected


def test_caption_is_in_the_middle() -> None:
    white = np.full((60, 200, 3), 255, np.uint8)
    drawn = edited(white, "caption,HELLO,color:red")
    rows, columns = np.nonzero(drawn[:, :, 1] < 64)
    assert abs(rows.min() - (59 - rows.max())) <= 1
    assert abs(columns.min() - (199 - columns.max())) <= 4
    assert set(drawn[:, :, 0].ravel()) == {255}
    assert np.ptp(rows) < np.ptp(np.nonzero(edited(white, "caption,HELLO,size:32")[:, :, 1] < 64)[0])


@pytest.mark.parametrize("size_px", [10, 500])
def test_caption_is_made_smaller_to_fit(size_px: int) -> None:
    drawn = edited(np.full((60, 80, 3), 255, np.uint8), f"caption,twelve words,size:{size_px}")
    columns = np.nonzero(drawn[:, :, 0] < 128)[1]
    assert columns.min() >= 1
    assert columns.max() <= 78


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        ("resize_stretch,0,5", "expected width and height to be positive, got: 0x5"),
        ("caption", "expected argument 'text' to have 1 to 200 characters"),
        ("caption," + "a" * 201, "expected argument 'text' to have 1 to 200 characters"),
        ("caption,a,size:0", "expected option 'size' to be 1 to 500, got: 0"),
        ("caption,a,size:501", "expected option 'size' to be 1 to 500, got: 501"),
    ],
)
def test_bad_arguments_of_newer_edits(edit: str, text: str) -> None:
    assert message(edit) == f"error while applying edit '{edit.partition(',')[0]}': {text}"


def test_a_caption_of_two_lines_is_written_on_one() -> None:
    white = np.full((60, 200, 3), 255, np.uint8)
    assert np.array_equal(edited(white, "caption,one\r\ntwo"), edited(white, "caption,one two"))


def test_bad_caption_colour() -> None:
    assert message("caption,a,color:nope") == "invalid color name nope"


# Documents


def row_of(heading: str, name: str) -> str:
    """What docs/images.md says of a method or an edit: its line in the table below a heading."""
    document = (DATA.parent.parent / "docs" / "images.md").read_text("utf-8")
    _, _, below = document.partition(f"\n## {heading}\n")
    (row,) = re.findall(rf"^\| `{name}` \|.*$", below.partition("\n## ")[0], re.MULTILINE)
    return row


@pytest.mark.parametrize("edit", EDITS.values(), ids=list(EDITS))
def test_edits_are_documented_with_their_arguments(edit: Operation) -> None:
    row = row_of("Edits", edit.name)
    for argument in (*edit.arguments, *edit.options):
        assert argument.name.removeprefix("box_") in row


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_documented(name: str) -> None:
    assert row_of("Size", name)
