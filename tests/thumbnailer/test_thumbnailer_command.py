"""`httpthumbnailer` as a process: background, logs, sockets, signals (reference/thumbnailer 12 and 13)."""

import json
import os
import pwd
import re
import signal
import socket
from pathlib import Path

import httpx
import pytest
from image_makers import oriented, photo_q, pillow
from processes import children, wait_until_gone
from thumbnailer_support import Commands, other_user, wait_until

LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}) UTC \[meta (\{.*?\})\] (\w+): (.*)")
ACCESS = re.compile(
    r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
    r'"(\w+) (\S+) HTTP/1\.1" (\d+) (\d+) (\d+\.\d{4})'
)
SPEC = "/thumbnail/fit,8,8,png"


def lines(log: str) -> list[tuple[dict[str, object], str, str]]:
    """Meta, level and message of the lines of an application log."""
    found = [LINE.fullmatch(line) for line in log.splitlines()]
    return [(json.loads(line[2]), line[3], line[4]) for line in found if line]


def messages(log: str) -> list[tuple[str, str]]:
    return [(level, text) for _, level, text in lines(log)]


def ask(path: Path, target: str) -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=30) as client:
        return client.get(f"http://localhost{target}")


# In the foreground


@pytest.mark.covers("t126", "t127", "t128")
def test_log_lines(commands: Commands) -> None:
    server = commands.start("-w", "1", "--xid-header", "X-Transaction", "--access-log-file", "access")
    server.put(SPEC, photo_q(), 'X-Transaction: a"1\\\n')
    server.put("/thumbnail/fit,8,8,xyz", photo_q(), "X-Other: b\n")
    server.put("/thumbnails/fit,8,8,xyz?secret=1", photo_q())
    server.get("/stats?a=b%22")
    found = lines(server.log)
    assert len(found) == server.log.count("\n")  # every line has this form
    (named,) = [meta for meta, _, text in found if text.endswith("single spec: fit,8,8,png")]
    assert set(named) == {"pid", "xid", "className"}
    assert named["xid"] == 'a"1\\'
    assert all("xid" not in meta for meta, _, text in found if "xyz" in text)
    assert ("WARN", "sending 400 error response: unknown format: XYZ") in messages(server.log)
    assert ("WARN", "sending error in multipart response part: unknown format: XYZ") in messages(server.log)
    log = server.directory / "access"
    wait_until(lambda: "/stats" in log.read_text())  # lines are written when answers have been sent
    access = [ACCESS.fullmatch(line) for line in log.read_text().splitlines()]
    assert [line and line.groups()[:3] for line in access] == [
        ("PUT", SPEC, "200"),
        ("PUT", "/thumbnail/fit,8,8,xyz", "400"),
        ("PUT", "/thumbnails/fit,8,8,xyz?secret=1", "200"),
        ("GET", "/stats?a=b%22", "200"),
    ]
    assert (server.directory / "httpthumbnailer.pid").read_text() == f"{server.process.pid}\n"
    assert not (server.directory / "httpthumbnailer.log").exists()
    server.stop()
    assert not (server.directory / "httpthumbnailer.pid").exists()
    assert server.process.returncode == 0


@pytest.mark.covers("t129")
def test_perf_stats(commands: Commands) -> None:
    server = commands.start("-w", "1", "-V")
    server.put(SPEC, photo_q())
    server.wait_for_log("handling request: PUT")
    (line,) = [line for line in lines(server.log) if "thumbnailing image: " in line[2]]
    meta, level, text = line
    assert level == "ANY"
    assert re.fullmatch(r"took \d\.\d{6} sec - handling request -> thumbnailing image: fit,8,8,png", text)
    assert set(meta) >= {"pid", "user_time", "system_time", "total_time", "real_time"}
    assert (meta["type"], meta["task"]) == ("perf-stats", "thumbnailing image")
    assert (meta["object"], meta["level"]) == ("fit,8,8,png", 1)


@pytest.mark.covers("t103")
def test_images_are_treated_as_by_the_older_server(commands: Commands) -> None:
    """Unless asked, the orientation is ignored; arguments are ignored with a warning."""
    plain = commands.start("-w", "1", "/etc/httpthumbnailer.conf")
    assert plain.put("/identify", oriented(6)).body == b'{"mimeType":"image/jpeg","width":48,"height":64}'
    ignored = "arguments are ignored, there is no configuration file: /etc/httpthumbnailer.conf"
    assert ("WARN", ignored) in messages(plain.log)
    turned = commands.start("-w", "1", "--auto_orient", "--reload", "--no-upscale-fix", "--no-downsample")
    assert turned.put("/identify", oriented(6)).body == b'{"mimeType":"image/jpeg","width":64,"height":48}'


