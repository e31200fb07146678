"""Real S3 servers on loopback: SeaweedFS for signatures and behaviour, moto for access control lists.

SeaweedFS checks signatures and permissions but answers an anonymous GET of a `public-read` object with 403.
moto follows such lists but believes any signature. So tests need both.
"""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from loopback_ports import free_ports

START_TIMEOUT_S = 90
START_ATTEMPTS = 3
STOP_GRACE_S = 2
"""SeaweedFS alone takes 15 s to end, most of them waiting for its own connections to itself."""

GUARD = Path(__file__).with_name("process_guard.py")
REGION = "us-east-1"
DOMAIN = "s3.localhost"

Answer = TypeVar("Answer")


class DidNotStart(Exception):
    """A server ended, or did not answer in time; the message ends with its log."""


@dataclass(frozen=True)
class Credentials:
    """A key pair that a server knows."""

    access_key: str
    secret_key: str


ADMIN = Credentials("AKIDTESTADMIN", "SECRET+admin/0123456789")
READER = Credentials("AKIDTESTREADER", "SECRET+reader/0123456789")


@dataclass
class S3Server:
    """A running S3 server, and the way to look at it behind the back of what is tested.

    The methods use boto3 with the administrator's keys and raise its `ClientError`.
    """

    url: str
    """Without a slash at the end; buckets are the first part of the path."""

    admin: Credentials = ADMIN
    reader: Credentials = READER
    """May read and list, nothing else (moto believes any key)."""

    region: str = REGION

    @property
    def access_key(self) -> str:
        return self.admin.access_key

    @property
    def secret_key(self) -> str:
        return self.admin.secret_key

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def virtual_host_domain(self) -> str:
        """SeaweedFS finds the bucket in `Host: BUCKET.` + this. Not every resolver knows such names."""
        return f"{DOMAIN}:{self.port}"

    @cached_property
    def client(self) -> Any:
        """The administrator's boto3 client."""
        return self.client_of(self.admin)

    def client_of(self, credentials: Credentials, url: str | None = None, **s3_options: str) -> Any:
        """A boto3 client that never retries and never uses a proxy; the caller closes it.

        `s3_options` are those of botocore, as `addressing_style="virtual"`.
        """
        import boto3  # most test processes never get here, and it takes 0.3 s
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=url or self.url,
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            region_name=self.region,
            config=Config(
                s3={"addressing_style": "path", **s3_options},
                signature_version="s3v4",
                retries={"total_max_attempts": 1},
                proxies={},
                connect_timeout=20,
                read_timeout=60,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def close(self) -> None:
        """Close the connections of `client`."""
        if "client" in self.__dict__:
            self.client.close()

    def make_bucket(self) -> str:
        """The name of a new bucket that no other test has."""
        bucket = f"test-{uuid.uuid4().hex}"
        self.client.create_bucket(Bucket=bucket)
        return bucket

    def read(self, bucket: str, key: str) -> bytes:
        with self.client.get_object(Bucket=bucket, Key=key)["Body"] as body:
            return body.read()

    def head(self, bucket: str, key: str) -> dict[str, str]:
        """Header lines of a HEAD request, names in lower case."""
        return self.client.head_object(Bucket=bucket, Key=key)["ResponseMetadata"]["HTTPHeaders"]

    def keys(self, bucket: str) -> list[str]:
        """All keys in the order of their bytes."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def write(self, bucket: str, key: str, data: bytes, content_type: str | None = None) -> None:
        typed = {} if content_type is None else {"ContentType": content_type}
        self.client.put_object(Bucket=bucket, Key=key, Body=data, **typed)

    def delete(self, bucket: str, key: str) -> None:
        self.client.delete_object(Bucket=bucket, Key=key)


@dataclass(frozen=True)
class _Guarded:
    """A server's process, and its guard, which ends when it ends."""

    guard: subprocess.Popen[str]
    pid: int
    log_path: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self.guard.poll() is None

    def end(self, number: signal.Signals) -> None:
        """Send it a signal and wait until it is gone, with force in the end."""
        if self.is_running:
            os.kill(
                self.pid, number
            )  # the guard has not taken leave of it yet, so the number is still its own
        try:
            self.guard.wait(STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            os.kill(self.pid, signal.SIGKILL)
            self.guard.wait()
        if self.guard.stdout:
            self.guard.stdout.close()


def _launch(
    command: list[str],
    directory: Path,
    watched: int,
    environment: dict[str, str] | None = None,
    leftovers: tuple[str, ...] = (),
) -> _Guarded:
    """Start a command that lives no longer than the process `watched`; `leftovers` are removed after it."""
    log_path = directory / "server.log"
    with log_path.open("a") as log:
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), str(watched), ":".join(leftovers), *command],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # an interrupt from the keyboard must not end it before the tests do
        )
    assert guard.stdout is not None
    line = guard.stdout.readline()
    if not line:
        raise DidNotStart(f"{command[0]}:\n{log_path.read_text(errors='replace')}")
    return _Guarded(guard, int(line), log_path)


