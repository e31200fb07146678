"""What the answers of an endpoint depend on, so that equal questions find an answer that was kept.

The key of an answer has the definition of the steps that make it, and the values of exactly those captures
and parameters that their templates and conditions read: a parameter that nobody reads splits nothing.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from safelight import __version__
from safelight.config.kind import PathName, Root
from safelight.config.references import references
from safelight.config.spec import Statement
from safelight.errors import VariableNotDefined
from safelight.model import RequestState, Resources
from safelight.results.memory import Key
from safelight.statements.bucket import InBucket
from safelight.statements.condition import VariableConditional
from safelight.template import Template
from safelight.variables import GENERATED, OF_IMAGES

OPTIONS = "query_string_options"

_OF_PATH = frozenset({"basename", "dirname", "direname", "extension"})
_PREDICTABLE = _OF_PATH | OF_IMAGES | {OPTIONS}
"""Generated variables that follow from the request line and from what is stored."""


def names_read(steps: Sequence[Statement], paths: Mapping[str, Template]) -> frozenset[str]:
    """Names of the variables that templates and conditions of `steps` read."""
    return frozenset(name for step in steps for name in _names(step, paths))


def _names(step: Statement, paths: Mapping[str, Template]) -> Iterator[str]:
    for found in references(step):
        template = paths.get(found) if isinstance(found, PathName) else found
        if isinstance(template, Template):
            yield from template.names
    for part in (step, *step.all_parts()):
        if isinstance(part, VariableConditional) and part.if_variable_matches:
            yield part.if_variable_matches.text.partition(":")[0]


def unpredictable(read: Collection[str], captured: Collection[str]) -> list[str]:
    """Those of the variables `read` that can differ from one equal request to the next, sorted.

    `captured`: what the matchers of the endpoint define, which hides a generated variable of that name.
    """
    return sorted(name for name in read if name in GENERATED and name not in {*captured, *_PREDICTABLE})


def about_images(read: Collection[str], captured: Collection[str]) -> list[str]:
    """Those of the variables `read` that are known only when images are loaded; see `unpredictable`."""
    return sorted(OF_IMAGES.intersection(read).difference(captured))


class Fingerprint:
    """Makes the keys of one endpoint's answers.

    `steps`: what makes them. `others`: statements whose variables count as well, but not what they say.
    `captured`: variables of the matchers. `tags`: template of what the answers can be dropped by, which they
    remember: with another one they begin anew.
    """

    def __init__(
        self,
        steps: Sequence[Statement],
        others: Sequence[Statement],
        captured: Collection[str],
        resources: Resources,
        tags: str = "",
    ) -> None:
        read = names_read((*steps, *others), resources.paths)
        given = {*captured, "path"}
        bases = {"path"} if read & _OF_PATH else set[str]()
        bases |= {"image_name"} if read & OF_IMAGES else set[str]()
        self._names = tuple(sorted(((read | bases) & given) | (read & {OPTIONS})))
        # with the names: two endpoints may say the same, and capture different ones of what that reads
        definition = [*_definition(steps, resources), tags, self._names]
        self._definition = sha256(repr(definition).encode()).hexdigest()

    def key(self, state: RequestState) -> Key:
        """The key of what answers this request. Raises: SetupError."""
        lookup = state.variables.lookup
        try:
            return (self._definition, *map(lookup, self._names))
        except VariableNotDefined:  # a capture of a matcher that did not take part
            return (self._definition, *(_value(state, name) for name in self._names))


def _value(state: RequestState, name: str) -> str | None:
    try:
        return state.variables.lookup(name)
    except VariableNotDefined:
        return None


def _definition(steps: Sequence[Statement], resources: Resources) -> Iterator[object]:
    """Everything that decides what is made of the same variables."""
    yield __version__
    yield resources.rendering
    for step in steps:
        yield str(step.tag)
        for part in (step, *step.all_parts()):
            yield from _places(part, resources)
        for found in references(step):
            if isinstance(found, PathName):
                yield found, resources.paths[found].text if found in resources.paths else None


def _places(part: Statement, resources: Resources) -> Iterator[object]:
    """Where directories and accounts really are."""
    for own in part.fields:
        held = getattr(part, own.key)
        if isinstance(held, Root):
            yield str(Path(held).absolute())
    client = resources.s3.get(part.s3) if isinstance(part, InBucket) else None
    if client is not None:
        yield client.account.endpoint, client.account.credentials.key_id
