"""`packaging/Dockerfile`: its rules, and its very command as a container would run it.

No image is built, which needs a Docker daemon and a registry. Instead user and mount namespaces give what a
container has: a user without rights, a root file system that cannot be written, a tmpfs at /tmp, the
installed wheel and a data directory.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from installed import ROOT, TIMEOUT_S, Installed, Programs, bare_environment, try_example
from serving import Server

DOCKERFILE = ROOT / "packaging" / "Dockerfile"
SECRET = "sixteen-letters-and-more"
READ_ONLY = """
set -e
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/environment /mnt/libraries /mnt/data
mount --bind "$ENVIRONMENT" /mnt/environment
mount --bind "$LIBRARIES" /mnt/libraries
mount --bind "$DATA" /mnt/data
mount -t tmpfs tmpfs /tmp
mkdir -p "$ENVIRONMENT" "$LIBRARIES"
mount --bind /mnt/environment "$ENVIRONMENT"
mount --bind /mnt/libraries "$LIBRARIES"
for place in "$ENVIRONMENT" "$LIBRARIES" /mnt/environment /mnt/libraries /mnt /; do
    mount -o remount,bind,ro "$place"
done
cd /mnt/data
exec unshare --user --map-user=10001 --map-group=10001 -- "$@"
"""
NAMESPACES = ("unshare", "--user", "--map-root-user", "--mount", "--")


@dataclass(frozen=True)
class Instruction:
    """One line of a Dockerfile, continuations joined."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """Of the exec form."""
        return json.loads(self.text)


def instructions() -> list[list[Instruction]]:
    """Those of each stage."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    stages: list[list[Instruction]] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, text = line.partition(" ")
        if name == "FROM":
            stages.append([])
        if name:
            stages[-1].append(Instruction(name, " ".join(text.split())))
    return stages


def only(name: str) -> Instruction:
    """The one instruction of that name in the last stage."""
    (found,) = [instruction for instruction in instructions()[-1] if instruction.name == name]
    return found


def settings() -> dict[str, str]:
    pairs = [instruction.text for instruction in instructions()[-1] if instruction.name == "ENV"]
    return dict(pair.split("=", 1) for pair in pairs)


def command() -> list[str]:
    return only("ENTRYPOINT").words + only("CMD").words


def test_what_a_container_is_told() -> None:
    build, final = instructions()
    assert build[0].text == "python:3.12-slim AS build"
    assert final[0].text == "python:3.12-slim"
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", only("USER").text), "not root, as anybody can see"
    assert only("STOPSIGNAL").text == "SIGTERM"
    assert command() == ["safelight", "serve"]
    assert settings()["SAFELIGHT_LISTEN"] == f"0.0.0.0:{only('EXPOSE').text}"
    assert settings()["SAFELIGHT_DATA"] == only("VOLUME").text == only("WORKDIR").text
    names = [instruction.name for instruction in final]
    assert "RUN" not in names[names.index("USER") :], "everything is owned by root but the data"


def test_what_the_build_copies_is_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {
        word
        for instruction in instructions()[0]
        if instruction.name == "COPY"
        for word in instruction.text.split()[:-1]
    }
    assert "*" in ignored
    assert copied == allowed
    for name in copied:
        assert (ROOT / name).exists()


def test_compose_starts_it_without_rights() -> None:
    yaml = pytest.importorskip("yaml")
    service = yaml.safe_load((ROOT / "packaging" / "compose.yaml").read_text())["services"]["safelight"]
    assert (ROOT / "packaging" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"])
    assert service["volumes"] == [f"data:{only('VOLUME').text}"]
    assert service["ports"] == [f"127.0.0.1:3000:{only('EXPOSE').text}"]


def test_strangers_are_not_let_write(installed: Installed, tmp_path: Path) -> None:
    """As the image stands, the example API is refused unless there is a secret."""
    environment = settings() | bare_environment(installed.commands, SAFELIGHT_DATA=str(tmp_path / "data"))
    done = subprocess.run(
        command(), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 1
    assert "the example API lets everybody upload, so it is not served at 0.0.0.0:3000" in done.stderr
    assert not (tmp_path / "data").exists()


def can_make_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    script = f"{READ_ONLY.partition('mkdir')[0]} exec unshare --user --map-user=10001 --map-group=10001 true"
    done = subprocess.run([*NAMESPACES, "sh", "-c", script], capture_output=True, timeout=TIMEOUT_S)
    return done.returncode == 0


@pytest.fixture
def container(installed: Installed, programs: Programs, tmp_path: Path) -> Server:
    """The command of the image, on loopback and a free port instead of everywhere and port 3000."""
    if not can_make_namespaces():
        pytest.skip("user and mount namespaces are not to be had")
    data = tmp_path / "data"
    data.mkdir()
    environment = settings() | {
        "PATH": f"{installed.commands}:/usr/bin:/bin",
        "SAFELIGHT_DATA": "/mnt/data",
        "SAFELIGHT_LISTEN": "127.0.0.1:0",
        "SAFELIGHT_SECRET": SECRET,
        "ENVIRONMENT": str(installed.environment),
        "LIBRARIES": sys.prefix,  # the checkout may be below /tmp
        "DATA": str(data),
    }
    words = [*NAMESPACES, "sh", "-c", READ_ONLY, "sh", *command()]
    return programs.start(words, environment, data)


def signed(installed: Installed, url: str) -> str:
    done = subprocess.run(
        [installed.commands / "safelight", "sign", "--digest", "sha256", url],
        env=bare_environment(installed.commands, SAFELIGHT_SECRET=SECRET),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_it_needs_no_rights_and_a_read_only_file_system(installed: Installed, container: Server) -> None:
    with httpx.Client(base_url=container.url, timeout=TIMEOUT_S) as client:
        assert client.put("/images", content=b"x").status_code == 403
        url = signed(installed, f"{container.url}/images")
        try_example(client, query=f"?{url.partition('?')[2]}")
        large = os.urandom(3 << 20)  # more than is kept in memory: /tmp must be there
        assert client.put(url, content=large).status_code == 415
    status = Path(f"/proc/{container.process.pid}/status").read_text()
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    mounts = Path(f"/proc/{container.process.pid}/mountinfo").read_text().splitlines()
    (root,) = [fields for fields in map(str.split, mounts) if fields[4] == "/"]
    assert "ro" in root[5].split(",")
    assert [path.name for path in container.directory.iterdir()] == ["images"]
    check_health_checks(installed, container)


def check_health_checks(installed: Installed, container: Server) -> None:
    """What the image's health check says of a server that is there, and of one that is not."""
    _, _, text = only("HEALTHCHECK").text.partition(" CMD ")
    shown = f"http://127.0.0.1:{only('EXPOSE').text}"
    assert shown in text
    for url, healthy in ((container.url, True), ("http://127.0.0.1:1", False)):
        done = subprocess.run(
            json.loads(text.replace(shown, url)),
            env=bare_environment(installed.commands),
            capture_output=True,
            timeout=TIMEOUT_S,
        )
        assert (done.returncode == 0) == healthy
