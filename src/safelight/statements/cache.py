"""`cache`: keep the answers of an endpoint, and answer from what was kept."""

import math
from collections.abc import Collection, Iterator, Sequence

from safelight.config.kind import Duration, Root, Size
from safelight.config.spec import Statement, attribute
from safelight.model import AnswerCache, Resources
from safelight.statements.answering import Freshness, KeptAnswers
from safelight.statements.fingerprint import Fingerprint
from safelight.statements.registry import cache
from safelight.template import Template


@cache("cache")
class CacheStatement(Statement):
    """Keep successful answers on disk and serve them without asking sources or image workers.

    Only in `get` endpoints that store nothing. Validators run first. An answer is served again for the same
    path, parameters and configuration, of which only what the statements use counts. It is dropped when
    an endpoint of the same configuration stores or deletes what it was made of, when `purge_cache` or
    `safelight cache purge` says so, and after `max-age`.
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

    def check(self) -> Iterator[str]:
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
        fingerprint = Fingerprint(steps, (self,), captured, resources)
        return KeptAnswers(shelf, fingerprint, freshness, self.key, self.tags, resources.counters)
