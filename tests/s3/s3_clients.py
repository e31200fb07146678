"""Clients of the S3 servers of these tests, closed when a test ends."""

from s3_servers import ADMIN, Credentials

from safelight.blob import MemoryBlob
from safelight.storage.base import Storage
from safelight.storage.s3 import account
from safelight.storage.s3.address import endpoint_of
from safelight.storage.s3.bucket import Client

PATIENT = account.Patience(connect_s=20, silence_s=30, give_up_s=20, backoff_s=0.02, max_backoff_s=0.2)
"""Enough for a loaded machine, where what is tested ends well."""

IMPATIENT = account.Patience(connect_s=20, silence_s=30, give_up_s=0.2, backoff_s=0.02, max_backoff_s=0.05)
"""Where what is tested fails for good."""

HURRIED = account.Patience(
    connect_s=20, silence_s=0.5, slowest_upload_bytes=1 << 30, give_up_s=0.1, backoff_s=0.02
)
"""Where what is tested takes too long."""


class Clients:
    """Makes clients and remembers them."""

    def __init__(self) -> None:
        self._made: list[Client] = []

    def __call__(
        self,
        url: str,
        credentials: Credentials = ADMIN,
        patience: account.Patience = PATIENT,
        *,
        style: str | None = None,
        session_token: str | None = None,
        region: str | None = None,
        url_signature: account.UrlSignature = "v2",
        url_expires_s: int = 600,
    ) -> Client:
        """A client of the store at `url`, whose configuration says these things."""
        key = account.Credentials(credentials.access_key, credentials.secret_key, session_token)
        endpoint = endpoint_of(url, ssl=True, style=style)
        made = Client(account.Account(key, endpoint, region, url_signature, url_expires_s), patience=patience)
        self._made.append(made)
        return made

    async def close(self) -> None:
        for client in self._made:
            await client.close()


async def content(storage: Storage, key: str, max_bytes: int = 1 << 26) -> bytes:
    """What is stored under `key`."""
    return (await storage.get(key, max_bytes)).data.read()


async def put(storage: Storage, key: str, data: bytes, content_type: str | None = "image/png") -> str:
    """Store `data` under `key`; the URL that a client of ours is given."""
    return str((await storage.put(key, MemoryBlob(data), content_type))())
