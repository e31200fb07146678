"""An image worker, from inside: one job at a time, in the jail, until the server hangs up."""

import contextlib
import faulthandler
import gc
import mmap
import os
import socket
import traceback
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from safelight.blob import FileBlob
from safelight.engine import jail, notes, wire
from safelight.engine.arena import Arena, Phase
from safelight.engine.handling import Handler, as_image_error
from safelight.errors import ImageError, SafelightError, TooLarge
from safelight.image.cost import NotGranted
from safelight.image.result import Thumbnail, Thumbnails


@dataclass(frozen=True, slots=True)
class Fittings:
    """What a new worker is given: descriptors, the process it must not outlive, and sizes in bytes."""

    channel: int
    arena: int
    complaints: int
    parent_pid: int
    arena_bytes: int
    address_space_bytes: int


def main(fittings: Fittings, handler: Handler) -> NoReturn:
    """Enter the jail, say hello, serve. Runs in the child right after the fork and never returns."""
    status = 1
    try:
        Path("/proc/self/comm").write_text("safelight-image")
        os.dup2(fittings.complaints, 2)
        faulthandler.enable(2)
        channel = socket.socket(fileno=fittings.channel)
        memory = os.open("/proc/self/statm", os.O_RDONLY)
        arena = Arena(fittings.arena, fittings.arena_bytes)
        _close_others({0, 1, 2, fittings.channel, memory})
        missing = jail.enter(fittings.parent_pid, fittings.address_space_bytes)
        if _warm_up(channel, handler, missing):
            _Worker(channel, arena, memory, handler).serve()
        status = 0
    except (BrokenPipeError, ConnectionResetError):  # the server is gone
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _warm_up(channel: socket.socket, handler: Handler, missing: list[str]) -> bool:
    try:
        handler.warm_up()
    except Exception as error:
        channel.send(wire.encode_hello(missing, f"{type(error).__name__}: {error}"))
        return False
    gc.collect()
    gc.freeze()
    channel.send(wire.encode_hello(missing))
    return True


def _close_others(kept: Container[int]) -> None:
    """Whatever the template had open is none of a worker's business."""
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if descriptor not in kept:
            with contextlib.suppress(OSError):
                os.close(descriptor)


class _Worker:
    """The loop: a request from the channel, the image in the arena, the outputs over it, a reply."""

    def __init__(self, channel: socket.socket, arena: Arena, memory: int, handler: Handler) -> None:
        self._channel = channel
        self._arena = arena
        self._memory = memory
        self._handler = handler

    def serve(self) -> None:
        """Return when the server has closed its end."""
        while True:
            message, descriptors, _, _ = socket.recv_fds(self._channel, wire.MAX_ORDER_BYTES, 1)
            if not message:
                return
            order = wire.decode_order(message)
            request = order.request
            try:
                for descriptor in descriptors:
                    self._read_file(descriptor, request.size)
                reply = self._work(request, order.granted_bytes)
            except SafelightError as error:
                reply = wire.encode_failure(request.number, self._rss_bytes(), error)
            self._arena.phase = Phase.WAITING
            self._channel.send(reply)

    def _read_file(self, descriptor: int, size: int) -> None:
        """Fill the arena from a file. Mapping it would save 0.2 ms at 4 MB, and crash if the file is cut."""
        file = FileBlob(descriptor, size)
        try:
            count = file.readinto(self._arena.body)
        except OSError as error:
            raise ImageError("image file cannot be read", detail=str(error)) from error
        finally:
            file.close()
        if count != size:
            raise ImageError("image file was cut short", detail=f"{count} of {size} bytes")

    def _work(self, request: wire.Request, granted_bytes: int) -> bytes:
        data = self._arena.body[: request.size].toreadonly()
        self._arena.phase = Phase.DECODING
        try:
            if request.kind == "identify":
                seen = self._handler.identify(data)
                return wire.encode_info(request.number, self._rss_bytes(), seen)
            with notes.collected(notes.WORKING) as said:
                made = self._handler.thumbnail(data, request.specs, granted_bytes)
            self._arena.phase = Phase.ANSWERING
            self._hand_over(made)
            return wire.encode_thumbnails(request.number, self._rss_bytes(), made, said)
        except NotGranted as error:
            return wire.encode_need(request.number, self._rss_bytes(), error.needed_bytes)
        except Exception as error:
            raise as_image_error(error) from error

    def _hand_over(self, made: Thumbnails) -> None:
        """All outputs or none: the server clears and gives back only what it knows of. Raises: TooLarge."""
        body = self._arena.body
        outputs = [output.data for output in made.outputs if isinstance(output, Thumbnail)]
        if sum(map(len, outputs)) > len(body):
            raise TooLarge("image too large: outputs exceed the memory limit")
        end = 0
        for data in outputs:
            start, end = end, end + len(data)
            body[start:end] = data

    def _rss_bytes(self) -> int:
        """Private memory, without the arena and mapped files."""
        resident, shared = os.pread(self._memory, 100, 0).split()[1:3]
        return (int(resident) - int(shared)) * mmap.PAGESIZE
