"""The result caches that a configuration asks for: one for each directory, whoever uses it."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from safelight.config.declaring import suggestion
from safelight.config.load import Config
from safelight.config.problem import Problem
from safelight.config.spec import Statement
from safelight.errors import ConfigError, SafelightError, StorageError
from safelight.model import TierPlace
from safelight.results.shelf import Shelf
from safelight.results.tier import ANSWERS, MARKS, Tier
from safelight.statements.bucket import CachedObject, InBucket, directory_of
from safelight.statements.cache import CacheStatement
from safelight.statements.clients import S3
from safelight.statements.endpoint import EndpointStatement, endpoints_of
from safelight.statements.fingerprint import about_images, names_read, unpredictable
from safelight.statements.match import Matchers
from safelight.statements.output import LocationList
from safelight.statements.source import SourceFile, SourceS3
from safelight.statements.store import DeleteFile, StoreFile
from safelight.storage.base import Storage
from safelight.storage.file import FileStorage
from safelight.storage.s3.bucket import Client
from safelight.template import Template

CACHED_VERB = "get"


def bounds(config: Config) -> Mapping[str, int]:
    """The directories, and the smallest bound in bytes that any statement sets for each."""
    found: dict[str, int] = {}
    for _, cache in _users(config):
        found[cache.root] = min(cache.max_size, found.get(cache.root, cache.max_size))
    return found


def shelves(config: Config) -> Mapping[str, Shelf]:
    """The caches by directory. Makes the directories. Raises: ConfigError for one that cannot be used."""
    try:
        return {root: Shelf(Path(root), max_bytes) for root, max_bytes in bounds(config).items()}
    except StorageError as error:
        raise ConfigError(error.message, detail=error.detail) from error


def tiers(config: Config, clients: Mapping[str, Client]) -> Mapping[TierPlace, Tier]:
    """What machines share. `clients`: the accounts by name."""
    places = {cache.tier for _, cache in _users(config) if cache.tier is not None}
    return {
        (account, bucket, prefix): Tier(
            clients[account].bucket(bucket, prefix=prefix), f"s3://{bucket}/{prefix}"
        )
        for account, bucket, prefix in sorted(places)
    }


def inspect_result_caches(config: Config, paths: Mapping[str, Template]) -> Iterator[Problem]:
    """Complaints about caches that cannot be used, or whose answers would be wrong."""
    taken = {
        directory_of(part.cache_root)
        for part in _parts(config)
        if isinstance(part, CachedObject) and part.cache_root
    }
    accounts = {client.client_name: Client(client.account()) for client in config.of(S3)}
    for endpoint, cache in _users(config):
        complaints = (
            *_misuse(endpoint, paths),
            *_unusable(cache.root, taken),
            *_reachable(cache.root, _parts(config)),
            *_unshareable(endpoint, cache, accounts),
            *_exposed(cache, _parts(config), accounts),
        )
        for complaint in complaints:
            yield Problem(cache.tag.position, f"'cache': {complaint}")


def places(config: Config, source: str) -> list[str]:
    """What storages call a file, or `s3://bucket/key`, that sources of `config` read.

    Raises: ConfigError when none of them can.
    """
    bucket, _, key = source.removeprefix("s3://").partition("/")
    is_object = source.startswith("s3://")
    storages = _buckets(config, bucket) if is_object else _roots(config)
    found = [place for storage in storages if (place := _place(storage, key if is_object else source))]
    if not found:
        raise ConfigError(f"no source of the configuration reads '{source}'")
    return list(dict.fromkeys(found))


def _place(storage: Storage, key: str) -> str | None:
    """`key`: of an object; or a path in the file system, None when that is not below the root."""
    if not isinstance(storage, FileStorage):
        return storage.place(key)
    path = Path(os.path.normpath(Path(key).absolute()))
    root = Path(os.path.normpath(storage.root))
    return storage.place(str(path.relative_to(root))) if path.is_relative_to(root) else None


def _roots(config: Config) -> list[Storage]:
    sources = {part.root for part in _parts(config) if isinstance(part, SourceFile)}
    return [FileStorage(Path(root)) for root in sorted(sources)]


def _buckets(config: Config, name: str) -> list[Storage]:
    used = {part.s3 for part in _parts(config) if isinstance(part, SourceS3) and part.bucket == name}
    clients = [client for client in config.of(S3) if client.client_name in used]
    return [Client(client.account()).bucket(name) for client in clients]


def _parts(config: Config) -> Iterator[Statement]:
    return (part for endpoint in config.of(EndpointStatement) for part in endpoint.all_parts())


def _users(config: Config) -> Iterator[tuple[EndpointStatement, CacheStatement]]:
    for endpoint in endpoints_of(config):
        for cache in endpoint.steps_of(CacheStatement):
            yield endpoint, cache


def _misuse(endpoint: EndpointStatement, paths: Mapping[str, Template]) -> Iterator[str]:
    verb = endpoint.tag.name
    if verb != CACHED_VERB:
        yield f"answers of '{verb}' endpoints cannot be kept, only those of '{CACHED_VERB}'"
    if any(family == "store" for family, _ in endpoint.steps):
        yield "an endpoint that changes what is stored must run for every request"
    steps = (*endpoint.answering_steps(), *endpoint.steps_of(CacheStatement))
    for name in unpredictable(names_read(steps, paths), Matchers(endpoint.matchers).names):
        yield f"answers made of variable '{name}' cannot be kept: it may differ from request to request"
    lists = endpoint.steps_of(LocationList)
    shows_links = any(listed.side == "source" and listed.form != "path" for listed in lists)
    if shows_links and any(isinstance(part, SourceS3) and not part.public for part in endpoint.all_parts()):
        yield "links to private objects expire, so answers that show them cannot be kept"


def _unshareable(
    endpoint: EndpointStatement, cache: CacheStatement, accounts: Collection[str]
) -> Iterator[str]:
    if cache.bucket is None:
        return
    if cache.s3 not in accounts:
        hint = suggestion(cache.s3, sorted(accounts))
        yield f"no 's3' statement is named '{cache.s3}'{hint}" if cache.s3 else "S3 client not configured"
    names = cache.tags.names if cache.tags is not None else ()
    for name in about_images(names, Matchers(endpoint.matchers).names):
        yield f"tags of shared answers cannot be made of variable '{name}': it is known too late"


def _exposed(
    cache: CacheStatement, parts: Iterable[Statement], accounts: Mapping[str, Client]
) -> Iterator[str]:
    """Requests must not read, write or remove what machines share."""
    if cache.bucket is None:
        return
    bucket, prefix = cache.bucket, cache.prefix
    ours = [_beginning(accounts, cache.s3, bucket, prefix + kind) for kind in (ANSWERS, MARKS)]
    for part in parts:
        if not isinstance(part, InBucket):
            continue
        theirs = _beginning(accounts, part.s3, part.bucket, part.prefix)
        if any(theirs and own and (own.startswith(theirs) or theirs.startswith(own)) for own in ours):
            yield (
                f"'{part.tag.name}' at {part.tag.position} can reach the answers that are shared in bucket "
                f"'{bucket}': give them a bucket of their own, or prefixes that do not begin with each other "
                f"('{prefix}{ANSWERS}', '{prefix}{MARKS}' and '{part.prefix}')"
            )


def _reachable(root: str, parts: Iterable[Statement]) -> Iterator[str]:
    """Requests must not read, write or remove the files of answers."""
    directory = Path(directory_of(root))
    for part in parts:
        reaches = isinstance(part, SourceFile | StoreFile | DeleteFile)
        if reaches and directory.is_relative_to(directory_of(part.root)):
            yield (
                f"'{part.tag.name}' at {part.tag.position} can reach the answers that are kept in '{root}': "
                f"give them a directory that is not in '{part.root}'"
            )


def _beginning(accounts: Mapping[str, Client], account: str, bucket: str, prefix: str) -> str | None:
    """How the places of all objects below `prefix` begin; None where there can be none."""
    client = accounts.get(account)
    try:
        return None if client is None else client.bucket(bucket, prefix=prefix).place("x").removesuffix("x")
    except SafelightError:
        return None


def _unusable(root: str, taken: set[str]) -> Iterator[str]:
    directory = Path(root)
    if directory_of(root) in taken:
        yield f"directory '{root}' caches objects already, as 'cache-root': give answers one of their own"
    if directory.exists() and not directory.is_dir():
        yield f"'{root}' is not a directory"
    elif directory.exists() and not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        yield f"directory '{root}' is not readable and writable"
