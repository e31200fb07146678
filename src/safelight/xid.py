"""The transaction id of the request being served: a header copied into logs and sent to other servers."""

from contextvars import ContextVar

_current: ContextVar[tuple[str, str] | None] = ContextVar("xid", default=None)


def set_xid(header: str, text: str) -> None:
    """Remember `text` as the current request's, under the spelling of `header` that the operator chose."""
    _current.set((header, text))


def current_xid() -> dict[str, str]:
    """The header to send on, or nothing."""
    xid = _current.get()
    return {} if xid is None else {xid[0]: xid[1]}
