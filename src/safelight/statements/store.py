"""`store_file`, `store_s3`, `delete_file` and `delete_s3`: change what is stored."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from safelight.config.kind import ImageName, PathName, Root
from safelight.config.spec import attribute, value
from safelight.model import Change, Counters, Location, NamedImage, RequestState, Resources, Store
from safelight.statements.bucket import CachedObject, InBucket, write_storage
from safelight.statements.condition import Conditional, VariableConditional, local_names, store_when
from safelight.statements.paths import render_path
from safelight.statements.registry import store
from safelight.statements.source import about_image
from safelight.storage.base import MakeUrl, Storage
from safelight.storage.file import FileStorage
from safelight.timing import measured
from safelight.variables import NO_LOCALS


@store("store_file")
class StoreFile(Conditional):
    """Write an image to a file. Parents are made; the file appears whole, and durable before the answer."""

    example = 'store_file "input" root="images" path="original"'

    image_name: ImageName = value("image name", help="image to store")
    root: Root = attribute(help="directory that holds the images")
    path: PathName = attribute(help="name of a `path` template, relative to the root", example="original")

    def build(self, resources: Resources) -> Store:
        local = local_names(self.image_name)
        target = Target(FileStorage(Path(self.root)), self.path, resources, local)
        return store_when(
            self, ImageStore(self.image_name, target, "file", about_image(self.image_name)), local
        )


@store("delete_file")
class DeleteFile(VariableConditional):
    """Remove a stored file; the request is answered 404 when there is none."""

    example = 'delete_file root="images" path="by-name"'

    root: Root = attribute(help="directory that holds the images")
    path: PathName = attribute(help="name of a `path` template, relative to the root")

    def build(self, resources: Resources) -> Store:
        target = Target(FileStorage(Path(self.root)), self.path, resources, NO_LOCALS)
        return store_when(self, Delete(target))


@store("store_s3")
class StoreS3(CachedObject, Conditional):
    """Write an image to an S3 bucket. The request is answered when the object store has acknowledged it.

    Stores of one request run at the same time, unless they write to the same place.
    """

    example = 'store_s3 "input" bucket="photos" path="original" public=true'

    image_name: ImageName = value("image name", help="image to store")

    def build(self, resources: Resources) -> Store:
        local = {**local_names(self.image_name), "bucket": self.bucket}
        target = Target(write_storage(self, resources), self.path, resources, local)
        return store_when(self, ImageStore(self.image_name, target, "s3", nullcontext()), local)


@store("delete_s3")
class DeleteS3(InBucket, VariableConditional):
    """Remove an object of an S3 bucket; the request is answered 404 when there is none."""

    example = 'delete_s3 bucket="photos" path="by-name"'

    def build(self, resources: Resources) -> Store:
        local = {"bucket": self.bucket}
        target = Target(write_storage(self, resources), self.path, resources, local)
        return store_when(self, Delete(target), local)


class Target:
    """A storage, and the path template that makes its keys."""

    def __init__(
        self, storage: Storage, path_name: str, resources: Resources, local: Mapping[str, str]
    ) -> None:
        self.storage = storage
        self.counters: Counters = resources.counters
        self._path_name = path_name
        self._paths = resources.paths
        self._local = local

    def path(self, state: RequestState) -> str:
        """Raises: PathNotDefined, PathRenderingError."""
        return render_path(self._path_name, self._paths, state.variables, self._local)


TASKS = {"file": "storing image in file", "s3": "storing image in S3"}
"""What storing is called where times are told (reference/imagestore 9.3)."""


class ImageStore:
    """Stores one image and remembers where.

    `kind`: of the storage, as statistics call it. `about`: what errors of the storage pass through.
    """

    def __init__(
        self, image_name: str, target: Target, kind: str, about: AbstractContextManager[None]
    ) -> None:
        self.image_name = image_name
        self.target = target
        self.counter = f"total_{kind}_store"
        self.task = TASKS[kind]
        self.about = about

    def plan(self, state: RequestState) -> Change:
        """Raises: ImageNotLoaded, PathNotDefined, PathRenderingError, Forbidden, BadRequest."""
        image, path = state.images[self.image_name], self.target.path(state)
        with self.about:
            return Writing(self, image, path)


class Writing:
    """One image on its way into a storage."""

    def __init__(self, store: ImageStore, image: NamedImage, path: str) -> None:
        self.place = store.target.storage.place(path)
        self._store = store
        self._image = image
        self._path = path
        self._url: MakeUrl | None = None

    async def make(self) -> None:
        """Raises: Forbidden, BadRequest, StorageError, Busy, Timeout."""
        target, count = self._store.target, self._store.target.counters.add
        with self._store.about, measured(self._store.task, self._path):
            self._url = await target.storage.put(self._path, self._image.data, self._image.mime_type)
        count(self._store.counter)
        count(f"{self._store.counter}_bytes", self._image.data.size)

    def record(self, state: RequestState) -> None:
        name = self._store.image_name
        if self._url is not None:
            state.images[name] = replace(state.images[name], stored=Location(self._path, self._url))


class Delete:
    """Removes what is under one key."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def plan(self, state: RequestState) -> Change:
        """Raises: PathNotDefined, PathRenderingError."""
        return Removal(self._target, self._target.path(state))


class Removal:
    """One key about to be removed."""

    def __init__(self, target: Target, path: str) -> None:
        self.place = target.storage.place(path)
        self._storage = target.storage
        self._path = path

    async def make(self) -> None:
        """Raises: NotFound, Forbidden, StorageError, Busy, Timeout."""
        await self._storage.delete(self._path)

    def record(self, state: RequestState) -> None:
        """Nothing to note."""
