"""The object caches that a configuration asks for: one for each directory, whoever uses it."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from safelight.config.load import Config
from safelight.config.problem import Problem
from safelight.errors import ConfigError
from safelight.model import Counters
from safelight.statements.bucket import CachedObject, directory_of
from safelight.statements.endpoint import EndpointStatement
from safelight.storage.bounded import BoundedDirectory
from safelight.storage.cache import LAYOUT, ObjectCache, check_directory
from safelight.timing import current_account


def caches(config: Config, counters: Counters) -> Mapping[str, ObjectCache]:
    """The caches by directory, as `directory_of` has it; a directory that cannot be used has none.

    Raises: ConfigError for one that may not be used.
    """
    counting = partial(_count, counters)
    roots = {user.cache_root for user in _users(config) if user.cache_root and not _concern(user.cache_root)}
    return {
        root: ObjectCache(BoundedDirectory(Path(root), LAYOUT, _bound(config, root)), counting)
        for root in map(directory_of, roots)
    }


_STATES = {"total_s3_cache_hits": "hit", "total_s3_cache_misses": "miss"}


def _count(counters: Counters, name: str) -> None:
    """Count for the statistics and for the line of the request, where one miss of several counts."""
    counters.add(name)
    state, noted = _STATES.get(name), current_account()
    if state is not None and noted is not None and noted.cache != "miss":
        noted.cache = state


def inspect_caches(config: Config) -> Iterator[Problem]:
    """Problems with the directories, told where they are first used (reference/imagestore 6.5)."""
    seen: set[str] = set()
    for user in _users(config):
        if not user.cache_root or user.cache_root in seen:
            continue
        seen.add(user.cache_root)
        try:
            concern = _concern(user.cache_root)
        except ConfigError as error:
            yield Problem(user.tag.position, error.message)
        else:
            if concern:
                yield Problem(user.tag.position, concern, "warning")


def _concern(root: str) -> str | None:
    return check_directory(Path(root))


def _bound(config: Config, root: str) -> int | None:
    """The smallest bound that any statement sets for the directory `root`, in bytes."""
    bounds = [
        user.cache_max_size
        for user in _users(config)
        if user.cache_root and directory_of(user.cache_root) == root
    ]
    return min(filter(None, bounds), default=None)


def _users(config: Config) -> Iterator[CachedObject]:
    for endpoint in config.of(EndpointStatement):
        for statement in endpoint.all_parts():
            if isinstance(statement, CachedObject):
                yield statement
