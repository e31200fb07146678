"""Where results go: `#{name}` templates, what is known of a name before any work, and what may not happen.

A template falls into a *root*, which the user has written, and a *key* below it, which file names take part
in. No file name leads outside of the root. `out/#{relative_path}` has the root `out`; a template that begins
with `#{dirname}/` has the directory of the input, and what is literal after that, for its root.
"""

import difflib
import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from safelight.batch.inputs import Input
from safelight.blob import Blob, MemoryBlob
from safelight.errors import BadRequest, OutsideOfRoot, SafelightError
from safelight.image.formats import INPUT_FORMATS, output_format
from safelight.image.result import ImageInfo, Thumbnail
from safelight.image.spec import ThumbnailSpec
from safelight.model import NamedImage
from safelight.template import Template
from safelight.variables import EXTENSIONS, SHORT_DIGEST, Variables, split_extension

DEFAULT_NAME = "#{basename}.#{spec}.#{image_mime_extension}"
BESIDE = "#{dirname}/" + DEFAULT_NAME
MIRRORED = "#{relative_dirname}/" + DEFAULT_NAME

FROM_INPUT = {
    "path": "path of the input",
    "dirname": "its directory; `.` for none",
    "filename": "its last component",
    "basename": "`filename` without the extension",
    "extension": "its extension, without the dot",
    "relative_path": "`path` below the directory that was given; for a named file its `filename`",
    "relative_dirname": "directory of `relative_path`; `.` for none",
    "index": "number of the input, six digits, from 000001",
}
FROM_SPEC = {
    "method": "as in SPEC",
    "width": "as in SPEC",
    "height": "as in SPEC",
    "format": "as in SPEC",
    "spec": "the whole SPEC but its format, as a name: `crop-128x128-quality-80`",
}
FROM_RESULT = {
    "image_width": "of the result, in pixels",
    "image_height": "of the result, in pixels",
    "image_mime_extension": "usual extension of the result's type: `jpg`, `png`, ...",
    "image_digest": "16 hex digits of the SHA-256 of the result",
    "image_sha256": "64 hex digits of it",
    "input_image_width": "of the input, in pixels",
    "input_image_height": "of the input, in pixels",
    "input_image_mime_extension": "usual extension of the input's type",
    "input_digest": "16 hex digits of the SHA-256 of the input",
    "digest": "the same",
    "input_sha256": "64 hex digits of it",
}
VARIABLES: Mapping[str, str] = FROM_INPUT | FROM_SPEC | FROM_RESULT

METHODS = ("crop", "fit", "limit", "pad")
MAX_MARK = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9._+]+")
_PLACEHOLDER = "#{"
_HERE = "."


class NamingError(SafelightError):
    """A template that cannot be used."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where one result goes: a clean relative `key` below the directory `root`."""

    root: str
    key: str

    @property
    def path(self) -> str:
        """The file's path, as short as possible."""
        return os.path.normpath(os.path.join(self.root, self.key))

    @property
    def identity(self) -> str:
        """The same for every spelling of the path; links are not resolved."""
        return os.path.abspath(self.path)


@dataclass(frozen=True, slots=True)
class Job:
    """One result to be made of an input, `number` counting the specifications from 0."""

    number: int
    spec: ThumbnailSpec


class Naming:
    """The names of all results of a run."""

    def __init__(self, template: str, specs: Sequence[ThumbnailSpec]) -> None:
        """Raises: NamingError; BadRequest for a format that cannot be written."""
        text = completed(template)
        root, key = _divided(text)
        self.text = text
        self._root, self._key = Template(root), Template(key)
        _check(text, (*self._root.names, *self._key.names), key)
        self._facts = [_facts(spec) for spec in specs]
        methods = "|".join(map(re.escape, {*METHODS, *(spec.method for spec in specs)}))
        self._mark = re.compile(rf"\.(?:{methods})-(?:\d+|input)x(?:\d+|input)(?:-[\w.+-]*)?$", re.ASCII)
        self.jobs = tuple(Job(number, spec) for number, spec in enumerate(specs))
        self._early = [set(self._key.names) <= {*FROM_INPUT, *facts} for facts in self._facts]

    @property
    def specs(self) -> list[ThumbnailSpec]:
        """The specifications, in order."""
        return [job.spec for job in self.jobs]

    @property
    def literal_root(self) -> str | None:
        """The one directory that everything is written below; None if it depends on the input."""
        return None if self._root.names else self._root.text or _HERE

    def early(self, item: Input, job: Job) -> Target | None:
        """The target if it is known before any work. Raises: OutsideOfRoot."""
        if not self._early[job.number]:
            return None
        return self._target({**_path_facts(item), **self._facts[job.number]}.__getitem__)

    def late(self, item: Input, job: Job, data: Blob, source: ImageInfo, result: Thumbnail) -> Target:
        """The target, once the result is there. Raises: OutsideOfRoot; SetupError."""
        facts = {**_path_facts(item), **self._facts[job.number], "image_name": "output"}
        images = {
            "input": NamedImage(data, source.mime_type, source.width, source.height),
            "output": NamedImage(MemoryBlob(result.data), result.mime_type, result.width, result.height),
        }
        return self._target(Variables(facts, item.path, {}, data, images).lookup)

    def outline(self, item: Input, job: Job) -> str:
        """The target's path with the placeholders of what is not known yet."""
        facts = {**_path_facts(item), **self._facts[job.number]}
        return self._target(lambda name: facts.get(name, f"#{{{name}}}")).path

    def holds_results(self, parent: str, directory: str) -> bool:
        """Do results of inputs in `parent` go to `directory` or below? It is not searched then."""
        root = self._root.render(lambda _name: parent) or _HERE
        return os.path.abspath(root) == os.path.abspath(directory)

    def is_result(self, name: str) -> bool:
        """Is that file of a directory called as `DEFAULT_NAME` calls results, of this run or another one?"""
        return self._mark.search(split_extension(name)[0]) is not None

    def _target(self, lookup: Callable[[str], str]) -> Target:
        root = self._root.render(lookup) or _HERE
        return Target(root, _clean(self._key.render(lookup), root))


