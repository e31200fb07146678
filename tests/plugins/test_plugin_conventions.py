"""How functions of plugins are called, and what may come back (reference/thumbnailer section 14)."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_makers import array, png
from plugin_support import failure, one, picture, running, write

from safelight.errors import BadRequest
from safelight.image.catalogue import BUILT_IN
from safelight.image.pipeline import thumbnail
from safelight.image.plugin import collecting, edit, thumbnailing_method
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec

BOTH = pytest.mark.parametrize("kind", ["inline", "pool"])
SHOW = """
def show(image, *seen):
    '''A picture as wide as what was seen is long in text; every sample is its character.'''
    text = repr(seen).encode("ascii", "replace")
    return pyvips.Image.new_from_memory(text, len(text), 1, 1, "uchar").copy(interpretation="b-w")

"""


async def seen(kind: str, directory: str, spec: str) -> Any:
    """What a plugin was given, read from the picture that it made of that."""
    async with running(kind, directory) as engine:
        text = bytes(
            array((await one(engine, spec, picture(1000, 40))).data)[0, :, 0].astype(np.uint8)
        ).decode()
    return eval(text)


@BOTH
@pytest.mark.covers("t137")
@pytest.mark.parametrize(
    ("edit", "given"),
    [
        ("two", (None, None, {})),
        ("two,1", ("1", None, {})),
        ("two,1,2", ("1", "2", {})),
        ("two,1,2,3,4", ("1", "2", {})),
        ("two,,2,a:b:c", ("", "2", {"a": "b:c"})),
        ("defaults", ("x", "y", {})),
        ("defaults,1", ("1", "y", {})),
        ("rest", (None, {})),
        ("rest,1,2,3,k:v", ("1", "2", "3", {"k": "v"})),
        ("ruby", (None, {}, "limit")),
        ("ruby,1,2", ("1", "2", {}, "limit")),
        ("short", (None,)),
    ],
)
async def test_arguments_of_edits(kind: str, edit: str, given: tuple[Any, ...], tmp_path: Path) -> None:
    if kind == "pool" and not edit.endswith(("3,4", "k:v")):
        pytest.skip("two are enough for the jail")
    source = """
@edit("two")
def two(image, first, second, options, thumbnail_spec):
    return show(image, first, second, options)

@edit("defaults")
def defaults(image, first="x", second="y", options=None, thumbnail_spec=None):
    return show(image, first, second, options)

@edit("rest")
def rest(image, first, *more, options):
    return show(image, first, *more, options)

@edit("ruby")
def ruby(image, first, *more):
    *more, options, spec = more
    return show(image, first, *more, options, spec.method)

@edit("short")
def short(image, first, _options, _spec):
    return show(image, first)
"""
    path = tmp_path / "shown.py"
    path.write_text("from safelight.plugin import *\nimport pyvips\n" + SHOW + source)
    assert await seen(kind, str(tmp_path), f"limit,1000,1000,png!{edit}") == given


@pytest.mark.covers("t137")
async def test_extra_arguments_are_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = write(tmp_path, a="@edit('a')\ndef a(image, one, options, spec): ...\n")
    caplog.set_level(logging.WARNING, "safelight.image")
    async with running("inline", directory) as engine:
        await one(engine, "fit,6,4,png!a,1,2,3")
    assert caplog.messages == ["extra arguments to edit 'a': 2, 3"]


@BOTH
async def test_the_specification_and_options(kind: str, tmp_path: Path) -> None:
    source = """
@edit("spec")
def spec(image, options, spec):
    edits = [(edit.name, edit.args, edit.options) for edit in spec.edits]
    return show(image, spec.method, spec.width, spec.height, spec.format, spec.options, edits)

@thumbnailing_method("options")
def options(image, width, height, options):
    return show(image, image.columns, image.rows, width, height, options)
