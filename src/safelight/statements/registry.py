"""Which statements exist: a value that refuses duplicates and can be copied and extended."""

from collections.abc import Iterator, Sequence
from typing import Literal, TypeVar, get_args

from safelight.config.spec import Statement

S = TypeVar("S", bound=Statement)

Family = Literal[
    "configuration", "endpoint", "validator", "cache", "source", "processor", "store", "output", "header"
]
FAMILIES: tuple[Family, ...] = get_args(Family)
FLOW: tuple[Family, ...] = ("validator", "cache", "source", "processor", "store", "output", "header")
"""The families that stand inside an endpoint, in the order in which they run."""


class Registry:
    """Statement classes by family and name."""

    def __init__(self) -> None:
        self._families: dict[Family, dict[str, type[Statement]]] = {family: {} for family in FAMILIES}

    def add(self, family: Family, name: str, statement: type[Statement]) -> None:
        """Raises: ValueError when the name is taken."""
        if self.find(name, FAMILIES):
            raise ValueError(f"there is a statement '{name}' already")
        self._families[family][name] = statement

    def find(self, name: str, families: Sequence[Family]) -> tuple[Family, type[Statement]] | None:
        """The family and class of `name` among `families`."""
        for family in families:
            if name in self._families[family]:
                return family, self._families[family][name]
        return None

    def names(self, families: Sequence[Family]) -> list[str]:
        return [name for family in families for name in self._families[family]]

    def entries(self) -> Iterator[tuple[Family, str, type[Statement]]]:
        """Everything, family by family, in order of registration."""
        for family, statements in self._families.items():
            for name, statement in statements.items():
                yield family, name, statement

    def copy(self) -> "Registry":
        other = Registry()
        other._families = {family: dict(statements) for family, statements in self._families.items()}
        return other

    def register(self, family: Family, *names: str) -> "Register":
        """A class decorator that adds a statement under each of `names`; the first is the one documented."""
        return Register(self, family, names)


class Register:
    """The decorator that `Registry.register` makes."""

    def __init__(self, registry: Registry, family: Family, names: Sequence[str]) -> None:
        self._registry = registry
        self._family: Family = family
        self._names = names

    def __call__(self, statement: type[S]) -> type[S]:
        for name in self._names:
            self._registry.add(self._family, name, statement)
        return statement


REGISTRY = Registry()


def configuration(*names: str) -> Register:
    """Register a statement of the top level."""
    return REGISTRY.register("configuration", *names)


def endpoint(*names: str) -> Register:
    """Register a verb."""
    return REGISTRY.register("endpoint", *names)


def validator(*names: str) -> Register:
    """Register a statement that may refuse a request."""
    return REGISTRY.register("validator", *names)


def cache(*names: str) -> Register:
    """Register a statement that answers in place of all that follow, if it can."""
    return REGISTRY.register("cache", *names)


def source(*names: str) -> Register:
    """Register a statement that loads an image."""
    return REGISTRY.register("source", *names)


def processor(*names: str) -> Register:
    """Register a statement that makes images of images, or learns about them."""
    return REGISTRY.register("processor", *names)


def store(*names: str) -> Register:
    """Register a statement that changes what is stored."""
    return REGISTRY.register("store", *names)


def output(*names: str) -> Register:
    """Register a statement that answers."""
    return REGISTRY.register("output", *names)


def header(*names: str) -> Register:
    """Register a statement about the headers of answers; it may stand at the top level, too."""
    return REGISTRY.register("header", *names)
