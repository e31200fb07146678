"""What the server and its template process say to each other. Both are ours and see no image: they trust."""

import msgspec

from safelight.engine.notes import Note
from safelight.image.settings import ImageSettings

MAX_BYTES = 64 << 10


class Boot(msgspec.Struct, frozen=True):
    """First message to the template: what to import, and how big workers may be, in bytes."""

    handler: str
    settings: ImageSettings
    arena_bytes: int
    address_space_bytes: int


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Everything is imported; or why not. `notes`: for the log."""

    failure: str | None = None
    notes: list[Note] = []


class Fork(msgspec.Struct, frozen=True):
    """Make a worker. Comes with its end of the channel, its arena and the pipe for its complaints."""


class Forked(msgspec.Struct, frozen=True, tag=True):
    """Made one, comes with its pidfd; or why not. Answers come in the order of the orders."""

    pid: int
    failure: str | None = None


class Exited(msgspec.Struct, frozen=True, tag=True):
    """A worker has ended and is reaped. `status`: its exit code, or minus the signal that ended it."""

    pid: int
    status: int


Report = Ready | Forked | Exited

encode = msgspec.json.Encoder().encode
decode_boot = msgspec.json.Decoder(Boot).decode
decode_report = msgspec.json.Decoder[Report](Report).decode
