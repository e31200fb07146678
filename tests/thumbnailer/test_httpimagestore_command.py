"""`httpimagestore` on the command line: the start commands of the older documentation, and its exit codes."""

import re
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
