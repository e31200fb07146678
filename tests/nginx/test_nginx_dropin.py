"""The older documentation's set-up: nginx, behind it `httpimagestore` on a Unix socket and `httpthumbnailer`.

Started as it says, but for a prefix to all paths, a free port, and a user that this machine has.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from image_makers import photo_p, pillow
from loopback_ports import free_ports
from nginx_support import PACKAGING, TIMEOUT_S, Nginx, adapted, start_nginx, user_directive
from thumbnailer_support import Commands, other_user

PYTHON = (sys.executable, "-W", "error::ResourceWarning", "-m")
STORE = """
httpimagestore --pid-file /var/run/httpimagestore/pidfile
--log-file /var/log/httpimagestore/httpimagestore.log
--access-log-file /var/log/httpimagestore/httpimagestore_access.log
--listener /var/run/httpimagestore.sock --user httpimagestore /etc/httpimagestore.conf
"""
THUMBNAILER = """
httpthumbnailer --pid-file /var/run/httpthumbnailer/pidfile
--log-file /var/log/httpthumbnailer/httpthumbnailer.log
--access-log-file /var/log/httpthumbnailer/httpthumbnailer_access.log
--listener 127.0.0.1:3100 --user httpthumbnailer /etc/httpthumbnailer.conf
"""
CONFIGURATION = """
thumbnailer url="http://127.0.0.1:3100"
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


def start(commands: Commands, root: Path, words: list[str], thumbnailer: str) -> None:
    """Run a start command, below `root`, until it says that the server is ready."""
    program, *rest = words
    user = rest.index("--user") + 1
    rest[user] = other_user()
    rest = [f"{root}{word}" if word.startswith("/") else word for word in rest]
    rest = [thumbnailer if word == "127.0.0.1:3100" else word for word in rest]
    done = commands.run(*rest, program=(*PYTHON, f"safelight.cli.{program}"))
    assert (done.returncode, done.stderr) == (0, "")
    commands.adopt(root / "var/run" / program / "pidfile")


@pytest.fixture
def set_up(places: Path) -> Iterator[Path]:
    """The root of a store and a thumbnailer that run."""
    root = Path(tempfile.mkdtemp(dir=places))
    root.chmod(0o755)
    for directory in (
        "run/httpimagestore",
        "run/httpthumbnailer",
        "log/httpimagestore",
        "log/httpthumbnailer",
    ):
        (root / "var" / directory).mkdir(parents=True)
    (root / "var/log/nginx").mkdir()
    (root / "etc/nginx").mkdir(parents=True)
    (root / "images").mkdir()
    (root / "images").chmod(0o777)
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    text = CONFIGURATION.replace("ROOT", str(root / "images")).replace("127.0.0.1:3100", address)
    (root / "etc/httpimagestore.conf").write_text(text)
    (root / "etc/nginx/mime.types").write_text("types { image/jpeg jpg; }")
    commands = Commands(root)
    try:
        start(commands, root, THUMBNAILER.split(), address)
        start(commands, root, STORE.split(), address)
        yield root
    finally:
        commands.stop_all()


OLDER = {
    "proxy_http_version\t\t\t1.1;": "",
    "proxy_set_header Connection\tclose;": "",
    "client_body_buffer_size\t\t256k": "client_body_buffer_size\t\t16m",
    "proxy_read_timeout\t\t\t310s": "proxy_read_timeout\t\t\t120s",
}
"""What makes the configuration that of the older documentation again."""


@pytest.mark.parametrize("changes", [{}, OLDER], ids=["current", "older"])
def test_the_nginx_configuration_of_the_older_documentation(
    set_up: Path, running: Callable[[Nginx], Nginx], changes: dict[str, str]
) -> None:
    (port,) = free_ports(1)
    text = adapted(
        adapted((PACKAGING / "httpimagestore.conf").read_text(), changes),
        {
            "user  nginx;": f"daemon off; {user_directive()}",
            "*:3000": f"127.0.0.1:{port}",
            "/etc/": f"{set_up}/etc/",
            "/var/": f"{set_up}/var/",
            "http {": "http {\nproxy_temp_path proxy; client_body_temp_path body;",
        },
    )
    nginx = running(start_nginx(set_up / "nginx", text, port))
    with httpx.Client(base_url=nginx.url, timeout=TIMEOUT_S) as client:
        stored = client.put("/v1/original", content=photo_p())
        assert stored.text.endswith(".jpg\r\n")
        answer = client.get(f"/v1/thumbnail/{stored.text.strip()}/fit/100/1000")
    assert answer.headers["server"].startswith("nginx")
    assert answer.headers["cache-control"] == "public, max-age=31557600, s-maxage=0"
    assert pillow(answer.content).size == (100, 141)
    assert "127.0.0.1 - - [" in (set_up / "var/log/nginx/access.log").read_text()
    thumbnailed = (set_up / "var/log/httpthumbnailer/httpthumbnailer_access.log").read_text()
    assert "PUT /thumbnail/fit,100,1000,jpeg" in thumbnailed
