"""Imports go one way. The whole rule is in the tables below.

A *room* is a directory or module directly below the package: `storage`, `run`. All imports count, those
inside functions and those for type checkers too.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "safelight"

LAYERS = """
    __main__
    cli
    server  batch
    jobs
    api
    statements
    config
    run
    model
    client  engine  results  variables
    protocol  plugin
    image  storage
    spool
    blob  connecting  etag  finish  multipart  signing  template  uri  url  xid
    errors  timing
"""
"""A room imports rooms on lines below its own; rooms on one line do not know each other."""

NARROWER = {
    "image": {"errors"},
    "storage": {"blob", "connecting", "errors", "finish", "spool", "url"},
    "results": {"blob", "errors", "storage"},
    "config": {"errors", "template"},
    "engine": {"blob", "connecting", "errors", "image", "multipart", "protocol", "timing", "xid"},
    "protocol": {"errors", "image", "multipart"},
    "client": {"connecting", "errors", "image", "protocol", "signing"},
    "plugin": {"errors", "image"},
    "variables": {"blob", "errors"},
    "blob": set(),
    "connecting": set(),
    "etag": set(),
    "finish": set(),
    "spool": {"blob", "errors"},
    "multipart": set(),
    "signing": set(),
    "timing": set(),
    "template": set(),
    "uri": {"errors"},
    "url": {"errors"},
    "xid": set(),
}
"""Rooms that may import less than what is below them. Nobody imports `cli`, being below nothing."""

EXCEPTIONS = {
    ("variables", "model"): "for type checkers only: images are passed in",
}

IMAGE_LIBRARIES = {"pyvips", "PIL"}
MAY_LOAD_IMAGE_CODE = {"engine/handler.py", "plugin.py"}
"""Modules outside `image` that may import what loads libvips; everybody else asks an engine.

`plugin` is what authors of plugins import, and these run where the image code runs.
"""


@dataclass(frozen=True)
class Import:
    """One import of a module of ours, or of a foreign library."""

    importer: Path
    name: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer.relative_to(PACKAGE)}:{self.line} imports {self.name}"


def room(name: str) -> str:
    """`storage` of `safelight.storage.file`; nothing for the package itself and for foreign modules."""
    package, _, rest = name.partition(".")
    return rest.partition(".")[0] if package == "safelight" else ""


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
ROWS = [line.split() for line in LAYERS.strip().splitlines()]
DEPTH = {name: depth for depth, row in enumerate(ROWS) for name in row}


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file, as the full name of a module where it is one of ours."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (Import(path, alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                yield Import(path, longer if longer in SOURCES else str(node.module), node.lineno)


IMPORTS = [found for path in SOURCES.values() for found in imports(path)]
OURS = [(room(module_name(found.importer)), room(found.name), found) for found in IMPORTS]
BETWEEN_ROOMS = [
    (importer, imported, found) for importer, imported, found in OURS if imported not in ("", importer)
]


def test_every_room_has_its_layer() -> None:
    rooms = {room(name) for name in SOURCES} - {""}
    assert rooms - DEPTH.keys() == set(), "give it a line in LAYERS"


def test_imports_go_down() -> None:
    assert [
        str(found)
        for importer, imported, found in BETWEEN_ROOMS
        if {importer, imported} <= DEPTH.keys()
        and DEPTH[imported] <= DEPTH[importer]
        and (importer, imported) not in EXCEPTIONS
    ] == []


@pytest.mark.parametrize("narrow", NARROWER)
def test_some_rooms_know_less(narrow: str) -> None:
    assert [
        str(found)
        for importer, imported, found in BETWEEN_ROOMS
        if importer == narrow and imported not in NARROWER[narrow] and (importer, imported) not in EXCEPTIONS
    ] == []


def test_the_package_itself_imports_nothing() -> None:
    """So importing any module loads only what that module wants."""
    assert [str(found) for importer, imported, found in BETWEEN_ROOMS if not importer] == []


@pytest.mark.parametrize(("importer", "imported"), EXCEPTIONS)
def test_exceptions_are_still_needed(importer: str, imported: str) -> None:
    assert any((importer, imported) == (one, other) for one, other, _ in BETWEEN_ROOMS)


def test_nothing_imports_plugins() -> None:
    assert [str(found) for _, imported, found in BETWEEN_ROOMS if imported == "plugin"] == []


def test_nothing_imports_the_command_line() -> None:
    assert [str(found) for importer, imported, found in BETWEEN_ROOMS
            if imported == "cli" and importer != "__main__"] == []  # fmt: skip


def test_only_image_knows_the_image_libraries() -> None:
    assert [
        str(found)
        for found in IMPORTS
        if found.name.partition(".")[0] in IMAGE_LIBRARIES and room(module_name(found.importer)) != "image"
    ] == []


def loads_image_libraries() -> set[str]:
    """Modules of `image` that load libvips or Pillow when imported, themselves or through others."""
    loading = {
        module_name(found.importer) for found in IMPORTS if found.name.partition(".")[0] in IMAGE_LIBRARIES
    }
    while True:
        more = {module_name(found.importer) for found in IMPORTS if found.name in loading} - loading
        more = {name for name in more if room(name) == "image"}
        if not more:
            return loading
        loading |= more


def test_only_the_handler_of_engines_loads_the_image_code() -> None:
    """No image byte is decoded in the HTTP process."""
    loading = loads_image_libraries()
    assert "safelight.image.pipeline" in loading
    assert [
        str(found)
        for found in IMPORTS
        if found.name in loading
        and room(module_name(found.importer)) != "image"
        and str(found.importer.relative_to(PACKAGE)) not in MAY_LOAD_IMAGE_CODE
    ] == []


def test_processes_of_the_image_code_load_nothing_of_servers() -> None:
    """Their template is forked again and again, and starts with each server and command."""
    script = """
import sys
import safelight.engine.template, safelight.engine.handler
from safelight.image import pipeline
pipeline.import_all()
print(*sys.modules)
"""
    command = [sys.executable, "-c", script]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert {"pyvips", "PIL", "numpy"} <= loaded
    assert loaded & {"structlog", "asyncio", "httpx", "gunicorn", "uvicorn", "obstore", "rich"} == set()


def test_modules_import_each_other_in_no_circle() -> None:
    """Within rooms as well; only imports at the top of a file count here."""
    graph: dict[str, set[str]] = {}
    for name, path in SOURCES.items():
        top = {node.lineno for node in ast.parse(path.read_text()).body}
        graph[name] = {
            found.name for found in imports(path) if found.line in top and found.name in SOURCES
        } - {name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
