"""Counters of one process, for tests that need no server."""


class Tally:
    """What was added, by name."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    def add(self, name: str, amount: int = 1) -> None:
        self.values[name] = self.values.get(name, 0) + amount
