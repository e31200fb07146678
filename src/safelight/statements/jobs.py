"""`jobs`: whom image jobs may talk to, and how much at a time."""

from collections.abc import Iterator

from safelight.config.declaring import Declaring, suggestion
from safelight.config.kind import Duration, Size
from safelight.config.spec import Statement, attribute, block, value
from safelight.config.tag import Tag
from safelight.statements.registry import configuration

ENTRIES = ("source", "destination", "source_root", "destination_root", "unverified_host")


class JobEntry(Statement):
    """One host, bucket or directory that jobs may use: the name of the line says for what."""

    text: str = value(
        "host or directory",
        help="`[scheme://]host[:port][/path]`; `*.example.com` is all below it. Of roots: a directory",
        example="https://*.example.com/in",
    )
    s3: str = attribute(
        default="", help="name of the `s3` statement for a destination `s3://bucket`", example="archive"
    )

    @classmethod
    def declare(cls, tag: Tag, declaring: Declaring) -> "JobEntry | None":
        """Only names that are known, lenient or not: a list with a hole is no list."""
        if tag.name not in ENTRIES:
            hint = suggestion(tag.name, list(ENTRIES))
            declaring.error_at(tag.position, f"unexpected statement: {tag.name}{hint}")
            return None
        return super().declare(tag, declaring)

    def check(self) -> Iterator[str]:
        if self.s3 and not self.is_bucket:
            yield "'s3' is only for a destination 's3://bucket'"
        if self.tag.name == "source" and self.text.startswith("s3:"):
            yield "sources cannot be in buckets"

    @property
    def is_bucket(self) -> bool:
        return self.tag.name == "destination" and self.text.startswith("s3://")


@configuration("jobs")
class Jobs(Statement):
    """Say whom the image jobs of `safelight jobs` may talk to, and how much they may take. At most one.

    Without a `source` line any public address may be a source. Nothing may be a destination that no
    `destination` line names. Local files (`file:` URLs) are only there below `source_root` and
    `destination_root`. A host that is named in full may have a private address. `unverified_host`: its
    certificate does not matter.
    """

    example = """jobs per-host=4 attempts=6 {
    source "https://*.example.com"
    source "http://nas.example.lan:8080/photos"
    source_root "/srv/originals"
    destination "https://www.example.com/upload.html"
    destination "ftp://images.example.com"
    destination "s3://thumbnails"
}"""

    max_bytes: Size = attribute(default=Size(50 << 20), help="most that a source may have")
    fetch_timeout: Duration = attribute(default=Duration(60), help="for one source, with its redirects")
    deliver_timeout: Duration = attribute(default=Duration(30), help="for one delivery")
    concurrency: int = attribute(default=4, help="jobs at a time, and at least four for each image worker")
    per_host: int = attribute(default=8, help="jobs at a time whose sources are on one host")
    attempts: int = attribute(default=6, help="how often a job is begun before it is given up")
    entries: tuple[JobEntry, ...] = block(JobEntry, help="`source`, `destination` and root lines")

    @classmethod
    def slot(cls, tag: Tag) -> str:  # noqa: ARG003
        return "jobs"

    def check(self) -> Iterator[str]:
        for name, number in (
            ("concurrency", self.concurrency),
            ("per-host", self.per_host),
            ("attempts", self.attempts),
        ):
            if number < 1:
                yield f"expected '{name}' attribute value to be at least 1; got: {number}"

    def named(self, name: str) -> list[JobEntry]:
        """The lines of one name."""
        return [entry for entry in self.entries if entry.tag.name == name]
