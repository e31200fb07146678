"""`safelight serve`: run the image server."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from safelight.api import read_config
from safelight.cli.options import host_settings, option, process_settings, server_options, start_server
from safelight.server import example
from safelight.server.hosting import EMBEDDED, HostSettings, Say
from safelight.server.image_store import load_store
from safelight.server.listeners import absolute_listener
from safelight.server.process import Load
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
@option("--watch", is_flag=True, help="Reload when FILE changes; for development.")
def command(file: Path | None, data: Path | None, lenient: bool, watch: bool, **options: Any) -> None:
    """Serve the image API that FILE declares; without FILE, a small example on this machine only.

    Relative roots in FILE refer to the current directory, or to --data.
    """
    listeners = tuple(map(absolute_listener, options["listen"] or (DEFAULT_LISTENER,)))
    settings = host_settings(options)
    if file is None:
        if watch:
            raise click.UsageError("--watch needs a FILE")
        load, data = _example(listeners, settings), data or Path(example.DATA_DIRECTORY)
    else:
        file = file.absolute()
        load = _configuration(file, settings, lenient)
    processes = process_settings(listeners, data, options)
    processes = replace(processes, tls=_tls(options), watched=file if watch else None)
    start_server(options, processes, load, Statistics())


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


def _configuration(file: Path, settings: HostSettings, lenient: bool) -> Callable[[Say, Say], Load]:
    shown = os.path.relpath(file)
    return lambda say, warn: (
        lambda: load_store(read_config(file), shown, settings, say, lenient=lenient, warn=warn)
    )


def _example(listeners: tuple[str, ...], settings: HostSettings) -> Callable[[Say, Say], Load]:
    secret = os.environ.get("SAFELIGHT_SECRET") or None
    example.check_exposure(listeners, secret)
    text = example.example_text(secret)
    return lambda say, warn: (
        lambda: load_store(
            text, example.NAME, settings, say, lambda url: example.hints(url, secret), warn=warn
        )
    )
