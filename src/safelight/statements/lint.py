"""What a configuration says that can never work: paths, variables and images that nothing defines.

Such a file loads, and the requests concerned fail with a 500; here the author is told before that.
"""

from collections.abc import Collection, Iterator, Mapping

from safelight.config.declaring import suggestion
from safelight.config.kind import ImageName, NewImage, PathName
from safelight.config.problem import Problem
from safelight.config.references import references
from safelight.config.spec import Statement
from safelight.errors import SpecError
from safelight.image import tuning
from safelight.image.equality import EQUALIZED
from safelight.image.formats import OUTPUT_NAMES
from safelight.image.spec import ThumbnailSpec
from safelight.statements.bucket import InBucket
from safelight.statements.clients import S3
from safelight.statements.condition import Conditional
from safelight.statements.endpoint import UPLOADS, EndpointStatement
from safelight.statements.match import Matchers
from safelight.statements.output import PathEntry
from safelight.statements.process import SpecStatement
from safelight.template import Template
from safelight.variables import GENERATED, OF_IMAGES

_QUALITIES = [f"{name.lower()}-quality" for name in sorted(EQUALIZED)]
OPTIONS = ["quality", "background-color", "float-x", "float-y", "interlace", *_QUALITIES, *tuning.OPTIONS]
"""Options that the image core itself knows (reference/thumbnailer 7.2)."""

OPERATIONS = ["crop", "fit", "limit", "pad", "stretch"]
EDITS = [
    *("blur", "caption", "crop", "pixelate", "rectangle"),
    *("resize_crop", "resize_fit", "resize_limit", "resize_stretch", "rotate"),
]
FORMATS = ["input", *(name.lower() for name in OUTPUT_NAMES)]
"""Names that the image core itself knows; plugins and other servers may know more."""

ABOUT_AN_IMAGE = {"image_name", "imagename"}
ABOUT_A_LOCATION = {"url", "scheme", "host", "port"}


def lint(
    endpoint: EndpointStatement, paths: Mapping[str, Template], clients: Collection[str]
) -> Iterator[Problem]:
    """Warn about everything in `endpoint` that no request can use."""
    matchers = Matchers(endpoint.matchers)
    if complaint := matchers.complaint():
        yield _warning(endpoint, f"every request to this endpoint will fail: {complaint}")
    images = {str(found) for found in references(endpoint) if isinstance(found, NewImage)}
    if endpoint.tag.name in UPLOADS:
        images.add("input")
    variables = {"path", *matchers.names, *GENERATED}
    for statement in endpoint.all_parts():
        if isinstance(statement, InBucket) and statement.s3 not in clients:
            yield _no_client(statement, clients)
        yield from _lint_statement(statement, images, variables | _locals(statement), paths)


def _no_client(statement: InBucket, clients: Collection[str]) -> Problem:
    if not statement.s3:
        message = f"'{statement.tag.name}' will fail every request: S3 client not configured"
        return _warning(statement, message)
    hint = suggestion(statement.s3, sorted(clients))
    return _warning(statement, f"no 's3' statement is named '{statement.s3}'{hint}")


def lint_client(client: S3) -> Iterator[Problem]:
    """Warn about what an object store will refuse."""
    return (_warning(client, concern) for concern in client.concerns())


def _lint_statement(
    statement: Statement, images: Collection[str], variables: Collection[str], paths: Mapping[str, Template]
) -> Iterator[Problem]:
    if isinstance(statement, SpecStatement):
        yield from _lint_options(statement)
        yield from _lint_names(statement)
        yield from _lint_sides(statement)
        yield from _lint_empty(statement)
    for found in _own_references(statement):
        if isinstance(found, ImageName) and found not in images:
            yield _warning(
                statement, f"no statement provides image '{found}'{suggestion(found, sorted(images))}"
            )
        elif isinstance(found, PathName):
            yield from _lint_path(statement, found, variables, paths)
        elif isinstance(found, Template):
            yield from _lint_template(statement, found, variables, "")


