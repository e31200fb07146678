"""What declarations have to say to people: reference facts, statements as written, and no secrets."""

import dataclasses
import inspect
import re
import types
from collections.abc import Iterator
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from safelight.config.kind import inspect_value
from safelight.config.secrets import MASK, is_secret, masked
from safelight.config.spec import Field, Role, Statement
from safelight.config.tag import ANONYMOUS, Tag, Value, literal
from safelight.template import Template

# Statements as written


def written(statement: Statement) -> str:
    """A declared statement as in the file, with its block, attributes in order, secrets masked."""
    tag = statement.tag
    parts = tuple(part.tag for part in statement.parts() if part.tag.position != tag.position)
    return "\n".join(_lines(dataclasses.replace(tag, children=tag.children or parts), ""))


def head(tag: Tag) -> str:
    """The first line of a statement as in the file, secrets masked."""
    words = [] if tag.name == ANONYMOUS and tag.values else [tag.name]
    words += map(_literal, tag.values)
    words += [f"{key}={_literal(own)}" for key, own in tag.attributes.items()]
    return masked(" ".join(words))


def _lines(tag: Tag, indent: str) -> Iterator[str]:
    yield indent + head(tag)
    for child in tag.children:
        yield from _lines(child, indent + "    ")


def _literal(found: Value) -> str:
    """As `literal`, but every text in double quotes: that is how people write them."""
    return inspect_value(found) if isinstance(found, str) and len(found) == 1 else literal(found)


def held(statement: Statement) -> dict[str, Any]:
    """The fields of a declared statement as plain values by name, defaults included, secrets masked."""
    return {
        own.name: MASK if is_secret(own.name) and getattr(statement, own.key) else plain(statement, own)
        for own in statement.fields
        if own.role != "block"
    }


def plain(statement: Statement, own: Field) -> Any:
    """One field as text, number, flag, None, list or dict."""
    return _plain(getattr(statement, own.key))


def _plain(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: _plain(item) for key, item in cast(dict[str, Any], found).items()}
    if isinstance(found, tuple):
        return [_plain(item) for item in cast(tuple[Any, ...], found)]
    if found is None or isinstance(found, bool | int):
        return found
    return masked(str(found))


# Reference facts


def paragraphs(cls: type[Statement]) -> list[str]:
    """The docstring of a statement in paragraphs; the first is its summary."""
    return re.split(r"\n{2,}", inspect.cleandoc(cls.__doc__ or ""))


def fields_of(cls: type[Statement], *roles: Role) -> list[Field]:
    """Fields in the order of interest: required ones, optional ones, conditions."""
    chosen = [own for own in cls.fields if own.role in roles]
    return sorted(chosen, key=lambda own: (own.key.startswith("if_"), own.role == "free", not own.required))


def default_of(own: Field) -> str:
    """The default as one would write it; empty when leaving the field out means nothing is there."""
    if own.required or own.default in (None, (), {}):
        return ""
    if isinstance(own.default, Template | str):
        return literal(str(own.default)) if str(own.default) else ""
    return literal(own.default)


def usage(name: str, cls: type[Statement]) -> str:
    """`name <value> attribute=<kind> [...] { ... }`, with what is required spelled out."""
    words = [name] if name else []
    for own in (own for own in cls.fields if own.role in ("value", "values")):
        word = f"<{own.what}>" + (" ..." if own.role == "values" else "")
        words.append(word if own.required else f"[{word}]")
    attributes = fields_of(cls, "attribute", "free")
    words += [f"{own.name}=<{own.kind.label}>" for own in attributes if own.required]
    words += ["[attributes]"] if any(not own.required for own in attributes) else []
    return " ".join(words)


def parts_of(cls: type[Statement]) -> list[type[Statement]]:
    """The classes of statements that stand in the block of a `cls`, if only some may."""
    hints = get_type_hints(cls)
    return [
        found
        for key, hint in hints.items()
        if key in cls.__dataclass_fields__
        for found in _classes(hint)
        if issubclass(found, Statement) and found is not Statement
    ]


def _classes(hint: Any) -> Iterator[type]:
    """Every class that stands in a type, however deep."""
    if get_origin(hint) in (tuple, Union, types.UnionType):
        for inner in get_args(hint):
            yield from _classes(inner)
    elif isinstance(hint, type):
        yield hint
