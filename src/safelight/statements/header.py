"""`header` and `cors`: what the headers of answers say, besides what the server says itself."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from safelight.config.kind import inspect_value
from safelight.config.spec import Statement, attribute, value
from safelight.config.tag import Tag
from safelight.errors import Forbidden
from safelight.model import Answer, Facts, Output, RequestState, Resources
from safelight.statements.condition import Condition, VariableConditional, condition_of
from safelight.statements.registry import header
from safelight.template import Template

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\sA-Z/?#@,*]+")
_LINE_BREAK = re.compile(r"[\r\n\0]")

_SERVERS_OWN = {
    "accept-ranges",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "keep-alive",
    "last-modified",
    "proxy-connection",
    "server",
    "status",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-content-type-options",
}
"""Headers that say how a message is framed or what its body is: a second opinion would be dangerous."""

ANY = "*"
METHODS = {"get": ("GET", "HEAD"), "put": ("PUT",), "post": ("POST",), "delete": ("DELETE",)}
"""The methods that an endpoint of each verb serves."""


@header("header")
class HeaderStatement(VariableConditional):
    """Send a header with the answers of an endpoint; errors go without it.

    At the top level it is for all endpoints. Of several statements about one header the last one counts that
    takes part, those of the endpoint after those of the top level. An empty value sends no header. Characters
    that no header can hold, such as line breaks, become `?`.
    """

    example = 'header "X-Robots-Tag" "noindex"'

    name: str = value("header name", help="name of the header")
    text: Template = value("header value", help="value of the header", example="inline")

    def check(self) -> Iterator[str]:
        name = self.name.lower()
        if not _TOKEN.fullmatch(self.name):
            yield f"expected header name to be letters, digits and dashes; got: {inspect_value(self.name)}"
        elif name in _SERVERS_OWN:
            yield f"header '{self.name}' is the server's own"
        elif name == "cache-control":
            yield "use the 'cache-control' attribute of the output instead of header 'Cache-Control'"
        elif name.startswith("access-control-"):
            yield f"use the 'cors' statement instead of header '{self.name}'"
        if _LINE_BREAK.search(self.text.text):
            yield f"header '{self.name}' cannot have a line break in its value"

    def build(self, resources: Resources) -> "AddedHeader":
        return AddedHeader(self.name, self.text, condition_of(self))


@dataclass(frozen=True, slots=True)
class AddedHeader:
    """One header, if its condition holds."""

    name: str
    text: Template
    condition: Condition | None

    def render(self, state: RequestState) -> str | None:
        """Its value; None when it takes no part. Raises: SetupError."""
        if self.condition is not None and not self.condition.holds(state.variables):
            return None
        return self.text.render(state.variables.lookup)


class OutputWithHeaders:
    """The answer of an output, with more headers."""

    def __init__(self, output: Output, headers: Sequence[AddedHeader]) -> None:
        self._output = output
        self._headers = headers

    async def answer(self, state: RequestState) -> Answer:
        answer = await self._output.answer(state)
        rendered = ((header.name, header.render(state)) for header in self._headers)
        last = {name.lower(): (name, text) for name, text in rendered if text is not None}
        added = ((name, text) for name, text in last.values() if text)
        return replace(answer, facts=(*answer.facts, *added))


@header("cors")
class CorsStatement(Statement):
    """Let pages of other origins use an endpoint (Cross-Origin Resource Sharing).

    All answers carry the permission, errors included, and the question of a browser before an upload
    (OPTIONS) is answered. At the top level it is for all endpoints that have none of their own.
    """

    example = 'cors origins="https://app.example.com" headers="Content-Type" expose="ETag" max-age=600'

    origins: str = attribute(
        help="comma-separated origins, scheme and port included, or `*` for all",
        example="https://app.example.com,http://localhost:8080",
    )
    methods: str = attribute(
        default="", help="comma-separated methods, or `*`; default: those of the endpoint", example="GET,PUT"
    )
    headers: str = attribute(
        default="",
        help="comma-separated request headers that a page may send, or `*`",
        example="Content-Type",
    )
    expose: str = attribute(
        default="", help="comma-separated answer headers that a page may read, or `*`", example="ETag"
    )
    max_age: int | None = attribute(
        default=None, help="seconds for which a browser need not ask again", example="600"
    )
    credentials: bool = attribute(
        default=False, help="whether a page may send cookies and client certificates"
    )

    @classmethod
    def slot(cls, tag: Tag) -> str:
        return tag.name

    def check(self) -> Iterator[str]:
        if not _listed(self.origins):
            yield "expected 'origins' attribute value to name origins, or to be *"
        for origin in _listed(self.origins):
            if origin != ANY and not _ORIGIN.fullmatch(origin):
                yield (
                    "expected 'origins' attribute value to be like https://app.example.com, in lower case "
                    f"and without a path; got: {inspect_value(origin)}"
                )
        for name in ("methods", "headers", "expose"):
            for item in _listed(getattr(self, name)):
                if not _TOKEN.fullmatch(item):
                    yield f"expected '{name}' attribute value to list names; got: {inspect_value(item)}"
        for name in ("origins", "methods", "headers", "expose"):
            if self.credentials and ANY in _listed(getattr(self, name)):
                yield f"'{name}' must be named one by one when credentials=true: browsers take no * then"
        if self.max_age is not None and self.max_age < 0:
            yield f"expected 'max-age' attribute value to be 0 or more; got: {self.max_age}"

    def allowed_methods(self, verb: str) -> tuple[str, ...]:
        """What pages may ask an endpoint of `verb` for."""
        return tuple(_listed(self.methods)) or METHODS[verb]

    def serves(self, verb: str) -> bool:
        """Whether an endpoint of `verb` is allowed to pages at all."""
        return not {ANY, *METHODS[verb]}.isdisjoint(self.allowed_methods(verb))

    def policy(self, verb: str) -> "CorsPolicy":
        """What this means for an endpoint of `verb`."""
        granted = [("Access-Control-Allow-Credentials", "true")] if self.credentials else []
        exposed = [("Access-Control-Expose-Headers", ", ".join(_listed(self.expose)))] if self.expose else []
        methods = self.allowed_methods(verb)
        asked = [("Access-Control-Allow-Methods", ", ".join(methods))]
        asked += [("Access-Control-Allow-Headers", ", ".join(_listed(self.headers)))] if self.headers else []
        asked += [] if self.max_age is None else [("Access-Control-Max-Age", str(self.max_age))]
        return CorsPolicy(
            frozenset(_listed(self.origins)), frozenset(methods), tuple(granted), tuple(exposed), tuple(asked)
        )


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """Who may use an endpoint, and the headers that say so (Fetch standard, section 3.3.3).

    `granted` goes with every answer to an allowed origin, `exposed` with those to its requests, `asked` with
    those to its questions.
    """

    origins: frozenset[str]
    methods: frozenset[str]
    granted: Facts
    exposed: Facts
    asked: Facts

    @property
    def varies(self) -> bool:
        """Whether answers depend on the origin."""
        return ANY not in self.origins

    def grant(self, origin: str | None) -> Facts:
        allowed = self._allowed(origin)
        return (*allowed, *self.exposed) if allowed else ()

    def preflight(self, origin: str | None, method: str) -> Facts:
        allowed = self._allowed(origin)
        if not allowed:
            raise Forbidden(f"origin '{origin}' is not allowed")
        if not {ANY, method} & self.methods:
            raise Forbidden(f"method '{method}' is not allowed for other origins")
        return (*allowed, *self.asked)

    def _allowed(self, origin: str | None) -> Facts:
        if not self.varies:
            return (("Access-Control-Allow-Origin", ANY), *self.granted)
        if origin is None or origin not in self.origins:
            return ()
        return (("Access-Control-Allow-Origin", origin), *self.granted)


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
