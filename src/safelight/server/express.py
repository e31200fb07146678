"""Answers at hand: what was just answered by a kept answer is answered again without the steps of a request.

Only where the request line alone decides: endpoints with validators, or whose answers depend on headers, go
the long way every time, and so does a request with a header that asks for anything but the whole answer or a
304.
What is sent and counted is the same.
"""

from collections import OrderedDict
from dataclasses import dataclass
from time import time
from typing import NamedTuple

from safelight.model import Answer, Standing
from safelight.server.answer import head_of
from safelight.server.asgi import Header, Scope
from safelight.server.conditional import READING, not_modified
from safelight.server.exchange import Exchange
from safelight.timing import Account, anybody_listens

MAX_KNOWN = 8192

_OK, _NOT_MODIFIED = 200, 304
_KNOWN_TAG = b"if-none-match"
_LONG_WAY = frozenset(
    {
        b"content-length",
        b"expect",
        b"if-match",
        b"if-modified-since",
        b"if-range",
        b"if-unmodified-since",
        b"range",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that may change the answer, or say that there is a body to read."""


@dataclass(slots=True, eq=False)
class _Known:
    """What answers a URL. `second`: the Unix time that `whole` and `unchanged`, its headers, are of."""

    standing: Standing
    endpoint: str | None
    handler: str | None
    second: int
    etag: str | None
    whole: list[Header]
    unchanged: list[Header]


class Ready(NamedTuple):
    """An answer that can be sent at once. `size`: of the body that the client is told of."""

    status: int
    headers: list[Header]
    body: bytes
    size: int
    known: _Known

    def account(self) -> Account:
        """What is known of the request."""
        return Account(
            endpoint=self.known.endpoint,
            handler=self.known.handler,
            cache="hit",
            status=self.status,
            length_bytes=self.size,
            sent_bytes=len(self.body),
        )


class Express:
    """Remembers the URLs that were answered last."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[bytes, bytes], _Known] = OrderedDict()

    def note(self, exchange: Exchange, account: Account) -> None:
        """Remember what `exchange` was answered by, if that answers equal requests, too."""
        standing = exchange.standing
        if standing is None:
            return
        answer = standing.answer()
        if answer is None:
            return
        place = exchange.scope["raw_path"], exchange.scope["query_string"]
        known = _Known(standing, account.endpoint, account.handler, 0, None, [], [])
        _refresh(known, answer, int(time()))
        self._known[place] = known
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def find(self, scope: Scope) -> Ready | None:
        """The answer to a request as it has come; None for the long way."""
        known = self._known.get((scope["raw_path"], scope["query_string"]))
        if known is None or scope["method"] not in READING or anybody_listens():
            return None
        wanted = None
        for name, value in scope["headers"]:
            if name in _LONG_WAY or (name == _KNOWN_TAG and wanted is not None):
                return None
            if name == _KNOWN_TAG:
                wanted = value
        if wanted is not None and wanted.decode("latin-1") != known.etag:
            return None
        return self._ready(known, scope, is_known=wanted is not None)

    def _ready(self, known: _Known, scope: Scope, *, is_known: bool) -> Ready | None:
        body = known.standing.body()
        if body is None:
            del self._known[scope["raw_path"], scope["query_string"]]
            return None
        now = int(time())
        if now != known.second:
            answer = known.standing.answer()
            if answer is None:
                return None
            _refresh(known, answer, now)
        if is_known:
            return Ready(_NOT_MODIFIED, known.unchanged, b"", 0, known)
        sent = b"" if scope["method"] == "HEAD" else body
        return Ready(_OK, known.whole, sent, len(body), known)


def _refresh(known: _Known, answer: Answer, second: int) -> None:
    """Write the headers of `answer`, which tell its age."""
    known.second = second
    known.etag = answer.etag
    known.whole = head_of(answer)
    known.unchanged = head_of(not_modified(answer))
