"""`#{name}` strings. A placeholder is `#{`, one or more characters other than `}`, `}`; there is no escape.

Expansion is a single pass: an inserted value is never expanded again (reference/imagestore 4.3).
"""

import re
from collections.abc import Callable

_PLACEHOLDER = re.compile(r"#\{([^}]+)\}")


class Template:
    """A compiled template. Equal and printable by its text."""

    __slots__ = ("_parts", "names", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = _PLACEHOLDER.split(text)
        self.names: tuple[str, ...] = tuple(self._parts[1::2])

    def render(self, lookup: Callable[[str], str]) -> str:
        """Replace every placeholder by `lookup(name)`; what `lookup` raises passes through."""
        if not self.names:
            return self.text
        parts = self._parts.copy()
        parts[1::2] = map(lookup, self.names)
        return "".join(parts)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)
