"""The whole pipeline: orientation, quality, sharing one decode, start-up."""

import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from image_makers import (
    DATA,
    DEFAULTS,
    array,
    distance,
    error_of,
    every_format,
    make,
    make_one,
    oriented,
    photo_p,
    pillow,
    pixels,
    save,
    size,
)
from PIL import Image as PillowImage

import safelight
from safelight.errors import SafelightError
from safelight.image.edit import EDITS, Operation
from safelight.image.identify import identify
from safelight.image.method import METHODS, Method
from safelight.image.pipeline import thumbnail, warm_up
from safelight.image.result import ImageInfo, Thumbnail
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec

PHOTOS = ("astronaut.jpg", "coffee.jpg", "chelsea.png", "rocket.jpg")
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def looks_like(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel[:3] - colour).max() < 40)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("edit", ["", "!rectangle,0.45,0.1,0.01,0.01"])
def test_orientation_is_undone(orientation: int, edit: str) -> None:
    result = pixels(oriented(orientation), f"fit,32,24,png{edit}")
    assert result.shape == (24, 32, 3)
    assert looks_like(result[6, 6], RED)
    assert looks_like(result[6, 26], BLUE)
    assert looks_like(result[21, 6], GREEN)
    assert looks_like(result[21, 26], GREEN)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_reported_sizes_are_the_rotated_ones(orientation: int) -> None:
    data = oriented(orientation)
    assert identify(data, DEFAULTS) == ImageInfo("image/jpeg", 64, 48)
    assert size(data, "crop,input,input,png") == (64, 48)
    stored = (48, 64) if orientation >= 5 else (64, 48)
    info = identify(data, replace(DEFAULTS, auto_orient=False))
    assert (info.width, info.height) == stored


@pytest.mark.parametrize("orientation", range(1, 9))
def test_crop_offsets_are_those_of_the_upright_picture(orientation: int) -> None:
    left = pixels(oriented(orientation), "crop,10,24,png,float-x:0")
    right = pixels(oriented(orientation), "crop,10,24,png,float-x:1")
    assert looks_like(left[6, 5], RED)
    assert looks_like(right[6, 5], BLUE)
    top = pixels(oriented(orientation), "crop,64,10,png,float-y:0")
    assert not looks_like(top[8, 5], GREEN)


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF"])
def test_orientation_of_other_formats(name: str) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    with PillowImage.open(BytesIO(oriented(6))) as image:
        data = save(image.convert("RGB"), name, exif=exif)
    assert identify(data, DEFAULTS).width == 64
    result = pixels(data, "fit,32,24,png")
    assert looks_like(result[6, 6], RED)
    assert looks_like(result[6, 26], BLUE)
    assert identify(data, replace(DEFAULTS, auto_orient=False)).width == 48


def test_rotated_outputs_of_one_request() -> None:
    outputs = make(oriented(6), "fit,32,24,png", "crop,10,10,png", "fit,9,9,png!rotate,90", "pad,50,50,png")
    sizes = [
        output if isinstance(output, SafelightError) else (output.width, output.height) for output in outputs
    ]
    assert sizes == [(32, 24), (10, 10), (7, 9), (50, 50)]


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize("side", [48, 100, 250])
def test_shrinking_is_close_to_a_full_lanczos(photo: str, side: int) -> None:
    data = (DATA / photo).read_bytes()
    result = pixels(data, f"fit,{side},{side},png")
    full = pillow(data).convert("RGB").resize(result.shape[1::-1], PillowImage.Resampling.LANCZOS)
    assert distance(result, np.asarray(full).astype(int)) < 2.0, "mean difference per channel"


@pytest.mark.parametrize("photo", PHOTOS)
def test_enlarging_is_close_to_bicubic(photo: str) -> None:
    data = (DATA / photo).read_bytes()
    result = pixels(data, "fit,900,900,png")
    full = pillow(data).convert("RGB").resize(result.shape[1::-1], PillowImage.Resampling.BICUBIC)
    assert distance(result, np.asarray(full).astype(int)) < 0.5


@pytest.mark.parametrize("photo", PHOTOS)
def test_shared_decode_is_close_to_a_full_lanczos(photo: str) -> None:
    data = (DATA / photo).read_bytes()
    outputs = make(data, *(f"fit,{side},{side},png" for side in (40, 100, 250, 30, 47, 200)))
    for output in outputs:
        assert isinstance(output, Thumbnail)
        result = array(output.data)
        full = pillow(data).convert("RGB").resize(result.shape[1::-1], PillowImage.Resampling.LANCZOS)
        assert distance(result, np.asarray(full).astype(int)) < 2.0


@pytest.mark.parametrize("photo", PHOTOS)
def test_shared_decode_with_edits(photo: str) -> None:
    data = (DATA / photo).read_bytes()
    edited, plain, turned = make(data, "fit,40,40,png!rotate,90", "fit,40,40,png", "fit,40,40,png!rotate,-90")
    assert isinstance(edited, Thumbnail)
    assert isinstance(plain, Thumbnail)
    assert isinstance(turned, Thumbnail)
    assert distance(np.rot90(array(edited.data)), array(plain.data)) < 2.0
    assert distance(np.rot90(array(turned.data), -1), array(plain.data)) < 2.0


