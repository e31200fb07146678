"""`store_file`, `store_s3`, `delete_file` and `delete_s3`: change what is stored."""

from dataclasses import replace
from pathlib import Path

from safelight.config.kind import ImageName, PathName, Root
from safelight.config.spec import attribute, value
from safelight.model import Location, RequestState, Resources, Step
from safelight.statements.condition import Conditional, VariableConditional, local_names, when
from safelight.statements.paths import render_path
from safelight.statements.registry import store
from safelight.statements.source import S3Unavailable, about_image
from safelight.storage.base import Storage
from safelight.storage.file import FileStorage
from safelight.url import file_url


@store("store_file")
class StoreFile(Conditional):
    """Write an image to a file. Parents are made; the file appears whole, and durable before the answer."""

    example = 'store_file "input" root="images" path="original"'

    image_name: ImageName = value("image name", help="image to store")
    root: Root = attribute(help="directory that holds the images")
    path: PathName = attribute(help="name of a `path` template, relative to the root", example="original")

    def build(self, resources: Resources) -> Step:
        storage = FileStorage(Path(self.root))
        return when(self, FileStore(self, storage, resources), local_names(self.image_name))


class FileStore:
    """Stores one image and remembers where."""

    def __init__(self, declared: StoreFile, storage: Storage, resources: Resources) -> None:
        self._image_name = declared.image_name
        self._path_name = declared.path
        self._storage = storage
        self._resources = resources
        self._local = local_names(declared.image_name)

    async def run(self, state: RequestState) -> None:
        """Raises: ImageNotLoaded, Forbidden, BadRequest, SetupError, StorageError."""
        image = state.images[self._image_name]
        path = render_path(self._path_name, self._resources.paths, state.variables, self._local)
        with about_image(self._image_name):
            await self._storage.put(path, image.data)
        state.images[self._image_name] = replace(image, stored=Location(path, file_url(path)))
        self._resources.counters.add("total_file_store")
        self._resources.counters.add("total_file_store_bytes", image.data.size)


@store("delete_file")
class DeleteFile(VariableConditional):
    """Remove a stored file; the request is answered 404 when there is none."""

    example = 'delete_file root="images" path="by-name"'

    root: Root = attribute(help="directory that holds the images")
    path: PathName = attribute(help="name of a `path` template, relative to the root")

    def build(self, resources: Resources) -> Step:
        return when(self, FileDelete(self, FileStorage(Path(self.root)), resources))


class FileDelete:
    """Removes one file."""

    def __init__(self, declared: DeleteFile, storage: Storage, resources: Resources) -> None:
        self._path_name = declared.path
        self._storage = storage
        self._resources = resources

    async def run(self, state: RequestState) -> None:
        """Raises: NotFound, Forbidden, SetupError, StorageError."""
        await self._storage.delete(render_path(self._path_name, self._resources.paths, state.variables))


@store("store_s3")
class StoreS3(Conditional):
    """Write an image to an S3 bucket."""

    example = 'store_s3 "input" bucket="photos" path="original" public=true'

    image_name: ImageName = value("image name", help="image to store")
    bucket: str = attribute(help="name of the bucket")
    path: PathName = attribute(help="name of a `path` template that makes the key")
    public: bool = attribute(default=False, help="let everybody read the object")
    cache_control: str | None = attribute(default=None, help="`Cache-Control` of the object")
    prefix: str = attribute(default="", help="put in front of the key; not part of output paths")
    cache_root: Root | None = attribute(default=None, help="directory that caches objects")

    def build(self, resources: Resources) -> Step:
        return when(self, S3Unavailable(self.tag.name), local_names(self.image_name))


@store("delete_s3")
class DeleteS3(VariableConditional):
    """Remove an object of an S3 bucket; the request is answered 404 when there is none."""

    example = 'delete_s3 bucket="photos" path="by-name"'

    bucket: str = attribute(help="name of the bucket")
    path: PathName = attribute(help="name of a `path` template that makes the key")
    prefix: str = attribute(default="", help="put in front of the key")

    def build(self, resources: Resources) -> Step:
        return when(self, S3Unavailable(self.tag.name))
