"""gunicorn's worker that serves an ASGI application by uvicorn, on uvloop and httptools.

uvicorn's own (`uvicorn.workers`) is deprecated, stops at once or not at all, and has no place for our guards.
"""

import asyncio
import ctypes
import functools
import logging
import mmap
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from gunicorn.workers.base import Worker

from safelight.server.protocol import GuardedProtocol
from safelight.server.stats import Statistics

HEARTBEAT_S = 1.0
SHUTDOWN_RESERVE_S = 3.0
PR_SET_PDEATHSIG = 1


def stop_with_parent(parent_pid: int) -> None:
    """Be asked to stop when the parent dies, however it dies. Exits at once if it is dead already.

    The kernel forgets this when the user id changes: call it again afterwards (prctl(2)).
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:
        sys.exit(0)


class HttpWorker(Worker):
    """One HTTP process. `row` is its row of statistics, set by the master before the fork.

    `dismissed`: the master has told it to stop.
    `tls`: made by the master, which may read a key that workers may not; None for plain HTTP.
    """

    row: int
    statistics: Statistics
    protocol: type[GuardedProtocol] = GuardedProtocol
    tls: ssl.SSLContext | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.dismissed = False
        self._serving = mmap.mmap(-1, 1)

    def init_signals(self) -> None:
        """TERM and INT drain, QUIT stops."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        signal.signal(signal.SIGQUIT, self.handle_exit)
        signal.signal(signal.SIGUSR1, self.handle_usr1)
        signal.siginterrupt(signal.SIGUSR1, False)
        stop_with_parent(self.ppid)

    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        """Reopen log files."""
        super().handle_usr1(sig, frame)
        reopen = getattr(self.wsgi, "reopen_logs", None)
        if reopen is not None:
            reopen()

    @property
    def is_serving(self) -> bool:
        """Whether it has ever been ready for requests; shared with the master."""
        return self._serving[0] == 1

    def run(self) -> None:
        """Serve until told to stop. Raises: SystemExit when the application cannot start, which is logged."""
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = _Server(
            self._uvicorn_config(), self._begin_to_serve, self._begin_to_stop, self.cfg.graceful_timeout
        )
        loop = asyncio.get_running_loop()
        if self.tls is not None:
            _limit_handshakes(loop, self.protocol.head_timeout_s)
        loop.add_signal_handler(signal.SIGQUIT, _stop_now, server)
        server.should_exit = not self.alive
        await server.serve(sockets=self.sockets)

    def _begin_to_serve(self) -> None:
        self._serving[0] = 1
        self._heartbeat()

    def _begin_to_stop(self) -> None:
        """What waits for nothing in particular must not be waited for."""
        end_streams = getattr(self.wsgi, "end_streams", None)
        if end_streams is not None:
            end_streams()

    def _heartbeat(self) -> None:
        """To the very end: a worker that drains its connections is alive, too."""
        self.notify()
        asyncio.get_running_loop().call_later(HEARTBEAT_S, self._heartbeat)

    def _uvicorn_config(self) -> uvicorn.Config:
        _share_handlers("uvicorn.error", self.log.error_log)
        tls = self.tls
        return uvicorn.Config(
            app=self.wsgi,
            interface="asgi3",
            loop="uvloop",
            http=self.protocol,
            ws="none",
            lifespan="on",
            workers=1,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=self.cfg.backlog,
            timeout_keep_alive=self.cfg.keepalive,
            timeout_graceful_shutdown=max(1, int(self.cfg.graceful_timeout - SHUTDOWN_RESERVE_S)),
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        )


class _Server(uvicorn.Server):
    """uvicorn's, which says when it serves and when it stops, and ends some time after, whatever happens.

    `drain_s`: whole seconds. The master ends its workers itself, unless it has been killed.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        on_start: Callable[[], None],
        on_stop: Callable[[], None],
        drain_s: int,
    ) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._on_stop = on_stop
        self._drain_s = drain_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stop()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            signal.alarm(self._drain_s + 1)
        super().handle_exit(sig, frame)


def _limit_handshakes(loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
    """uvicorn does not say how long clients may take, and the event loop then leaves them a minute."""
    loop.create_server = functools.partial(loop.create_server, ssl_handshake_timeout=timeout_s)


def _stop_now(server: uvicorn.Server) -> None:
    """Cut all connections, so that the shut-down has nobody to wait for."""
    server.should_exit = True
    for connection in list(server.server_state.connections):
        connection.transport.abort()


def _share_handlers(name: str, model: logging.Logger) -> None:
    logger = logging.getLogger(name)
    logger.handlers = model.handlers
    logger.setLevel(max(model.level, logging.ERROR))  # its warnings are about what clients send
    logger.propagate = False


def _new_loop() -> asyncio.AbstractEventLoop:
    import uvloop  # after the fork: the master has no use for it

    return uvloop.new_event_loop()
