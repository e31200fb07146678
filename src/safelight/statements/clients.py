"""`thumbnailer` and `s3`: the services that endpoints use."""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from safelight.config.declaring import Declaring
from safelight.config.kind import Duration
from safelight.config.spec import Statement, attribute, value
from safelight.config.tag import Tag, literal
from safelight.statements.registry import configuration
from safelight.storage.s3.account import TWENTY_YEARS_S, Account, Credentials, UrlSignature
from safelight.storage.s3.address import endpoint_of
from safelight.storage.s3.signature import MAX_EXPIRES_S

SIGNS_V2 = frozenset(
    {
        "us-east-1",
        "us-west-1",
        "us-west-2",
        "eu-west-1",
        "ap-southeast-1",
        "ap-southeast-2",
        "ap-northeast-1",
        "sa-east-1",
    }
)
"""The regions of AWS that know signature version 2: those from before 2014."""

_REGION = re.compile(r"[A-Za-z0-9._-]+")
"""It becomes part of host names and, between slashes, of signatures."""


@configuration("thumbnailer")
class Thumbnailer(Statement):
    """Send image processing to another server that speaks the thumbnailer protocol.

    Without this statement the embedded engine is used. At most one.
    """

    example = 'thumbnailer url="http://127.0.0.1:3100"'
    ignores_values = True

    url: str = attribute(help="base URL of the thumbnailer", example="http://127.0.0.1:3100")

    @classmethod
    def slot(cls, tag: Tag) -> str:  # noqa: ARG003
        return "thumbnailer"


@configuration("s3")
class S3(Statement):
    """An account at S3 compatible object storage. At most one of each name; one may be without.

    Without `key` and `secret`, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN are taken from
    the environment; without `endpoint` and `region`, AWS_ENDPOINT_URL_S3 (or AWS_ENDPOINT_URL) and
    AWS_REGION (or AWS_DEFAULT_REGION). A region that is not given is found out, bucket by bucket.
    """

    example = """s3 key="AKIDEXAMPLE" secret="SECRETEXAMPLE" ssl=true

s3 "archive" key="AKIDARCHIVE" secret="SECRETARCHIVE" endpoint="https://s3.example.com:8333\""""

    name: str = value("name", default="", help='name by which statements choose it: `s3="archive"`')
    name_attribute: str = attribute(default="", name="name", help="the same")
    key: str | None = attribute(default=None, help="access key id")
    secret: str | None = attribute(default=None, help="secret access key")
    ssl: bool = attribute(default=True, help="use https, for requests and in output URLs")
    endpoint: str | None = attribute(
        default=None,
        help="URL or host of the object store; AWS if there is none",
        example="http://127.0.0.1:8333",
    )
    region: str | None = attribute(default=None, help="region of all buckets", example="eu-west-1")
    style: str | None = attribute(
        default=None,
        help="where bucket names stand: in the `path`, or in the host (`virtual`); "
        "`path` by default at an endpoint",
        choices=("path", "virtual"),
    )
    session_token: str | None = attribute(default=None, help="token of temporary credentials")
    url_signature: str = attribute(
        default="v2", help="how private URLs are signed; `v4` ends after 7 days", choices=("v2", "v4")
    )
    url_expires: Duration | None = attribute(
        default=None, help="how long private URLs work: 20 years (`v2`) or 7 days (`v4`)", example="12h"
    )

    @classmethod
    def declare(cls, tag: Tag, declaring: Declaring) -> "S3 | None":
        """Wherever its name is written, both fields have it."""
        declared = super().declare(tag, declaring)
        return declared and replace(declared, name=declared.client_name, name_attribute=declared.client_name)

    @classmethod
    def slot(cls, tag: Tag) -> tuple[str, object]:
        return "s3", tag.values[0] if tag.values else tag.attributes.get("name") or ""

    def check(self) -> Iterator[str]:
        if self.name and self.name_attribute and self.name != self.name_attribute:
            yield f"two names are given: '{self.name}' and '{self.name_attribute}'"
        if self._credentials() is None:
            for name in ("key", "secret"):
                if not getattr(self, name):
                    yield f"expected '{name}' attribute to be set"
        for name, text in self._header_texts():
            if text and not (text.isascii() and text.isprintable()):
                yield f"'{name}' holds characters that no header may hold, as a line end"
        region = self._region()
        if region and not _REGION.fullmatch(region):
            shown = literal(region)
            yield f"expected 'region' attribute value to be a name such as eu-west-1; got: {shown}"
        try:
            endpoint_of(self._endpoint(), self.ssl, self.style)
        except ValueError as error:
            yield f"expected 'endpoint' attribute value to be a URL or host: {error}"
        if self.url_signature == "v4" and (self.url_expires or 0) > MAX_EXPIRES_S:
            yield "'url-expires' is at most 7 days with signature 'v4'"

    def concerns(self) -> Iterator[str]:
        """What may not work although it is allowed."""
        region = self._region()
        if self.url_signature == "v2" and self._endpoint() is None and region and region not in SIGNS_V2:
            yield (
                f"region '{region}' refuses private URLs with signature v2; "
                'url-signature="v4" makes such that work for up to 7 days'
            )

    @property
    def client_name(self) -> str:
        """What `s3=` of other statements says; empty for the one without a name."""
        return self.name or self.name_attribute

    def account(self) -> Account:
        """The account, completed from the environment."""
        credentials = self._credentials()
        assert credentials is not None, "checked when it was declared"  # noqa: S101
        longest = MAX_EXPIRES_S if self.url_signature == "v4" else TWENTY_YEARS_S
        return Account(
            credentials,
            endpoint_of(self._endpoint(), self.ssl, self.style),
            self._region(),
            cast(UrlSignature, self.url_signature),
            self.url_expires or longest,
        )

    def _header_texts(self) -> Iterator[tuple[str, str | None]]:
        """What goes into headers of requests, also from the environment."""
        credentials = self._credentials()
        if credentials:
            yield "key", credentials.key_id
            yield "session-token", credentials.session_token

    def _credentials(self) -> Credentials | None:
        """Those of the statement, else those of the environment; never half of each."""
        if self.key and self.secret:
            return Credentials(self.key, self.secret, self.session_token)
        key, secret = _environment("AWS_ACCESS_KEY_ID"), _environment("AWS_SECRET_ACCESS_KEY")
        if self.key or self.secret or not key or not secret:
            return None
        return Credentials(key, secret, self.session_token or _environment("AWS_SESSION_TOKEN"))

    def _endpoint(self) -> str | None:
        return self.endpoint or _environment("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")

    def _region(self) -> str | None:
        return self.region or _environment("AWS_REGION", "AWS_DEFAULT_REGION")


def _environment(*names: str) -> str | None:
    return next((text for name in names if (text := os.environ.get(name))), None)
