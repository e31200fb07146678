"""The files of a batch: names as they were given, directories searched recursively, one at a time."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from safelight.variables import split_extension

STDIN = "-"
STDIN_PATH = "stdin"

HIDDEN, NO_IMAGE, RESULT = "hidden", "no image by name", "results of earlier runs"
"""Why an entry of a directory is not tried."""

_NAMES = """
    jpg jpeg jpe jfif png webp gif tif tiff avif svg svgz bmp dib ico tga pcx ppm pgm pbm pnm psd dds
    jp2 j2k jpc jpx icns sgi rgb qoi
"""
EXTENSIONS = frozenset(_NAMES.split())
"""What a file in a directory must be called to be tried; lower case, no dot."""


@dataclass(frozen=True, slots=True)
class Input:
    """One image to be read.

    `path`: as it is opened. `relative_path`: the part below the directory that was given, or the file name.
    `index`: from 1, in the order of the list. `is_stdin`: read standard input; `path` is then a mere name.
    """

    path: str
    relative_path: str
    index: int
    is_stdin: bool = False

    @property
    def shown(self) -> str:
        """How messages name it."""
        return STDIN if self.is_stdin else self.path


@dataclass(frozen=True, slots=True)
class Skipped:
    """An entry of a directory that is not tried."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A directory that cannot be listed."""

    path: str
    reason: str


Found = Input | Skipped | Unreadable


@dataclass(frozen=True, slots=True)
class Listing:
    """The inputs that arguments of a command line stand for. Iterating reads directories, each time anew.

    A file that is named is always tried, whatever it is called. In directories, at any depth, hidden entries
    and files without the extension of an image are skipped. Links to directories are not followed there, so
    no loop can arise. Within a directory the order is that of the names, files before directories.

    `holds_results(directory)`: a directory that is not to be searched. `is_result(name)`: a file of a
    directory, by name, that is an earlier result.
    """

    names: Sequence[str]
    holds_results: Callable[[str, str], bool] = lambda _parent, _directory: False
    is_result: Callable[[str], bool] = lambda _name: False

    def __iter__(self) -> Iterator[Found]:
        index = 1
        for name in self.names:
            for found in self._expand(name, index):
                yield found
                index += isinstance(found, Input)

    def _expand(self, name: str, index: int) -> Iterator[Found]:
        if name == STDIN:
            yield Input(STDIN_PATH, STDIN_PATH, index, is_stdin=True)
        elif is_directory(name):
            yield from self._search(name, index)
        else:
            yield Input(name, os.path.basename(name), index)

    def _search(self, top: str, index: int) -> Iterator[Found]:
        waiting = [""]
        while waiting:
            below = waiting.pop()
            directory = _joined(top, below) if below else top
            try:
                entries = _listed(directory)
            except OSError as error:
                yield Unreadable(directory, error.strerror or "cannot be listed")
                continue
            inside: list[str] = []
            for name, is_searched, is_file in entries:
                relative, path = _joined(below, name), _joined(directory, name)
                why = self._why_not(directory, name, is_searched, is_file)
                if why:
                    yield Skipped(path, why)
                elif is_searched:
                    inside.append(relative)
                else:
                    yield Input(path, relative, index)
                    index += 1
            waiting += reversed(inside)

    def _why_not(self, directory: str, name: str, is_searched: bool, is_file: bool) -> str:
        if name.startswith("."):
            return HIDDEN
        if is_searched:
            return RESULT if self.holds_results(directory, _joined(directory, name)) else ""
        if not is_file or split_extension(name)[1].lower() not in EXTENSIONS:
            return NO_IMAGE
        return RESULT if self.is_result(name) else ""


def is_directory(name: str) -> bool:
    """Is that argument a directory to be searched?"""
    try:
        return stat.S_ISDIR(os.stat(name).st_mode)
    except (OSError, ValueError):
        return False


def _listed(directory: str) -> list[tuple[str, bool, bool]]:
    """Sorted entries: name, whether a directory and no link, whether a file. Raises: OSError."""
    with os.scandir(directory) as entries:
        return sorted((entry.name, entry.is_dir(follow_symlinks=False), _is_file(entry)) for entry in entries)


def _is_file(entry: os.DirEntry[str]) -> bool:
    """A regular file, or a link that leads to one or nowhere: that is worth a complaint."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return entry.is_symlink()


def _joined(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}" if directory.rstrip("/") else f"{directory[:1]}{name}"
