"""The page for authors of plugins: its examples run, and it names everything that there is."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from image_makers import array, flat
from plugin_support import failure, one, running
from tally import Tally

import safelight.plugin
from safelight.api import build, load_config
from safelight.blob import MemoryBlob
from safelight.model import Request
from safelight.plugin import PluginImage
from safelight.run import run
from safelight.uri import parse_query

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
CONFIGURATION = PAGE.partition("```sdl\n")[2].partition("```")[0]
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("kind", ["inline", "pool"])
async def test_the_first_example(kind: str, tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text(BLOCKS[0])
    async with running(kind, tmp_path) as engine:
        for spec in re.findall(r'"""(.*?)"""', BLOCKS[0]):
            assert (await one(engine, spec)).width == 100
        error = await failure(engine, "fit,100,100,jpeg!darken,much")
        assert error.message in PAGE


async def test_the_configuration_uses_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shapes.py").write_text(BLOCKS[0])
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(flat(200, 200, (100, 150, 200)))
    monkeypatch.chdir(tmp_path)
    config = load_config(CONFIGURATION, "api.sdl")
    assert config.warnings == ()
    request = Request("GET", "/dark/a.png", "", parse_query(""), {})
    async with running("inline", tmp_path) as engine:
        found = build(config, engine, Tally()).match(request)
        assert found is not None
        answer = await run(*found, request, nothing, 1 << 27)
    made = array(answer.body.read())
    assert made.shape == (128, 128, 3)
    assert np.abs(made[64, 64] - (70, 105, 140)).max() <= 2


async def nothing() -> MemoryBlob:
    return MemoryBlob(b"")


def test_the_example_of_a_test() -> None:
    exec(BLOCKS[1], {})


def test_everything_is_documented() -> None:
    names = [*safelight.plugin.__all__, *(name for name in vars(PluginImage) if not name.startswith("_"))]
    assert [name for name in names if name not in PAGE] == []


def test_signatures_are_those_of_the_code() -> None:
    documented = dict(re.findall(r"`(\w+)\(([^`]*)\)`", PAGE.partition("## The image")[2]))
    for name, text in documented.items():
        function = inspect.getattr_static(PluginImage, name, None)
        if name in ("get", "borrow", "copy", "sample", "with_background_color") or function is None:
            continue
        function = getattr(function, "__func__", function)
        parameters = [one for one in inspect.signature(function).parameters.values() if one.name != "self"]
        plain = [one.replace(annotation=one.empty) for one in parameters]
        assert ", ".join(map(str, plain)).replace("'", '"') == text, name
