"""Promises about the tree itself: which libraries it uses where, locked versions, names in the documents."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "safelight"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

ONLY_IN = {
    "gunicorn": {"server", "cli"},
    "uvicorn": {"server", "cli"},
    "click": {"cli"},
}
"""Libraries that only one room knows."""


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path: Path) -> str:
    """`storage` of `src/safelight/storage/file.py`, `run` of `src/safelight/run.py`."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_library_is_known_in_its_own_room_only(library: str) -> None:
    users = {room(path) for path in modules() for name in imports(path) if name.split(".")[0] == library}
    assert users <= ONLY_IN[library]


def test_the_http_process_does_not_load_libvips() -> None:
    """No image byte is decoded there, so that nothing in an image can reach it."""
    unwanted = "{'pyvips', 'PIL', 'numpy', 'simplejpeg'}"
    script = f"import sys, safelight.api, safelight.server.app; print({unwanted} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def declared(*extras: str) -> list[Requirement]:
    texts = list(PROJECT["dependencies"])
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    return [Requirement(text) for text in texts]


DISTRIBUTIONS = {"PIL": "pillow"}
NOT_IMPORTED = {"pyvips-binary"}  # pyvips finds libvips in it
EXTRA = {"asyncpg", "opentelemetry"}  # imported only when it is asked for


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    imported = {name.split(".")[0] for path in modules() for name in imports(path)}
    foreign = imported - set(sys.stdlib_module_names) - {"safelight"} - EXTRA
    needed = {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in foreign}
    names = [canonicalize_name(requirement.name) for requirement in declared()]
    assert sorted(needed | NOT_IMPORTED) == names, "declared once each, in alphabetical order"


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements" / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def test_the_lock_holds_names_and_versions_only() -> None:
    lines = (ROOT / "requirements" / "constraints.txt").read_text().splitlines()
    pin = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+")
    assert [line for line in lines if not line.startswith("#") and not pin.fullmatch(line)] == []


def test_the_lock_agrees_with_what_is_declared() -> None:
    pins = locked()
    for requirement in declared(*PROJECT["optional-dependencies"]):
        version = pins.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in requirements/constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement} excludes the locked {version}"


def test_the_lock_knows_what_the_dependencies_need() -> None:
    """Everything that is installed because a dependency needs it."""
    waiting, seen = declared(*PROJECT["optional-dependencies"]), set[str]()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = f"{name}[{','.join(sorted(requirement.extras))}]"
        if key in seen:
            continue
        seen.add(key)
        try:
            needed = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:
            continue
        environments = [{"extra": extra} for extra in requirement.extras] or [{"extra": ""}]
        waiting += [
            other
            for other in needed
            if other.marker is None or any(other.marker.evaluate(found) for found in environments)
        ]
    assert sorted({key.partition("[")[0] for key in seen} - set(locked())) == []


DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_named_in_documents_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    named = re.findall(r"`((?:src|tests|examples|docs|benchmarks|scripts|requirements)/[\w./*-]+)`", text)
    named += [
        link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if not re.match(r"https?:|mailto:", link)
    ]
    beside = (ROOT / document).parent
    missing = [name for name in named if not (any(ROOT.glob(name)) or (beside / name).exists())]
    assert missing == []


def test_test_modules_have_names_of_their_own() -> None:
    """Two of one name cannot be imported in one run."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted({name for name in names if names.count(name) > 1}) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets_named_in_documents_exist(document: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / document).read_text(), re.MULTILINE))
    assert named <= targets
