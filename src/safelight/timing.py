"""How long the steps of a request take: one mechanism for log lines, headers, metrics and traces.

    with serving(account, exchange):                        # the server, once for each request
        with measured("sourcing images"):                   # whoever does something that takes time
            with measured("sourcing image from file", path):
                ...

Where no request is served, nothing is measured.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from time import perf_counter

OTHER = "other"

STEPS: Mapping[str, str] = {
    "handling request": OTHER,
    "matching request": "match",
    "reading request body": "body",
    "validating request": "validate",
    "sourcing images": "source",
    "processing images": "transform",
    "thumbnailing image": "transform",
    "identifying": "transform",
    "waiting for an image worker": "queue",
    "storing images": "store",
    "sending response": "output",
    "reading response data": "output",
    "sending response image data": "send",
}
"""The step of a request that a task counts as; a task that is missing here is a part of the one around it."""

STEP_NAMES = ("match", "body", "validate", "source", "queue", "transform", "store", "output", "send", OTHER)
"""In the order in which a request takes them; `other` is what is none of them."""


@dataclass(slots=True, eq=False)
class Account:
    """What one request has taken, and what came of it.

    `steps_s`: seconds by step; each moment counts for one step, so together they are `duration_s`.
    `endpoint`: as declared; None when no endpoint has served the request. `handler`: what log lines of the
    older server call it. `cache`: `hit`, `miss`, or `stale` for an old answer, None when
    no cache was asked. `status`: what the client was told. `length_bytes`: of the body, as the client was
    told; `sent_bytes`: what of it was sent, nothing to a HEAD request. `trace`: id of the distributed trace.
    """

    steps_s: dict[str, float] = field(default_factory=dict[str, float])
    endpoint: str | None = None
    handler: str | None = None
    cache: str | None = None
    trace: str | None = None
    status: int = 0
    received_bytes: int = 0
    length_bytes: int = 0
    sent_bytes: int = 0
    duration_s: float = 0
    step: str = OTHER
    step_began: float = 0

    def enter(self, step: str) -> str:
        """Count the time from now on for `step`; which one it was before."""
        now, former = perf_counter(), self.step
        self.steps_s[former] = self.steps_s.get(former, 0.0) + now - self.step_began
        self.step, self.step_began = step, now
        return former


class Lap:
    """A task while nobody but its account wants to know."""

    __slots__ = ("_account", "_former", "_step")

    def __init__(self, account: Account, step: str) -> None:
        self._account = account
        self._step = step

    def __enter__(self) -> None:
        self._former = self._account.enter(self._step)

    def __exit__(self, *_: object) -> None:
        self._account.enter(self._former)


class Span:
    """One task of a request. `thing`: what it works on; any object that can be printed.

    `began`: by `time.perf_counter`. `real_s`: seconds, once it has ended. `headers`: what a listener wants to
    be sent along with requests that this task makes.
    """

    __slots__ = (
        "_finishers",
        "_former",
        "_token",
        "account",
        "began",
        "headers",
        "parent",
        "real_s",
        "task",
        "thing",
    )

    def __init__(self, task: str, thing: object, parent: "Span | None", account: Account) -> None:
        self.task = task
        self.thing = thing
        self.parent = parent
        self.account = account
        self.headers: Mapping[str, str] = parent.headers if parent is not None else _NO_HEADERS

    def __enter__(self) -> "Span":
        account = self.account
        self._former = account.enter(STEPS.get(self.task, account.step))
        self._token: Token[Span | None] = _current.set(self)
        self.began = account.step_began
        self._finishers = _begin(self) if _listeners else ()
        return self

    def __exit__(self, *_: object) -> None:
        self.account.enter(self._former)
        self.real_s = self.account.step_began - self.began
        _current.reset(self._token)
        for finish in self._finishers:
            finish()

    def elapsed_s(self) -> float:
        """Seconds since the task began."""
        return perf_counter() - self.began

    def path(self) -> tuple[str, ...]:
        """The tasks from the outermost to this one."""
        return (self.task,) if self.parent is None else (*self.parent.path(), self.task)


class Whole(Span):
    """A request from its beginning to its end."""

    def __enter__(self) -> "Whole":
        began = self.account.step_began = perf_counter()
        super().__enter__()
        self.began = began
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.account.duration_s = self.real_s


Finish = Callable[[], None]
Listener = Callable[[Span], Finish]
"""Called when a task begins; what it returns is called when the task has ended."""

_current: ContextVar[Span | None] = ContextVar("span", default=None)
_listeners: tuple[Listener, ...] = ()
_NOTHING = nullcontext()
_NO_HEADERS: Mapping[str, str] = {}


def serving(account: Account, thing: object) -> Span:
    """Measure a whole request; what happens inside is counted in `account`."""
    return Whole("handling request", thing, None, account)


def measured(task: str, thing: object = None) -> AbstractContextManager[object]:
    """Measure what happens inside, as a part of the request being served. `task` is constant text.

    Tasks that count as steps come one after the other; others may also run at the same time inside of one.
    """
    around = _current.get()
    if around is None:
        return _NOTHING
    if _listeners:
        return Span(task, thing, around, around.account)
    step = STEPS.get(task)
    return _NOTHING if step is None else Lap(around.account, step)


def spent(task: str, began: float, seconds: float) -> None:
    """Count time that has passed already, as if it had been `measured`. `began`: by `time.perf_counter`."""
    around = _current.get()
    if around is None:
        return
    account = around.account
    steps_s, step = account.steps_s, STEPS.get(task, account.step)
    steps_s[step] = steps_s.get(step, 0.0) + seconds
    steps_s[account.step] = steps_s.get(account.step, 0.0) - seconds
    if _listeners:
        span = Span(task, None, around, account)
        span.began, span.real_s = began, seconds
        for finish in _begin(span):
            finish()


def current_account() -> Account | None:
    """That of the request being served."""
    span = _current.get()
    return None if span is None else span.account


def onward_headers() -> Mapping[str, str]:
    """What a request made on behalf of the current one should carry."""
    span = _current.get()
    return _NO_HEADERS if span is None else span.headers


def listen(listener: Listener) -> Finish:
    """Have every task reported from now on; what is returned ends that."""
    global _listeners
    _listeners = (*_listeners, listener)

    def stop() -> None:
        global _listeners
        _listeners = tuple(other for other in _listeners if other is not listener)

    return stop


def anybody_listens() -> bool:
    """Whether every task is to be reported."""
    return bool(_listeners)


def _begin(span: Span) -> list[Finish]:
    """Tell the listeners."""
    return [listener(span) for listener in _listeners]
