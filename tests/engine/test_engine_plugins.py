"""Plugins that misbehave cost one request, in the jail as outside of it; counts come along."""

import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

sys.path += [str(Path(__file__).parents[1] / name) for name in ("image", "plugins")]

from plugin_support import ask, failure, one, running, write

from safelight.engine.base import Engine
from safelight.engine.pool import PoolEngine
from safelight.errors import BadRequest, ImageError, Timeout, TooLarge

PLUGIN = """
import os, sys, time
import numpy
from pathlib import Path

TEXT = Path(__file__).read_text()

@edit("numbers")
def numbers(image, options, spec):
    samples = numpy.asarray(image.vips)
    return pyvips.Image.new_from_array(255 - samples, interpretation="srgb")

@edit("raises")
def raises(image, text, options, spec):
    raise ValueError(text)

@edit("vips")
def vips(image, options, spec):
    return image.vips.crop(0, 0, 10_000, 1)

@edit("lazy")
def lazy(image, options, spec):
    import wave
    return None

@edit("opens")
def opens(image, options, spec):
    Path("/etc/hostname").read_text()

@edit("exits")
def exits(image, options, spec):
    sys.exit(3)

@edit("deep")
def deep(image, options, spec):
    return deep(image, options, spec)

@edit("hangs")
def hangs(image, options, spec):
    time.sleep(600)

@edit("spins")
def spins(image, options, spec):
    while True:
        pass

@edit("dies")
def dies(image, options, spec):
    os._exit(7)

@edit("greedy")
def greedy(image, options, spec):
    return bytearray(1 << 40)

@edit("huge")
def huge(image, options, spec):
    return image.new_8bit(1_000_000, 1_000_000)

@edit("rawhuge")
def rawhuge(image, options, spec):
    return pyvips.Image.black(1_000_000, 1_000_000)

@edit("bands")
def bands(image, options, spec):
    return image.vips.bandjoin([image.vips, image.vips])

@edit("number")
def number(image, options, spec):
    return 5

@edit("colour")
def colour(image, name, options, spec):
    return image.rotate(45, name)

@edit("read")
def read(image, options, spec):
    return None if TEXT else 1

@thumbnailing_method("text")
def text(image, width, height, options):
    return "rubbish"

@thumbnailing_method("broken")
def broken(image, width, height, options):
    return image.nothing
"""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["inline", "pool"])
async def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Engine]:
    directory = write(tmp_path_factory.mktemp("plugins"), sub__bad=PLUGIN)
    async with running(request.param, directory, timeout_s=4) as engine:
        yield engine


async def test_plugins_may_use_libraries_and_files_that_they_load_at_the_top(engine: Engine) -> None:
    assert (await one(engine, "fit,6,4,png!numbers!read")).width == 6


@pytest.mark.parametrize("edit", ["raises,secret", "vips", "exits", "deep"])
async def test_what_a_plugin_raises_is_an_error_that_names_it(engine: Engine, edit: str) -> None:
    error = await failure(engine, f"fit,6,4,png!{edit}")
    name = edit.partition(",")[0]
    assert type(error) is ImageError
    assert error.message == f"edit '{name}' of plugin 'sub/bad.py' failed"
    detail = str(error.detail)
    assert "secret" not in error.message
    if name == "raises":
        assert detail.startswith("Traceback")
        assert "raise ValueError(text)" in detail, "the line is shown although no file can be opened"
        assert detail.endswith("ValueError: secret")
        assert "image/plugin.py" not in detail


async def test_methods_are_named_too(engine: Engine) -> None:
    error = await failure(engine, "broken,6,4,png")
    assert type(error) is ImageError
    assert error.message == "thumbnailing method 'broken' of plugin 'sub/bad.py' failed"


@pytest.mark.covers("t139")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fit,6,4,png!number", "edit 'number' returned 'int' - expecting None or an image"),
        ("text,6,4,png", "thumbnailing method 'text' returned 'str' - expecting None or an image"),
        ("fit,6,4,png!bands", "edit 'bands' of plugin 'sub/bad.py' failed"),
    ],
)
async def test_rubbish_is_an_error(engine: Engine, spec: str, message: str) -> None:
    error = await failure(engine, spec)
    assert type(error) is ImageError
    assert error.message == message


async def test_neighbours_of_a_failing_output_are_made(engine: Engine) -> None:
    made = await ask(engine, "fit,6,4,png!raises", "fit,6,4,png", "broken,1,1,png", "fit,3,2,png!numbers")
    assert [isinstance(output, ImageError) for output in made.outputs] == [True, False, True, False]


@pytest.mark.parametrize("edit", ["huge", "rawhuge", "greedy"])
async def test_too_much(engine: Engine, edit: str) -> None:
    error = await failure(engine, f"fit,6,4,png!{edit}")
    assert type(error) is TooLarge
    assert error.message == "image too large: cache resources exhausted"


async def test_bad_colours_are_bad_requests(engine: Engine) -> None:
    rotated = "fit,6,4,png!rotate,30,background-color:nope"
    for spec in ("fit,6,4,png!colour,nope", "pad,9,9,png,background-color:nope", rotated):
        error = await failure(engine, spec)
        assert isinstance(error, BadRequest), spec
        assert error.message == "invalid color name: nope"


@pytest.mark.parametrize("edit", ["lazy", "opens"])
async def test_the_jail_has_no_files(engine: Engine, edit: str) -> None:
    if not isinstance(engine, PoolEngine):
        pytest.skip("only the pool has a jail")
    error = await failure(engine, f"fit,6,4,png!{edit}")
    assert error.message == (
        f"edit '{edit}' of plugin 'sub/bad.py' failed: "
        "modules and files must be loaded at the top of the file, no request can open any"
    )


@pytest.mark.parametrize("edit", ["hangs", "spins"])
async def test_a_plugin_that_hangs_is_ended(engine: Engine, edit: str) -> None:
    if not isinstance(engine, PoolEngine):
        pytest.skip("a thread cannot be ended")
    before = engine.status().restarts.get("timeout", 0)
    start = time.monotonic()
    with pytest.raises(Timeout):
        await ask(engine, f"fit,6,4,png!{edit}")
    assert time.monotonic() - start < 15
    assert engine.status().restarts["timeout"] == before + 1
    assert (await one(engine, "fit,6,4,png!numbers")).width == 6


async def test_a_plugin_that_ends_its_process_costs_one_request(engine: Engine) -> None:
    if not isinstance(engine, PoolEngine):
        pytest.skip("it would end this one")
    with pytest.raises(Exception, match="image"):
        await ask(engine, "fit,6,4,png!dies")
    assert (await one(engine, "fit,6,4,png!numbers")).width == 6


async def test_counts_come_along(engine: Engine) -> None:
    made = await ask(engine, "fit,6,4,png!numbers", "fit,60,40,png!raises")
    assert made.counts == {
        "images_loaded": 1,
        "created_from_blob": 1,
        "thumbnails_created": 1,
        "created_resize": 1,
        "created_total": 2,
        "destroyed_total": 2,
    }


async def test_warnings_reach_the_log(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with capture_logs() as lines:
        await one(engine, "fit,6,4,png!numbers,extra!rotate,0,more\r\nLine")
    told = [line["event"] for line in lines] if isinstance(engine, PoolEngine) else caplog.messages
    assert told[0] == "extra arguments to edit 'numbers': extra"
    assert told[1].startswith("extra arguments to edit 'rotate': more")
    assert isinstance(engine, PoolEngine) <= ("\r" not in told[1])
