"""Photographs to judge quality by: files of cameras where there are some, enlarged small ones where not."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pyvips
from PIL import Image as PillowImage

TEST_DATA = Path(__file__).parent.parent / "tests" / "data"
LEAST_PIXELS = 1_900_000
"""Cameras of two megapixels give 1600x1200."""

ENLARGED_SIDE = 2400
ENLARGED_QUALITY = 92
_APPLICATION_0, _APPLICATION_15, _ADOBE, _COMMENT, _SCAN = 0xE0, 0xEF, 0xEE, 0xFE, 0xDA
_START, _END = b"\xff\xd8", b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class Photograph:
    """A JPEG file without metadata, so that no program turns it or converts its colours."""

    name: str
    width: int
    height: int
    data: bytes
    is_enlarged: bool = False

    @property
    def longest(self) -> int:
        return max(self.width, self.height)

    def __str__(self) -> str:
        origin = ", ENLARGED" if self.is_enlarged else ""
        return f"{self.name}: {self.width}x{self.height}, {len(self.data):,} bytes{origin}"


def gather(directories: Iterable[Path]) -> list[Photograph]:
    """All JPEG files of two megapixels and more in `directories`, or those of the tests, enlarged.

    Raises: SystemExit, if there are directories and nothing in them.
    """
    paths = [path for directory in directories for path in sorted(directory.iterdir())]
    if not paths:
        return [_enlarged(path) for path in sorted(TEST_DATA.glob("*.jpg"))]
    found = [photo for photo in map(_read, paths) if photo is not None]
    if not found:
        raise SystemExit("there is no JPEG photograph of two megapixels or more")
    return found


def _read(path: Path) -> Photograph | None:
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return None
    data = without_metadata(path.read_bytes())
    with PillowImage.open(BytesIO(data)) as image:
        width, height = image.size
    return Photograph(path.stem, width, height, data) if width * height >= LEAST_PIXELS else None


def _enlarged(path: Path) -> Photograph:
    image = pyvips.Image.thumbnail(str(path), ENLARGED_SIDE, height=ENLARGED_SIDE).copy_memory()
    data = image.jpegsave_buffer(Q=ENLARGED_QUALITY, subsample_mode="on", keep="none")
    return Photograph(path.stem, image.width, image.height, data, is_enlarged=True)


def without_metadata(data: bytes) -> bytes:
    """A JPEG without comments, application segments (JFIF and Adobe excepted), and what follows its end."""
    kept = [_START]
    for marker, start, end in _segments(data):
        is_metadata = marker == _COMMENT or _APPLICATION_0 < marker <= _APPLICATION_15
        if marker == _ADOBE or not is_metadata:
            kept.append(data[start:end])
    return b"".join(kept)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment (ITU T.81, B.1.1); the last holds all scans."""
    position = len(_START)
    while True:
        marker = data[position + 1]
        if marker == _SCAN:
            yield marker, position, data.index(_END, position) + len(_END)
            return
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        yield marker, position, end
        position = end
