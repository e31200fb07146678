"""`thumbnail` and `identify`: make images of images, and learn about them, through the engine."""

import dataclasses
from collections.abc import Iterator, Mapping

from safelight.blob import MemoryBlob
from safelight.config.declaring import Declaring
from safelight.config.kind import ImageName, NewImage, inspect_value
from safelight.config.spec import Reader, Statement, attribute, block, free_attributes, value, values
from safelight.config.tag import Tag
from safelight.engine.base import Engine
from safelight.errors import BadRequest, SafelightError, SetupError, SpecError
from safelight.image.result import ImageInfo, Thumbnail, Thumbnails
from safelight.image.spec import (
    MAX_SPECS,
    Edit,
    ThumbnailSpec,
    parse_edit,
    parse_options,
    split,
)
from safelight.image.speed import OPTION, SPEEDS
from safelight.model import Counters, NamedImage, RequestState, Resources, Step
from safelight.statements.condition import Conditional, VariableConditional, condition_of, local_names, when
from safelight.statements.registry import processor
from safelight.template import Template
from safelight.timing import measured
from safelight.variables import Variables

INPUT = Template("input")


class EditStatement(VariableConditional):
    """One edit, applied before the thumbnail is made."""

    name: Template = value(
        "edit name",
        help="`rotate`, `crop`, `pixelate`, `blur`, `rectangle`, `caption`, `resize_crop`, `resize_fit`, "
        "`resize_limit` or `resize_stretch`",
    )
    args: tuple[Template, ...] = values("argument", help="arguments of the edit, in order")
    options: Mapping[str, Template] = free_attributes(help="options of the edit", example="red")

    def check(self) -> Iterator[str]:
        """An edit is about no named image; as an option the condition would be sent to the engine."""
        if "if-image-name-on" in self.options:
            yield "unexpected attributes: 'if-image-name-on'"


class SpecStatement(Conditional):
    """One thumbnail of a `thumbnail` statement."""

    name: NewImage = value("thumbnail image name", help="name of the resulting image")
    operation: Template = attribute(
        default=Template("fit"), help="`crop`, `fit`, `limit`, `pad` or `stretch`"
    )
    width: Template = attribute(default=INPUT, help="pixels, or `input` for the side of the source image")
    height: Template = attribute(default=INPUT, help="pixels, or `input`")
    format: Template = attribute(default=INPUT, help="`jpeg`, `png`, `webp`, ..., or `input`")
    options: Template | None = attribute(
        default=None, help="options as `key:value,key:value`", example="#{query_string_options}"
    )
    edits: Template | None = attribute(
        default=None,
        help="edits as `name,arg,key:value!name,...`, after those of the block",
        example="#{edits}",
    )
    speed: Template | None = attribute(
        default=None, help="how much work: `reference`, `fast`, `balanced` or `best`", example="fast"
    )
    extra: Mapping[str, Template] = free_attributes(help="further options, such as `quality=84`")
    block: tuple[EditStatement, ...] = block(EditStatement, help="`edit` statements")

    def check(self) -> Iterator[str]:
        if self.speed is not None and not self.speed.names and self.speed.text not in SPEEDS:
            expected, found = ", ".join(SPEEDS), inspect_value(self.speed.text)
            yield f"expected 'speed' attribute value to be one of {expected}; got: {found}"
        yield from super().check()


@processor("thumbnail")
class ThumbnailStatement(Conditional):
    """Make one thumbnail (`thumbnail "source" "name" ...`), or several in a block from one decode."""

    example = """thumbnail "input" {
    "large" operation="limit" width=2160 height=2160 format="jpeg" quality=90
    "small" operation="crop" width=128 height=128 format="webp" {
        edit "rotate" "90" background-color="white"
    }
}"""

    source: ImageName = value("source image name", help="image to make thumbnails of")
    specs: tuple[SpecStatement, ...] = ()
    grouped: bool = False

    @classmethod
    def declare(cls, tag: Tag, declaring: Declaring) -> "ThumbnailStatement | None":
        if len(tag.values) > 1:
            return cls._declare_single(tag, declaring)
        own = Reader(cls, dataclasses.replace(tag, children=()), declaring, tag).statement()
        if not tag.children:
            declaring.error(tag, "expected thumbnail image name")
            return None
        specs = [_declare_spec(child, tag, declaring, child) for child in tag.children]
        if own is None or None in specs:
            return None
        return dataclasses.replace(own, specs=tuple(spec for spec in specs if spec), grouped=True)

    @classmethod
    def _declare_single(cls, tag: Tag, declaring: Declaring) -> "ThumbnailStatement | None":
        spec_tag = dataclasses.replace(tag, values=tag.values[1:])
        spec = _declare_spec(spec_tag, tag, declaring, tag)
        own = dataclasses.replace(tag, values=tag.values[:1], attributes={}, children=())
        made = Reader(cls, own, declaring, tag).statement()
        return None if spec is None or made is None else dataclasses.replace(made, tag=tag, specs=(spec,))

    def parts(self) -> Iterator[Statement]:
        return iter(self.specs)

    def build(self, resources: Resources) -> Step:
        step = ThumbnailStep(self, resources.engine, resources.counters)
        return when(self, step, local_names(self.source))


