"""`path`: named templates for the places where images are stored and found."""

from collections.abc import Iterator, Mapping

from safelight.config.declaring import Declaring
from safelight.config.spec import Statement, block, value
from safelight.config.tag import Tag
from safelight.errors import PathNotDefined, PathRenderingError, SetupError
from safelight.statements.registry import configuration
from safelight.template import Template
from safelight.variables import NO_LOCALS, Variables


class NamedPath(Statement):
    """One name and its template."""

    name: str = value("path name", help="name that other statements use")
    template: Template = value("path template", help="text with `#{variable}` placeholders")


@configuration("path")
class Path(Statement):
    """Name one or more path templates. A later definition of a name replaces the earlier one."""

    example = """path "original" "#{input_digest}.#{image_mime_extension}"

path {
    "by-name"  "#{path}"
    "thumb"    "#{input_digest}/#{image_name}.#{image_mime_extension}"
}"""
    ignores_attributes = True

    name: str = value("path name", default="", help="name that other statements use")
    template: Template | None = value(
        "path template", default=None, help="text with `#{variable}` placeholders"
    )
    paths: tuple[NamedPath, ...] = block(NamedPath, help="a name and a template on each line")

    @classmethod
    def declare(cls, tag: Tag, declaring: Declaring) -> "Path | None":
        """Own values first, then the block; both may be present."""
        if not tag.values and not tag.children:
            declaring.error(tag, "expected path name")
            return None
        if len(tag.values) == 1:
            declaring.error(tag, "expected path template")
            return None
        return super().declare(tag, declaring)

    def templates(self) -> Iterator[tuple[str, Template]]:
        """Names and templates in order of definition."""
        if self.template is not None:
            yield self.name, self.template
        for path in self.paths:
            yield path.name, path.template


def render_path(
    name: str,
    paths: Mapping[str, Template],
    variables: Variables,
    local: Mapping[str, str] = NO_LOCALS,
) -> str:
    """Render the path called `name`. Raises: PathNotDefined, PathRenderingError."""
    template = paths.get(name)
    if template is None:
        raise PathNotDefined(f"path '{name}' not defined")
    try:
        return template.render(variables.lookup_with(local))
    except SetupError as error:
        message = f"cannot generate path '{name}' from template '{template}': {error.message}"
        raise PathRenderingError(message) from error
