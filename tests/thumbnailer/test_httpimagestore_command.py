"""`httpimagestore` on the command line: the start commands of the older documentation, and its exit codes."""

import json
import os
import re
import socket
import time
from pathlib import Path

import httpx
import pytest
from image_makers import oriented, photo_p, pillow
from thumbnailer_support import COMMAND, Commands, other_user, wait_until

PROGRAM = (*COMMAND[:-1], "safelight.cli.httpimagestore")

CONFIGURATION = """
path "hash" "#{digest}.#{mimeextension}"
path "path" "#{path}"

put "v1" "original" {
    thumbnail "input" "original" operation="limit" width=2160 height=2160 format="jpeg" quality=95
    store_file "original" root="ROOT" path="hash"
    output_store_path "original"
}

get "v1" "thumbnail" ":path" ":operation" ":width" ":height" ":options?" {
    source_file "original" root="ROOT" path="path"
    thumbnail "original" "thumbnail" operation="#{operation}" width="#{width}" height="#{height}" \\
        options="#{options}" quality=84 format="jpeg"
    output_image "thumbnail" cache-control="public, max-age=31557600, s-maxage=0"
}
"""


def configuration(directory: Path, more: str = "") -> Path:
    file = directory / "api.conf"
    file.write_text(CONFIGURATION.replace("ROOT", str(directory / "images")) + more)
    return file


def session(client: httpx.Client) -> None:
    """The on-demand session of the older documentation."""
    stored = client.put("/v1/original", content=photo_p())
    assert re.fullmatch(r"[0-9a-f]{16}\.jpg\r\n", stored.text)
    reply = client.get(f"/v1/thumbnail/{stored.text.strip()}/fit/100/1000")
    assert reply.headers["cache-control"] == "public, max-age=31557600, s-maxage=0"
    assert pillow(reply.content).size == (100, 141)


def test_standing_alone(commands: Commands) -> None:
    """Unknown statements are only warned of, and the EXIF orientation is ignored."""
    file = configuration(commands.scratch, "output_source_nothing\n")
    server = commands.start(str(file), program=PROGRAM)
    assert "unexpected statement: output_source_nothing" in server.log
    with httpx.Client(base_url=server.url, timeout=30) as client:
        session(client)
        lying = client.put("/v1/original", content=oriented(6)).text.strip()
        size = pillow((commands.scratch / "images" / lying).read_bytes()).size
        assert size == pillow(oriented(6)).size


SEED = """
httpimagestore --pid-file /var/run/httpimagestore/pidfile
--log-file /var/log/httpimagestore/httpimagestore.log
--access-log-file /var/log/httpimagestore/httpimagestore_access.log
--listener /var/run/httpimagestore.sock --user httpimagestore /etc/httpimagestore.conf
"""


def test_the_start_command_of_the_older_documentation(commands: Commands, sockets: Path) -> None:
    """As written there, but for a prefix to its paths, and a user that this machine has."""
    for directory in ("var/run/httpimagestore", "var/log/httpimagestore", "etc", "images"):
        (sockets / directory).mkdir(parents=True)
    sockets.chmod(0o755)  # that of a temporary directory keeps others out
    (sockets / "images").chmod(0o777)
    configuration(sockets).rename(sockets / "etc/httpimagestore.conf")
    words = SEED.replace("--user httpimagestore", f"--user {other_user()}").split()
    options = [f"{sockets}{word}" if word.startswith("/") else word for word in words[1:]]
    done = commands.run(*options, program=PROGRAM)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    commands.adopt(sockets / "var/run/httpimagestore/pidfile")
    transport = httpx.HTTPTransport(uds=str(sockets / "var/run/httpimagestore.sock"))
    with httpx.Client(base_url="http://store", transport=transport, timeout=30) as client:
        session(client)
    log = sockets / "var/log/httpimagestore/httpimagestore_access.log"
    wait_until(lambda: '/fit/100/1000 HTTP/1.1" 200' in log.read_text())


@pytest.mark.covers("s202", "s203")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "mandatory argument 'config' not given"),
        (("-f", "-v"), "mandatory argument 'config' not given"),
        (("--nonsense", "api.conf"), "unknown switch --nonsense"),
        (("-vf", "api.conf"), "unknown switch -vf"),
        (("--pid-file=x", "api.conf"), "unknown switch --pid-file=x"),
        (
            ("--worker-processes", "abc", "api.conf"),
            "failed to cast: 'worker_processes' to type: Integer: invalid value for Integer(): \"abc\"",
        ),
        (("--pid-file",), "missing value for option --pid-file"),
        (("-L",), "missing value for option --listener"),
    ],
)
def test_bad_usage(commands: Commands, options: tuple[str, ...], reason: str) -> None:
    done = commands.run(*options, program=PROGRAM)
    assert (done.returncode, done.stdout) == (42, "")
    assert done.stderr.startswith(f"Error: {reason}\n")
    assert "Usage: httpimagestore [switches|options] CONFIG\n" in done.stderr