def _declare_spec(tag: Tag, statement: Tag, declaring: Declaring, shown: Tag) -> SpecStatement | None:
    """One specification; `shown` is what complaints show, `statement` the `thumbnail` it belongs to."""
    strange = [child.name for child in tag.children if child.name != "edit"]
    if strange:
        name, source = (
            str(tag.values[0]) if tag.values else "",
            str(statement.values[0]) if statement.values else "",
        )
        listed = " and ".join(strange)
        message = f"unknown directive '{listed}' for thumbnail specification '{name}' for image '{source}'"
        declaring.error(shown, message)
        return None
    return Reader(SpecStatement, tag, declaring, shown).statement()


class EditBuilder:
    """Renders one declared edit for one request."""

    def __init__(self, declared: EditStatement) -> None:
        self._declared = declared
        self._condition = condition_of(declared)

    def selected(self, variables: Variables) -> bool:
        return self._condition is None or self._condition.holds(variables)

    def build(self, variables: Variables) -> Edit:
        """Raises: SpecError, SetupError, for a name that renders to nothing too."""
        declared, lookup = self._declared, variables.lookup
        name = declared.name.render(lookup)
        if not name:
            raise _missing("missing edit name argument", declared.name)
        options = {key: text.render(lookup) for key, text in declared.options.items()}
        args = tuple(text.render(lookup) for text in declared.args)
        return Edit(name, args, _none_empty(options, declared.options))


class SpecBuilder:
    """Renders one declared specification for one request."""

    def __init__(self, declared: SpecStatement) -> None:
        self.name: str = declared.name
        self._declared = declared
        self._condition = condition_of(declared)
        self._local = local_names(declared.name)
        self._edits = [EditBuilder(edit) for edit in declared.block]

    def selected(self, variables: Variables) -> bool:
        return self._condition is None or self._condition.holds(variables, self._local)

    def build(self, variables: Variables) -> ThumbnailSpec:
        """Render everything, then check in the order of reference 5.2. Raises: SpecError, SetupError."""
        declared, lookup = self._declared, variables.lookup_with(self._local)
        leading = (declared.operation, declared.width, declared.height, declared.format)
        method, width, height, image_format = (text.render(lookup) for text in leading)
        own = {**declared.extra, **({} if declared.speed is None else {OPTION: declared.speed})}
        own_options = {key: text.render(lookup) for key, text in own.items()}
        more_options = declared.options.render(lookup) if declared.options else ""
        more_edits = declared.edits.render(lookup) if declared.edits else ""
        try:
            options = {**_client_options(more_options), **_none_empty(own_options, own)}
            edits = [edit.build(variables) for edit in self._edits if edit.selected(variables)]
            edits += map(_client_edit, split(more_edits, "!"))
            return ThumbnailSpec.make(method, width, height, image_format, options, edits)
        except SpecError as error:
            raise SpecError(f"thumbnail spec '{self.name}' is invalid: {error.message}") from error


def _client_options(text: str) -> dict[str, str]:
    try:
        return parse_options(split(text, ","))
    except SpecError as error:
        raise SpecError(f"options spec '{text}' format is invalid: {error.message}") from error


def _client_edit(text: str) -> Edit:
    try:
        return parse_edit(text)
    except SpecError as error:
        raise SpecError(f"edits spec '{text}' format is invalid: {error.message}") from error


def _none_empty(options: dict[str, str], declared: Mapping[str, Template]) -> dict[str, str]:
    """Options that the configuration wrote. Raises: SpecError, SetupError for an empty one."""
    for key, text in options.items():
        if not text:
            raise _missing(f"missing option value for key '{key}'", declared[key])
    return options


