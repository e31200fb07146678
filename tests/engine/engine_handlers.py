"""Handlers that do to an engine what no image should. A template process imports them by dotted path.

The input says what to do: `verb argument`. Nothing here knows libvips.
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import mmap
import os
import platform
import resource
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from safelight.engine import landlock, seccomp
from safelight.errors import ImageError, SpecError, TooLarge, UnsupportedMedia
from safelight.image.cost import NotGranted
from safelight.image.result import ImageInfo, Thumbnail, Thumbnails
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec

INFO = ImageInfo("image/x-test", 3, 2)


class ScriptHandler:
    """Does what its input says; what it does not know it hashes."""

    def __init__(self, settings: ImageSettings) -> None:
        self.settings = settings
        self.warm = False

    def warm_up(self) -> None:
        self.warm = True

    def thumbnail(
        self, data: bytes | memoryview, specs: Sequence[ThumbnailSpec], granted_bytes: int | None = None
    ) -> Thumbnails:
        verb, _, argument = bytes(data[:200]).partition(b" ")
        act = getattr(self, "do_" + verb.decode("ascii", "replace"), None)
        self.granted_bytes = granted_bytes
        made = act(argument.decode()) if act else None
        text = made if isinstance(made, bytes) else hashlib.sha256(data).digest()
        return Thumbnails(INFO, tuple(self.output(spec, text) for spec in specs))

    def output(self, spec: ThumbnailSpec, text: bytes) -> Thumbnail | ImageError | SpecError:
        if spec.method == "fail":
            return SpecError(f"no such method in spec '{spec}'")
        return Thumbnail(text + str(spec).encode(), "image/x-test", spec.width or 1, spec.height or 1)

    def identify(self, data: bytes | memoryview) -> ImageInfo:
        verb, _, argument = bytes(data[:200]).partition(b" ")
        if act := getattr(self, "do_" + verb.decode("ascii", "replace"), None):
            act(argument.decode())
        return ImageInfo("image/x-test", len(data), self.settings.jpeg_quality or 1)

    def do_unsupported(self, argument: str) -> None:
        raise UnsupportedMedia("not an image", detail="detail for the log")

    def do_too_large(self, argument: str) -> None:
        raise TooLarge("image too large")

    def do_bug(self, argument: str) -> None:
        raise ZeroDivisionError("a bug")

    def do_memory_error(self, argument: str) -> None:
        raise MemoryError

    def do_sleep(self, argument: str) -> None:
        time.sleep(float(argument))

    def do_warm(self, argument: str) -> bytes:
        return str(self.warm).encode()

    def do_need(self, argument: str) -> bytes:
        """`need BYTES SECONDS`: take so much memory for so long, as a handler does that keeps its word."""
        needed, seconds = argument.split()[:2]
        if self.granted_bytes is not None and int(needed) > self.granted_bytes:
            raise NotGranted(int(needed))
        time.sleep(float(seconds))
        return b"%d " % (self.granted_bytes or 0)

    def do_big(self, argument: str) -> bytes:
        return b"o" * int(argument)


class FailsToLoad:
    """Cannot even be constructed."""

    def __init__(self, settings: ImageSettings) -> None:
        raise RuntimeError("no codec here")


class FailsToWarmUp(ScriptHandler):
    """Loads, then fails in the worker."""

    def warm_up(self) -> None:
        raise RuntimeError("codec does not work")


class HostileHandler(ScriptHandler):
    """What a decoder does that was taken over by its input, or is merely broken."""

    hoard: list[bytearray]

    def __init__(self, settings: ImageSettings) -> None:
        super().__init__(settings)
        self.hoard = []
        self.count = 0

    def thumbnail(
        self, data: bytes | memoryview, specs: Sequence[ThumbnailSpec], granted_bytes: int | None = None
    ) -> Thumbnails:
        self.count += 1
        self.data = data
        return super().thumbnail(data, specs, granted_bytes)

    # Deaths

    def do_hang(self, argument: str) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            time.sleep(1000)

    def do_segv(self, argument: str) -> None:
        ctypes.string_at(0)

    def do_abort(self, argument: str) -> None:
        print("the decoder says goodbye", file=sys.stderr)
        os.abort()

    def do_exit(self, argument: str) -> None:
        os._exit(0)

    def do_eat(self, argument: str) -> None:
        while True:
            self.hoard.append(bytearray(16 << 20))

    def do_eat_native(self, argument: str) -> None:
        """As a C library does that checks malloc and gives up."""
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        libc.malloc.argtypes = [ctypes.c_size_t]
        while libc.malloc(64 << 20):
            pass
        print("GLib-ERROR: failed to allocate 67108864 bytes", file=sys.stderr)
        os.abort()

    def do_hoard(self, argument: str) -> bytes:
        self.hoard.append(bytearray(os.urandom(1) * int(argument)))
        return self.do_who("")

    # Lies

    def do_say(self, argument: str) -> None:
        """Send this text in place of a reply, and stop."""
        self.say(argument.encode())
        self.do_hang("")

    def do_say_much(self, argument: str) -> None:
        self.say(b"x" * int(argument))
        self.do_hang("")

    def do_say_twice(self, argument: str) -> None:
        """Answer the request, and then one more time when the next job comes."""
        number = argument or "1"
        self.say(b'[%s,0,null,["a/b",1,1],[]]' % number.encode())
        self.say(b'[%s,0,null,["a/b",1,1],[]]' % number.encode())

    def say(self, message: bytes) -> None:
        os.write(channel(), message)

    def do_hang_up(self, argument: str) -> None:
        os.close(channel())
        self.do_hang("")

    def do_complain(self, argument: str) -> None:
        for _ in range(2_000):
            print("\x1b[31mspam " * 20, file=sys.stderr)

    def do_send_descriptors(self, argument: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, os.dup(channel())) as other:
            socket.send_fds(other, [b"{}"], [0, 1, 2])
        self.do_hang("")

    # Looking around

    def do_who(self, argument: str) -> bytes:
        return b"%d %d " % (os.getpid(), self.count)

    def do_peek(self, argument: str) -> bytes:
        """What lies behind the input in the arena."""
        assert isinstance(self.data, memoryview)
        start = 4096 + len(self.data)
        return bytes(memoryview(self.data.obj)[start : start + 100_000])

    def do_probe(self, argument: str) -> bytes:
        """Try what the jail forbids; name each attempt with the error, or null where it worked."""
        return (
            json.dumps({name: attempt_result(attempt) for name, attempt in attempts().items()}).encode()
            + b"\n"
        )


class SlowToWarmUp(HostileHandler):
    """As on a machine that has much else to do."""

    def warm_up(self) -> None:
        time.sleep(1)


class CrashesWhileAnswering(ScriptHandler):
    """Returns outputs that end the process when somebody looks at them."""

    def thumbnail(
        self, data: bytes | memoryview, specs: Sequence[ThumbnailSpec], granted_bytes: int | None = None
    ) -> Thumbnails:
        if bytes(data[:5]) == b"crash":
            return Thumbnails(INFO, _Bomb())
        return super().thumbnail(data, specs, granted_bytes)


class _Bomb(tuple[Thumbnail, ...]):
    def __iter__(self) -> Iterator[Thumbnail]:
        os.abort()


class WithoutLandlock(HostileHandler):
    """As on a kernel without Landlock."""

    def __init__(self, settings: ImageSettings) -> None:
        super().__init__(settings)
        landlock.version = lambda: 0


class WithoutFilters(WithoutLandlock):
    """As on a kernel without Landlock and without seccomp."""

    def __init__(self, settings: ImageSettings) -> None:
        super().__init__(settings)
        seccomp.table = lambda: None


class StartsThread(ScriptHandler):
    """Breaks the condition under which forking is safe."""

    def __init__(self, settings: ImageSettings) -> None:
        super().__init__(settings)
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()


def channel() -> int:
    """The descriptor that leads to the server."""
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                return descriptor
    raise AssertionError("no channel")


def attempt_result(attempt: Callable[[], object]) -> str | None:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except ValueError:  # what setrlimit makes of EPERM
        return "EPERM"
    return None


def system_call(number: int, *arguments: int) -> None:
    if ctypes.CDLL(None, use_errno=True).syscall(number, *map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), "system call")


def attempts() -> dict[str, Callable[[], object]]:
    """What no image needs."""
    parent = os.getppid()
    return {
        "open a secret": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "list a directory": lambda: next(Path("/").iterdir()),
        "open own memory": lambda: os.open("/proc/self/mem", os.O_RDWR),
        "write a file": lambda: os.open("/tmp/safelight-was-here", os.O_CREAT | os.O_WRONLY),
        "write to fonts": lambda: os.open("/etc/fonts/safelight", os.O_CREAT | os.O_WRONLY),
        "tcp socket": lambda: socket.socket(socket.AF_INET),
        "unix socket": lambda: socket.socket(socket.AF_UNIX),
        "exec": lambda: os.execv("/bin/true", ["true"]),
        "fork": os.fork,
        "kill the parent": lambda: os.kill(parent, 9),
        "stop the parent": lambda: os.kill(parent, signal.SIGSTOP),
        "signal all": lambda: os.kill(-1, 0),
        "ptrace": lambda: system_call(PTRACE, 16, parent, 0, 0),
        "read the parent's memory": lambda: system_call(READ_MEMORY, parent, 0, 0, 0, 0, 0),
        "signal by fcntl": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, parent),
        "raise own limits": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
        "limits of the parent": lambda: resource.prlimit(parent, resource.RLIMIT_CORE),
        "become root": lambda: os.setuid(0),
        "executable memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
        "shared memory": lambda: mmap.mmap(-1, 4096, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS),
        "memory file": lambda: os.memfd_create("x"),
        "truncate": lambda: os.truncate("/etc/hostname", 0),
        "delete": lambda: Path("/etc/hostname").unlink(),
        "namespace": lambda: system_call(UNSHARE, 0x10000000),
        "keyring": lambda: system_call(KEYCTL, 0, 0, 0),
        "mount": lambda: system_call(MOUNT, 0, 0, 0, 0, 0),
        "start a thread": lambda: threading.Thread(target=int).start(),
        "read the clock": time.monotonic,
        "random bytes": lambda: os.urandom(8),
    }


if platform.machine() == "x86_64":
    PTRACE, READ_MEMORY, UNSHARE, KEYCTL, MOUNT = 101, 310, 272, 250, 165
else:
    PTRACE, READ_MEMORY, UNSHARE, KEYCTL, MOUNT = 117, 270, 97, 219, 40
