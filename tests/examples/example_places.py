"""Where the pictures of an example are: each is used on files and on S3, whatever it was written for."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from s3_servers import S3Server


class Place(Protocol):
    """A root of an example is a directory or a bucket."""

    def fitted(self, text: str) -> str:
        """An example with its pictures here."""
        ...

    def name(self, root: str) -> str:
        """What messages call the root."""
        ...

    def url(self, root: str, key: str) -> str:
        """The URL that clients are told, without a query."""
        ...

    def moved(self, url: str) -> str:
        """`url` as it becomes by an output that rewrites scheme, host and path, but not the port."""
        ...

    def keys(self, root: str) -> list[str]: ...

    def read(self, root: str, key: str) -> bytes: ...

    def remove(self, root: str, key: str) -> None: ...


class Files:
    """The working directory."""

    def fitted(self, text: str) -> str:
        """Without what only S3 statements have."""
        text = re.sub(r"\\\n\s*", "", text)
        text = re.sub(r"(?m)^s3 .*\n", "", text)
        lines = [self._on_disk(line) if "_s3 " in line else line for line in text.splitlines()]
        return "\n".join(lines)

    def _on_disk(self, line: str) -> str:
        line = re.sub(r' +(public=true|(s3|prefix|cache-[a-z-]+)="[^"]*")', "", line)
        return line.replace("_s3 ", "_file ").replace("bucket=", "root=")

    def name(self, root: str) -> str:
        return root

    def url(self, root: str, key: str) -> str:
        return f"file:/{key}"

    def moved(self, url: str) -> str:
        return url

    def keys(self, root: str) -> list[str]:
        files = (path for path in Path(root).rglob("*") if path.is_file())
        return sorted(path.relative_to(root).as_posix() for path in files)

    def read(self, root: str, key: str) -> bytes:
        return (Path(root) / key).read_bytes()

    def remove(self, root: str, key: str) -> None:
        (Path(root) / key).unlink()


@dataclass
class Buckets:
    """Buckets of `store`; those of the account `archive` are at the object store of that name."""

    store: S3Server
    archive: S3Server
    _names: dict[str, str] = field(default_factory=dict)

    def fitted(self, text: str) -> str:
        """For file statements, three words change: `store_file`, `source_file` and `root`.

        The directory of kept answers stays one.
        """
        text = re.sub(r"\b(store|source|delete)_file ", r"\1_s3 ", text)
        text = re.sub(
            r'(?<!    cache )(?<= )(?:root|bucket)="([^"]*)"',
            lambda root: f'bucket="{self.name(root[1])}"',
            text,
        )
        if not re.search(r"(?m)^s3 ", text):
            text = 's3 key="AKIDEXAMPLE" secret="replace-me" endpoint="http://127.0.0.1:9000"\n' + text
        ours = {"AKIDEXAMPLE": self.store.access_key, "http://127.0.0.1:9000": self.store.url}
        theirs = {"AKIDARCHIVE": self.archive.access_key, "http://127.0.0.1:9001": self.archive.url}
        for written, meant in {**ours, **theirs, "replace-me": self.store.secret_key}.items():
            text = re.sub(f'(?m)(^s3 .*"){re.escape(written)}"', rf'\g<1>{meant}"', text)
        return text

    def name(self, root: str) -> str:
        if root not in self._names:
            self._names[root] = self._server(root).make_bucket()
        return self._names[root]

    def url(self, root: str, key: str) -> str:
        return f"{self._server(root).url}/{self.name(root)}/{key}"

    def moved(self, url: str) -> str:
        scheme, _, place = url.partition("://")
        host, _, path = place.partition("/")
        return f"{scheme}://{host}:{self.store.port}/{path}"

    def keys(self, root: str) -> list[str]:
        return sorted(self._server(root).keys(self.name(root)))

    def read(self, root: str, key: str) -> bytes:
        return self._server(root).read(self.name(root), key)

    def remove(self, root: str, key: str) -> None:
        self._server(root).delete(self.name(root), key)

    def _server(self, root: str) -> S3Server:
        return self.archive if root == "archived-pictures" else self.store
