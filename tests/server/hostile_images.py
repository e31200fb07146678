"""What strangers upload: images of every format, cut short, damaged, and larger than they look."""

import io
import random
import struct
import zlib
from functools import cache
from pathlib import Path

from PIL import Image

PHOTO = Path(__file__).parents[1] / "data" / "rocket.jpg"

SAVED_AS: dict[str, tuple[str, dict[str, object]]] = {
    "jpeg": ("JPEG", {"quality": 85}),
    "progressive": ("JPEG", {"quality": 85, "progressive": True}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "lossless": ("WEBP", {"lossless": True}),
    "gif": ("GIF", {}),
    "tiff": ("TIFF", {}),
    "deflated": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "avif": ("AVIF", {}),
    "bmp": ("BMP", {}),
    "tga": ("TGA", {}),
    "pcx": ("PCX", {}),
    "ppm": ("PPM", {}),
    "dds": ("DDS", {}),
    "jpeg2000": ("JPEG2000", {}),
    "sgi": ("SGI", {}),
    "icns": ("ICNS", {}),
    "ico": ("ICO", {}),
    "qoi": ("QOI", {}),
}

SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60">'
    b'<rect width="90" height="60" fill="red"/><text x="9" y="30">hello</text></svg>'
)


@cache
def image(name: str) -> bytes:
    """A good image of 96x64 pixels, 64x64 for the formats of icons."""
    if name == "svg":
        return SVG
    format_name, options = SAVED_AS[name]
    with Image.open(PHOTO) as photo:
        small = photo.convert("RGB").resize((64, 64) if name in ("icns", "ico") else (96, 64))
    data = io.BytesIO()
    small.save(data, format_name, **options)
    return data.getvalue()


def truncated(name: str, share: float) -> bytes:
    data = image(name)
    return data[: max(1, int(len(data) * share))]


def damaged(name: str, seed: int) -> bytes:
    """Every hundredth byte behind the first 40 is another one."""
    noise = random.Random(seed)
    data = bytearray(image(name))
    for place in range(40, len(data)):
        if not noise.randrange(100):
            data[place] = noise.randrange(256)
    return bytes(data)


def png(width: int, height: int, *, bits: int = 8, colour: int = 2, pixels: bytes = b"") -> bytes:
    """PNG specification, section 5; `pixels` not compressed yet."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def gif(width: int, height: int, frames: int = 1) -> bytes:
    """GIF89a with an empty LZW stream for each frame (specification, sections 18 to 22)."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\x00"
    return screen + frame * frames + b";"


def webp(width: int, height: int) -> bytes:
    """A lossless header (RFC 9649, 3.4) in front of nothing much."""
    bits = (width - 1) | (height - 1) << 14
    body = b"\x2f" + struct.pack("<I", bits) + bytes(64)
    chunk = b"VP8L" + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def jpeg(width: int, height: int) -> bytes:
    """A grey baseline frame (ITU T.81, annex B) and a scan of nothing."""
    frame = struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)
    start = b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame
    return start + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + bytes(64)


ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 9))

BOMBS: dict[str, bytes] = {
    "png of one gigapixel": png(30_000, 30_000, bits=1, colour=0, pixels=bytes(3751 * 30_000)),
    "png that claims 60,000 x 60,000": png(60_000, 60_000, pixels=bytes(1000)),
    "gif that claims 65,535 x 65,535": gif(65_535, 65_535),
    "webp that claims 16,384 x 16,384": webp(16_384, 16_384),
    "jpeg that claims 60,000 x 60,000": jpeg(60_000, 60_000),
    "tiff that claims 60,000 x 60,000": (
        b"II*\0\x08\0\0\0\x05\0"
        + b"".join(
            struct.pack("<HHII", tag, 4, 1, value)
            for tag, value in ((256, 60_000), (257, 60_000), (262, 1), (273, 8), (279, 100))
        )
        + bytes(4)
    ),
    "svg of entities": (
        f'<!DOCTYPE svg [<!ENTITY e0 "boom">{ENTITIES}]>'
        '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><text>&e8;</text></svg>'
    ).encode(),
    "svg with much text": SVG.replace(b"hello", b"hello " * 20_000),
    "svg of 3 MiB": SVG.replace(b"</svg>", b"<g/>" * 800_000 + b"</svg>"),
    "svg that claims a million pixels a side": SVG.replace(b'"90"', b'"1000000"').replace(
        b'"60"', b'"1000000"'
    ),
    "svg that reads a file": SVG.replace(
        b"<text", b'<image href="file:///etc/passwd" width="9" height="9"/><text'
    ),
    "svg that asks the network": SVG.replace(b"<text", b'<image href="http://127.0.0.1:9/x.png"/><text'),
}

RUBBISH: dict[str, bytes] = {
    "one byte": b"\xff",
    "a nul": b"\0",
    "text": b"hello world!",
    "html": b"<html><body>no image</body></html>",
    "zip": b"PK\x03\x04" + bytes(100),
    "pdf": b"%PDF-1.7\n" + bytes(100),
    "jpeg marker": b"\xff\xd8\xff",
    "png signature": b"\x89PNG\r\n\x1a\n",
    "noise": random.Random(1).randbytes(10_000),
    "postscript": b"%!PS-Adobe-3.0\n(x) run",
    "mvg": b"push graphic-context\nimage over 0,0 0,0 'https://127.0.0.1/x'\n",
}