def _missing(message: str, declared: Template) -> SafelightError:
    """About a text that is empty: the client's fault if a variable made it so, else the configuration's."""
    return SpecError(message) if declared.names else SetupError(message)


class ThumbnailStep:
    """One call of the engine for all selected specifications."""

    def __init__(self, declared: ThumbnailStatement, engine: Engine, counters: Counters) -> None:
        self._source = declared.source
        self._grouped = declared.grouped
        self._specs = [SpecBuilder(spec) for spec in declared.specs]
        self._engine = engine
        self._counters = counters

    async def run(self, state: RequestState) -> None:
        """Raises: BadRequest, ImageNotLoaded, MemoryLimitExceeded, and what the engine raises."""
        specs = self._selected(state.variables)
        if not specs:
            return
        image = state.images[self._source]
        made = await self._thumbnail(image, specs)
        outputs = [self._good(name, output) for name, output in zip(specs, made.outputs, strict=True)]
        state.images[self._source] = _identified(image, made.source)
        for name, output in zip(specs, outputs, strict=True):
            state.images.load(name, _named(output, image))
        self._counters.add("total_thumbnail_thumbnails", len(outputs))
        self._counters.add("total_thumbnail_thumbnails_bytes", sum(len(output.data) for output in outputs))

    def _selected(self, variables: Variables) -> dict[str, ThumbnailSpec]:
        selected = [spec for spec in self._specs if spec.selected(variables)]
        if self._grouped and not selected:
            names = ", ".join(spec.name for spec in self._specs)
            raise BadRequest(f"no thumbnail specs were selected, please use at least one of: {names}")
        if len(selected) > MAX_SPECS:
            raise BadRequest(f"too many thumbnail specs: {len(selected)}, at most {MAX_SPECS} are allowed")
        return {spec.name: spec.build(variables) for spec in selected}

    async def _thumbnail(self, image: NamedImage, specs: dict[str, ThumbnailSpec]) -> Thumbnails:
        self._counters.add("total_thumbnail_requests")
        self._counters.add("total_thumbnail_requests_bytes", image.data.size)
        try:
            with measured("thumbnailing image", ", ".join(specs)):
                return await self._engine.thumbnail(image.data, list(specs.values()))
        except SafelightError as error:
            into = f" into '{next(iter(specs))}'" if len(specs) == 1 else ""
            raise self._failed(into, error) from error

    def _good(self, name: str, output: Thumbnail | SafelightError) -> Thumbnail:
        if isinstance(output, SafelightError):
            raise self._failed(f" into '{name}'", output) from output
        return output

    def _failed(self, into: str, error: SafelightError) -> SafelightError:
        return error.reworded(f"thumbnailing of '{self._source}'{into} failed: {error.message}")


@processor("identify")
class IdentifyStatement(Conditional):
    """Learn the type and size of an image from its header."""

    example = 'identify "input"'

    image_name: ImageName = value("image name", help="image to identify")

    def build(self, resources: Resources) -> Step:
        step = IdentifyStep(self.image_name, resources.engine, resources.counters)
        return when(self, step, local_names(self.image_name))


class IdentifyStep:
    """One call of the engine."""

    def __init__(self, image_name: str, engine: Engine, counters: Counters) -> None:
        self._image_name = image_name
        self._engine = engine
        self._counters = counters

    async def run(self, state: RequestState) -> None:
        """Raises: ImageNotLoaded, and what the engine raises."""
        image = state.images[self._image_name]
        self._counters.add("total_identify_requests")
        self._counters.add("total_identify_requests_bytes", image.data.size)
        with measured("identifying", self._image_name):
            info = await self._engine.identify(image.data)
        state.images[self._image_name] = _identified(image, info)


def _identified(image: NamedImage, info: ImageInfo) -> NamedImage:
    """What the engine says; what an old remote one leaves out stays as it was."""
    return dataclasses.replace(
        image,
        mime_type=info.mime_type or image.mime_type,
        width=info.width or image.width,
        height=info.height or image.height,
    )


def _named(made: Thumbnail, source: NamedImage) -> NamedImage:
    """A thumbnail as an image of the request; it inherits where its source came from."""
    return NamedImage(MemoryBlob(made.data), made.mime_type, made.width, made.height, source=source.source)
