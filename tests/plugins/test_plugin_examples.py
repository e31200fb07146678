"""The example plugins, through both engines."""

import subprocess
import sys

import numpy as np
import pytest
from image_makers import array, photo_p, png
from plugin_support import EXAMPLES, failure, one, running

from safelight.errors import BadRequest

BOTH = pytest.mark.parametrize("kind", ["inline", "pool"])


@BOTH
@pytest.mark.covers("t134", "t141")
@pytest.mark.parametrize("names", [[""], ["sepia", "stock"]], ids=["one parent", "two directories"])
async def test_all_examples_are_found(kind: str, names: list[str]) -> None:
    async with running(kind, *(EXAMPLES / name for name in names)) as engine:
        for spec in ("cut,16,24,png", "blur,16,24,png", "fit,16,24,png!sepia", "cut,16,24,jpeg!sepia,0.5"):
            made = await one(engine, spec, photo_p())
            assert (made.width, made.height) == (16, 23)


async def test_cut_keeps_the_middle() -> None:
    field = np.zeros((40, 80, 3))
    field[10:30, 20:60] = (0, 200, 0)
    async with running("inline", EXAMPLES) as engine:
        middle = array((await one(engine, "cut,40,20,png", png(field))).data)
        corner = array((await one(engine, "cut,20,10,png,box-x:0,box-y:0", png(field))).data)
    assert (middle == (0, 200, 0)).all()
    assert middle.shape == (20, 40, 3)
    assert (corner[:4, :8] == 0).all()


async def test_blur_leaves_the_border_alone() -> None:
    columns = np.mgrid[0:80, 0:80][1]
    stripes = png(np.dstack([(columns % 2) * 255] * 3))
    async with running("inline", EXAMPLES) as engine:
        made = array((await one(engine, "blur,80,80,png", stripes)).data)[..., 0]
    assert set(np.unique(made[:20])) == {0, 255}
    assert 120 <= made[25:55, 30:50].min() <= made[25:55, 30:50].max() <= 135


@BOTH
@pytest.mark.covers("t140")
async def test_bad_options_and_arguments_of_examples(kind: str) -> None:
    async with running(kind, EXAMPLES) as engine:
        error = await failure(engine, "cut,16,24,png,box-x:much")
        assert type(error) is BadRequest
        expected = (
            "error while thumbnailing with method 'cut': expected argument 'box-x' to be a float, got: much"
        )
        assert error.message == expected
        error = await failure(engine, "fit,16,24,png!sepia,-1")
        assert type(error) is BadRequest
        assert error.message == (
            "error while applying edit 'sepia': "
            "expected argument 'strength' to be an unsigned float, got negative value: -1"
        )
        error = await failure(engine, "fit,16,24,png!sepia,2")
        assert error.message.startswith("error while applying edit 'sepia': expected argument 'strength'")


def test_the_test_beside_the_example_passes() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        ".",
        "test_sepia.py",
    ]
    done = subprocess.run(command, cwd=EXAMPLES / "sepia", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
