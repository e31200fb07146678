"""`if-image-name-on` and `if-variable-matches`: whether a statement takes part in a request."""

from collections.abc import Mapping
from typing import Protocol

from safelight.config.spec import Statement, attribute
from safelight.errors import VariableNotDefined
from safelight.model import Change, RequestState, Step, Store
from safelight.template import Template
from safelight.variables import NO_LOCALS, Variables


class VariableConditional(Statement):
    """A statement that can depend on a variable."""

    if_variable_matches: Template | None = attribute(
        default=None,
        help="take part only if the variable is not empty (`name`) or equals a text (`name:template`)",
        example="size:small",
    )


class Conditional(VariableConditional):
    """A statement that can depend on a variable and on a list of image names."""

    if_image_name_on: Template | None = attribute(
        default=None,
        help="take part only if the image's name is on this comma-separated list",
        example="#{name_list}",
    )


class Condition(Protocol):
    """Decides whether something takes part."""

    def holds(self, variables: Variables, local: Mapping[str, str] = NO_LOCALS) -> bool:
        """Raises: SetupError for variables that exist and cannot be computed."""
        ...


class NameOn:
    """The local `image_name` is on a rendered list, compared without trimming."""

    def __init__(self, names: Template) -> None:
        self._names = names

    def holds(self, variables: Variables, local: Mapping[str, str] = NO_LOCALS) -> bool:
        listed = self._names.render(variables.lookup_with(local)).split(",")
        return local["image_name"] in listed


class VariableMatches:
    """A variable is not empty, or equals a rendered text. An undefined one is neither."""

    def __init__(self, text: str) -> None:
        self._name, colon, expected = text.partition(":")
        self._expected = Template(expected) if colon else None

    def holds(self, variables: Variables, local: Mapping[str, str] = NO_LOCALS) -> bool:
        try:
            found = variables.lookup(self._name, local)
            if self._expected is None:
                return bool(found)
            return self._expected.render(variables.lookup_with(local)) == found
        except VariableNotDefined:
            return False


class All:
    """Every one of several conditions; none at all holds."""

    def __init__(self, conditions: tuple[Condition, ...]) -> None:
        self._conditions = conditions

    def holds(self, variables: Variables, local: Mapping[str, str] = NO_LOCALS) -> bool:
        return all(condition.holds(variables, local) for condition in self._conditions)


def condition_of(statement: VariableConditional) -> Condition | None:
    """The condition that a statement declares, None without any."""
    conditions: list[Condition] = []
    if isinstance(statement, Conditional) and statement.if_image_name_on:
        conditions.append(NameOn(statement.if_image_name_on))
    if statement.if_variable_matches:
        conditions.append(VariableMatches(statement.if_variable_matches.text))
    return All(tuple(conditions)) if conditions else None


def local_names(image_name: str) -> dict[str, str]:
    """Statement-local variables of a statement about one image."""
    return {"image_name": image_name, "imagename": image_name}


class When:
    """A step that runs only if its condition holds."""

    def __init__(self, condition: Condition, step: Step, local: Mapping[str, str]) -> None:
        self._condition, self._step, self._local = condition, step, local

    def applies(self, state: RequestState) -> bool:
        return self._condition.holds(state.variables, self._local)

    async def run(self, state: RequestState) -> None:
        if self.applies(state):
            await self._step.run(state)


class StoreWhen:
    """A store that changes something only if its condition holds."""

    def __init__(self, condition: Condition, store: Store, local: Mapping[str, str]) -> None:
        self._condition, self._store, self._local = condition, store, local

    def plan(self, state: RequestState) -> Change | None:
        holds = self._condition.holds(state.variables, self._local)
        return self._store.plan(state) if holds else None


def store_when(statement: VariableConditional, store: Store, local: Mapping[str, str] = NO_LOCALS) -> Store:
    """`store` under the conditions of `statement`."""
    condition = condition_of(statement)
    return StoreWhen(condition, store, local) if condition else store


def when(statement: VariableConditional, step: Step, local: Mapping[str, str] = NO_LOCALS) -> Step:
    """`step` under the conditions of `statement`."""
    condition = condition_of(statement)
    return When(condition, step, local) if condition else step
