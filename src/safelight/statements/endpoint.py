"""`get`, `put`, `post` and `delete`: one endpoint of the API, its matchers and its statements."""

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any, TypeVar

from safelight.config.declaring import Declaring
from safelight.config.kind import PathName
from safelight.config.load import Config
from safelight.config.references import references
from safelight.config.spec import Reader, Statement, values
from safelight.config.tag import Tag
from safelight.errors import BadRequest
from safelight.model import AnswerCache, Endpoint, NamedImage, RequestState, Resources
from safelight.statements.cache import CacheStatement
from safelight.statements.header import CorsStatement, HeaderStatement, OutputWithHeaders
from safelight.statements.match import Matchers
from safelight.statements.output import OkOutput
from safelight.statements.registry import FLOW, Family, endpoint
from safelight.statements.validate import ValidateHeaderHmac
from safelight.template import Template
from safelight.variables import INPUT_DIGESTS

UPLOADS = ("put", "post")
SINGLE = ("cache", "output")
"""Families of which an endpoint has at most one member."""

ANSWERING = ("source", "processor", "output", "header")

S = TypeVar("S", bound=Statement)


class InputSource:
    """Makes the request body image `input`; its bytes are charged already."""

    async def run(self, state: RequestState) -> None:
        if not state.body.size:
            raise BadRequest("empty body - expected image data")
        state.images["input"] = NamedImage(state.body)


@endpoint("get", "put", "post", "delete")
class EndpointStatement(Statement):
    """Serve requests whose method is the verb and whose URL all matchers accept; the first match serves.

    Inside stand validators, at most one cache, sources, processors, stores, at most one output, and headers
    of its answers. They run in this order of kinds, in file order within a kind. `put` and `post` load the
    request body as image `input` first. Matchers: `text` a segment, `:name` any segment, `:name?default` an
    optional one, `:name/regexp/` and `/regexp/` text matching a regular expression, `&key=value`, `&:key`
    and `&:key?default` parameters.
    """

    example = """put "original" {
    store_file "input" root="images" path="original"
    output_store_path "input"
}

get "thumbnail" ":size/small|large/" "&:quality?85" {
    source_file "original" root="images" path="by-name"
    thumbnail "original" "small" operation="fit" width=200 height=200 quality="#{quality}"
    output_image "small"
}"""

    matchers: tuple[str, ...] = values("matcher", help="matchers, applied to the URL from left to right")
    steps: tuple[tuple[Family, Statement], ...] = ()

    @classmethod
    def declare(cls, tag: Tag, declaring: Declaring) -> "EndpointStatement | None":
        own = Reader(cls, dataclasses.replace(tag, children=()), declaring, tag).statement()
        steps: list[tuple[Family, Statement]] = []
        taken: set[str] = set()
        for child in tag.children:
            found = declaring.find(child, FLOW)
            if found is None:
                continue
            family, statement_class = found
            single = _only_one(family, child)
            if single in taken:
                declaring.error(child, f"only one {single} type statement can be specified within context")
                continue
            taken.add(single or "")
            statement = statement_class.declare(child, declaring)
            if isinstance(statement, CorsStatement) and not statement.serves(tag.name):
                declaring.error(child, f"expected 'methods' attribute value to name {tag.name.upper()}")
            if statement is not None:
                steps.append((family, statement))
        return own and dataclasses.replace(own, steps=tuple(steps))

    def check(self) -> Iterator[str]:
        try:
            Matchers(self.matchers)
        except ValueError as error:
            yield str(error)

    def parts(self) -> Iterator[Statement]:
        return (statement for _, statement in self.steps)

    def build(self, resources: Resources) -> Endpoint:
        """The endpoint, ready to serve."""
        verb, matchers = self.tag.name, Matchers(self.matchers)
        stores = self._built("store", resources)
        implied = [InputSource()] if verb in UPLOADS else []
        output = next(iter(self._built("output", resources)), OkOutput(None))
        headers = [own.build(resources) for own in self.steps_of(HeaderStatement)]
        cors = [own.policy(verb) for own in self.steps_of(CorsStatement)][-1:]
        signed = [own.header.replace("_", "-") for own in self.steps_of(ValidateHeaderHmac)]
        return Endpoint(
            verb=verb,
            name=str(dataclasses.replace(self.tag, children=())),
            handler=f"{verb} {matchers}".rstrip(),
            matcher=matchers,
            validators=tuple(self._built("validator", resources)),
            sources=(*implied, *self._built("source", resources)),
            processors=tuple(self._built("processor", resources)),
            stores=tuple(stores),
            output=OutputWithHeaders(output, headers) if headers else output,
            hashes_input=self._hashes_input(resources),
            cross_origin=cors[0] if cors else None,
            varies_by=(*dict.fromkeys(signed), *(["Origin"] if cors and cors[0].varies else [])),
            cache=self._cache(matchers.names, resources),
            told_of_changes=tuple(shelf.epochs for shelf in resources.shelves.values()) if stores else (),
        )

    def answering_steps(self) -> list[Statement]:
        """What an answer is made by: validators may refuse it, and change nothing of it."""
        return [statement for family, statement in self.steps if family in ANSWERING]

    def _cache(self, captured: Collection[str], resources: Resources) -> AnswerCache | None:
        found = self.steps_of(CacheStatement)
        return found[0].answers(self.answering_steps(), captured, resources) if found else None

    def _built(self, wanted: Family, resources: Resources) -> list[Any]:
        return [statement.build(resources) for family, statement in self.steps if family == wanted]

    def steps_of(self, kind: type[S]) -> list[S]:
        """Those of one class, in order."""
        return [statement for _, statement in self.steps if isinstance(statement, kind)]

    def _hashes_input(self, resources: Resources) -> bool:
        named = [
            resources.paths.get(found) if isinstance(found, PathName) else found for found in references(self)
        ]
        return any(
            isinstance(template, Template) and not INPUT_DIGESTS.isdisjoint(template.names)
            for template in named
        )


def _only_one(family: Family, tag: Tag) -> str | None:
    """The name of what `tag` is, if an endpoint can have only one of it."""
    if family in SINGLE:
        return family
    return "cors" if tag.name == "cors" else None


def endpoints_of(config: Config) -> list[EndpointStatement]:
    """The endpoints of a configuration, each with the headers of the top level before its own."""
    shared = tuple(
        ("header", found) for found in config.statements if isinstance(found, HeaderStatement | CorsStatement)
    )
    return [
        dataclasses.replace(found, steps=(*shared, *found.steps)) if shared else found
        for found in config.of(EndpointStatement)
    ]
