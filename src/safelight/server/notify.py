"""What a service manager is told about the server: the protocol of sd_notify(3), of `Type=notify-reload`."""

import os
import socket
import time
from contextlib import suppress

ADDRESS = "NOTIFY_SOCKET"
WATCHDOG = "WATCHDOG_USEC"


class ServiceManager:
    """Hears from the master alone, which is the process that it knows; silent when there is none.

    `workers` is how many HTTP workers have ever come up, in all calls the same ever growing count.
    """

    def __init__(self, address: str | None, *, has_watchdog: bool) -> None:
        """`address`: a path, or a name that begins with `@` in the abstract namespace (unix(7))."""
        self._address = address
        self._has_watchdog = has_watchdog
        self._awaited: int | None = 0  # ready once there have been more workers than this; None: it was said

    def reloading(self, workers: int) -> None:
        """Other workers are going to replace those that there are."""
        self._awaited = workers
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def unchanged(self) -> None:
        """The reload came to nothing: the workers that there are go on."""
        if self._awaited is not None:
            self._awaited = -1

    def stopping(self, successor: int) -> None:
        """The end begins; `successor`: process id of the master that goes on in our place, or 0."""
        self._tell(f"MAINPID={successor}" if successor else "STOPPING=1")

    def alive(self, workers: int) -> None:
        """To be called about once a second: says that we live, and that we are ready when we are."""
        if self._awaited is not None and workers > self._awaited:
            self._awaited = None
            self._tell("READY=1")
        if self._has_watchdog:
            self._tell("WATCHDOG=1")

    def _tell(self, message: str) -> None:
        if self._address is None:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message.encode(), address)


def take_service_manager() -> ServiceManager:
    """The one named in the environment, from which it is removed.

    gunicorn would tell it that we are ready as soon as we listen, and workers have nothing to say to it.
    """
    has_watchdog = os.environ.pop(WATCHDOG, None) is not None
    return ServiceManager(os.environ.pop(ADDRESS, None), has_watchdog=has_watchdog)
