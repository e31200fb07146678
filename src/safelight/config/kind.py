"""What fields can hold, and how a written value becomes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from safelight.config.tag import Value
from safelight.template import Template


class ImageName(str):
    """Name of an image that an earlier statement provides."""

    __slots__ = ()


class NewImage(str):
    """Name under which a statement provides an image."""

    __slots__ = ()


class PathName(str):
    """Name of a `path` template."""

    __slots__ = ()


class Root(str):
    """A directory; relative to the working directory of the server."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """How a written value becomes a field's; `convert` raises ValueError, `expected` ends the message."""

    label: str
    convert: Callable[[Value], Any]
    expected: str = "text"


def to_text(written: Value) -> str:
    """Text of a string, number or boolean; numbers as they are written. Raises: ValueError for null."""
    if written is None:
        raise ValueError
    return str(written).lower() if isinstance(written, bool) else str(written)


def to_flag(written: Value) -> bool:
    """A boolean, or the strings `true` and `false`. Raises: ValueError."""
    if isinstance(written, bool):
        return written
    if written in ("true", "false"):
        return written == "true"
    raise ValueError


def to_integer(written: Value) -> int:
    """An integer or a string of digits. Raises: ValueError."""
    if isinstance(written, bool) or not isinstance(written, int | str):
        raise ValueError
    return int(written)


KINDS: dict[Any, Kind] = {
    str: Kind("text", to_text),
    Template: Kind("template", lambda written: Template(to_text(written))),
    ImageName: Kind("image name", lambda written: ImageName(to_text(written))),
    NewImage: Kind("new image name", lambda written: NewImage(to_text(written))),
    PathName: Kind("path name", lambda written: PathName(to_text(written))),
    Root: Kind("directory", lambda written: Root(to_text(written))),
    bool: Kind("flag", to_flag, "true or false or nil"),
    int: Kind("integer", to_integer, "an integer"),
}


def inspect_value(written: Value) -> str:
    """A value as messages show it: strings quoted, `nil` for none."""
    if written is None:
        return "nil"
    if isinstance(written, str):
        return '"' + written.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(written).lower() if isinstance(written, bool) else str(written)
