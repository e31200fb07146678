"""Which thumbnailing methods and edits exist: the built-in ones, and those that plugins add or replace."""

from collections.abc import Mapping
from dataclasses import dataclass

from safelight.image.edit import EDITS, Operation
from safelight.image.method import METHODS, Method


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Methods and edits by name."""

    methods: Mapping[str, Method]
    edits: Mapping[str, Operation]

    def extended(self, other: "Catalogue") -> "Catalogue":
        """Both; what has the same name is the other's."""
        return Catalogue({**self.methods, **other.methods}, {**self.edits, **other.edits})


BUILT_IN = Catalogue(METHODS, EDITS)
