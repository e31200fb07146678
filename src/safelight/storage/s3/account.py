"""Who we are at which object store."""

from dataclasses import dataclass, field
from typing import Literal

from safelight.storage.s3.address import Endpoint

UrlSignature = Literal["v2", "v4"]

TWENTY_YEARS_S = 630_720_000
"""20 years of 365 days: how long a private URL works (reference/imagestore 6.4)."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key. Its secret parts are never shown."""

    key_id: str
    secret: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Account:
    """One object store as one user sees it.

    `region`: None to find it out, bucket by bucket. `url_expires_s`: how long private URLs work; signature
    `v4` allows 7 days.
    """

    credentials: Credentials
    endpoint: Endpoint
    region: str | None = None
    url_signature: UrlSignature = "v2"
    url_expires_s: int = TWENTY_YEARS_S


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an object store may take, in seconds.

    `connect_s`: to accept a connection. `silence_s`: without a byte. `slowest_upload_bytes`: that an upload
    gets on in a second. `give_up_s`: no attempt begins later than this after the first. `backoff_s`: before
    the second attempt, doubled for each further one, of which a random half is taken off, so that waiting
    clients do not come back together.
    """

    connect_s: float = 5
    silence_s: float = 30
    slowest_upload_bytes: int = 1 << 17
    give_up_s: float = 15
    backoff_s: float = 0.1
    max_backoff_s: float = 3

    @classmethod
    def of_requests(cls, timeout_s: float) -> "Patience":
        """What requests can have that may take `timeout_s` in all.

        A quarter of that goes into further attempts, no more than two thirds into waiting: then there is
        time to say what is wrong, and to read from the next of several sources.
        """
        usual = cls()
        longest_s = timeout_s * 2 / 3
        return cls(
            connect_s=min(usual.connect_s, longest_s),
            silence_s=min(usual.silence_s, longest_s),
            give_up_s=min(usual.give_up_s, timeout_s / 4),
        )

    def upload_s(self, size: int) -> float:
        """How long an upload of `size` bytes may take until it is answered."""
        return self.silence_s + size / self.slowest_upload_bytes