@pytest.mark.covers("t114")
def test_the_disk_limit_limits_pixels(commands: Commands) -> None:
    server = commands.start("-w", "1", "--limit-disk", "0", "--limit-memory", "1")  # 131,072 pixels
    assert server.put("/thumbnail/crop,400,320,png", photo_q()).status == 413  # 365,971 in the input
    assert server.put("/thumbnail/crop,16,16,png", oriented(1)).status == 200
    assert server.put("/thumbnail/crop,400,400,png", oriented(1)).status == 413


@pytest.mark.covers("t132")
def test_several_listeners(commands: Commands, sockets: Path) -> None:
    paths = [sockets / "one.sock", sockets / "two.sock"]
    server = commands.start("-w", "1", listen=("127.0.0.1:0", f"unix:{paths[0]}", str(paths[1])))
    assert server.get("/").status == 200
    for path in paths:
        assert ask(path, "/").text == "HTTP Thumbnailer\r\n"
    server.stop()
    assert not any(path.exists() for path in paths)


def test_a_listener_in_a_home_directory(commands: Commands, sockets: Path) -> None:
    server = commands.start("-w", "1", listen=("127.0.0.1:0", "~/home.sock"), HOME=str(sockets))
    assert ask(sockets / "home.sock", "/health_check").status_code == 200
    server.stop()


@pytest.mark.covers("t128")
def test_syslog(commands: Commands, sockets: Path) -> None:
    """No files; no pid in the meta; access lines have a type; the foreground echoes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(sockets / "log"))
        syslog.settimeout(30)
        server = commands.start(
            "-w", "1", "-s", "local3", "-x", "X-Id", "-V", SAFELIGHT_SYSLOG_SOCKET=str(sockets / "log")
        )
        server.put("/thumbnail/fit,8,8,xyz", photo_q(), "X-Id: 7\n")
        received: list[str] = []
        while not received or '"http-access"' not in received[-1]:
            received.append(syslog.recv(1 << 16).decode())
    access = received[-1]
    assert re.fullmatch(
        r"<158>httpthumbnailer\[\d+\]: "
        r'\[meta \{"xid":"7","className":"safelight.server","type":"http-access"\}\]'
        r' 127\.0\.0\.1 - - \[.*\] "PUT /thumbnail/fit,8,8,xyz HTTP/1\.1" 400 21 \d\.\d{4}',
        access,
    )
    (warning,) = [line for line in received if "sending 400" in line]
    assert warning.startswith("<156>httpthumbnailer[")  # local3 (19 * 8) and warning (4)
    assert '"pid"' not in "".join(received)
    assert {line[:5] for line in received if "] took " in line} == {"<157>"}  # notice
    assert ("WARN", "sending 400 error response: unknown format: XYZ") in messages(server.log)
    assert sorted(path.name for path in server.directory.iterdir()) == ["httpthumbnailer.pid", "stderr"]


def test_workers_as_another_user(commands: Commands) -> None:
    user = pwd.getpwnam(other_user())
    server = commands.start("-w", "1", "--user", user.pw_name)
    assert server.put(SPEC, photo_q()).status == 200
    pid = server.process.pid
    for child in children(pid):
        status = Path(f"/proc/{child}/status").read_text()
        assert set(re.findall(r"Uid:\s(.*)", status)[0].split()) == {str(user.pw_uid)}
        assert set(re.findall(r"Gid:\s(.*)", status)[0].split()) == {str(user.pw_gid)}


PLUGIN = """
from safelight.plugin import edit
@edit("{name}")
def same(image, options, thumbnail_spec):
    return image
