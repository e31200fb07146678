"""The server's side of one image worker: its process, its channel, its arena and the job it has."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

from safelight.blob import Blob
from safelight.engine import wire
from safelight.engine.arena import Arena, create_memfd
from safelight.engine.complaints import Complaints
from safelight.engine.launcher import Forked, Template
from safelight.errors import SafelightError
from safelight.image.result import ImageInfo, Thumbnails

Kind = Literal["thumbnail", "identify"]
_DESCRIPTOR = struct.Struct("i")


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way. `started` and `deadline`: the loop's time, from when a worker has it.

    `joined`: the same clock. `needed_bytes`: memory that serving it takes, None before that is known.
    `granted_bytes`: what it may take. `asked`: by `time.perf_counter`; `waited_s`: from then until a worker
    had it, for those who watch.
    """

    number: int
    kind: Kind
    image: Blob
    message: bytes
    outputs: int
    urgent: bool
    joined: float
    answer: "asyncio.Future[Thumbnails | ImageInfo]"
    needed_bytes: int | None = None
    granted_bytes: int = 0
    attempts: int = 0
    started: float = 0
    deadline: float = 0
    timer: asyncio.TimerHandle | None = None
    asked: float = field(default_factory=perf_counter)
    waited_s: float | None = None

    def fail(self, error: SafelightError) -> None:
        """Answer with an error, unless answered or cancelled already."""
        self.stop_timer()
        if not self.answer.done():
            self.answer.set_exception(error)

    def stop_timer(self) -> None:
        """Forget the deadline that runs, if one does."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Member:
    """One worker process. Every call comes from the event loop.

    `hello`: what it says when it is ready. `gone`: done when it will do no more work.
    """

    def __init__(self, forked: Forked, channel: socket.socket, arena: Arena, complaints: Complaints) -> None:
        self.forked = forked
        self.arena = arena
        self.complaints = complaints
        self.job: Job | None = None
        self.given = 0
        self.served = 0
        self.stamina = random.uniform(1, 1.1)  # noqa: S311 (so that not all are recycled at once)
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self.hello: asyncio.Future[wire.Hello] = self._loop.create_future()
        self.gone: asyncio.Future[None] = self._loop.create_future()

    @classmethod
    async def hire(cls, template: Template, arena_bytes: int) -> "Member":
        """Have a process forked that knows a new arena and a new channel. Raises: ImageError, OSError."""
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as theirs:
            complaints = Complaints(asyncio.get_running_loop())
            undo.callback(complaints.close)
            theirs.callback(complaints.close_writer)
            channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.enter_context(channel)
            theirs.enter_context(other)
            channel.setblocking(False)
            memfd = create_memfd(arena_bytes)
            theirs.callback(os.close, memfd)
            arena = Arena(memfd, arena_bytes)
            undo.callback(arena.close)
            forked = await template.fork(other.fileno(), memfd, complaints.writer)
            undo.pop_all()
        return cls(forked, channel, arena, complaints)

    def listen(self, on_readable: Callable[["Member"], None]) -> None:
        """Call back when the process has said something or is gone."""
        self._loop.add_reader(self._channel.fileno(), on_readable, self)

    def give(self, job: Job) -> None:
        """Hand over a job: bytes through the arena, a file as its descriptor. Raises: OSError, ValueError."""
        order = wire.encode_order(job.message, job.granted_bytes)
        descriptor = job.image.fileno()
        self.arena.forget_beyond(job.image.size)
        if descriptor is None:
            if job.image.readinto(self.arena.body) != job.image.size:
                raise OSError("cut short")
            self._channel.send(order)
        else:
            rights = socket.SOL_SOCKET, socket.SCM_RIGHTS, _DESCRIPTOR.pack(descriptor)
            self._channel.sendmsg([order], [rights])
        self.job = job
        self.given += 1

    def receive(self, buffer: bytearray) -> memoryview | None:
        """The next message, in `buffer`; empty when the process is gone, None for none yet.

        Raises: ProtocolError for one that is too long.
        """
        try:
            # Not recvmsg: descriptors that a worker might send are dropped by the kernel.
            count = self._channel.recv_into(buffer, 0, socket.MSG_TRUNC)
        except BlockingIOError:
            return None
        except OSError:
            count = 0
        if count > len(buffer):
            raise wire.ProtocolError(f"message of {count} bytes")
        return memoryview(buffer)[:count]

    def kill(self) -> None:
        """End the process, if it still runs; the pidfd cannot mean another one."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.forked.pidfd, signal.SIGKILL)

    def hang_up(self) -> None:
        """Stop listening and talking."""
        if self._channel.fileno() >= 0:
            self._loop.remove_reader(self._channel.fileno())
            self._channel.close()

    def close(self) -> None:
        """Release everything that belongs to the process, which must be dead or dying."""
        self.hang_up()
        self.complaints.close()
        self.arena.close()
        self.forked.close()
