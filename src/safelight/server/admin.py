"""The listener of the operator (`--admin-listen`): there, and only there, are the metrics."""

from urllib.parse import urlsplit

from safelight.server.asgi import Scope

_ANY_HOST = frozenset({"0.0.0.0", "::"})  # noqa: S104 (compared, not listened at)


class AdminListener:
    """Recognizes requests that came in at one address: `http://...` or `unix:...`, as seats have them."""

    def __init__(self, address: str) -> None:
        if address.startswith("unix:"):
            self._host, self._port = address.removeprefix("unix:"), None
        else:
            parts = urlsplit(address)
            self._host, self._port = parts.hostname or "", parts.port

    def received(self, scope: Scope) -> bool:
        """Whether the connection of this request was made to our address."""
        host, port = scope.get("server") or ("", None)
        return port == self._port and (host == self._host or (port is not None and self._host in _ANY_HOST))
