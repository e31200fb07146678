"""The older documentation's set-up: `httpimagestore` on a Unix socket, behind the nginx.conf given there."""

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

PROGRAM = (sys.executable, "-W", "error::ResourceWarning", "-m", "safelight.cli.httpimagestore")
START = """
httpimagestore --pid-file /var/run/httpimagestore/pidfile
--log-file /var/log/httpimagestore/httpimagestore.log
--access-log-file /var/log/httpimagestore/httpimagestore_access.log
--listener /var/run/httpimagestore.sock --user httpimagestore /etc/httpimagestore.conf
"""
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


@pytest.fixture
def store(places: Path) -> Iterator[Path]:
    """Started as documented, but for a prefix to all paths, and users that this machine has."""
    root = Path(tempfile.mkdtemp(dir=places))
    root.chmod(0o755)
    for directory in ("var/run/httpimagestore", "var/log/httpimagestore", "var/log/nginx", "etc/nginx"):
        (root / directory).mkdir(parents=True)
    (root / "images").mkdir(mode=0o777)
    (root / "images").chmod(0o777)
    (root / "etc/httpimagestore.conf").write_text(CONFIGURATION.replace("ROOT", str(root / "images")))
    (root / "etc/nginx/mime.types").write_text("types { image/jpeg jpg; }")
    words = START.replace("--user httpimagestore", f"--user {other_user()}").split()
    commands = Commands(root)
    done = commands.run(
        *(f"{root}{word}" if word.startswith("/") else word for word in words[1:]), program=PROGRAM
    )
    assert (done.returncode, done.stderr) == (0, "")
    commands.adopt(root / "var/run/httpimagestore/pidfile")
    yield root
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
    store: Path, places: Path, running: Callable[[Nginx], Nginx], changes: dict[str, str]
) -> None:
    (port,) = free_ports(1)
    text = adapted(
        adapted((PACKAGING / "httpimagestore.conf").read_text(), changes),
        {
            "user  nginx;": f"daemon off; {user_directive()}",
            "*:3000": f"127.0.0.1:{port}",
            "/etc/": f"{store}/etc/",
            "/var/": f"{store}/var/",
            "http {": "http {\nproxy_temp_path proxy; client_body_temp_path body;",
        },
    )
    nginx = running(start_nginx(store / "nginx", text, port))
    with httpx.Client(base_url=nginx.url, timeout=TIMEOUT_S) as client:
        stored = client.put("/v1/original", content=photo_p())
        assert stored.text.endswith(".jpg\r\n")
        answer = client.get(f"/v1/thumbnail/{stored.text.strip()}/fit/100/1000")
    assert answer.headers["server"].startswith("nginx")
    assert answer.headers["cache-control"] == "public, max-age=31557600, s-maxage=0"
    assert pillow(answer.content).size == (100, 141)
    assert "127.0.0.1 - - [" in (store / "var/log/nginx/access.log").read_text()
