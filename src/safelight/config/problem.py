"""One complaint about a configuration file, at its place."""

from dataclasses import dataclass
from typing import Literal

from safelight.config.tag import Position


@dataclass(frozen=True, slots=True)
class Problem:
    """A file with a problem of severity `error` must not be used; a `warning` is only said."""

    position: Position
    message: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        mark = "warning: " if self.severity == "warning" else ""
        return f"{self.position}: {mark}{self.message}"
