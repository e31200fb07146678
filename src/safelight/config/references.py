"""What a declared statement refers to: its templates, path names and image names, its parts' included."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from safelight.config.kind import ImageName, NewImage, PathName
from safelight.config.spec import Statement
from safelight.template import Template

Reference = Template | PathName | ImageName | NewImage


def references(statement: Statement) -> Iterator[Reference]:
    """Everything that names something else, in order of declaration."""
    for own in statement.fields:
        if own.role != "block":
            yield from _flattened(getattr(statement, own.key))
    for part in statement.parts():
        yield from references(part)


def _flattened(held: Any) -> Iterator[Reference]:
    if isinstance(held, Reference):
        yield held
    elif isinstance(held, Mapping):
        for item in cast(Mapping[str, Any], held).values():
            yield from _flattened(item)
    elif isinstance(held, tuple):
        for item in cast(tuple[Any, ...], held):
            yield from _flattened(item)
