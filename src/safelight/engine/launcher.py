"""The server's side of the template: start it, have workers forked, learn of their ends, start it again."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping

from safelight.engine import notes, orders
from safelight.engine.complaints import Complaints
from safelight.errors import ImageError

BOOT_TIMEOUT_S = 60
FORK_TIMEOUT_S = 20
REAP_TIMEOUT_S = 2
# The rest of the environment stays here: it may hold secrets, and an image worker might be taken over.
PASSED_ON = ("HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ")
PASSED_ON_PREFIXES = ("FONTCONFIG_", "LC_", "MALLOC_", "VIPS_", "XDG_")
# One thread per transform; no temporary files, which the jail forbids; nothing may start threads while it is
# imported. One malloc arena: libvips decodes in threads that come and go, and each arena keeps what one of
# them took (after a progressive JPEG of 12 MP 41 MiB, 77 with two, 117 with four; the CPU time is the same).
SET_ALWAYS = {
    "MALLOC_ARENA_MAX": "1",
    "VIPS_CONCURRENCY": "1",
    "VIPS_DISC_THRESHOLD": "1000g",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of the template: where Python finds our code, locale and fonts, no secrets."""
    kept = {
        name: text
        for name, text in inherited.items()
        if name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)
    }
    return kept | SET_ALWAYS | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class Forked:
    """A new worker: its process id, a pidfd, and how it will have ended.

    `ended`: its exit code or minus the signal; None if the template died, and the worker with it.
    """

    def __init__(self, pid: int, pidfd: int, ended: "asyncio.Future[int | None]") -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.ended = ended

    def close(self) -> None:
        """Close the pidfd."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Template:
    """One template process."""

    def __init__(self, boot: orders.Boot, on_death: Callable[[str], None]) -> None:
        """`on_death` is called with its last words, once, if it dies before `close`. Raises: OSError."""
        self._boot = boot
        self._on_death = on_death
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._ordered: deque[asyncio.Future[Forked]] = deque()
        self._children: dict[int, asyncio.Future[int | None]] = {}
        self.is_alive = True
        with contextlib.ExitStack() as undo:
            self._complaints = Complaints(self._loop)
            undo.callback(self._complaints.close)
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.enter_context(self._control)
            with theirs:
                self._process = self._spawn(theirs.fileno())
            undo.pop_all()
        self._control.setblocking(False)
        self._loop.add_reader(self._control.fileno(), self._listen)

    @property
    def pid(self) -> int:
        return self._process.pid

    def _spawn(self, control: int) -> subprocess.Popen[bytes]:
        # -P: a module named like ours in the working directory, perhaps a store of uploads, is not imported.
        command = [sys.executable, "-P", "-m", "safelight.engine.template", str(control), str(os.getpid())]
        try:
            return subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints.writer,
                env=environment(os.environ),
                pass_fds=(control,),
                start_new_session=True,
            )
        finally:
            self._complaints.close_writer()

    async def start(self) -> None:
        """Wait until everything is imported. Raises: ImageError."""
        try:
            self._control.send(orders.encode(self._boot))
            async with asyncio.timeout(BOOT_TIMEOUT_S):
                await asyncio.shield(self._ready)
        except (OSError, TimeoutError) as error:
            raise ImageError("image workers cannot start", detail=self._complaints.last_words()) from error

    async def fork(self, channel: int, arena: int, complaints: int) -> Forked:
        """Have a worker made that gets copies of these descriptors. Raises: ImageError."""
        if not self.is_alive:
            raise ImageError("image workers cannot start", detail="the template is dead")
        answer: asyncio.Future[Forked] = self._loop.create_future()
        try:
            socket.send_fds(self._control, [orders.encode(orders.Fork())], [channel, arena, complaints])
        except OSError as error:
            raise ImageError("image workers cannot start", detail=str(error)) from error
        self._ordered.append(answer)
        try:
            async with asyncio.timeout(FORK_TIMEOUT_S):
                return await asyncio.shield(answer)
        except asyncio.CancelledError:
            answer.add_done_callback(_close_unwanted)
            raise
        except (
            TimeoutError
        ) as error:  # stopped or stuck: `_listen` will see it die, and another one is started
            answer.add_done_callback(_close_unwanted)
            self._process.kill()
            raise ImageError("image workers cannot start", detail="the template hangs") from error

    async def close(self) -> None:
        """End the template and all its workers, and reap it."""
        was_alive, self.is_alive = self.is_alive, False
        if was_alive:
            self._hang_up()
        deadline = self._loop.time() + REAP_TIMEOUT_S
        while self._process.poll() is None:
            if self._loop.time() > deadline:
                self._process.kill()
            await asyncio.sleep(0.005)
        self._complaints.close()

    def _hang_up(self) -> None:
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        failure = ImageError("image workers cannot start", detail=self._complaints.last_words())
        for waiting in [self._ready, *self._ordered]:
            if not waiting.done():
                waiting.set_exception(failure)
                waiting.exception()  # nobody may be waiting
        for ended in self._children.values():
            ended.set_result(None)
        self._children.clear()

    def _listen(self) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, orders.MAX_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:
            message, descriptors = b"", []
        if not message:
            self._die()
            return
        report: orders.Report = orders.decode_report(message)
        match report:
            case orders.Ready(failure, said):
                notes.report(said)
                self._note_ready(failure)
            case orders.Forked(pid, failure):
                self._note_forked(pid, failure, descriptors)
            case orders.Exited(pid, status):
                self._children.pop(pid).set_result(status)

    def _note_ready(self, failure: str | None) -> None:
        if self._ready.done():
            return
        if failure is None:
            self._ready.set_result(None)
        else:
            self._ready.set_exception(ImageError("image workers cannot start", detail=failure))

    def _note_forked(self, pid: int, failure: str | None, descriptors: list[int]) -> None:
        answer = self._ordered.popleft()
        if failure is not None:
            answer.set_exception(ImageError("image workers cannot start", detail=failure))
            return
        ended: asyncio.Future[int | None] = self._loop.create_future()
        self._children[pid] = ended
        if not descriptors:  # as many are open here as may be; the worker ends when its channel is closed
            answer.set_exception(ImageError("image workers cannot start", detail="no descriptor is free"))
            return
        answer.set_result(Forked(pid, descriptors[0], ended))

    def _die(self) -> None:
        self.is_alive = False
        self._hang_up()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.kill()  # it may have only closed its end
            self._process.wait(REAP_TIMEOUT_S)
        words = self._complaints.last_words()
        self._complaints.close()
        self._on_death(words)


def _close_unwanted(answer: asyncio.Future[Forked]) -> None:
    if not answer.cancelled() and not answer.exception():
        answer.result().close()
