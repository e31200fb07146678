"""`purge_cache`: drop kept answers."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from safelight.config.kind import PathName, Root
from safelight.config.spec import attribute
from safelight.model import Change, RequestState, Resources, Store
from safelight.results.epochs import Epochs, place_slot, tag_slots, url_slot
from safelight.results.tier import Tier, purge_all
from safelight.statements.bucket import NotConfigured
from safelight.statements.condition import VariableConditional, store_when
from safelight.statements.paths import render_path
from safelight.statements.registry import store
from safelight.storage.base import Storage
from safelight.storage.file import FileStorage
from safelight.template import Template
from safelight.uri import decode
from safelight.variables import NO_LOCALS

_ORIGIN = re.compile(r"https?://[^/?#]*", re.IGNORECASE)

Slots = Callable[[RequestState], Collection[int]]
"""The slots that a request is about."""


@store("purge_cache")
class PurgeCache(VariableConditional):
    """Drop the answers that `cache` statements keep: those of a URL, with a tag, or made of a stored image.

    Exactly one of `url`, `tag`, `root` and `bucket`. Stores and deletes of this configuration need no
    purge; this is for what is changed by others. An answer that was dropped is never served again, in no
    process of the machine, not even while sources fail. Where machines share answers, it is dropped on all.
    """

    example = 'purge_cache url="/thumbnail/#{path}"'

    url: Template | None = attribute(
        default=None,
        help="decoded path of a URL, or a whole URL; its answers are dropped whatever their parameters",
        example="/thumbnail/#{path}",
    )
    tags: Template | None = attribute(
        default=None, name="tag", help="comma-separated tags of the answers", example="#{album}"
    )
    root: Root | None = attribute(default=None, help="directory of the file that answers were made of")
    bucket: str | None = attribute(default=None, help="bucket of the object that answers were made of")
    path: PathName | None = attribute(
        default=None, help="name of a `path` template, with `root` or `bucket`", example="original"
    )
    prefix: str = attribute(default="", help="put in front of the key, with `bucket`")
    s3: str = attribute(default="", help="name of the `s3` statement, with `bucket`", example="archive")

    def check(self) -> Iterator[str]:
        given = (self.url, self.tags, self.root, self.bucket)
        if sum(one is not None for one in given) != 1:
            yield "expected exactly one of 'url', 'tag', 'root' and 'bucket' attributes to be set"
        if (self.root is None and self.bucket is None) != (self.path is None):
            yield "expected 'path' attribute to be set with 'root' or 'bucket', and only then"
        if self.bucket is None and (self.prefix or self.s3):
            yield "expected 'prefix' and 's3' attributes to be set only with 'bucket'"

    def build(self, resources: Resources) -> Store:
        epochs = [shelf.epochs for shelf in resources.shelves.values()]
        return store_when(self, Purge(self._slots(resources), epochs, list(resources.tiers.values())))

    def _slots(self, resources: Resources) -> Slots:
        if self.url is not None:
            return _of_text(self.url, _url_slots)
        if self.tags is not None:
            return _of_text(self.tags, tag_slots)
        if self.root is not None:
            return self._of_place(FileStorage(Path(self.root)), resources, NO_LOCALS)
        name, client = self.bucket or "", resources.s3.get(self.s3)
        storage = NotConfigured() if client is None else client.bucket(name, prefix=self.prefix)
        return self._of_place(storage, resources, {"bucket": name})

    def _of_place(self, storage: Storage, resources: Resources, local: Mapping[str, str]) -> Slots:
        def slots(state: RequestState) -> list[int]:
            path = render_path(self.path or "", resources.paths, state.variables, local)
            return [place_slot(storage.place(path))]

        return slots


def _of_text(template: Template, slots_of: Callable[[str], Collection[int]]) -> Slots:
    return lambda state: slots_of(template.render(state.variables.lookup))


def _url_slots(text: str) -> list[int]:
    """Raises: BadRequest for a URL that is no UTF-8."""
    if not text:
        return []
    if _ORIGIN.match(text):
        return [url_slot(path_of_url(text))]
    return [url_slot(text if text.startswith("/") else f"/{text}")]


def path_of_url(url: str) -> str:
    """The decoded path of a URL, with or without scheme and host. Raises: BadRequest."""
    path = re.split(r"[?#]", _ORIGIN.sub("", url, count=1), maxsplit=1)[0]
    return decode(path if path.startswith("/") else f"/{path}")


class Purge:
    """Marks slots in all caches of the configuration."""

    def __init__(self, slots: Slots, epochs: Sequence[Epochs], tiers: Sequence[Tier]) -> None:
        self._slots = slots
        self._epochs = epochs
        self._tiers = tiers

    def plan(self, state: RequestState) -> Change | None:
        """Raises: PathNotDefined, PathRenderingError, VariableNotDefined, Forbidden."""
        slots = self._slots(state)
        return Mark(slots, self._epochs, self._tiers) if slots else None


class Mark:
    """One purge, decided and not yet made."""

    def __init__(self, slots: Collection[int], epochs: Sequence[Epochs], tiers: Sequence[Tier]) -> None:
        self.place = f"cached:{','.join(map(str, slots))}"
        self._slots = slots
        self._epochs = epochs
        self._tiers = tiers

    async def make(self) -> None:
        """First for all machines: what this one fetches from there after its own mark must show theirs.

        Raises: StorageUnreachable; answers of this machine are dropped nevertheless.
        """
        try:
            await purge_all(self._tiers, self._slots)
        finally:
            for epochs in self._epochs:
                for slot in self._slots:
                    epochs.mark(slot)

    def record(self, state: RequestState) -> None:
        """Nothing to note."""