@pytest.mark.covers("s202")
@pytest.mark.parametrize("option", ["--help", "-h", "--version"])
def test_help_and_version(commands: Commands, option: str) -> None:
    done = commands.run(option, program=PROGRAM)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        'httpimagestore version "1.9.0"\n' if option == "--version" else "Usage: httpimagestore "
    )


@pytest.mark.covers("s208")
@pytest.mark.parametrize("text", ["get { output_text\n}", None])
def test_a_bad_configuration_ends_the_start(commands: Commands, text: str | None) -> None:
    if text is not None:
        (commands.scratch / "api.conf").write_text(text)
    done = commands.run("--listener", "unix:socket", "api.conf", program=PROGRAM)
    assert (done.returncode, done.stdout) == (1, "")
    assert "api.conf" in done.stderr
    assert "Traceback" not in done.stderr


LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} UTC \[meta (\{.*?\})\] (\w+): (.*)")
ACCESS = re.compile(
    r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
    r'"(\w+) (\S+) HTTP/1\.1" (\d+) (\d+|-) \d+\.\d{4}'
)


def lines(log: str) -> list[tuple[dict[str, object], str, str]]:
    """Meta, level and message of the lines of an application log."""
    found = [LINE.fullmatch(line) for line in log.splitlines()]
    return [(json.loads(line[1]), line[2], line[3]) for line in found if line]


def over(path: Path) -> httpx.Client:
    """A client of a socket in the file system."""
    return httpx.Client(base_url="http://store", transport=httpx.HTTPTransport(uds=str(path)), timeout=60)


@pytest.mark.covers("s204", "s205", "s206")
def test_the_foreground(commands: Commands, sockets: Path) -> None:
    """Several listeners, sockets among them; a pid file, but no log file."""
    paths = [sockets / "one.sock", sockets / "two.sock"]
    addresses = ("127.0.0.1:0", f"unix:{paths[0]}", str(paths[1]))
    server = commands.start(
        *("--log-file", "log", "--pid-file", "pid", "--access-log-file", "access", "-w", "1"),
        str(configuration(commands.scratch)),
        program=PROGRAM,
        listen=addresses,
    )
    assert httpx.get(server.url).text == "HTTP Image Store\r\n"
    for path in paths:
        with over(path) as client:
            assert client.get("/").text == "HTTP Image Store\r\n"
    assert (server.directory / "pid").read_text() == f"{server.process.pid}\n"
    assert lines(server.log)
    assert sorted(path.name for path in server.directory.iterdir()) == ["access", "pid", "stderr"]
    server.stop()
    assert not (server.directory / "pid").exists()
    assert not any(path.exists() for path in paths)


@pytest.mark.covers("s207", "s205")
def test_the_background(commands: Commands, sockets: Path) -> None:
    """The launcher has returned, so the first request is answered; paths refer to where it was started."""
    file = configuration(commands.scratch)
    done = commands.run("-L", str(sockets / "socket"), "-w", "1", file.name, program=PROGRAM)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pid = commands.adopt(commands.scratch / "httpimagestore.pid")
    with over(sockets / "socket") as client:
        session(client)
    assert os.getsid(pid) != os.getsid(0)
    names = {path.name for path in commands.scratch.iterdir()}
    assert names >= {"httpimagestore.log", "httpimagestore_access.log", "httpimagestore.pid"}


@pytest.mark.covers("s209")
def test_the_access_log(commands: Commands) -> None:
    """One line for each request, with the status that was sent."""
    file = configuration(commands.scratch, 'get "fails" { output_text "#{nothing}" }\n')
    server = commands.start("-w", "1", "-a", "access", str(file), program=PROGRAM)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        client.put("/v1/original?a=%20b", content=photo_p())
        client.get("/missing")
        client.get("/fails")
        client.put("/v1/original", content=b"no image")
    wait_until(lambda: (server.directory / "access").read_text().count("\n") == 4)
    found = [ACCESS.fullmatch(line) for line in (server.directory / "access").read_text().splitlines()]
    assert [line and line.groups()[:3] for line in found] == [
        ("PUT", "/v1/original?a=%20b", "200"),
        ("GET", "/missing", "404"),
        ("GET", "/fails", "500"),
        ("PUT", "/v1/original", "415"),
    ]


