"""Finding and running plugin files, once, before any worker is forked."""

import linecache
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from zlib import crc32

from safelight.errors import ConfigError
from safelight.image.catalogue import BUILT_IN, Catalogue
from safelight.image.plugin import LOG, collecting, origin_of


class PluginError(ConfigError):
    """A plugin file that cannot be loaded: one line with the file, the line and the reason."""


def load_plugins(directories: Sequence[str], catalogue: Catalogue = BUILT_IN) -> Catalogue:
    """The catalogue and whatever the plugin files below the directories add to it, in that order.

    A later definition replaces an earlier one of the same name, built-in ones included. A directory that
    cannot be read is only a warning. Raises: PluginError.
    """
    for directory in directories:
        for path in plugin_files(Path(directory)):
            catalogue = catalogue.extended(load_file(path, origin_of(path, Path(directory))))
    return catalogue


def plugin_files(directory: Path) -> list[Path]:
    """Python files at any depth, sorted; no tests, nothing in `.git` and `__pycache__`."""
    try:
        os.scandir(directory).close()
    except OSError as error:
        LOG.warning("plugin directory '%s' is not accessible: %s", directory, error.strerror)
        return []
    return sorted(path for path in directory.rglob("*.py") if _is_plugin(path.relative_to(directory)))


def _is_plugin(path: Path) -> bool:
    if path.name.startswith(("test_", ".")) or path.name == "conftest.py":
        return False
    return not any(part.startswith((".", "__")) for part in path.parts[:-1])


def load_file(path: Path, origin: str) -> Catalogue:
    """Run a plugin file and return what it declares. Raises: PluginError."""
    LOG.info("loading plugin from: %s", path)
    try:
        source = path.read_bytes()
        # In the jail the file cannot be opened any more to show its lines in a traceback.
        lines = source.decode(errors="replace").splitlines(keepends=True)
        linecache.cache[str(path)] = (len(source), None, lines, str(path))
        code = compile(source, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise PluginError(f"{path}:{error.lineno or 1}: {error.msg}") from error
    except (OSError, ValueError) as error:
        raise PluginError(f"{path}:1: {error}") from error
    module = ModuleType(f"safelight_plugin_{path.stem}_{crc32(os.fsencode(path)):08x}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickle look there
    with collecting(origin) as collector:
        try:
            exec(code, module.__dict__)  # noqa: S102 (what plugins are)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            del sys.modules[module.__name__]
            raise PluginError(f"{path}:{_line(error, path)}: {_reason(error)}") from error
    return collector.catalogue


def _line(error: BaseException, path: Path) -> int:
    """The last line of the file that was running."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or 1 for frame in reversed(frames) if frame.filename == str(path)), 1)


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
