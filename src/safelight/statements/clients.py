"""`thumbnailer` and `s3`: the services that endpoints use."""

from safelight.config.spec import Statement, attribute
from safelight.statements.registry import configuration


@configuration("thumbnailer")
class Thumbnailer(Statement):
    """Send image processing to another server that speaks the thumbnailer protocol.

    Without this statement the embedded engine is used. At most one.
    """

    example = 'thumbnailer url="http://127.0.0.1:3100"'
    ignores_values = True

    url: str = attribute(help="base URL of the thumbnailer", example="http://127.0.0.1:3100")


@configuration("s3")
class S3(Statement):
    """Credentials for S3 compatible object storage. At most one."""

    example = 's3 key="AKIDEXAMPLE" secret="SECRETEXAMPLE" ssl=true'

    key: str = attribute(help="access key id")
    secret: str = attribute(help="secret access key")
    ssl: bool = attribute(default=True, help="use https, for requests and in output URLs")

    def __repr__(self) -> str:
        return f"<S3 {self.tag.position}>"
