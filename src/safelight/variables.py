"""The variables of one request and their precedence (reference/imagestore section 4).

Statement-local values first, then captures, then `path`, then generated ones, made only when asked for.
"""

import posixpath
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from safelight.blob import Blob
from safelight.errors import SetupError, VariableNotDefined

if TYPE_CHECKING:
    from safelight.model import NamedImage

NO_LOCALS: Mapping[str, str] = {}
SHORT_DIGEST = 16

EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/tiff": "tiff",
    "image/bmp": "bmp",
    "image/svg+xml": "svg",
    "image/heic": "heic",
    "image/jp2": "jp2",
    "image/jxl": "jxl",
    "image/vnd.microsoft.icon": "ico",
    "image/vnd.adobe.photoshop": "psd",
    "image/x-portable-pixmap": "ppm",
    "image/x-portable-anymap": "ppm",
    "image/x-tga": "tga",
    "image/x-pcx": "pcx",
    "image/vnd.ms-dds": "dds",
    "image/x-icns": "icns",
    "image/x-sgi": "sgi",
    "image/qoi": "qoi",
}


class Variables:
    """Lookup of variables for the templates of one request.

    `query` is a copy that HMAC validators may remove parameters from; `images` is the request's own mapping.
    """

    def __init__(
        self,
        captures: Mapping[str, str],
        path: str,
        query: Mapping[str, str | None],
        body: Blob,
        images: "Mapping[str, NamedImage]",
    ) -> None:
        self.query = dict(query)
        self._known = {"path": path, **captures}
        self._body = body
        self._images = images
        self._uuid: str | None = None

    def lookup(self, name: str, local: Mapping[str, str] = NO_LOCALS) -> str:
        """The value of `name`. Raises: VariableNotDefined, or SetupError when it cannot be generated."""
        if name in local:
            return local[name]
        known = self._known.get(name)
        if known is not None:
            return known
        generate = GENERATED.get(name)
        if generate is None:
            raise VariableNotDefined(f"variable '{name}' not defined")
        return generate(self, name, local)

    def lookup_with(self, local: Mapping[str, str]) -> Callable[[str], str]:
        """`lookup` with `local` values in front, for `Template.render`."""
        return lambda name: self.lookup(name, local)

    def base(self, base: str, name: str, local: Mapping[str, str]) -> str:
        """The variable that `name` is derived from. Raises: SetupError when there is none."""
        try:
            return self.lookup(base, local)
        except VariableNotDefined as error:
            raise SetupError(f"need '{base}' variable to generate value for '{name}'") from error

    def input_sha256(self, name: str) -> str:
        """Raises: SetupError for an empty body."""
        if not self._body.size:
            raise SetupError(f"need not empty request body to generate value for '{name}'")
        return self._body.sha256

    def image_fact(self, image_name: str, fact: str, name: str) -> str:
        """A known fact of an image as text. Raises: SetupError while it is unknown."""
        found = getattr(self._images[image_name], fact)
        if found is None:
            raise SetupError(f"image '{image_name}' does not have data for variable '{name}'")
        return str(found)

    def image_extension(self, image_name: str, name: str) -> str:
        """Usual file extension of an image's type. Raises: SetupError while the type is unknown."""
        extension = EXTENSIONS.get(self.image_fact(image_name, "mime_type", name))
        if extension is None:
            raise SetupError(f"image '{image_name}' does not have data for variable '{name}'")
        return extension

    def image_sha256(self, image_name: str) -> str:
        return self._images[image_name].data.sha256

    def request_uuid(self) -> str:
        """One random value per request, whoever asks."""
        if self._uuid is None:
            self._uuid = str(uuid.uuid4())
        return self._uuid

    def query_string_options(self) -> str:
        return ",".join(f"{key}:{value or ''}" for key, value in sorted(self.query.items()))


Generator = Callable[[Variables, str, Mapping[str, str]], str]


def split_extension(path: str) -> tuple[str, str]:
    """(`a/b.tar`, `gz`) of `a/b.tar.gz`; a leading dot or a final one starts no extension."""
    stem, extension = posixpath.splitext(path)
    return (stem, extension[1:]) if len(extension) > 1 else (path, "")


def _basename(variables: Variables, name: str, local: Mapping[str, str]) -> str:
    path = variables.base("path", name, local)
    return split_extension(posixpath.basename(path.rstrip("/")))[0]


def _dirname(variables: Variables, name: str, local: Mapping[str, str]) -> str:
    path = variables.base("path", name, local)
    return posixpath.dirname(path.rstrip("/") or path) or "."


def _extension(variables: Variables, name: str, local: Mapping[str, str]) -> str:
    return split_extension(posixpath.basename(variables.base("path", name, local)))[1]


def _named(use: Callable[[Variables, str, str], str]) -> Generator:
    def generate(variables: Variables, name: str, local: Mapping[str, str]) -> str:
        return use(variables, variables.base("image_name", name, local), name)

    return generate


def _input(use: Callable[[Variables, str, str], str]) -> Generator:
    return lambda variables, name, _local: use(variables, "input", name)


def _width(variables: Variables, image: str, name: str) -> str:
    return variables.image_fact(image, "width", name)


def _height(variables: Variables, image: str, name: str) -> str:
    return variables.image_fact(image, "height", name)


GENERATED: Mapping[str, Generator] = {
    "basename": _basename,
    "dirname": _dirname,
    "direname": _dirname,
    "extension": _extension,
    "input_digest": lambda variables, name, _: variables.input_sha256(name)[:SHORT_DIGEST],
    "digest": lambda variables, name, _: variables.input_sha256(name)[:SHORT_DIGEST],
    "input_sha256": lambda variables, name, _: variables.input_sha256(name),
    "input_image_width": _input(_width),
    "input_image_height": _input(_height),
    "input_image_mime_extension": _input(Variables.image_extension),
    "image_digest": _named(lambda variables, image, _: variables.image_sha256(image)[:SHORT_DIGEST]),
    "image_sha256": _named(lambda variables, image, _: variables.image_sha256(image)),
    "image_width": _named(_width),
    "image_height": _named(_height),
    "image_mime_extension": _named(Variables.image_extension),
    "mimeextension": _named(Variables.image_extension),
    "uuid": lambda variables, _name, _local: variables.request_uuid(),
    "query_string_options": lambda variables, _name, _local: variables.query_string_options(),
}
"""Every generated variable by name; aliases of the 1.0 documentation included."""

OF_IMAGES = frozenset(
    {"image_digest", "image_sha256", "image_width", "image_height", "image_mime_extension", "mimeextension"}
)
"""Facts of the image that `image_name` says, which only statements about an image define."""

INPUT_DIGESTS = frozenset({"input_digest", "digest", "input_sha256"})