"""


@pytest.mark.covers("t134", "t135")
def test_plugin_directories(commands: Commands, tmp_path: Path) -> None:
    for name in ("one", "two/deep/deeper"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "plugin.py").write_text(PLUGIN.format(name=name[:3]))
    server = commands.start(
        "-w",
        "1",
        "--plugins",
        str(tmp_path / "one"),
        "--plugins",
        str(tmp_path / "two"),
        "--plugins",
        "/missing",
    )
    assert server.put("/thumbnail/fit,8,8,png!one!two", photo_q()).status == 200
    (warning,) = [text for level, text in messages(server.log) if level == "WARN"]
    assert warning.startswith("plugin directory '/missing' is not accessible: ")


# In the background


@pytest.mark.covers("t133")
def test_a_daemon(commands: Commands, sockets: Path) -> None:
    """The command returns when the server answers; SIGUSR1 reopens the logs, SIGTERM ends it all."""
    path, scratch = sockets / "socket", commands.scratch
    done = commands.run("-w", "1", "-v", "-L", f"unix:{path}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pid = commands.adopt(scratch / "httpthumbnailer.pid")
    assert ask(path, "/health_check").text == "HTTP Thumbnailer OK\r\n"
    assert os.getsid(pid) != os.getsid(0)
    logs = [scratch / "httpthumbnailer.log", scratch / "httpthumbnailer_access.log"]
    for log in logs:
        log.rename(log.with_suffix(".old"))
    os.kill(pid, signal.SIGUSR1)
    wait_until(lambda: all(log.exists() for log in logs))
    assert ask(path, "/blah").status_code == 404
    wait_until(lambda: all("/blah" in log.read_text() for log in logs))
    assert messages(logs[0].read_text())[-1][0] == "WARN"
    again = commands.run("-w", "1", "-L", f"unix:{path}")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith(f"Error: already running with pid {pid}, see ")
    os.kill(pid, signal.SIGTERM)
    wait_until_gone([pid])
    assert not path.exists()
    assert not (scratch / "httpthumbnailer.pid").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--listener", "nonsense"), "cannot listen at 'nonsense': give HOST:PORT or unix:PATH"),
        (("--listener", "unix:missing/socket"), "cannot listen at '"),
        (("--log-file", "missing/log"), "cannot write the log '"),
        (("--access-log-file", "missing/log"), "cannot write the access log '"),
        (("--pid-file", "missing/pid"), "cannot write the pid file '"),
        (("--user", "no-such-user"), "there is no user 'no-such-user'"),
        (("--syslog-facility", "user"), "cannot reach syslog: there is no socket '/missing'"),
        (("--plugins", "broken"), "cannot start: image workers cannot start ("),
    ],
)
def test_a_daemon_that_cannot_start_says_why(
    commands: Commands, options: tuple[str, ...], message: str
) -> None:
    (commands.scratch / "broken").mkdir()
    (commands.scratch / "broken" / "plugin.py").write_text("nonsense(")
    unused = () if options[0] == "--listener" else ("--listener", "unix:socket")
    done = commands.run("-w", "1", *options, *unused, SAFELIGHT_SYSLOG_SOCKET="/missing")
    commands.adopt_any()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {message}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert not (commands.scratch / "httpthumbnailer.pid").exists()


SEED = """
httpthumbnailer --pid-file /var/run/httpthumbnailer/pidfile
--log-file /var/log/httpthumbnailer/httpthumbnailer.log
--access-log-file /var/log/httpthumbnailer/httpthumbnailer_access.log
--listener 127.0.0.1:3100 --user httpthumbnailer /etc/httpthumbnailer.conf
"""


@pytest.mark.covers("t133")
def test_the_start_command_of_the_older_documentation(commands: Commands, sockets: Path) -> None:
    """As written there, but for a prefix to its paths, a free port, and a user that this machine has."""
    for directory in ("var/run/httpthumbnailer", "var/log/httpthumbnailer"):
        (sockets / directory).mkdir(parents=True)
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    words = (
        SEED.replace(":3100", f":{port}").replace("--user httpthumbnailer", f"--user {other_user()}").split()
    )
    options = [f"{sockets}{word}" if word.startswith("/") else word for word in words[1:]]
    done = commands.run(*options)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    commands.adopt(sockets / "var/run/httpthumbnailer/pidfile")
    reply = httpx.put(f"http://127.0.0.1:{port}{SPEC}", content=photo_q(), timeout=30)
    assert pillow(reply.content).size == (6, 8)
    logs = sockets / "var/log/httpthumbnailer"
    wait_until(lambda: SPEC in (logs / "httpthumbnailer_access.log").read_text())
    assert "arguments are ignored" in (logs / "httpthumbnailer.log").read_text()
