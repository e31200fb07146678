"""`safelight serve` as administrators start it: background, log files, syslog, pid file, another user."""

import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import children, descendants, is_running, wait_until_gone
from serving import ROOT, Servers
from supervision_support import (
    DEADLINE_S,
    STORE,
    ask,
    identity,
    wait_until,
)

PICTURE = ROOT / "tests" / "data" / "rocket.jpg"
USER = "nobody"


def can_become(name: str) -> bool:
    """Whether we may run workers as this user, and it can run this interpreter and read these sources."""
    try:
        user = pwd.getpwnam(name)
        done = subprocess.run(
            [sys.executable, "-c", "import asyncio, safelight"], user=user.pw_uid, group=user.pw_gid,
            env={"PYTHONPATH": f"{ROOT}/src"}, capture_output=True, check=False, cwd="/",
        )  # fmt: skip
    except (OSError, LookupError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


as_root = pytest.mark.skipif(
    os.geteuid() != 0 or not can_become(USER),
    reason=f"only root can run workers as {USER}, who must be able to run this Python",
)


class Site:
    """A directory with a configuration, in which the command is run; its server listens at `socket`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = f"unix:{directory}/socket"
        (directory / "api.sdl").write_text(STORE)

    def run(self, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the command until it returns."""
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("SAFELIGHT_")}
        words = (
            "serve",
            "--listen",
            self.address,
            "--workers",
            "1",
            "--pid-file",
            "pid",
            *options,
            "api.sdl",
        )
        return subprocess.run(
            [sys.executable, "-m", "safelight", *words],
            cwd=self.directory,
            env={**inherited, "PYTHONPATH": str(ROOT / "src"), **variables},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def daemon(self, *options: str, **variables: str) -> int:
        """Start in the background; the pid of the master."""
        done = self.run("--daemon", *options, **variables)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return int((self.directory / "pid").read_text())

    def text(self, name: str) -> str:
        return (self.directory / name).read_text()

    def end(self) -> None:
        pid_file = self.directory / "pid"
        if pid_file.exists() and is_running(pid := int(pid_file.read_text())):
            os.kill(pid, signal.SIGTERM)
            wait_until_gone([pid, *descendants(pid)])
            assert not pid_file.exists()


@pytest.fixture
def site() -> Iterator[Site]:
    """Its path is short enough for sockets."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        site = Site(Path(directory))
        yield site
        site.end()


LOGS = ("--log-file", "log", "--access-log-file", "access")


def test_the_background(site: Site) -> None:
    """The command returns when the server serves; a second one is refused; USR1 opens both logs again."""
    pid = site.daemon(*LOGS, "--verbose", "--perf-stats", "--xid-header", "X-Id")
    assert ask(site.address, "GET", "/ok") == (200, b"OK\r\n")
    assert os.getsid(pid) != os.getsid(0)
    again = site.run("--daemon", *LOGS)
    assert again.returncode == 1
    assert again.stderr.startswith(f"already running with pid {pid}, see ")
    old = [
        file.rename(file.with_suffix(".old")) for file in (site.directory / "log", site.directory / "access")
    ]
    os.kill(pid, signal.SIGUSR1)
    wait_until(lambda: (site.directory / "log").exists() and (site.directory / "access").exists())
    assert ask(site.address, "GET", "/missing")[0] == 404
    wait_until(lambda: "/missing" in site.text("access") and " warning: sending 404 " in site.text("log"))
    assert "/missing" not in "".join(file.read_text() for file in old)
    assert re.search(
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d perf: took \d\.\d{6} sec - ", site.text("log"), re.MULTILINE
    )
    assert re.search(r" info: Safelight \S+ at unix:", old[0].read_text())


def test_the_background_with_a_mistake(site: Site) -> None:
    (site.directory / "api.sdl").write_text('get "a" { nonsense }')
    done = site.run("--daemon", *LOGS)
    assert (done.returncode, done.stdout) == (1, "")
    assert "api.sdl:1:11: " in done.stderr
    assert "Traceback" not in done.stderr + site.text("log")


def test_the_background_needs_a_log(site: Site) -> None:
    done = site.run("--daemon")
    assert done.returncode == 2
    assert "Error: --daemon needs --log-file or --syslog-facility\n" in done.stderr


def test_winch_stops_the_workers_of_a_daemon(site: Site) -> None:
    """They come back with a reload; so an administrator can go back to the server before the last USR2."""
    pid = site.daemon(*LOGS)
    os.kill(pid, signal.SIGWINCH)
    wait_until(lambda: not children(pid))
    assert is_running(pid)
    os.kill(pid, signal.SIGHUP)
    assert ask(site.address, "GET", "/ok")[0] == 200


@pytest.mark.parametrize("pid", ["17 and more", "", "0", "4194399"])
def test_a_pid_file_that_names_nobody_is_replaced(site: Site, pid: str) -> None:
    (site.directory / "pid").write_text(pid)
    assert is_running(site.daemon(*LOGS))


def test_syslog(site: Site) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(site.directory / "log"))
        syslog.settimeout(DEADLINE_S)
        site.daemon("--syslog-facility", "local0", SAFELIGHT_SYSLOG_SOCKET=str(site.directory / "log"))
        assert ask(site.address, "GET", "/ok")[0] == 200
        line = syslog.recv(1 << 16).decode()
    found = re.fullmatch(r"<134>safelight\[\d+\]: \[meta (\{.*?\})\] .*\"GET /ok HTTP/1.1\" 200 4 .*", line)
    assert found, line
    assert json.loads(found[1])["type"] == "http-access"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--syslog-facility", "nonsense"), "No such syslog facility: LOG_NONSENSE"),
        (("--log-file", "missing/log"), "cannot write the log '"),
        (("--user", "no-such-user"), "there is no user 'no-such-user'"),
        (("--pid-file", "missing/pid"), "cannot write the pid file '"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(site: Site, options: tuple[str, ...], reason: str) -> None:
    done = site.run(*options)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(reason)


@as_root
def test_root_drops_its_rights(site: Site) -> None:
    """All of them, groups included, in HTTP and image workers; logs can be opened again all the same."""
    user = pwd.getpwnam(USER)
    (site.directory / "files").mkdir()
    os.chown(site.directory / "files", user.pw_uid, user.pw_gid)
    pid = site.daemon(*LOGS, "--user", USER)
    assert ask(site.address, "PUT", "/store/a.jpg", PICTURE.read_bytes())[0] == 200
    assert ask(site.address, "GET", "/fit/a.jpg/8")[0] == 200
    assert (site.directory / "files" / "a.jpg").stat().st_uid == user.pw_uid
    processes = descendants(pid)
    assert len(processes) >= 3
    groups = set(os.getgrouplist(USER, user.pw_gid))
    for process in processes:
        assert identity(process, "Uid") == {user.pw_uid}
        assert identity(process, "Gid") == {user.pw_gid}
        assert identity(process, "Groups") == groups
    for name in ("log", "access"):
        (site.directory / name).rename(site.directory / f"{name}.old")
    os.kill(pid, signal.SIGUSR1)
    wait_until(lambda: (site.directory / "access").exists())
    assert (site.directory / "access").stat().st_uid == user.pw_uid

    def is_written() -> bool:
        assert ask(site.address, "GET", "/missing")[0] == 404
        return "/missing" in site.text("access") and "/missing" in site.text("log")

    wait_until(is_written)


def test_options_come_from_the_environment(servers: Servers) -> None:
    environment = {"SAFELIGHT_XID_HEADER": "X-Id", "SAFELIGHT_VERBOSE": "1", "SAFELIGHT_PID_FILE": "pid"}
    server = servers.start(STORE, "--workers", "1", environment=environment)
    assert (server.directory / "pid").read_text() == f"{server.process.pid}\n"
    assert " info: " in server.log
