"""Before any work: how many inputs there are, and which names that are known already are wrong.

Only hashes are kept, about 200 bytes for each result, and forgotten when work begins; the names themselves
are read again for the few that a complaint is about.
"""

import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from safelight.batch.inputs import STDIN, Found, Input
from safelight.batch.naming import Naming
from safelight.batch.printable import printable
from safelight.errors import SafelightError

MAX_COMPLAINTS = 10
ADVICE = "name the results with -o so that they differ, by #{filename}, #{relative_path}, #{spec} or #{index}"


class NameConflict(SafelightError):
    """Several results would have one name."""


@dataclass(slots=True)
class Survey:
    """What the list holds. `inputs` counts while the survey goes on, until it `is_complete`.

    `results`: hashes of inputs that are results of other inputs of this run.
    """

    inputs: int = 0
    is_complete: bool = False
    results: set[int] = field(default_factory=set[int])

    def is_result(self, item: Input) -> bool:
        """Does this very command make that input from another one?"""
        return bool(self.results) and _identity(item) in self.results


def survey(
    listing: Iterable[Found], naming: Naming, found: Survey, is_stopped: Callable[[], bool] = lambda: False
) -> None:
    """Fill `found`. Raises: NameConflict, for several results under one name."""
    inputs = array("q")
    owners: dict[int, int] = {}
    contested: dict[int, list[int]] = {}
    for item in listing:
        if is_stopped():
            return
        if not isinstance(item, Input):
            continue
        found.inputs += 1
        inputs.append(_identity(item))
        for path in _targets(item, naming):
            target = hash(path)
            if target in owners:
                contested.setdefault(target, [owners[target]]).append(item.index)
            else:
                owners[target] = item.index
    found.results = {one for one in inputs if one in owners and inputs[owners[one] - 1] != one}
    rivals = {one for one, indices in contested.items() if _are_rivals(indices, inputs, found)}
    _check(listing, naming, found, rivals)
    found.is_complete = True


def _are_rivals(indices: Sequence[int], inputs: "array[int]", found: Survey) -> bool:
    """Are two of these inputs to be worked on?"""
    return sum(inputs[index - 1] not in found.results for index in indices) > 1


def _check(listing: Iterable[Found], naming: Naming, found: Survey, contested: set[int]) -> None:
    """Name the inputs whose results are contested. Raises: NameConflict, if there are any."""
    if not contested:
        return
    rivals: dict[str, list[str]] = {}
    for item in listing:
        if isinstance(item, Input) and not found.is_result(item):
            for path in _targets(item, naming):
                if hash(path) in contested:
                    rivals.setdefault(path, []).append(item.shown)
    lines = [_complaint(path, names) for path, names in rivals.items() if len(names) > 1]
    if lines:
        more = [f"and {len(lines) - MAX_COMPLAINTS} more"] if len(lines) > MAX_COMPLAINTS else []
        raise NameConflict("\n".join([*lines[:MAX_COMPLAINTS], *more, ADVICE]))


def _complaint(path: str, names: Sequence[str]) -> str:
    if len(set(names)) == 1:
        return printable(f"several results of '{names[0]}' would be '{os.path.relpath(path)}'")
    return printable(f"'{names[0]}' and '{names[1]}' would both become '{os.path.relpath(path)}'")


def _targets(item: Input, naming: Naming) -> list[str]:
    """Paths of results that are known; one that is refused is a failure of that input, later."""
    try:
        targets = [naming.early(item, job) for job in naming.jobs]
    except SafelightError:
        return []
    return [target.identity for target in targets if target]


def _identity(item: Input) -> int:
    return hash(STDIN) if item.is_stdin else hash(os.path.abspath(item.path))
