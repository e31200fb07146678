"""`source_file`, `source_s3` and `source_failover`: load images under names."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from safelight.config.declaring import Declaring, suggestion
from safelight.config.kind import NewImage, PathName, Root
from safelight.config.spec import Reader, Statement, attribute, value
from safelight.config.tag import Tag
from safelight.errors import (
    MemoryLimitExceeded,
    NoSuchBucket,
    NoSuchFile,
    NoSuchKey,
    NotFound,
    OutsideOfRoot,
    PathNotDefined,
    PathRenderingError,
    S3AccessDenied,
    S3NotConfigured,
    SafelightError,
    SetupError,
    is_passing,
)
from safelight.model import Location, NamedImage, RequestState, Resources, Step
from safelight.results.reading import Origin
from safelight.statements.bucket import CachedObject, read_storage
from safelight.statements.condition import Conditional, When, local_names, when
from safelight.statements.paths import render_path
from safelight.statements.registry import source
from safelight.storage.base import Stored
from safelight.storage.file import FileStorage
from safelight.timing import measured


@source("source_file")
class SourceFile(Conditional):
    """Load a stored file."""

    example = 'source_file "original" root="images" path="by-name"'

    image_name: NewImage = value("image name", help="name that later statements use")
    root: Root = attribute(help="directory that holds the images")
    path: PathName = attribute(help="name of a `path` template, relative to the root", example="by-name")

    def build(self, resources: Resources) -> Step:
        about, local = about_image(self.image_name), local_names(self.image_name)
        return when(self, Fetch(self, self.origin(resources), resources, "file", about, local), local)

    def origin(self, resources: Resources) -> Origin:
        """Where it reads."""
        return Origin(str(self.tag), FileStorage(Path(self.root)))

    def __str__(self) -> str:
        return f"FileSource[image_name: '{self.image_name}' root_dir: '{self.root}' path_spec: '{self.path}']"


@source("source_s3")
class SourceS3(CachedObject, Conditional):
    """Load an object of an S3 bucket."""

    example = 'source_s3 "original" bucket="photos" path="by-name"'

    image_name: NewImage = value("image name", help="name that later statements use")

    def build(self, resources: Resources) -> Step:
        local = {**local_names(self.image_name), "bucket": self.bucket}
        return when(self, Fetch(self, self.origin(resources), resources, "s3", nullcontext(), local), local)

    def origin(self, resources: Resources) -> Origin:
        """Where it reads."""
        return Origin(str(self.tag), read_storage(self, resources))

    def __str__(self) -> str:
        return (
            f"S3Source[image_name: '{self.image_name}' bucket: '{self.bucket}' "
            f"prefix: '{self.prefix}' path_spec: '{self.path}']"
        )


TASKS = {"file": "sourcing image from file", "s3": "sourcing image from S3"}
"""What sourcing is called where times are told (reference/imagestore 9.3)."""


class Fetch:
    """Loads one image from `origin`. A file is opened; its bytes are read when something needs them.

    `kind`: of the storage, as statistics call it. `about`: what errors of the storage pass through.
    """

    def __init__(
        self,
        declared: SourceFile | SourceS3,
        origin: Origin,
        resources: Resources,
        kind: str,
        about: AbstractContextManager[None],
        local: Mapping[str, str],
    ) -> None:
        self._local = local
        self._image_name = declared.image_name
        self._path_name = declared.path
        self._origin = origin
        self._resources = resources
        self._counter = f"total_{kind}_source"
        self._task = TASKS[kind]
        self._about = about

    async def run(self, state: RequestState) -> None:
        """Raises: NotFound, Forbidden, MemoryLimitExceeded, SetupError, StorageError, Busy, Timeout."""
        path = render_path(self._path_name, self._resources.paths, state.variables, self._local)
        with self._about, measured(self._task, path):
            stored = await self._read(path, state)
        location = Location(path, stored.url)
        image = NamedImage(stored.data, stored.content_type, source=location, modified=stored.modified)
        state.images.load(self._image_name, image)
        self._resources.counters.add(self._counter)
        self._resources.counters.add(f"{self._counter}_bytes", stored.data.size)

    async def _read(self, path: str, state: RequestState) -> Stored:
        origin, witness = self._origin, state.reading
        await witness.begins(origin, path)
        try:
            stored = await origin.storage.get(path, state.images.budget.remaining)
        except NotFound:
            witness.ends(origin, path, None)
            raise
        except SafelightError as error:
            if is_passing(error):
                witness.misses()
            raise
        witness.ends(origin, path, stored.version)
        return stored


@source("source_failover")
class SourceFailover(Statement):
    """Try the sources inside in order; the first that succeeds ends it."""

    example = """source_failover {
    source_file "original" root="fast-disk" path="by-name"
    source_file "original" root="archive"   path="by-name"
}"""
    ignores_values = True
    ignores_attributes = True

    sources: tuple[SourceFile | SourceS3, ...] = ()

    @classmethod
    def declare(cls, tag: Tag, declaring: Declaring) -> "SourceFailover | None":
        sources: list[SourceFile | SourceS3] = []
        for child in tag.children:
            statement_class = FAILOVER_SOURCES.get(child.name)
            if statement_class is None:
                hint = suggestion(child.name, list(FAILOVER_SOURCES))
                guards = child.name.startswith("validate")
                message = f"unexpected statement: {child.name}{hint}"
                declaring.unknown(child.position, message, guards=guards)
                continue
            declared = statement_class.declare(child, declaring)
            if declared is not None:
                sources.append(declared)
        own = Reader(cls, dataclasses.replace(tag, children=()), declaring, tag).statement()
        return own and cls(tag=tag, sources=tuple(sources))

    def parts(self) -> Iterator[Statement]:
        return iter(self.sources)

    def build(self, resources: Resources) -> Step:
        return Failover([(str(declared), declared.build(resources)) for declared in self.sources])


FAILOVER_SOURCES: dict[str, type[SourceFile] | type[SourceS3]] = {
    "source_file": SourceFile,
    "source_s3": SourceS3,
}

CLASS_NAMES: dict[type[SafelightError], str] = {
    NoSuchFile: "Configuration::NoSuchFileError",
    OutsideOfRoot: "Configuration::FileStorageOutsideOfRootDirError",
    NoSuchKey: "Configuration::S3NoSuchKeyError",
    NoSuchBucket: "Configuration::S3NoSuchBucketError",
    S3AccessDenied: "Configuration::S3AccessDenied",
    S3NotConfigured: "Configuration::S3NotConfiguredError",
    PathNotDefined: "Configuration::PathNotDefinedError",
    PathRenderingError: "Configuration::PathRenderingError",
    MemoryLimitExceeded: "MemoryLimit::MemoryLimitedExceededError",
}
"""How failures are named in the message of a failed failover (reference/imagestore 6.6)."""


class Failover:
    """The first source that works. A failed one keeps its cause for the message."""

    def __init__(self, sources: list[tuple[str, Step]]) -> None:
        self._sources = sources

    async def run(self, state: RequestState) -> None:
        """Raises: NotFound when the first failure was one, else SetupError; both name every failure."""
        failures: list[tuple[str, SafelightError]] = []
        for name, step in self._sources:
            if isinstance(step, When) and not step.applies(state):
                continue
            try:
                return await step.run(state)
            except SafelightError as error:
                failures.append((name, error))
        raise _all_failed(failures)


def _all_failed(failures: list[tuple[str, SafelightError]]) -> SafelightError:
    listed = ", ".join(f"{name}({_class_name(error)}: {error.message})" for name, error in failures)
    message = f"all sources failed: {listed}"
    missing = bool(failures) and isinstance(failures[0][1], NotFound)
    error = NotFound(message) if missing else SetupError(message)
    error.causes = tuple(failure for _, failure in failures)
    return error


def _class_name(error: SafelightError) -> str:
    return next((CLASS_NAMES[cls] for cls in type(error).__mro__ if cls in CLASS_NAMES), type(error).__name__)


class about_image:  # noqa: N801 (reads as a function)
    """Says in the message of a storage error which image it is about."""

    def __init__(self, image_name: str) -> None:
        self._image_name = image_name

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, SafelightError) and not isinstance(error, MemoryLimitExceeded):
            raise error.reworded(
                f"error while processing image '{self._image_name}': {error.message}"
            ) from error
