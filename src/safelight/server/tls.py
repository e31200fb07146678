"""HTTPS: the certificate that a server shows, and who may connect."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from safelight.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Absolute paths of PEM files: the certificate with its chain, its private key without a password.

    `client_ca`: certificates of authorities; only clients with a certificate of one of them may connect.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


def tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """TLS 1.2 or newer with what the files hold now. Raises: ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= (
        ssl.OP_NO_RENEGOTIATION
    )  # handshakes are work, which one connection could ask for on end
    context.set_alpn_protocols(["http/1.1"])
    for file in (settings.certificate, settings.key, *filter(None, [settings.client_ca])):
        _check_readable(file)
    _load_pair(context, settings)
    if settings.client_ca is not None:
        try:
            context.load_verify_locations(settings.client_ca)
        except ssl.SSLError as error:
            raise ConfigError(f"cannot use '{settings.client_ca}': it holds no certificate (PEM)") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load_pair(context: ssl.SSLContext, settings: TlsSettings) -> None:
    needs_password = False

    def password() -> str:
        """Nobody is there to be asked; without this, OpenSSL would ask at the terminal."""
        nonlocal needs_password
        needs_password = True
        return ""

    try:
        context.load_cert_chain(settings.certificate, settings.key, password)
    except ssl.SSLError as error:
        if needs_password:
            reason = "the key needs a password"
        elif error.reason == "KEY_VALUES_MISMATCH":
            reason = "the key does not belong to the certificate"
        else:
            reason = "one of them holds nothing of its kind (PEM)"
        files = f"certificate '{settings.certificate}' and key '{settings.key}'"
        raise ConfigError(f"cannot use {files}: {reason}") from error


def _check_readable(file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
