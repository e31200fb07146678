"""`safelight serve`: run the image server."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from safelight.api import read_config
from safelight.cli.options import host_settings, option, process_settings, say, server_options
from safelight.server import example
from safelight.server.hosting import EMBEDDED, HostSettings
from safelight.server.image_store import load_store
from safelight.server.listeners import absolute_listener
from safelight.server.log import configure_log
from safelight.server.process import Load, serve
from safelight.server.stats import Statistics
from safelight.server.tls import TlsSettings

DEFAULT_LISTENER = "127.0.0.1:3000"
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument(
    "file", required=False, envvar="SAFELIGHT_CONFIG", type=click.Path(dir_okay=False, path_type=Path)
)
@server_options(DEFAULT_LISTENER)
@option("--lenient", is_flag=True, help="Only warn of unknown statements and attributes.")
@option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Directory that relative roots are in."
)
@option(
    "--thumbnailer",
    default=EMBEDDED,
    metavar="URL",
    help="Server that processes images, unless FILE names one; 'embedded': our own image workers.",
)
@option("--tls-certificate", type=_FILE, help="Certificate with its chain (PEM): speak HTTPS.")
@option("--tls-key", type=_FILE, help="Its private key (PEM, no password).")
@option("--tls-client-ca", type=_FILE, help="Authorities (PEM): clients need a certificate of theirs.")
def command(file: Path | None, data: Path | None, lenient: bool, **options: Any) -> None:
    """Serve the image API that FILE declares; without FILE, a small example on this machine only.

    Relative roots in FILE refer to the current directory, or to --data.
    """
    configure_log()
    listeners = tuple(map(absolute_listener, options["listen"] or (DEFAULT_LISTENER,)))
    settings = host_settings(options)
    load = (
        _example(listeners, settings) if file is None else _configuration(file.absolute(), settings, lenient)
    )
    if file is None and data is None:
        data = Path(example.DATA_DIRECTORY)
    serve(replace(process_settings(listeners, data, options), tls=_tls(options)), load, Statistics())


def _tls(options: dict[str, Any]) -> TlsSettings | None:
    """Raises: click.UsageError for options that need each other."""
    certificate, key, client_ca = (
        options[name] and options[name].absolute() for name in ("tls_certificate", "tls_key", "tls_client_ca")
    )
    if certificate and key:
        return TlsSettings(certificate, key, client_ca)
    if certificate or key or client_ca:
        raise click.UsageError("HTTPS needs both --tls-certificate and --tls-key")
    return None


def _configuration(file: Path, settings: HostSettings, lenient: bool) -> Load:
    shown = os.path.relpath(file)
    return lambda: load_store(read_config(file), shown, settings, say, lenient=lenient)


def _example(listeners: tuple[str, ...], settings: HostSettings) -> Load:
    secret = os.environ.get("SAFELIGHT_SECRET") or None
    example.check_exposure(listeners, secret)
    text = example.example_text(secret)
    return lambda: load_store(text, example.NAME, settings, say, lambda url: example.hints(url, secret))
