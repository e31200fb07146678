"""Thumbnailing methods on real pixels: reference 7.1."""

import numpy as np
import pytest
from image_makers import array, error_of, flat, gradient, make, make_one, photo_p, photo_q, pixels, size

from safelight.errors import BadRequest
from safelight.image.method import METHODS


def test_the_four_methods_are_registered() -> None:
    assert list(METHODS) == ["crop", "fit", "limit", "pad", "stretch"]


@pytest.mark.covers("t043")
@pytest.mark.parametrize("want", [(16, 16), (128, 7), (1000, 1000), (509, 719), (1, 1)])
def test_crop_is_exact(want: tuple[int, int]) -> None:
    assert size(photo_p(), f"crop,{want[0]},{want[1]},png") == want


@pytest.mark.covers("t044")
def test_crop_without_change_keeps_pixels() -> None:
    assert np.array_equal(pixels(photo_q(), "crop,509,719,png"), array(photo_q()))


@pytest.mark.covers("t045")
def test_crop_of_the_same_shape_only_resizes() -> None:
    data = gradient(200, 100)
    assert np.array_equal(pixels(data, "crop,100,50,png,float-x:0"), pixels(data, "fit,100,50,png"))


@pytest.mark.covers("t046")
@pytest.mark.parametrize(
    ("spec", "start"),
    [
        ("crop,51,100,png", (25, 0)),
        ("crop,33,100,png", (34, 0)),
        ("crop,50,100,png,float-x:0.25", (13, 0)),
        ("crop,100,33,png,float-y:0.3", (0, 21)),
        pytest.param("crop,51,100,png,float-x:-9.8", (0, 0), marks=pytest.mark.covers("t047", "t081")),
        pytest.param("crop,51,100,png,float-x:3", (49, 0), marks=pytest.mark.covers("t047")),
    ],
)
def test_crop_offsets(spec: str, start: tuple[int, int]) -> None:
    assert tuple(pixels(gradient(100, 100), spec)[0, 0, :2]) == start


@pytest.mark.covers("t048")
def test_crop_artefact() -> None:
    data = gradient(100, 100)
    assert np.array_equal(pixels(data, "crop,7,7,png"), pixels(data, "crop,8,8,png")[1:, 1:])


@pytest.mark.covers("t049", "t051")
@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("fit,128,128,png", (91, 128)),
        ("fit,1024,1024,png", (725, 1024)),
        ("limit,128,128,png", (91, 128)),
        ("limit,1024,1024,png", (509, 719)),
        ("limit,509,100,png", (71, 100)),
    ],
)
def test_fit_and_limit_sizes(spec: str, expected: tuple[int, int]) -> None:
    assert size(photo_p(), spec) == expected


@pytest.mark.covers("t050")
def test_fit_keeps_one_pixel() -> None:
    assert size(flat(300, 2, (9, 9, 9)), "fit,10,10,png") == (10, 1)


@pytest.mark.covers("t052")
def test_pad_geometry_and_default_white() -> None:
    result = pixels(photo_p(), "pad,128,128,png")
    assert result.shape == (128, 128, 3)
    assert tuple(result[2, 2]) == (255, 255, 255)
    white = (result == 255).all(axis=(0, 2))
    assert not white[19:110].any()
    assert white[:19].all()
    assert white[110:].all()


@pytest.mark.covers("t052", "t098")
@pytest.mark.parametrize(
    ("colour", "value"), [("green", (0, 128, 0)), ("0xff0000", (255, 0, 0)), ("0x00f", (0, 0, 255))]
)
def test_pad_colours(colour: str, value: tuple[int, int, int]) -> None:
    result = pixels(photo_p(), f"pad,128,128,png,background-color:{colour}")
    assert tuple(result[2, 2]) == value


@pytest.mark.covers("t053")
@pytest.mark.parametrize(
    ("option", "columns"),
    [("", (38, 162)), (",float-x:0", (0, 124)), (",float-x:1.0", (75, 199)), (",float-x:0.3", (23, 147))],
)
def test_pad_offsets(option: str, columns: tuple[int, int]) -> None:
    result = pixels(flat(100, 80, (255, 0, 0)), f"pad,200,100,png{option}")
    red = np.flatnonzero((result == (255, 0, 0)).all(axis=2).any(axis=0))
    assert (red[0], red[-1]) == columns


@pytest.mark.covers("t053")
def test_pad_offset_down() -> None:
    result = pixels(flat(100, 80, (255, 0, 0)), "pad,100,101,png")
    red = np.flatnonzero((result == (255, 0, 0)).all(axis=2).any(axis=1))
    assert (red[0], red[-1]) == (11, 90)


@pytest.mark.covers("t052")
def test_pad_of_grey_in_colour() -> None:
    grey = make_one(flat(10, 10, (9, 9, 9)), "fit,10,10,png").data
    assert tuple(pixels(grey, "pad,20,10,png,background-color:red")[0, 0]) == (255, 0, 0)


@pytest.mark.covers("t052", "t097")
def test_pad_with_nothing() -> None:
    result = pixels(photo_p(), "pad,128,128,png,background-color:none")
    assert tuple(result[2, 2]) == (0, 0, 0, 0)
    assert result[64, 64, 3] == 255


@pytest.mark.covers("t054", "t119")
@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("crop,input,16,png", (509, 16)),
        ("crop,4,input,png", (4, 719)),
        ("crop,input,input,png", (509, 719)),
        ("fit,input,input,png", (509, 719)),
    ],
)
def test_input_sizes(spec: str, expected: tuple[int, int]) -> None:
    assert size(photo_p(), spec) == expected


@pytest.mark.covers("t056")
@pytest.mark.parametrize(
    ("spec", "sides"), [("crop,0,16,png", "0x16"), ("blah,0,input,xx!no", "0x719"), ("fit,00,0,png", "0x0")]
)
def test_zero_sizes(spec: str, sides: str) -> None:
    error = error_of(photo_p(), spec)
    assert isinstance(error, BadRequest)
    assert error.message == f"at least one image dimension is zero: {sides}"


@pytest.mark.covers("t057")
def test_unknown_method() -> None:
    error = error_of(photo_p(), "blah,16,16,xyz")
    assert isinstance(error, BadRequest)
    assert error.message == "thumbnail method 'blah' is not supported"


@pytest.mark.covers("t058")
@pytest.mark.parametrize("method", ["crop", "pad"])
def test_bad_float_x(method: str) -> None:
    error = error_of(photo_p(), f"{method},16,16,png,float-x:xxx")
    assert isinstance(error, BadRequest)
    text = "expected argument 'float-x' to be a float, got: xxx"
    assert error.message == f"error while thumbnailing with method '{method}': {text}"


@pytest.mark.covers("t058")
def test_nan_is_no_float() -> None:
    assert error_of(photo_p(), "crop,16,16,png,float-y:nan").message.endswith("to be a float, got: nan")


@pytest.mark.covers("t059")
@pytest.mark.parametrize(
    "spec", ["crop,509,719,png,float-x:xxx", "pad,509,719,png,float-x:xxx", "fit,9,9,png,float-x:x"]
)
def test_unused_options_are_not_parsed(spec: str) -> None:
    make_one(photo_p(), spec)


def test_several_outputs_in_order_with_errors_between() -> None:
    specs = ("crop,16,16,png", "blah,1,1,png", "fit,32,32,jpeg", "fit,0,1,png")
    outputs = make(photo_p(), *specs)
    assert [type(output).__name__ for output in outputs] == [
        "Thumbnail",
        "BadRequest",
        "Thumbnail",
        "BadRequest",
    ]
