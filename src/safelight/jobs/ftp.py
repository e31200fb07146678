"""One FTP session with a checked address, its data connections included."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress

import aioftp
from aioftp.common import Code, SSLSessionBoundContext

from safelight.jobs.failure import TransferError
from safelight.jobs.location import Location
from safelight.jobs.network import addresses_of, is_untrusted, tls_context
from safelight.jobs.policy import Policy, Reach

IMPLICIT_TLS_PORT = 990
PIECE_BYTES = 1 << 16

_MAX_LINES = 500
_MAX_LINE_BYTES = 1 << 13
"""Of all replies of a session: a server could go on with one for ever."""


class Session(aioftp.Client):
    """A client whose connections all go to one address, whatever the server says about passive ones.

    TLS certificates must be for the host's name, not for that address.
    """

    def __init__(self, address: str, location: Location, policy: Policy) -> None:
        self._place = location
        self._address = address
        self._context = (
            tls_context("ftp", verified=policy.verifies(location.host)) if location.scheme == "ftps" else None
        )
        self._is_implicit = location.port == IMPLICIT_TLS_PORT
        self._connect_timeout_s = policy.connect_timeout_s
        self._writers: list[asyncio.StreamWriter] = []
        self._heard = 0
        super().__init__(ssl=self._context if self._is_implicit else None)

    async def begin(self) -> None:
        """Connect, secure the connection and log in."""
        await self.connect(self._place.host, self._place.port)
        if self._context:
            await self._secure(self._context)
        if self._place.user is None:
            await self.login()
        else:
            await self.login(self._place.user, self._place.password)

    def end(self) -> None:
        """Let go of all connections, without waiting for the server to agree."""
        for writer in self._writers:
            with suppress(AttributeError):  # asyncio of Python 3.11 cannot abort what is closed already
                writer.transport.abort()

    async def parse_line(self) -> tuple[Code, str]:
        """The next line of a reply, in whatever encoding. Raises: TransferError when they become too many."""
        line = await self.stream.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("connection closed within a reply")
        self._heard += 1
        if self._heard > _MAX_LINES:
            raise TransferError(f"'{self._place.authority}' talks without end")
        text = line.decode(errors="replace").rstrip()
        return Code(text[:3]), text[3:]

    async def _secure(self, context: ssl.SSLContext) -> None:
        if self._is_implicit:
            await self.command("PBSZ 0", "200")
            await self.command("PROT P", "200")
        else:
            await self.upgrade_to_tls(context)

    async def _open_connection(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = self._data_context() if self._writers else self.ssl
        async with asyncio.timeout(self._connect_timeout_s):
            reader, writer = await asyncio.open_connection(
                self._address,
                port,
                limit=PIECE_BYTES if self._writers else _MAX_LINE_BYTES,
                ssl=context,
                server_hostname=self._place.host if context else None,
            )
        self._writers.append(writer)
        return reader, writer

    def _data_context(self) -> ssl.SSLContext | None:
        """TLS that resumes the session of the control connection, which many servers insist on."""
        control = self.stream.writer.get_extra_info("ssl_object")
        if control is None:
            return None
        return SSLSessionBoundContext(
            ssl.PROTOCOL_TLS_CLIENT, context=control.context, session=control.session
        )


@asynccontextmanager
async def session(location: Location, reach: Reach, policy: Policy) -> AsyncGenerator[Session]:
    """A session that has logged in. Each address of the host is tried until one accepts the connection.

    The caller limits the time. Raises: TransferError, also for whatever fails inside.
    """
    addresses = await addresses_of(location, reach)
    with translated(location):
        for address in addresses:
            client = Session(address, location, policy)
            try:
                try:
                    await client.begin()
                except OSError:
                    if address == addresses[-1]:
                        raise
                    continue
                yield client
                return
            finally:
                client.end()


def is_permanent(error: aioftp.StatusCodeError) -> bool:
    """Whether the same command would be refused again (RFC 959 section 4.2.1)."""
    return error.received_codes[-1].matches("5xx")


@contextmanager
def translated(location: Location) -> Generator[None]:
    """The one border between the FTP library's errors and ours. Raises: TransferError."""
    place = location.authority
    try:
        yield
    except aioftp.StatusCodeError as error:
        code = error.received_codes[-1]
        raise TransferError(
            f"'{place}' answered {code}", temporary=not is_permanent(error), detail=" ".join(error.info)
        ) from error
    except TimeoutError as error:
        raise TransferError(f"'{place}' does not answer", temporary=True) from error
    except OSError as error:
        if is_untrusted(error):
            raise TransferError(f"certificate of '{place}' is not valid", detail=str(error)) from error
        raise TransferError(
            f"'{place}' cannot be reached or broke off", temporary=True, detail=str(error)
        ) from error
    except (aioftp.AIOFTPException, ArithmeticError, LookupError, ValueError) as error:  # strange replies
        raise TransferError(f"'{place}' does not speak FTP", detail=repr(error)) from error
