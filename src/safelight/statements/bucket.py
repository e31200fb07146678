"""What the statements about S3 objects have in common."""

import os
from collections.abc import Callable, Iterator

from safelight.blob import Blob
from safelight.config.kind import PathName, Root, Size, inspect_value
from safelight.config.spec import Statement, attribute
from safelight.errors import S3NotConfigured
from safelight.model import Resources
from safelight.storage.base import MakeUrl, Storage, Stored
from safelight.storage.cache import CachedStorage, ObjectCache
from safelight.storage.forgetting import CopyPlace, Forgetting
from safelight.storage.s3.bucket import Bucket, Client


def bucket_complaints(name: str) -> Iterator[str]:
    """What is wrong with the name of a bucket.

    Without one, the first part of a key would be the bucket, which a delete removes with all that is in it.
    """
    if "/" in name or not name.strip("."):
        shown = inspect_value(name)
        yield f"expected 'bucket' attribute value to be the name of a bucket, without '/'; got: {shown}"


class InBucket(Statement):
    """A statement about one object of a bucket."""

    bucket: str = attribute(help="name of the bucket")
    path: PathName = attribute(help="name of a `path` template that makes the key")
    prefix: str = attribute(default="", help="put in front of the key; not part of output paths")
    s3: str = attribute(default="", help="name of the `s3` statement with the account", example="archive")

    def check(self) -> Iterator[str]:
        yield from bucket_complaints(self.bucket)
        yield from super().check()


class CachedObject(InBucket):
    """An object whose data a directory can keep."""

    public: bool = attribute(
        default=False, help="whether everybody may read the object; its URL is unsigned then"
    )
    cache_control: str | None = attribute(default=None, help="`Cache-Control` of a stored object")
    cache_root: Root | None = attribute(default=None, help="directory that caches objects")
    cache_max_size: Size | None = attribute(
        default=None,
        help="most that the cache directory may hold; the least recently used objects go first",
        example="10GiB",
    )

    def check(self) -> Iterator[str]:
        if self.cache_control and not (self.cache_control.isascii() and self.cache_control.isprintable()):
            yield "'cache-control' holds characters that no header may hold, as a line end"
        if self.cache_max_size and not self.cache_root:
            yield "expected 'cache-root' attribute to be set, as 'cache-max-size' is"
        yield from super().check()


def read_storage(declared: CachedObject, resources: Resources) -> Storage:
    """The bucket for a source: through its cache, if there is one that can be used."""
    return _storage(declared, resources, declared)


def write_storage(declared: InBucket, resources: Resources) -> Storage:
    """The bucket for a change: what other caches of this server hold of the object is dropped."""
    return _storage(
        declared, resources, declared if isinstance(declared, CachedObject) else None, changes=True
    )


def _storage(
    declared: InBucket, resources: Resources, cached: CachedObject | None, *, changes: bool = False
) -> Storage:
    client = resources.s3.get(declared.s3)
    if client is None:
        return NotConfigured()
    bucket = client.bucket(
        declared.bucket,
        prefix=declared.prefix,
        public=cached.public if cached else False,
        cache_control=cached.cache_control if cached else None,
    )
    address = _addresses(declared.s3, declared.bucket, bucket)
    own = resources.caches.get(directory_of(cached.cache_root)) if cached and cached.cache_root else None
    storage: Storage = bucket
    if changes and (others := list(_other_copies(declared, resources, bucket, own))):
        storage = Forgetting(bucket, others)
    if own is None:
        return storage
    return CachedStorage(storage, own, address, "public_url" if cached and cached.public else "private_url")


def _other_copies(
    declared: InBucket, resources: Resources, bucket: Bucket, own: ObjectCache | None
) -> Iterator[CopyPlace]:
    """Where caches may hold an object that `declared` changes, but as its account in its `own` cache.

    A configuration may have several accounts of one object store, as one that reads and one that writes.
    """
    store = _store(resources.s3[declared.s3])
    for account, client in resources.s3.items():
        if _store(client) == store:
            address = _addresses(account, declared.bucket, bucket)
            for cache in resources.caches.values():
                if cache is not own or account != declared.s3:
                    yield cache, address


def _store(client: Client) -> tuple[str, int, str]:
    """Which object store the account is at, however it writes its URLs."""
    endpoint = client.account.endpoint
    return endpoint.host, endpoint.port, endpoint.base_path


def _addresses(account: str, bucket_name: str, bucket: Bucket) -> Callable[[str], str]:
    """How caches call objects: bucket and key, after the name of the account if that has one."""
    place = f"{account}:{bucket_name}" if account else bucket_name
    return lambda key: f"{place}/{bucket.full_key(key)}"


def directory_of(root: str) -> str:
    """One name for a directory, however it is written."""
    return os.path.realpath(root)


class NotConfigured:
    """The storage of a statement whose `s3` statement is missing."""

    def place(self, key: str) -> str:
        return key

    async def get(self, key: str, max_bytes: int) -> Stored:
        raise S3NotConfigured("S3 client not configured")

    async def version(self, key: str) -> str | None:
        raise S3NotConfigured("S3 client not configured")

    async def put(self, key: str, data: Blob, content_type: str | None = None) -> MakeUrl:
        raise S3NotConfigured("S3 client not configured")

    async def delete(self, key: str) -> None:
        raise S3NotConfigured("S3 client not configured")