def _lint_options(spec: SpecStatement) -> Iterator[Problem]:
    """Options that look like a misspelt known one; others may belong to a plugin."""
    known = [field.name for field in spec.fields if field.role == "attribute"] + OPTIONS
    for name in spec.extra:
        if name not in known and (hint := suggestion(name, known)):
            yield _warning(spec, f"no option '{name}' is known{hint}")


def _lint_names(spec: SpecStatement) -> Iterator[Problem]:
    """Names that look like misspelt ones; the requests are answered 400, as if their clients were wrong."""
    yield from _lint_name(spec, "operation", spec.operation, OPERATIONS)
    yield from _lint_name(spec, "format", spec.format, FORMATS)
    for edit in spec.block:
        yield from _lint_name(edit, "edit", edit.name, EDITS)


def _lint_name(statement: Statement, kind: str, name: Template, known: list[str]) -> Iterator[Problem]:
    text = name.text.lower() if kind == "format" else name.text
    if not name.names and text not in known and (hint := suggestion(text, known)):
        yield _warning(statement, f"no {kind} '{name.text}' is known{hint}")


def _lint_sides(spec: SpecStatement) -> Iterator[Problem]:
    width, height = ("input" if side.names else side.text for side in (spec.width, spec.height))
    try:
        made = ThumbnailSpec.make("fit", width, height, "input", {}, ())
        complaint = "at least one image dimension is zero" if 0 in (made.width, made.height) else ""
    except SpecError as error:
        complaint = error.message
    if complaint:
        yield _warning(spec, f"every request for this thumbnail will fail: {complaint}")


def _lint_empty(spec: SpecStatement) -> Iterator[Problem]:
    """What a variable leaves empty is the client's fault, what is written so the configuration's."""
    yield from _lint_empty_options(spec, "thumbnail", spec.extra)
    for edit in spec.block:
        if not edit.name.text:
            yield _warning(edit, "every request for this edit will fail: missing edit name argument")
        yield from _lint_empty_options(edit, "edit", edit.options)


def _lint_empty_options(
    statement: Statement, kind: str, options: Mapping[str, Template]
) -> Iterator[Problem]:
    for name, text in options.items():
        if not text.text:
            complaint = f"missing option value for key '{name}'"
            yield _warning(statement, f"every request for this {kind} will fail: {complaint}")


def _lint_path(
    statement: Statement, name: str, variables: Collection[str], paths: Mapping[str, Template]
) -> Iterator[Problem]:
    template = paths.get(name)
    if template is None:
        yield _warning(statement, f"path '{name}' not defined{suggestion(name, list(paths))}")
    else:
        yield from _lint_template(statement, template, variables, f" in path '{name}'")


def _lint_template(
    statement: Statement, template: Template, variables: Collection[str], where: str
) -> Iterator[Problem]:
    for name in template.names:
        if name not in variables:
            hint = suggestion(name, sorted(variables))
            yield _warning(statement, f"variable '{name}' not defined{where}{hint}")
        elif name in OF_IMAGES and "image_name" not in variables:
            yield _warning(statement, f"variable '{name}' needs 'image_name', which is not defined{where}")


def _own_references(statement: Statement) -> Iterator[object]:
    """The references of a statement without those of its parts."""
    inner = [found for part in statement.parts() for found in references(part)]
    return (found for found in references(statement) if not any(found is other for other in inner))


def _locals(statement: Statement) -> set[str]:
    about_image = ABOUT_AN_IMAGE if isinstance(statement, Conditional) else set[str]()
    about_location = ABOUT_A_LOCATION if isinstance(statement, PathEntry) else set[str]()
    return about_image | about_location | ({"bucket"} if isinstance(statement, InBucket) else set())


def _warning(statement: Statement, message: str) -> Problem:
    return Problem(statement.tag.position, message, "warning")
