"""Which files are plugins, what is said about them, and what is wrong with them."""

import logging
from pathlib import Path

import pytest
from image_makers import array
from plugin_support import ask, failure, one, picture, running, write
from structlog.testing import capture_logs

from safelight.errors import BadRequest, ImageError
from safelight.image.catalogue import BUILT_IN
from safelight.image.plugin_files import PluginError, load_plugins, plugin_files

BOTH = pytest.mark.parametrize("kind", ["inline", "pool"])
FLAT = """
@edit("{name}")
def paint(image, options, spec):
    return image.new_8bit(image.width, image.height, "{colour}")
"""


@pytest.mark.covers("t134")
def test_files_at_any_depth_sorted_in_each_directory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("b", "a__z", "a__b__c", "a__test_z", "conftest", ".git__hook", "__pycache____x")
    write(tmp_path / "one", **dict.fromkeys(names, FLAT.format(name="x", colour="red")))
    write(tmp_path / "two", a=FLAT.format(name="x", colour="blue"))
    (tmp_path / "one" / "notes.txt").write_text("no plugin")
    found = [path.relative_to(tmp_path).as_posix() for path in plugin_files(tmp_path / "one")]
    assert found == ["one/a/b/c.py", "one/a/z.py", "one/b.py"]
    caplog.set_level(logging.INFO, "safelight.plugins")
    load_plugins([str(tmp_path / "two"), str(tmp_path / "one")])
    loaded = [line for line in caplog.messages if line.startswith("loading plugin from: ")]
    assert [line.rpartition("/")[2] for line in loaded] == ["a.py", "c.py", "z.py", "b.py"]


@BOTH
@pytest.mark.covers("t135")
async def test_what_the_log_says(kind: str, tmp_path: Path) -> None:
    directory = write(
        tmp_path / "there",
        some="""
        @thumbnailing_method("middle")
        def middle(image, width, height, options): ...

        @edit("mark")
        def mark(image, text, position=None, *more, options): ...
        """,
    )
    missing = tmp_path / "missing"
    with capture_logs() as lines:
        async with running(kind, missing, directory) as engine:
            assert (await one(engine, "fit,10,10,png")).width == 10
    said = [(line["log_level"], line["event"]) for line in lines]
    assert said == [
        ("warning", f"plugin directory '{missing}' is not accessible: No such file or directory"),
        ("info", f"loading plugin from: {directory}/some.py"),
        ("info", "adding thumbnailing method: middle"),
        ("info", "adding edit: mark(text, position, *more)"),
    ]


@BOTH
@pytest.mark.covers("t136")
async def test_the_last_definition_wins_built_in_ones_included(kind: str, tmp_path: Path) -> None:
    first = write(tmp_path / "1", a=FLAT.format(name="rotate", colour="red"))
    second = write(
        tmp_path / "2",
        a=FLAT.format(name="rotate", colour="lime"),
        b="""
        @thumbnailing_method("crop")
        def crop(image, width, height, options):
            return image.new_8bit(3, 4, "blue")
        """,
    )
    async with running(kind, first, second) as engine:
        assert array((await one(engine, "fit,5,5,png!rotate")).data)[0, 0].tolist() == [0, 255, 0]
        made = await one(engine, "crop,50,50,png")
        assert (made.width, made.height) == (3, 4)
    assert "transform" in repr(BUILT_IN.methods["crop"])
    assert BUILT_IN.methods["crop"].transform is None, "built-in tables stay as they are"


@pytest.mark.parametrize(
    ("source", "line", "reason"),
    [
        ("def f(:\n", 3, "invalid syntax"),
        ("x = 1\n  y = 2\n", 4, "unexpected indent"),
        ("\n\nundefined\n", 5, "NameError: name 'undefined' is not defined"),
        ("def f():\n    raise ValueError('a\\nb')\nf()\n", 4, "ValueError: a b"),
        ("import no_such_module\n", 3, "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit\n", 3, "SystemExit"),
        ("@edit(5)\ndef f(image, options, spec): ...\n", 3, "edit name must be a string; got: 5"),
        ("@edit\ndef f(image, options, spec): ...\n", 3, "edit name must be a string; got: <function f"),
        ("@thumbnailing_method('')\ndef f(a, b, c, d): ...\n", 3, "name '' cannot be written in a spec"),
        ("@edit('a,b')\ndef f(a, b, c): ...\n", 3, "edit name 'a,b' cannot be written in a specification"),
        ("@edit('a')\ndef f(image): ...\n", 3, "an edit takes image, its arguments, options"),
        ("@edit('a')\ndef f(image, *, other): ...\n", 3, "got: f(image, *, other)"),
        ("@edit('a')\nasync def f(a, b, c): ...\n", 3, "edit 'a' must be a plain function"),
        ("@thumbnailing_method('a')\ndef f(image): ...\n", 3, "takes image, width, height, options; got: f("),
    ],
)
def test_errors_name_file_line_and_reason_on_one_line(
    tmp_path: Path, source: str, line: int, reason: str
) -> None:
    directory = write(tmp_path)
    path = tmp_path / "broken.py"
    path.write_text("from safelight.plugin import *\nimport pyvips\n" + source)
    with pytest.raises(PluginError) as caught:
        load_plugins([directory])
    assert caught.value.message.startswith(f"{path}:{line}: ")
    assert reason in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("content", [b"x = '\xff'\n", b"\0", b"# coding: nope\n"])
def test_files_that_are_no_python(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.py").write_bytes(content)
    with pytest.raises(PluginError, match=r"broken\.py:\d+: "):
        load_plugins([str(tmp_path)])


@BOTH
async def test_a_broken_plugin_stops_the_start(kind: str, tmp_path: Path) -> None:
    directory = write(tmp_path, good=FLAT.format(name="x", colour="red"), worse="undefined\n")
    with pytest.raises(ImageError) as caught:
        async with running(kind, directory):
            pass
    assert caught.value.detail == f"{directory}/worse.py:3: NameError: name 'undefined' is not defined"


async def test_a_plugin_must_not_start_threads_while_it_is_loaded(tmp_path: Path) -> None:
    directory = write(
        tmp_path,
        busy="""
        import threading, time
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        """,
    )
    with pytest.raises(ImageError) as caught:
        async with running("pool", directory):
            pass
    assert "image code and plugins has started threads: 1" in str(caught.value.detail)


async def test_decorated_functions_stay_as_they_are(tmp_path: Path) -> None:
    """Outside of a server nothing is registered, so that a plugin can be imported by its test."""
    from safelight.plugin import edit, thumbnailing_method

    def function(image: object, width: int, height: int, options: object) -> None: ...

    assert edit("x")(function) is function
    assert thumbnailing_method("x")(function) is function
    assert "x" not in BUILT_IN.edits
    async with running("inline", write(tmp_path)) as engine:
        assert isinstance(await failure(engine, "x,1,1,png"), BadRequest)
        assert (await ask(engine, "fit,1,1,png", data=picture())).counts["thumbnails_created"] == 1
