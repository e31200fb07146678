"""A client process that asks one server for one path, again and again, and times the answers.

Closed loop: so many connections, each asks again as soon as it has its answer. Open loop: requests are due at
fixed moments, whatever became of the earlier ones, and are timed from the moment at which they were due: who
waits because the server is behind is counted as waiting.
"""

import http.client
import math
import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

ANSWER_S = 120
BUSY, BUSY_S = 503, 0.5
"""A server that refuses is asked again so much later; the request is timed until it is answered."""
MOST_IN_FLIGHT = 128
"""Of an open loop; later requests wait in the client, and are timed from when they were due all the same."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a client saw: seconds of each request, in all, and of its own CPU; bytes of one answer."""

    waits_s: Sequence[float]
    wall_s: float
    client_cpu_s: float
    size: int

    @property
    def per_s(self) -> float:
        return len(self.waits_s) / self.wall_s


def percentile(values: Sequence[float], per_cent: float) -> float:
    """The least of `values` that so many per cent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(per_cent / 100 * len(ordered)) - 1, 0)]


class Asker:
    """Asks for one path over keep-alive connections, as few as will do; any number of threads may use it."""

    def __init__(self, port: int, path: str) -> None:
        self._port, self._path = port, path
        self._idle: list[http.client.HTTPConnection] = []

    def ask(self) -> int:
        """The size of one answer. Raises: RuntimeError for any other than 200, and for 503 for too long."""
        until = time.monotonic() + ANSWER_S
        while True:
            status, body = self._ask()
            if status == 200:
                return len(body)
            if status != BUSY or time.monotonic() > until:
                raise RuntimeError(f"{self._path}: {status} {body[:200].decode(errors='replace')}")
            time.sleep(BUSY_S)

    def _ask(self) -> tuple[int, bytes]:
        with suppress(IndexError):
            connection = self._idle.pop()
            # A server may close a connection that is idle just when it is used again.
            with suppress(http.client.RemoteDisconnected, ConnectionError):
                return self._ask_over(connection)
        return self._ask_over(http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_S))

    def _ask_over(self, connection: http.client.HTTPConnection) -> tuple[int, bytes]:
        try:
            connection.request("GET", self._path)
            answer = connection.getresponse()
            body = answer.read()
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return answer.status, body

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


def closed_loop(port: int, path: str, connections: int, seconds: float) -> Load:
    """Ask for `seconds`, and wait for the answers to what was asked until then."""
    started, used = time.monotonic(), time.process_time()
    until = started + seconds

    def moments() -> Iterator[float]:
        while (now := time.monotonic()) < until:
            yield now

    waits_s, size = _ask_at(port, path, [moments() for _ in range(connections)])
    return Load(waits_s, time.monotonic() - started, time.process_time() - used, size)


def open_loop(port: int, path: str, per_s: float, seconds: float) -> Load:
    """Ask `per_s` times a second, evenly, for `seconds`; times are from when a request was due."""
    started, used = time.monotonic(), time.process_time()
    due = iter([started + number / per_s for number in range(math.ceil(per_s * seconds))])
    lock = threading.Lock()

    def moments() -> Iterator[float]:
        """Whoever is free takes the next request."""
        while True:
            with lock:
                moment = next(due, None)
            if moment is None:
                return
            yield moment

    waits_s, size = _ask_at(port, path, [moments() for _ in range(MOST_IN_FLIGHT)])
    return Load(waits_s, time.monotonic() - started, time.process_time() - used, size)


def _ask_at(port: int, path: str, schedules: Sequence[Iterator[float]]) -> tuple[list[float], int]:
    """A thread for each schedule: the seconds from each moment to its answer, and the size of one."""
    asker = Asker(port, path)

    def follow(schedule: Iterator[float]) -> tuple[list[float], int]:
        waits_s: list[float] = []
        size = 0
        for moment in schedule:
            time.sleep(max(moment - time.monotonic(), 0))
            size = asker.ask()
            waits_s.append(time.monotonic() - moment)
        return waits_s, size

    try:
        with ThreadPoolExecutor(len(schedules)) as threads:
            followed = list(threads.map(follow, schedules))
    finally:
        asker.close()
    return [wait_s for waits_s, _ in followed for wait_s in waits_s], max(size for _, size in followed)


def _client(orders: Connection) -> None:
    with suppress(EOFError):
        while True:
            loop, *arguments = orders.recv()
            try:
                orders.send(loop(*arguments))
            except Exception as error:
                orders.send(RuntimeError(str(error)))


class Client:
    """The process, so that what the client uses is not counted as the benchmark's or the server's."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._orders, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_client, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def closed(self, port: int, path: str, connections: int, seconds: float) -> Load:
        return self._order(closed_loop, port, path, connections, seconds)

    def open(self, port: int, path: str, per_s: float, seconds: float) -> Load:
        return self._order(open_loop, port, path, per_s, seconds)

    def _order(self, *order: object) -> Load:
        self._orders.send(order)
        answer = self._orders.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self._orders.close()
        self._process.join(5)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