def completed(template: str) -> str:
    """A template that names a directory (it ends in a slash, or exists) gets a file name."""
    if template.endswith("/"):
        return template + MIRRORED
    if template and os.path.isdir(template):
        return f"{template}/{MIRRORED}"
    if template.startswith("#{path}"):
        return "#{dirname}/#{filename}" + template.removeprefix("#{path}")
    return template


def mark(spec: ThumbnailSpec) -> str:
    """A specification, without its format, as a part of a file name: `crop-128x128-rotate-90`."""
    options = [f"{key}:{spec.options[key]}" for key in sorted(spec.options)]
    size = f"{_side(spec.width)}x{_side(spec.height)}"
    text = "-".join([spec.method, size, *options, *map(str, spec.edits)])
    name = _UNSAFE.sub("-", text).strip("-.")
    if len(name) <= MAX_MARK:
        return name
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:SHORT_DIGEST]
    return f"{name[: MAX_MARK - SHORT_DIGEST - 1]}-{digest}"


def _side(side: int | None) -> str:
    return "input" if side is None else str(side)


def _facts(spec: ThumbnailSpec) -> dict[str, str]:
    """Raises: BadRequest."""
    facts = {
        "method": spec.method,
        "width": _side(spec.width),
        "height": _side(spec.height),
        "format": spec.format,
        "spec": mark(spec),
    }
    written = output_format(spec.format, INPUT_FORMATS["PNG"])
    if spec.format != "input":
        facts["image_mime_extension"] = EXTENSIONS[written.mime_type]
    return facts


def _path_facts(item: Input) -> dict[str, str]:
    directory, _, filename = item.path.rpartition("/")
    if not directory:
        directory = "/" if item.path.startswith("/") else _HERE
    basename, extension = split_extension(filename)
    return {
        "path": item.path,
        "dirname": directory,
        "filename": filename,
        "basename": basename,
        "extension": extension,
        "relative_path": item.relative_path,
        "relative_dirname": item.relative_path.rpartition("/")[0] or _HERE,
        "index": f"{item.index:06}",
    }


def _divided(text: str) -> tuple[str, str]:
    """Root and key of a template."""
    start = len("#{dirname}") if text.startswith("#{dirname}/") else 0
    end = text.find(_PLACEHOLDER, start)
    slash = text.rfind("/", start, end if end >= 0 else len(text))
    return text[: slash + 1], text[slash + 1 :]


def _check(text: str, names: Sequence[str], key: str) -> None:
    """Raises: NamingError."""
    for name in names:
        if name not in VARIABLES:
            nearest = difflib.get_close_matches(name, VARIABLES, 1)
            hint = f"did you mean '{nearest[0]}'?" if nearest else f"known are {', '.join(VARIABLES)}"
            raise NamingError(f"unknown variable '{name}' in '{text}': {hint}")
    if ".." in key.split("/"):
        raise NamingError(f"'..' after a variable in '{text}'")
    if not key.strip("/."):
        raise NamingError(f"'{text}' names no file")


def _clean(key: str, root: str) -> str:
    """`key` without empty and `.` parts. Raises: OutsideOfRoot; BadRequest when nothing is left."""
    parts = [part for part in key.split("/") if part not in ("", ".")]
    if ".." in parts or (key.startswith("/") and root == _HERE):
        raise OutsideOfRoot(f"'{key}' would be outside of '{root}'; use #{{relative_path}} or #{{filename}}")
    if not parts:
        raise BadRequest(f"no name for the result below '{root}'")
    return "/".join(parts)
