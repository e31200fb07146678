"""What is told of one request when it has ended: the line of a log, and the split of its time."""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import unquote

import msgspec

from safelight.server.asgi import Scope
from safelight.server.log import escape, is_secret, mask
from safelight.timing import STEP_NAMES, Account
from safelight.xid import current_xid

Line = Callable[[Scope, Account], bytes]
"""Makes the line of a request, with its line end."""

_UNSAFE = re.compile(rb"[^\x20\x21\x23-\x5b\x5d-\x7e]")
_encoder = msgspec.json.Encoder()


class NcsaLine:
    """The common log format and seconds (reference/imagestore 9.5). Targets are as received, secrets too."""

    def __init__(self) -> None:
        self._second = 0
        self._date = b""

    def __call__(self, scope: Scope, account: Account) -> bytes:
        return b'%s - - [%s] "%s %s HTTP/%s" %d %s %.4f\n' % (
            client_address(scope),
            self._now(),
            scope["method"].encode(),
            _UNSAFE.sub(_escape, _target(scope)),
            scope["http_version"].encode(),
            account.status,
            b"%d" % account.length_bytes if account.length_bytes else b"-",
            account.duration_s,
        )

    def _now(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(second)).encode()
        return self._date


def json_line(scope: Scope, account: Account) -> bytes:
    """One JSON object; keys whose value is not known are missing. See docs/observability.md."""
    facts = {
        "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
        "type": "request",
        "method": escape(scope["method"]),
        "target": _masked_target(scope),
        "status": account.status,
        "sent_bytes": account.sent_bytes,
        "received_bytes": account.received_bytes,
        "duration_s": round(account.duration_s, 6),
        "steps_s": {name: round(seconds, 6) for name, seconds in _steps(account)},
        "client": client_address(scope).decode(),
        "pid": os.getpid(),
        **_known(account),
    }
    return _encoder.encode(facts) + b"\n"


def text_line(scope: Scope, account: Account) -> bytes:
    """For people: what was asked, what came of it, how long each step took."""
    steps = ", ".join(f"{name} {seconds:.4f}" for name, seconds in _steps(account))
    known = "".join(f", {name}: {text}" for name, text in _known(account).items())
    line = (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {client_address(scope).decode()} "
        f"{escape(scope['method'])} {_masked_target(scope)} {account.status} "
        f"{account.sent_bytes} bytes {account.duration_s:.4f} s ({steps}){known}"
    )
    return line.encode() + b"\n"


LINES: Mapping[str, Callable[[], Line]] = {
    "ncsa": NcsaLine,
    "text": lambda: text_line,
    "json": lambda: json_line,
}
"""Forms by the name that an operator gives."""


def server_timing(account: Account, elapsed_s: float) -> bytes:
    """The split up to now, in milliseconds, as a `Server-Timing` header has it (W3C, Server Timing)."""
    steps = [f"{name};dur={seconds * 1000:.3f}" for name, seconds in _steps(account) if seconds > 0]
    return ", ".join((*steps, f"total;dur={elapsed_s * 1000:.3f}")).encode()


def _steps(account: Account) -> Iterator[tuple[str, float]]:
    for name in STEP_NAMES:
        if name in account.steps_s:
            yield name, account.steps_s[name]


def _known(account: Account) -> dict[str, str]:
    """What not every request has."""
    facts = {
        "endpoint": account.endpoint and mask(account.endpoint),
        "cache": account.cache,
        "xid": next(iter(current_xid().values()), None),
        "trace": account.trace,
    }
    return {name: escape(text) for name, text in facts.items() if text is not None}


def _target(scope: Scope) -> bytes:
    query: bytes = scope["query_string"]
    path: bytes = scope["raw_path"]
    return path + b"?" + query if query else path


def _masked_target(scope: Scope) -> str:
    path = escape(mask(scope["raw_path"].decode("utf-8", "backslashreplace")))
    query = masked_query(scope)
    return f"{path}?{query}" if query else path


def masked_query(scope: Scope) -> str:
    """The query without secrets; names that a client has spelled with escapes count, too."""
    query = scope["query_string"].decode("utf-8", "backslashreplace")
    return escape("&".join(map(_masked_parameter, query.split("&"))))


def _masked_parameter(text: str) -> str:
    name, mark, _ = text.partition("=")
    return f"{name}=***" if mark and is_secret(unquote(name)) else mask(text)


def client_address(scope: Scope) -> bytes:
    """X-Forwarded-For, else the address; clients of Unix sockets are local."""
    for name, value in scope["headers"]:
        if name == b"x-forwarded-for" and value:
            return _UNSAFE.sub(_escape, value)
    client = scope.get("client")
    return client[0].encode() if client else b"127.0.0.1"


def _escape(found: re.Match[bytes]) -> bytes:
    return b"\\x%02X" % found[0][0]
