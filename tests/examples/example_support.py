"""What a client sees of an example, without a socket."""

import io
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy
import pytest
from example_places import Place
from PIL import Image

from safelight.blob import MemoryBlob
from safelight.errors import SafelightError
from safelight.model import Answer, Api, Request
from safelight.run import run
from safelight.server.errors import error_answer
from safelight.uri import parse_query

EXAMPLES = Path(__file__).parents[2] / "examples"
SIZE = (120, 80)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client sees."""

    status: int
    content_type: str
    cache_control: str | None
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def addresses(self) -> list[str]:
        """The lines, without the queries that are signatures of private objects."""
        return [line.partition("?")[0] for line in self.text.splitlines()]

    @property
    def image(self) -> Image.Image:
        return opened(self.body)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@dataclass(frozen=True, slots=True)
class Ask:
    """Sends requests to the example that the test is about."""

    api: Api
    place: Place

    async def __call__(self, method: str, target: str, body: bytes = b"") -> Reply:
        async def read_body() -> MemoryBlob:
            return MemoryBlob(body)

        path, _, query = target.partition("?")
        request = Request(method, path, query, parse_query(query), {})
        found = self.api.match(request)
        assert found is not None, f"no endpoint for {method} {target}"
        try:
            answer: Answer = await run(*found, request, read_body, 1 << 27)
        except SafelightError as error:
            answer = error_answer(error)
        return Reply(answer.status, answer.content_type, answer.cache_control, answer.body.read())

    def stored(self, root: str, key: str) -> Image.Image:
        return opened(self.place.read(root, key))


def example(name: str) -> pytest.MarkDecorator:
    """Use an example on files and on S3."""
    return pytest.mark.parametrize("ask", [(name, "files"), (name, "buckets")], indirect=True, ids="-".join)


def picture(image_format: str = "JPEG") -> bytes:
    """120 x 80 pixels, black on the left to red on the right."""
    columns = numpy.tile(numpy.linspace(0, 255, SIZE[0]).astype("uint8"), (SIZE[1], 1))
    pixels = numpy.dstack([columns, columns // 4, columns // 8])
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, image_format, quality=95)
    return data.getvalue()


PICTURE = picture()
DIGEST = sha256(PICTURE).hexdigest()[:16]
