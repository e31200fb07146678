"""One request as the ASGI server hands it over."""

from collections.abc import Callable

from safelight.model import Answer, Facts, Request, Standing
from safelight.server.answer import encoded
from safelight.server.asgi import Header, Receive, Scope, Send
from safelight.server.body import has_body
from safelight.server.errors import error_answer
from safelight.uri import parse_query

_CLOSE: tuple[Header, ...] = ((b"connection", b"close"),)


class Exchange:
    """A request, the way to its body and the way back. `raw_path` and `raw_query` are undecoded.

    `told`: headers of its answer, whatever that will be. `explain`: what the client is told when it fails.
    `standing`: what answers every request like it.
    """

    __slots__ = (
        "body_read",
        "explain",
        "headers",
        "method",
        "raw_path",
        "raw_query",
        "receive",
        "scope",
        "send",
        "standing",
        "told",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.method: str = scope["method"]
        self.raw_path: str = scope["raw_path"].decode("utf-8", "surrogateescape")
        self.raw_query: str = scope["query_string"].decode("utf-8", "surrogateescape")
        self.headers = _headers(scope)
        self.body_read = False
        self.told: tuple[Header, ...] = ()
        self.standing: Standing | None = None
        self.explain: Callable[[Exception], Answer] = error_answer

    def __str__(self) -> str:
        return f"{self.method} [{self.raw_path}]"

    def request(self) -> Request:
        query = parse_query(self.raw_query) if self.raw_query else {}
        return Request(self.method, self.raw_path, self.raw_query, query, self.headers)

    def tell(self, facts: Facts) -> None:
        """Send these headers with the answer, whatever becomes of the request."""
        self.told += tuple(encoded(facts))

    def closing(self) -> tuple[Header, ...]:
        """`Connection: close` when the client waits for leave to send its body and does not get it.

        It may send the body all the same, or its next request instead; nobody can tell (RFC 9110, 10.1.1).
        """
        if not self.body_read and "expect" in self.headers and has_body(self.headers):
            return _CLOSE
        return ()


def _headers(scope: Scope) -> dict[str, str]:
    """Header fields by lower-case name; repeated ones are joined by commas."""
    headers: dict[str, str] = {}
    for octets, value in scope["headers"]:
        name = octets.decode("latin-1")
        text = value.decode("latin-1")
        headers[name] = f"{headers[name]},{text}" if name in headers else text
    return headers
