"""gunicorn's worker that serves an ASGI application by uvicorn, on uvloop and httptools.

uvicorn's own (`uvicorn.workers`) is deprecated, stops at once or not at all, and has no place for our guards.
"""

import asyncio
import ctypes
import logging
import os
import signal
import sys
import time
from types import FrameType

import uvicorn
from gunicorn.workers.base import Worker

from safelight.server.protocol import GuardedProtocol
from safelight.server.stats import Statistics

BOOT_FAILED = 3  # uvicorn exits so, and gunicorn then ends the server
BOOT_FAILED_LATER = 1  # gunicorn starts another worker
RESPAWN_PAUSE_S = 1.0
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
    """One HTTP process. `row` is its row of statistics, set by the master before the fork."""

    row: int
    statistics: Statistics
    protocol: type[GuardedProtocol] = GuardedProtocol

    def init_signals(self) -> None:
        """TERM and INT drain, QUIT stops, ABRT (a blocked event loop) kills."""
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

    def run(self) -> None:
        """Serve until told to stop.

        The first worker that cannot boot ends the server; a later one may have met a passing shortage.
        """
        booted_before = self.statistics.value("workers") > 0
        try:
            with asyncio.Runner(loop_factory=_new_loop) as runner:
                runner.run(self._serve())
        except SystemExit as error:
            if error.code == BOOT_FAILED and booted_before:
                time.sleep(RESPAWN_PAUSE_S)
                raise SystemExit(BOOT_FAILED_LATER) from error
            raise

    async def _serve(self) -> None:
        server = uvicorn.Server(self._uvicorn_config())
        asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, _stop_now, server)
        server.should_exit = not self.alive
        await server.serve(sockets=self.sockets)

    def _uvicorn_config(self) -> uvicorn.Config:
        _share_handlers("uvicorn.error", self.log.error_log)
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
            timeout_notify=int(self.timeout),
            callback_notify=self._heartbeat,
        )

    async def _heartbeat(self) -> None:
        self.notify()


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
