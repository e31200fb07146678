"""nginx with its image filter, on libgd."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from peers.base import CORES, QUALITY, SIDE, Input, Launch

# `user` counts for root alone, whose scratch files nobody else may read.
MODULE = Path("usr/lib/nginx/modules/ngx_http_image_filter_module.so")
CONFIGURATION = """
load_module {module};
daemon off;
user root;
worker_processes {workers};
pid nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    types {{ image/jpeg jpg; image/png png; image/webp webp; }}
    server {{
        listen 127.0.0.1:{port} reuseport;
        root {pictures};
        location / {{
            image_filter resize {side} {side};
            image_filter_jpeg_quality {quality};
            image_filter_buffer 64M;
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Nginx:
    """`image_filter resize`, a process for each core."""

    directory: Path
    name = "nginx image_filter"

    @property
    def _root(self) -> Path:
        """Where the packages are unpacked."""
        return self.directory / "nginx"

    @property
    def _environment(self) -> dict[str, str]:
        """With the shared libraries that were unpacked beside the program."""
        libraries = [self._root / "usr" / "lib", self._root / "lib"]
        found = [path for library in libraries for path in (library, *library.glob("*-linux-gnu*"))]
        before = os.environ.get("LD_LIBRARY_PATH")
        return {"LD_LIBRARY_PATH": os.pathsep.join([*map(str, found), *([before] if before else [])])}

    @property
    def _program(self) -> str:
        return str(self._root / "usr" / "sbin" / "nginx")

    def version(self) -> str | None:
        if not (self._root / MODULE).exists():
            return None
        told = subprocess.run(
            [self._program, "-v"], env={**os.environ, **self._environment}, capture_output=True, text=True
        )
        found = re.search(r"nginx/(\S+)", told.stderr)
        return found[1] if found else None

    def launch(self, port: int, pictures: Path, directory: Path) -> Launch:
        configuration = directory / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                module=self._root / MODULE,
                workers=CORES,
                port=port,
                pictures=pictures,
                side=SIDE,
                quality=QUALITY,
            )
        )
        options = ["-p", str(directory), "-e", "stderr", "-c", str(configuration)]
        return Launch([self._program, *options], self._environment)

    def path(self, picture: Input) -> str | None:
        """It answers in the format of the file."""
        same = {"jpeg": ".jpg", "png": ".png"}[picture.output] == Path(picture.file).suffix
        return f"/{picture.file}" if same else None
