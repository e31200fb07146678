"""`jobs`: whom image jobs may talk to, and how much at a time."""

import re
from collections.abc import Iterator

from safelight.config.declaring import Declaring, suggestion
from safelight.config.kind import Duration, Size
from safelight.config.spec import Statement, attribute, block, value
from safelight.config.tag import Tag
from safelight.statements.registry import configuration

ENTRIES = (
    "source",
    "destination",
    "source_root",
    "destination_root",
    "unverified_host",
    "webhook",
    "token",
    "queue",
)
MIN_SECRET = 16
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 section 2.1
QUEUE_SCHEMES = ("postgresql://", "postgres://")


class JobEntry(Statement):
    """One line of the block; its name says what it is about."""

    text: str = value(
        "host or directory",
        help="`[scheme://]host[:port][/path]`; `*.example.com` is all below it. Of roots: a directory. "
        "Of `token`: the secret; of `queue`: a URL",
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
        if self.tag.name == "webhook" and not re.match(r"(https?://|(?!.*://))", self.text):
            yield "webhooks are called over HTTP"
        if self.tag.name == "token" and len(self.text) < MIN_SECRET:
            yield f"expected a token of at least {MIN_SECRET} characters"
        if self.tag.name == "token" and not _TOKEN.fullmatch(self.text):
            yield "expected a token of letters, digits and -._~+/="
        if self.tag.name == "queue" and not self.text.startswith(QUEUE_SCHEMES):
            yield "expected a URL that begins with 'postgresql://'"

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

    `webhook` names hosts that may be told of ended jobs, which needs a `webhook-secret` to sign with. With
    `token` lines, every request needs one of them. `queue`: a PostgreSQL database for several machines.
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
    per_host: int | None = attribute(
        default=None, help="jobs at a time whose sources are on one host; default: 8, but at most half of all"
    )
    attempts: int = attribute(default=6, help="how often a job is begun before it is given up")
    webhook_secret: str = attribute(default="", help="key of the signatures of webhooks")
    entries: tuple[JobEntry, ...] = block(JobEntry, help="lines, each as often as wanted; `queue` once")

    @classmethod
    def slot(cls, tag: Tag) -> str:  # noqa: ARG003
        return "jobs"

    def check(self) -> Iterator[str]:
        for name, number in (
            ("concurrency", self.concurrency),
            ("per-host", self.per_host),
            ("attempts", self.attempts),
        ):
            if number is not None and number < 1:
                yield f"expected '{name}' attribute value to be at least 1; got: {number}"
        if self.named("webhook") and not self.webhook_secret:
            yield "expected a 'webhook-secret' attribute, because there are 'webhook' lines"
        if self.webhook_secret and len(self.webhook_secret) < MIN_SECRET:
            yield f"expected 'webhook-secret' attribute value to have at least {MIN_SECRET} characters"
        if len(self.named("queue")) > 1:
            yield "only one 'queue' can be specified"

    def named(self, name: str) -> list[JobEntry]:
        """The lines of one name."""
        return [entry for entry in self.entries if entry.tag.name == name]