def _wait_for(find: Callable[[], Answer | None], process: _Guarded) -> Answer:
    """What `find` returns when it is not None any more."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while (found := find()) is None:
        if not process.is_running or time.monotonic() > deadline:
            raise DidNotStart(process.log)
        time.sleep(0.05)
    return found


@dataclass(frozen=True)
class _WeedPorts:
    """What SeaweedFS listens on. A gRPC port that is not named is 10,000 above the other one."""

    master: int
    master_grpc: int
    volume: int
    volume_grpc: int
    filer: int
    filer_grpc: int
    s3: int
    s3_grpc: int

    def sockets(self) -> tuple[str, ...]:
        """Made in /tmp whatever the options say, and left there when the process is killed."""
        grpc = {
            "master": self.master_grpc,
            "volume": self.volume_grpc,
            "filer": self.filer_grpc,
            "s3": self.s3_grpc,
        }
        return tuple(f"/tmp/seaweedfs-{part}-grpc-{port}.sock" for part, port in grpc.items())


def _weed_command(ports: _WeedPorts) -> list[str]:
    """SeaweedFS in one process, in its working directory, on loopback only, telling nobody."""
    return [
        str(Path(sys.executable).with_name("weed")),
        "-logtostderr",
        "server",
        "-dir=data",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-master.port={ports.master}",
        f"-master.port.grpc={ports.master_grpc}",
        "-master.telemetry=false",
        "-master.electionTimeout=1s",
        "-master.volumeSizeLimitMB=64",
        f"-volume.port={ports.volume}",
        f"-volume.port.grpc={ports.volume_grpc}",
        "-volume.max=0",  # as many as the disk has room for: each bucket needs volumes of its own
        "-volume.preStopSeconds=0",
        "-filer",
        f"-filer.port={ports.filer}",
        f"-filer.port.grpc={ports.filer_grpc}",
        "-filer.localSocket=filer.sock",
        "-s3",
        f"-s3.port={ports.s3}",
        f"-s3.port.grpc={ports.s3_grpc}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.localSocket=s3.sock",
        "-s3.ip.bind=127.0.0.1",
        "-s3.config=identities.json",
        f"-s3.domainName={DOMAIN}",
    ]


WEED_ENVIRONMENT = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
"""One volume for a new bucket instead of seven."""

WEED_ACTIONS = {ADMIN: ["Admin", "Read", "Write", "List", "Tagging"], READER: ["Read", "List"]}


def _weed_identities() -> str:
    identities = [
        {
            "name": credentials.access_key.lower(),
            "credentials": [{"accessKey": credentials.access_key, "secretKey": credentials.secret_key}],
            "actions": actions,
        }
        for credentials, actions in WEED_ACTIONS.items()
    ]
    return json.dumps({"identities": identities})


def _start_weed(directory: Path, ports: _WeedPorts, watched: int) -> _Guarded:
    """Start SeaweedFS in `directory` and wait until it takes objects."""
    (directory / "data").mkdir(parents=True, exist_ok=True)
    (directory / "identities.json").write_text(_weed_identities())
    process = _launch(_weed_command(ports), directory, watched, WEED_ENVIRONMENT, ports.sockets())
    probe = S3Server(f"http://127.0.0.1:{ports.s3}")

    def stores() -> bool | None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            with suppress(probe.client.exceptions.BucketAlreadyOwnedByYou):
                probe.client.create_bucket(Bucket="readiness")
            probe.write("readiness", "probe", b"probe")
        except (BotoCoreError, ClientError):
            return None
        return True

    try:
        _wait_for(stores, process)
    except BaseException:
        process.end(signal.SIGKILL)
        raise
    finally:
        probe.close()
    return process


def _start_weed_somewhere(directory: Path, watched: int) -> tuple[_Guarded, _WeedPorts]:
    """Start SeaweedFS on ports that are free, on others when somebody was faster."""
    complaints: list[str] = []
    for attempt in range(START_ATTEMPTS):
        ports = _WeedPorts(*free_ports(8))
        try:
            return _start_weed(directory / f"weed-{attempt}", ports, watched), ports
        except DidNotStart as error:
            complaints.append(str(error)[-4000:])
    raise DidNotStart("\n---\n".join(complaints))


_SHARED: list[_Guarded] = []
"""Kept: this process may end before its guard, which an object that is collected would complain about."""


@contextmanager
def shared_seaweed(base: Path, watched: int) -> Iterator[S3Server]:
    """The one SeaweedFS of all test processes of a run; the first that asks starts it.

    `base` is a directory that they share, `watched` the process whose end is the end of the run and so of
    SeaweedFS.
    """
    started = base / "seaweed.json"
    with (base / "seaweed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not started.exists():
            process, ports = _start_weed_somewhere(base / "seaweed", watched)
            _SHARED.append(process)
            started.write_text(json.dumps(asdict(ports)))
    server = S3Server(f"http://127.0.0.1:{json.loads(started.read_text())['s3']}")
    try:
        yield server
    finally:
        server.close()


@dataclass
class OwnSeaweed(S3Server):
    """A SeaweedFS of one test, which may end it and start it again: same URL, same keys, same data."""

    process: _Guarded = field(kw_only=True)
    ports: _WeedPorts = field(kw_only=True)

    def kill(self) -> None:
        """End it as a power failure of its process would; return when it is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, and return when it is gone."""
        self._end(signal.SIGTERM)

    def start(self) -> None:
        """Start it again after `kill` or `stop`, and return when it takes objects."""
        self.process = _start_weed(self.process.log_path.parent, self.ports, os.getpid())

    def _end(self, number: signal.Signals) -> None:
        self.close()
        self.process.end(number)


def start_own_seaweed(directory: Path) -> OwnSeaweed:
    """A SeaweedFS that ends with this process at the latest."""
    process, ports = _start_weed_somewhere(directory, os.getpid())
    return OwnSeaweed(f"http://127.0.0.1:{ports.s3}", process=process, ports=ports)


@contextmanager
def moto_server(directory: Path) -> Iterator[S3Server]:
    """A moto of this process, with all its objects in memory."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    process = _launch(command, directory, os.getpid())
    try:
        address = _wait_for(lambda: re.search(r"Running on (http://[\d.:]+)", process.log), process)
        server = S3Server(address[1])
        try:
            yield server
        finally:
            server.close()
    finally:
        process.end(signal.SIGKILL)