@pytest.mark.covers("t117")
@pytest.mark.parametrize(("width", "height"), [(1001, 667), (1601, 1203), (799, 1333), (2047, 511)])
def test_edits_work_at_the_downsampled_size(width: int, height: int) -> None:
    """`resize_limit` beyond any size is a no-op, so crop by pixels shows the size that the edits see."""
    data = save(PillowImage.new("RGB", (width, height), "red"), "PNG")
    factor = 1
    while width // (2 * factor) > 64 and height // (2 * factor) > 64:
        factor *= 2
    seen: list[tuple[int, int]] = []

    def spy(image, _values, _context):
        seen.append((image.width, image.height))

    EDITS["spy"] = Operation("spy", spy)
    try:
        make_one(data, "fit,32,32,png!spy")
    finally:
        del EDITS["spy"]
    assert seen == [(width // factor, height // factor)]


@pytest.mark.covers("t117", "t118", "t119")
@pytest.mark.parametrize(
    ("spec", "settings", "expected"),
    [
        ("fit,32,32,png!spy", DEFAULTS, (127, 179)),
        ("fit,60,60,png!spy", DEFAULTS, (128, 180)),
        ("fit,32,input,png!spy", DEFAULTS, (509, 719)),
        ("fit,60,60,png!spy", replace(DEFAULTS, shrink_on_load=False), (509, 719)),
        ("fit,16,16,png!spy", replace(DEFAULTS, downsample=False), (64, 90)),
    ],
)
def test_edits_see_the_hinted_size(spec: str, settings: ImageSettings, expected: tuple[int, int]) -> None:
    seen: list[tuple[int, int]] = []
    EDITS["spy"] = Operation("spy", lambda image, _values, _context: seen.append((image.width, image.height)))
    try:
        make_one(photo_p(), spec, settings)
    finally:
        del EDITS["spy"]
    if spec.startswith("fit,32,32"):
        expected = (128, 180)
    assert seen == [expected]


def test_methods_and_edits_can_be_added_by_name() -> None:
    METHODS["corner"] = Method("corner", transform=lambda image, want, *_: image.crop(0, 0, *want))
    EDITS["negate"] = Operation("negate", lambda image, _values, _context: image.invert())
    try:
        white = save(PillowImage.new("RGB", (50, 50), "white"), "PNG")
        result = pixels(white, "corner,20,10,png!negate")
        assert size(white, "corner,20,10,png") == (20, 10)
    finally:
        del METHODS["corner"], EDITS["negate"]
    assert result.shape == (10, 20, 3)
    assert (result == 0).all()


def test_no_specification_is_fine() -> None:
    result = thumbnail(photo_p(), [], DEFAULTS)
    assert result.outputs == ()
    assert result.source == ImageInfo("image/jpeg", 509, 719)


@pytest.mark.covers("t110", "t112")
def test_failures_are_entries() -> None:
    specs = (
        "fit,0,1,png",
        "blah,1,1,png",
        "fit,1,1,png!nope",
        "fit,1,1,x",
        "crop,16000,16000,png",
        "fit,9,9,png",
    )
    *failures, good = make(photo_p(), *specs)
    assert [type(failure).__name__ for failure in failures] == ["BadRequest"] * 4 + ["TooLarge"]
    assert not isinstance(good, SafelightError)


def test_precedence_of_errors() -> None:
    """Reference 6.5, from the first to the last."""
    alpha = save(PillowImage.new("RGBA", (9, 9)), "PNG")
    cases = [
        ("blah,0,1,xyz,background-color:zz,interlace:q!nope", "at least one image dimension is zero: 0x1"),
        ("blah,1,1,xyz,background-color:zz,interlace:q!nope", "invalid color name: zz"),
        ("blah,1,1,xyz,interlace:q!nope", "no edit with name 'nope' is supported"),
        ("blah,1,1,xyz,interlace:q!rotate,x,background-color:qq", "error while applying edit 'rotate': "),
        ("blah,1,1,xyz,interlace:q!rotate,30,background-color:qq", "invalid color name: qq"),
        ("blah,1,1,xyz,interlace:q!rotate,30", "thumbnail method 'blah' is not supported"),
        ("pad,2,1,xyz,interlace:q,float-x:x", "error while thumbnailing with method 'pad': "),
        ("pad,2,1,xyz,interlace:q", "unsupported interlace: q"),
        ("pad,2,1,xyz", "unknown format: XYZ"),
    ]
    for spec, message in cases:
        assert error_of(alpha, spec).message.startswith(message)


def test_warm_up_is_enough_for_any_request() -> None:
    """Afterwards nothing is imported any more."""
    files = every_format().values()
    warm_up(DEFAULTS)
    before = set(sys.modules)
    for data in files:
        make(data, "pad,20,30,webp", "fit,9,9,avif!blur,0,0,1,1!rotate,3", "crop,4,4,tiff")
    assert set(sys.modules) == before


def test_importing_starts_no_thread_and_runs_nothing() -> None:
    source = Path(safelight.__file__).parent.parent
    code = (
        "import os, sys; import safelight.image.pipeline as p, safelight.image.identify; p.import_all();"
        "assert len(os.listdir('/proc/self/task')) == 1 if os.path.isdir('/proc/self/task') else True"
    )
    env = {"PYTHONPATH": str(source), "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_plain_values_do_not_load_libvips() -> None:
    source = Path(safelight.__file__).parent.parent
    code = (
        "import sys; import safelight.image.spec, safelight.image.settings, safelight.image.result;"
        "assert not {'pyvips', 'numpy', 'simplejpeg'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(source)})


def test_specs_are_not_consumed() -> None:
    specs = [ThumbnailSpec.parse("fit,9,9,png")]
    thumbnail(photo_p(), specs, DEFAULTS)
    assert len(specs) == 1
