"""What fields can hold, and how a written value becomes it."""

import re
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


class Duration(int):
    """Seconds."""

    __slots__ = ()


class Size(int):
    """Bytes."""

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


_NUMBER_AND_UNIT = re.compile(r"(\d{1,15}(?:\.\d{1,3})?)\s*([A-Za-z]*)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_BYTES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}


def to_duration(written: Value) -> Duration:
    """Whole seconds, at least one, of a number or of `30s`, `5m`, `12h`, `7d`, `2w` or `1y` (365 days).

    Raises: ValueError.
    """
    return Duration(_quantity(written, _SECONDS))


def to_size(written: Value) -> Size:
    """Bytes, at least one, of a number or of `500MB`, `10GiB` and the like. Raises: ValueError."""
    return Size(_quantity(written, _BYTES))


def _quantity(written: Value, units: dict[str, int]) -> int:
    found = _NUMBER_AND_UNIT.fullmatch(to_text(written).strip())
    factor = units.get(found[2].lower()) if found else None
    if found is None or factor is None or float(found[1]) * factor < 1:
        raise ValueError
    return round(float(found[1]) * factor)


KINDS: dict[Any, Kind] = {
    str: Kind("text", to_text),
    Template: Kind("template", lambda written: Template(to_text(written))),
    ImageName: Kind("image name", lambda written: ImageName(to_text(written))),
    NewImage: Kind("new image name", lambda written: NewImage(to_text(written))),
    PathName: Kind("path name", lambda written: PathName(to_text(written))),
    Root: Kind("directory", lambda written: Root(to_text(written))),
    Duration: Kind("duration", to_duration, "a duration such as 30s, 12h or 7d"),
    Size: Kind("size", to_size, "a size such as 500MB or 10GiB"),
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
