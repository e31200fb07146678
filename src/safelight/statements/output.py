"""Outputs: what the endpoint answers with (reference/imagestore 6.7)."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from safelight.blob import Blob, MemoryBlob
from safelight.config.declaring import Declaring
from safelight.config.kind import ImageName, PathName
from safelight.config.spec import Reader, Statement, attribute, block, value
from safelight.config.tag import Tag
from safelight.errors import SetupError
from safelight.model import Answer, Location, NamedImage, Output, RequestState, Resources
from safelight.statements.condition import Conditional, condition_of, local_names
from safelight.statements.paths import render_path
from safelight.statements.registry import output
from safelight.template import Template
from safelight.url import Url

TEXT = "text/plain"
URI_LIST = "text/uri-list"
UNKNOWN_TYPE = "application/octet-stream"
CRLF = "\r\n"


def text_body(text: str) -> Blob:
    """UTF-8 with CRLF line ends and one more at the end."""
    return MemoryBlob((text.replace("\r\n", "\n").replace("\n", CRLF) + CRLF).encode("utf-8", "replace"))


@output("output_ok")
class OutputOk(Statement):
    """Answer `OK`. This is what an endpoint without an output does."""

    example = 'output_ok cache-control="no-store"'
    ignores_values = True

    cache_control: str | None = attribute(default=None, help="`Cache-Control` of the answer")

    def build(self, resources: Resources) -> Output:
        return OkOutput(self.cache_control)


@dataclass(frozen=True, slots=True)
class OkOutput:
    """200 and `OK`."""

    cache_control: str | None

    async def answer(self, state: RequestState) -> Answer:
        return Answer(text_body("OK"), TEXT, cache_control=self.cache_control)


@output("output_text")
class OutputText(Statement):
    """Answer with a text; variables are expanded."""

    example = 'output_text "no such size: #{size}" status=404'

    text: Template = value("text", help="text of the answer")
    status: int = attribute(default=200, help="status code, 200 to 599")
    cache_control: str | None = attribute(default=None, help="`Cache-Control` of the answer")

    def check(self) -> Iterator[str]:
        if not 200 <= self.status <= 599:
            yield f"expected 'status' attribute value to be a status code from 200 to 599; got: {self.status}"

    def build(self, resources: Resources) -> Output:
        return TextOutput(self.text, self.status, self.cache_control)


@dataclass(frozen=True, slots=True)
class TextOutput:
    """A rendered text."""

    text: Template
    status: int
    cache_control: str | None

    async def answer(self, state: RequestState) -> Answer:
        body = text_body(self.text.render(state.variables.lookup))
        return Answer(body, TEXT, self.status, self.cache_control)


@output("output_image")
class OutputImage(Statement):
    """Answer with the data of an image, under its type if it is known."""

    example = 'output_image "thumbnail" cache-control="public, max-age=31557600"'

    image_name: ImageName = value("image name", help="image to send")
    cache_control: str | None = attribute(default=None, help="`Cache-Control` of the answer")

    def build(self, resources: Resources) -> Output:
        return ImageOutput(self.image_name, self.cache_control)


@dataclass(frozen=True, slots=True)
class ImageOutput:
    """Image data as it is."""

    image_name: str
    cache_control: str | None

    async def answer(self, state: RequestState) -> Answer:
        image = state.images[self.image_name]
        content_type = image.mime_type or UNKNOWN_TYPE
        return Answer(image.data, content_type, cache_control=self.cache_control, modified=image.modified)


@output("output_data_uri_image")
class OutputDataUriImage(Statement):
    """Answer with the image as a `data:` URI. Its type must be known: identify or thumbnail it first."""

    example = 'output_data_uri_image "thumbnail"'

    image_name: ImageName = value("image name", help="image to send")
    cache_control: str | None = attribute(default=None, help="`Cache-Control` of the answer")

    def build(self, resources: Resources) -> Output:
        return DataUriOutput(self.image_name, self.cache_control)


@dataclass(frozen=True, slots=True)
class DataUriOutput:
    """`data:<type>;base64,...` without a line end."""

    image_name: str
    cache_control: str | None

    async def answer(self, state: RequestState) -> Answer:
        image = state.images[self.image_name]
        if image.mime_type is None:
            message = f"image '{self.image_name}' needs to be identified first to be used in data URI output"
            raise SetupError(message)
        uri = f"data:{image.mime_type};base64,".encode() + base64.b64encode(image.data.read())
        return Answer(MemoryBlob(uri), URI_LIST, cache_control=self.cache_control)


Side = Literal["store", "source"]


class PathEntry(Conditional):
    """One image of a path list."""

    image_name: ImageName = value("image name", help="image to list")
    path: PathName | None = attribute(
        default=None, help="name of a `path` template that rewrites the path; `#{path}` is the original"
    )
    scheme: Template | None = attribute(default=None, help="scheme to use instead")
    host: Template | None = attribute(default=None, help="host to use instead")
    port: Template | None = attribute(default=None, help="port to use instead")


class LocationList(Statement):
    """Answer with a list of locations, a line for each image whose condition holds."""

    side: ClassVar[Side]
    form: ClassVar[Literal["path", "URL", "URI"]]
    entries: tuple[PathEntry, ...] = block(
        PathEntry, help="an image name on each line, with its own attributes"
    )

    @classmethod
    def declare(cls, tag: Tag, declaring: Declaring) -> "LocationList | None":
        """A value on the statement itself makes it the only entry, and its block is ignored."""
        if not tag.values:
            return Reader(cls, tag, declaring).statement()
        entry = PathEntry.declare(tag, declaring)
        return entry and cls(tag=tag, entries=(entry,))

    def build(self, resources: Resources) -> Output:
        return ListOutput(
            [ListEntry(entry, self.side, self.form, resources) for entry in self.entries], self.form
        )


@output("output_store_path", "output_store_file")
class OutputStorePath(LocationList):
    """Answer with the paths under which images were stored, without root or prefix."""

    example = 'output_store_path "input"'
    side = "store"
    form = "path"


@output("output_store_url")
class OutputStoreUrl(LocationList):
    """Answer with the URLs of stored images. Scheme, host, port and path can be rewritten."""

    example = """output_store_url {
    "input"  scheme="https" host="img.example.com"
    "small"  if-image-name-on="#{wanted}"
}"""
    side = "store"
    form = "URL"


@output("output_store_uri")
class OutputStoreUri(LocationList):
    """Answer with the path components of the URLs of stored images."""

    example = 'output_store_uri "input"'
    side = "store"
    form = "URI"


@output("output_source_path", "output_source_file")
class OutputSourcePath(LocationList):
    """Answer with the paths from which images were loaded, without root or prefix."""

    example = 'output_source_path "original"'
    side = "source"
    form = "path"


@output("output_source_url")
class OutputSourceUrl(LocationList):
    """Answer with the URLs from which images were loaded."""

    example = 'output_source_url "original"'
    side = "source"
    form = "URL"


@output("output_source_uri")
class OutputSourceUri(LocationList):
    """Answer with the path components of the URLs from which images were loaded."""

    example = 'output_source_uri "original"'
    side = "source"
    form = "URI"


class ListEntry:
    """Renders one line of a location list."""

    def __init__(self, declared: PathEntry, side: Side, form: str, resources: Resources) -> None:
        self._declared = declared
        self._condition = condition_of(declared)
        self._side = side
        self._form = form
        self._paths = resources.paths
        self._local = local_names(declared.image_name)

    def selected(self, state: RequestState) -> bool:
        return self._condition is None or self._condition.holds(state.variables, self._local)

    def line(self, state: RequestState) -> str:
        """Raises: ImageNotLoaded; SetupError for an image that is at no location, or for a bad rewrite."""
        location = self._location(state.images[self._declared.image_name])
        local = {**self._local, "path": location.path}
        if self._form == "path":
            return self._path(state, local) if self._declared.path else location.path
        url = location.url()
        url = self._rewritten(url, state, {**local, **_parts(url)})
        return str(url) if self._form == "URL" else url.uri

    def _location(self, image: NamedImage) -> Location:
        location = image.stored if self._side == "store" else image.source
        if location is None:
            what = "path" if self._form == "path" else "URL"
            raise SetupError(f"{self._side} {what} not set for image '{self._declared.image_name}'")
        return location

    def _path(self, state: RequestState, local: dict[str, str]) -> str:
        return render_path(self._declared.path or "", self._paths, state.variables, local)

    def _rewritten(self, url: Url, state: RequestState, local: dict[str, str]) -> Url:
        declared, lookup = self._declared, state.variables.lookup_with(local)
        if declared.scheme:
            url = url.with_scheme(declared.scheme.render(lookup))
        if declared.host:
            url = url.with_host(declared.host.render(lookup))
        if declared.port:
            url = url.with_port(declared.port.render(lookup))
        if declared.path:
            url = url.with_path(self._path(state, local))
        return url


def _parts(url: Url) -> dict[str, str]:
    """What templates may use of an original URL; a part that it does not have is not defined."""
    port = "" if url.port is None else str(url.port)
    parts = {"url": str(url), "scheme": url.scheme, "host": url.host, "port": port}
    return {name: text for name, text in parts.items() if text}


class ListOutput:
    """Lines in file order; none at all is one line end."""

    def __init__(self, entries: Sequence[ListEntry], form: str) -> None:
        self._entries = entries
        self._content_type = TEXT if form == "path" else URI_LIST

    async def answer(self, state: RequestState) -> Answer:
        lines = [entry.line(state) for entry in self._entries if entry.selected(state)]
        return Answer(text_body("\n".join(lines)), self._content_type)