"""
    (tmp_path / "shown.py").write_text("from safelight.plugin import *\nimport pyvips\n" + SHOW + source)
    got = await seen(kind, str(tmp_path), "limit,input,1000,png,a:b!rotate,0!spec,x:y")
    edits = [("rotate", ("0",), {}), ("spec", (), {"x": "y"})]
    assert got == ("limit", None, 1000, "png", {"a": "b"}, edits)
    got = await seen(kind, str(tmp_path), "options,input,16,png,a:b")
    assert got == (1000, 40, 1000, 16, {"background-color": "white", "a": "b"})


Plugin = Callable[..., Any]


def made(function: Plugin, spec: str, data: bytes | None = None) -> np.ndarray:
    """Samples of one output; the function is the edit or method `it`."""
    with collecting("it.py") as collector:
        edit("it")(function) if "!it" in spec else thumbnailing_method("it")(function)
    catalogue = BUILT_IN.extended(collector.catalogue)
    found = thumbnail(data or picture(), [ThumbnailSpec.parse(spec)], ImageSettings(), catalogue)
    (output,) = found.outputs
    if isinstance(output, Exception):
        raise output
    return array(output.data)


@pytest.mark.covers("t138")
@pytest.mark.parametrize("spec", ["fit,input,input,png!it", "it,60,40,png"])
def test_none_and_the_image_itself_mean_unchanged(spec: str) -> None:
    for function in (lambda _a, _b, _c, *_d: None, lambda image, _b, _c, *_d: image):
        assert (made(_as_function(function, spec), spec) == (16, 32, 48)).all()
        assert made(_as_function(function, spec), spec).shape == (40, 60, 3)


def _as_function(function: Plugin, spec: str) -> Plugin:
    """With as many parameters as an edit or a method has."""
    if "!it" in spec:
        return lambda image, options, spec: function(image, options, spec)
    return lambda image, width, height, options: function(image, width, height, options)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda image, o, s: image.vips * 0.5, (8, 16, 24)),
        (lambda image, o, s: image.vips * 100, (255, 255, 255)),
        (lambda image, o, s: image.vips - 40, (0, 0, 8)),
        (lambda image, o, s: image.vips.cast("ushort"), (16, 32, 48)),
        (lambda image, o, s: image.vips[2], (48, 48, 48)),
        (lambda image, o, s: image.vips.colourspace("lab"), (16, 32, 48)),
        (lambda image, o, s: image.vips.colourspace("rgb16"), (16, 32, 48)),
        (lambda image, o, s: image.vips.colourspace("scrgb"), (16, 32, 48)),
        (lambda image, o, s: image.vips.colourspace("b-w").colourspace("srgb"), (30, 30, 30)),
        (lambda image, o, s: image.vips.addalpha(), (16, 32, 48)),
        (lambda image, o, s: image.vips.bandjoin(0), (255, 255, 255)),
        (lambda image, o, s: image.new_8bit(4, 4), (255, 255, 255)),
    ],
    ids=[
        "half",
        "clipped",
        "negative",
        "16-bit",
        "grey",
        "lab",
        "rgb16",
        "linear",
        "grey-rgb",
        "alpha",
        "transparent",
        "none",
    ],
)
def test_any_picture_of_libvips_may_come_back(function: Plugin, expected: tuple[int, ...]) -> None:
    found = made(function, "limit,100,100,png!it")
    assert np.abs(found - expected).max() <= 1
    assert found.shape[2] == 3


def test_transparency_stays_if_the_background_is_transparent() -> None:
    found = made(lambda image, o, s: image.new_8bit(4, 4), "limit,9,9,png,background-color:none!it")
    assert (found == 0).all()
    assert found.shape == (4, 4, 4)


def test_the_input_is_always_8_bit_colour() -> None:
    grey = png(np.full((4, 4, 1), 9)[..., 0])

    def look(image: Any, o: Any, s: Any) -> None:
        assert (image.vips.bands, image.vips.format, image.vips.interpretation) == (3, "uchar", "srgb")

    made(look, "fit,4,4,png!it", grey)


async def test_colours_and_limits_keep_their_errors(tmp_path: Path) -> None:
    directory = write(
        tmp_path,
        a="""
        @edit("colour")
        def colour(image, options, spec):
            return image.render_rectangle(0, 0, 9, 9, "nope")

        @edit("own")
        def own(image, text, options, spec):
            raise PluginArgumentError(f"not {text}")

        @thumbnailing_method("sized")
        def sized(image, width, height, options):
            return image.resize_to_fit(width, uint_arg("n", options.get("n")))
        """,
    )
    async with running("inline", directory) as engine:
        for spec, message in {
            "fit,9,9,png!colour": "invalid color name: nope",
            "fit,9,9,png!own,1": "error while applying edit 'own': not 1",
            "sized,9,9,png,n:x": "error while thumbnailing with method 'sized': "
            "expected argument 'n' to be an integer, got: \"x\"",
            "sized,9,9,png": "error while thumbnailing with method 'sized': "
            "expected argument 'n' to be an integer but got no value",
            "sized,9,9,png,n:-1": "error while thumbnailing with method 'sized': "
            "expected argument 'n' to be an unsigned integer, got negative value: -1",
            "sized,9,9,png,n:0": "error while thumbnailing with method 'sized': "
            "expected width and height to be positive, got: 9x0",
        }.items():
            error = await failure(engine, spec)
            assert isinstance(error, BadRequest)
            assert error.message == message
