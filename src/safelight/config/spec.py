"""How a statement states its fields, once: for parsing, defaults, messages, documentation and checks.

    class SourceFile(Statement):
        image_name: NewImage = value("image name", help="name that later statements use")
        root: Root = attribute(help="directory that holds the images")

The annotation says what a field holds; `declare` turns a tag into the frozen statement or reports why not.
Message texts: reference/imagestore 2.1.
"""

import dataclasses
import types
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import (
    Any,
    ClassVar,
    Literal,
    Self,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from safelight.config.declaring import Declaring, suggestion
from safelight.config.kind import KINDS, Kind, inspect_value
from safelight.config.tag import Tag, Value

Role = Literal["value", "values", "attribute", "free", "block"]


@dataclass(frozen=True, slots=True)
class Field:
    """One declared value, attribute or block. `what` follows `expected ` when a value is missing."""

    key: str
    name: str
    role: Role
    what: str
    help: str
    example: str
    required: bool
    default: Any
    of: "type[Statement] | None" = None
    kind: Kind = KINDS[str]
    choices: tuple[str, ...] = ()


_REQUIRED: Any = object()
_METADATA = "safelight"


def _field(role: Role, default: Any = _REQUIRED, **facts: Any) -> Any:
    facts = {
        "what": "",
        "help": "",
        "example": "",
        "name": "",
        "of": None,
        "choices": (),
        **facts,
        "role": role,
    }
    if default is _REQUIRED:
        return dataclasses.field(metadata={_METADATA: facts})
    return dataclasses.field(default=default, metadata={_METADATA: facts})


def value(what: str, *, help: str, default: Any = _REQUIRED, example: str = "") -> Any:
    """The next value of a statement; `what` names it in the message about its absence."""
    return _field("value", default, what=what, help=help, example=example)


def values(what: str, *, help: str, example: str = "") -> Any:
    """All remaining values, as a tuple."""
    return _field("values", (), what=what, help=help, example=example)


def attribute(
    *, help: str, default: Any = _REQUIRED, name: str = "", example: str = "", choices: tuple[str, ...] = ()
) -> Any:
    """A `name=value` attribute; the name defaults to the field's, with dashes."""
    return _field("attribute", default, help=help, name=name, example=example, choices=choices)


def free_attributes(*, help: str, example: str = "") -> Any:
    """Every attribute that no other field claims, by name."""
    return _field("free", {}, help=help, example=example)


def block(of: "type[Statement]", *, help: str) -> Any:
    """The child statements, each declared as `of`."""
    return _field("block", (), help=help, of=of)


@dataclass_transform(
    frozen_default=True,
    kw_only_default=True,
    field_specifiers=(value, values, attribute, free_attributes, block),
)
@dataclass(frozen=True, kw_only=True, repr=False)
class Statement:
    """A declared statement: frozen, printable, with the tag it was made from."""

    tag: Tag
    fields: ClassVar[tuple[Field, ...]] = ()
    names: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[str] = ""
    ignores_values: ClassVar[bool] = False
    ignores_attributes: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _give_mutable_defaults_away(cls)
        dataclass(frozen=True, kw_only=True, repr=False)(cls)
        cls.fields = tuple(_fields(cls))

    @classmethod
    def declare(cls, tag: Tag, declaring: Declaring) -> Self | None:
        """Make the statement, or report every complaint about it and return None."""
        return Reader(cls, tag, declaring).statement()

    @classmethod
    def slot(cls, tag: Tag) -> Hashable:  # noqa: ARG003 (for those that override it)
        """What only one statement of a file may fill; None: there may be any number of this one."""
        return None

    def check(self) -> Iterator[str]:
        """Yield complaints that no single field can make."""
        yield from ()

    def parts(self) -> "Iterator[Statement]":
        """The statements inside this one."""
        for own in self.fields:
            if own.role == "block":
                yield from getattr(self, own.key)

    def all_parts(self) -> "Iterator[Statement]":
        """The statements inside this one, and those inside them, in order."""
        for part in self.parts():
            yield part
            yield from part.all_parts()

    def build(self, resources: Any) -> Any:
        """The ready object that does what this declares. Statements that only declare have none."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.tag.position}>"


def _give_mutable_defaults_away(cls: type) -> None:
    """Dataclasses refuse a dict as default; ours are never changed, so a factory that shares one is fine."""
    for own in cast(Iterable[object], vars(cls).values()):
        if isinstance(own, dataclasses.Field):
            declared = cast(dataclasses.Field[Any], own)
            if declared.default == {}:
                declared.default = dataclasses.MISSING
                declared.default_factory = dict


def _fields(cls: type[Statement]) -> Iterator[Field]:
    hints = get_type_hints(cls)
    for own in dataclasses.fields(cls):  # pyright: ignore[reportArgumentType]
        facts = own.metadata.get(_METADATA)
        if facts is None:
            continue
        required = own.default is dataclasses.MISSING and own.default_factory is dataclasses.MISSING
        name = facts["name"] or own.name.replace("_", "-")
        kind = KINDS.get(_base_type(hints[own.name]), KINDS[str])
        yield Field(
            own.name,
            name,
            facts["role"],
            facts["what"] or name,
            facts["help"],
            facts["example"],
            required,
            None if own.default is dataclasses.MISSING else own.default,
            facts["of"],
            kind,
            facts["choices"],
        )


def _base_type(hint: Any) -> Any:
    """`X` of `X | None`, `tuple[X, ...]` and `Mapping[str, X]`."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(option for option in get_args(hint) if option is not types.NoneType)
    if get_origin(hint) is tuple:
        return get_args(hint)[0]
    if isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Mapping):
        return get_args(hint)[1]
    return hint