@pytest.mark.covers("s212")
def test_times_are_logged_at_any_level(commands: Commands, sockets: Path) -> None:
    """In the background, so without --verbose, which the foreground of these tests needs."""
    file = configuration(commands.scratch)
    commands.run("-L", str(sockets / "socket"), "-w", "1", "--perf-stats", file.name, program=PROGRAM)
    commands.adopt(commands.scratch / "httpimagestore.pid")
    with over(sockets / "socket") as client:
        client.get("/missing")
    log = commands.scratch / "httpimagestore.log"
    wait_until(lambda: '"type":"perf-stats"' in log.read_text())
    (found,) = [line for line in lines(log.read_text()) if line[0].get("type") == "perf-stats"][:1]
    meta, level, text = found
    assert level == "ANY"
    assert re.match(r"took \d+\.\d{6} sec - ", text)
    assert {"user_time", "system_time", "total_time", "real_time", "task", "object", "level"} <= set(meta)


@pytest.mark.covers("s213")
@pytest.mark.parametrize("foreground", [True, False])
def test_syslog(commands: Commands, sockets: Path, foreground: bool) -> None:
    """No files, in no mode; what syslog knows, the text does not repeat."""
    file = configuration(commands.scratch)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(sockets / "log"))
        syslog.settimeout(60)
        options = ("-L", str(sockets / "socket"), "-w", "1", "-s", "daemon", str(file))
        variables = {"SAFELIGHT_SYSLOG_SOCKET": str(sockets / "log")}
        if foreground:
            directory = commands.start(*options, program=PROGRAM, **variables).directory
        else:
            directory = commands.scratch
            assert commands.run(*options, program=PROGRAM, **variables).returncode == 0
            commands.adopt(directory / "httpimagestore.pid")
        with over(sockets / "socket") as client:
            client.get("/missing")
        received: list[str] = []
        while not received or "http-access" not in received[-1]:
            received.append(syslog.recv(1 << 16).decode())
    form = r"<(\d+)>httpimagestore\[\d+\]: \[meta (\{.*?\})\] (.*)"
    found = [re.fullmatch(form, line) for line in received]
    assert all(found)
    by_text = {line[3]: (int(line[1]), json.loads(line[2])) for line in found if line}
    priority, _ = by_text[
        "sending 404 error response: request for URI '/missing' was not handled by the server"
    ]
    assert priority == 3 * 8 + 4  # daemon, warning
    (access,) = [text for text in by_text if ACCESS.fullmatch(text)]
    assert by_text[access] == (3 * 8 + 6, {"className": "safelight.server", "type": "http-access"})
    assert not any("pid" in meta for _, meta in by_text.values())
    assert {path.suffix for path in directory.iterdir()} <= {"", ".pid", ".conf"}


def test_an_unknown_facility_ends_the_start(commands: Commands) -> None:
    file = configuration(commands.scratch)
    done = commands.run("-s", "nonsense", str(file), program=PROGRAM)
    assert (done.returncode, done.stderr) == (1, "Error: No such syslog facility: LOG_NONSENSE\n")


def test_a_request_beyond_the_worker_timeout_is_504(commands: Commands, sockets: Path) -> None:
    """Here it waits for a thumbnailer that never answers; others are served meanwhile, and afterwards."""
    file = configuration(commands.scratch)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        engine = f"http://127.0.0.1:{silent.getsockname()[1]}"
        server = commands.start("-t", "2", "--thumbnailer", engine, str(file), program=PROGRAM)
        began = time.monotonic()
        answer = httpx.put(f"{server.url}/v1/original", content=photo_p(), timeout=60)
    assert (answer.status_code, answer.text) == (504, "request took too long\r\n")
    assert 2 <= time.monotonic() - began < 20
    assert httpx.get(server.url).status_code == 200


def test_log_lines_name_the_endpoint_of_a_request(commands: Commands) -> None:
    file = configuration(commands.scratch)
    server = commands.start("-w", "1", str(file), program=PROGRAM)
    assert httpx.get(f"{server.url}/v1/thumbnail/missing.jpg/fit/10/10").status_code == 404
    assert httpx.get(f"{server.url}/nobody").status_code == 404
    found = {text: meta for meta, _, text in lines(server.log) if text.startswith("sending 404")}
    served, unserved = sorted(found.items(), key=lambda line: "nobody" in line[0])
    assert served[1]["api_method"] == "GET"
    assert str(served[1]["api_handler"]).startswith("get v1, thumbnail, ")
    assert "api_handler" not in unserved[1]
