"""`cache`: keep the answers of an endpoint, and answer from what was kept."""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Protocol, runtime_checkable

from safelight.config.kind import Duration, Root, Size
from safelight.config.spec import Statement, attribute
from safelight.errors import SafelightError
from safelight.model import AnswerCache, Resources, TierPlace
from safelight.results.reading import Origin
from safelight.results.shared import Shared
from safelight.results.shelf import Shelf, name_of
from safelight.statements.answering import KeptAnswers
from safelight.statements.bucket import bucket_complaints
from safelight.statements.fingerprint import Fingerprint
from safelight.statements.kept import Freshness
from safelight.statements.registry import cache
from safelight.storage.s3.address import object_key
from safelight.template import Template

RECHECK_S = 30


@runtime_checkable
class ReadsStorage(Protocol):
    """A statement that reads something stored."""

    def origin(self, resources: Resources) -> Origin:
        """Where it reads."""
        ...


@cache("cache")
class CacheStatement(Statement):
    """Keep successful answers on disk and serve them without asking sources or image workers.

    Only in `get` endpoints that store nothing. Validators run first. An answer is served again for the same
    path, parameters and configuration, of which only what the statements use counts. It is dropped when
    an endpoint of the same configuration stores or deletes what it was made of, when `purge_cache` or
    `safelight cache purge` says so, and after `max-age`. With `bucket`, machines share their answers.
    """

    example = 'cache root="cache" max-size="10GiB" max-age="30d"'

    root: Root = attribute(help="directory of kept answers; made if there is none")
    max_size: Size = attribute(
        default=Size(1 << 30),
        help="most that the directory may hold; the least recently used answers go first",
        example="10GiB",
    )
    max_age: Duration | None = attribute(
        default=None, help="how long an answer is served; without end by default", example="30d"
    )
    stale_while_revalidate: Duration | None = attribute(
        default=None,
        help="how long after `max-age` an answer is still served while a new one is made",
        example="1h",
    )
    stale_if_error: Duration | None = attribute(
        default=None,
        help="how long after `max-age` an answer is still served where making a new one fails",
        example="1d",
    )
    key: Template | None = attribute(
        default=None, help="text that sets answers apart, besides all that they depend on", example="v2"
    )
    tags: Template | None = attribute(
        default=None,
        name="tag",
        help="comma-separated names by which answers can be purged",
        example="#{album}",
    )

    bucket: str | None = attribute(
        default=None, help="bucket in which machines share their answers", example="answers"
    )
    prefix: str = attribute(default="", help="put in front of the keys in the bucket", example="thumbnails/")
    s3: str = attribute(default="", help="name of the `s3` statement with the account", example="archive")
    recheck: Duration | None = attribute(
        default=None,
        help="how long changes by others may go unnoticed, where machines share answers; 30s by default",
        example="30s",
    )

    def check(self) -> Iterator[str]:
        if self.bucket is None and (self.prefix or self.s3 or self.recheck is not None):
            yield "expected 'prefix', 's3' and 'recheck' attributes to be set only with 'bucket'"
        if self.bucket is not None:
            yield from bucket_complaints(self.bucket)
        if self.prefix and not self.prefix.endswith("/"):
            yield "expected 'prefix' attribute value to end in '/'"
        try:
            object_key(self.prefix, name_of(()), keeps_dots=False)
        except SafelightError as error:
            yield f"expected 'prefix' attribute value to begin keys: {error.message}"
        if self.max_age is None and (self.stale_while_revalidate or self.stale_if_error):
            yield "expected 'max-age' attribute to be set: without it no answer becomes stale"

    def answers(
        self, steps: Sequence[Statement], captured: Collection[str], resources: Resources
    ) -> AnswerCache | None:
        """The cache of the endpoint that has `steps`; None where its directory is not open."""
        shelf = resources.shelves.get(self.root)
        if shelf is None:
            return None
        freshness = Freshness(
            math.inf if self.max_age is None else self.max_age,
            self.stale_while_revalidate or 0,
            self.stale_if_error or 0,
        )
        fingerprint = Fingerprint(steps, (self,), captured, resources, self.tags.text if self.tags else "")
        shared = self._shared(shelf, steps, resources)
        return KeptAnswers(
            shelf,
            fingerprint,
            freshness,
            self.key,
            self.tags,
            resources.counters,
            shared,
            resources.request_timeout_s,
        )

    @property
    def tier(self) -> TierPlace | None:
        """Where answers are shared, if they are."""
        return None if self.bucket is None else (self.s3, self.bucket, self.prefix)

    def _shared(self, shelf: Shelf, steps: Sequence[Statement], resources: Resources) -> Shared | None:
        if self.tier is None:
            return None
        parts = (part for step in steps for part in (step, *step.all_parts()))
        origins = [part.origin(resources) for part in parts if isinstance(part, ReadsStorage)]
        recheck_s = RECHECK_S if self.recheck is None else self.recheck
        return Shared(resources.tiers[self.tier], shelf, origins, recheck_s)