class Reader:
    """Reads one tag by the fields of a statement. `shown` is the tag that messages show."""

    def __init__(
        self, cls: type[Statement], tag: Tag, declaring: Declaring, shown: Tag | None = None
    ) -> None:
        self.cls = cls
        self.tag = tag
        self.declaring = declaring
        self.shown = shown or tag
        self.failed = False

    def statement(self) -> Any:
        """The declared statement, or None after reporting what is wrong."""
        arguments = {**self._values(), **self._attributes(), **self._block()}
        if self.failed:
            return None
        made = self.cls(tag=self.tag, **arguments)
        for complaint in made.check():
            self.complain(complaint)
        return None if self.failed else made

    def complain(self, message: str) -> None:
        self.failed = True
        self.declaring.error(self.shown, message)

    def _values(self) -> dict[str, Any]:
        given = list(self.tag.values)
        found: dict[str, Any] = {}
        for own in self._with_role("value"):
            written = given.pop(0) if given else None
            if not _missing(written):
                found[own.key] = self._converted(own, written)
            elif own.required:
                self.complain(f"expected {own.what}")
        for own in self._with_role("values"):
            found[own.key] = tuple(self._converted(own, written) for written in given)
            given = []
        if given:
            self._surplus_values(given)
        return found

    def _surplus_values(self, surplus: list[Value]) -> None:
        if self.cls.ignores_values:
            self.declaring.warn(self.tag.position, f"values of '{self.tag.name}' are ignored")
        else:
            self.complain(f"unexpected values: {', '.join(map(inspect_value, surplus))}")

    def _attributes(self) -> dict[str, Any]:
        given = dict(self.tag.attributes)
        found: dict[str, Any] = {}
        for own in self._with_role("attribute"):
            written = given.pop(own.name, None)
            if own.required and _missing(written):
                self.complain(
                    own.what if own.what != own.name else f"expected '{own.name}' attribute to be set"
                )
            elif written is not None:
                found[own.key] = self._converted(own, written)
        for own in self._with_role("free"):
            found[own.key] = {
                name: self._converted(own, text) for name, text in given.items() if text is not None
            }
            given = {}
        if given:
            self._surplus_attributes(list(given))
        return found

    def _surplus_attributes(self, surplus: list[str]) -> None:
        names = ", ".join(f"'{name}'" for name in surplus)
        if self.cls.ignores_attributes:
            self.declaring.warn(self.tag.position, f"attributes of '{self.tag.name}' are ignored: {names}")
            return
        known = [own.name for own in self._with_role("attribute")]
        hint = suggestion(surplus[0], known)
        message = f"syntax error while parsing '{self.shown}': unexpected attributes: {names}{hint}"
        guards = self.tag.name.startswith("validate")
        self.failed = self.failed or guards or not self.declaring.lenient
        self.declaring.unknown(self.tag.position, message, guards=guards)

    def _block(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for own in self._with_role("block"):
            made = [own.of.declare(child, self.declaring) for child in self.tag.children] if own.of else []
            self.failed = self.failed or None in made
            found[own.key] = tuple(made)
        if self.tag.children and not found:
            message = f"'{self.tag.name}' takes no block"
            self.failed = self.failed or not self.declaring.lenient
            self.declaring.unknown(self.tag.children[0].position, message)
        return found

    def _converted(self, own: Field, written: Value) -> Any:
        try:
            converted = own.kind.convert(written)
        except ValueError:
            self._bad_value(own, own.kind.expected, written)
            return None
        if own.choices and converted not in own.choices:
            self._bad_value(own, " or ".join(own.choices), written)
        return converted

    def _bad_value(self, own: Field, expected: str, written: Value) -> None:
        subject = f"'{own.name}' attribute value" if own.role == "attribute" else own.what
        self.complain(f"expected {subject} to be {expected}; got: {inspect_value(written)}")

    def _with_role(self, role: Role) -> Iterator[Field]:
        return (own for own in self.cls.fields if own.role == role)


def _missing(written: Value) -> bool:
    return written is None or written is False
