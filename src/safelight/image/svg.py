"""The guard in front of the SVG renderer: refuses what could reach outside or keep it busy for minutes.

Facts behind it: a document below 1 KB whose entities expand to 100 KB of text kept the renderer busy for
eight minutes at 745 MB; 10,000 characters of plain text take 6 s. What passes here is still rendered only in
a process that can be killed.
"""

import binascii
import re
import zlib
from base64 import b64decode
from collections.abc import Callable, Mapping
from urllib.parse import unquote_to_bytes
from xml.parsers import expat

from safelight.errors import SafelightError, UnsupportedMedia
from safelight.image.formats import NO_DECODER, Buffer
from safelight.image.settings import ImageSettings

_GZIP = b"\x1f\x8b"
_ENCODING = re.compile(rb"<\?xml[^>]*?encoding\s*=\s*[\"']([^\"']*)[\"']")
_SAFE_ENCODINGS = (b"utf-8", b"utf8", b"us-ascii", b"ascii")
_NAMESPACE = "http://www.w3.org/2000/svg"
_FOREIGN_SPACES = ("http://www.w3.org/2001/xinclude",)
_REFERENCES = ("href", "src", "base")  # attributes, whatever their namespace
_RASTER = re.compile(r"data:image/(?:png|jpe?g|gif|webp|avif)[;,]", re.IGNORECASE)
_CSS_COMMENT = re.compile(r"/\*.*?(?:\*/|$)", re.DOTALL)
_CSS_ESCAPE = re.compile(r"\\(?:([0-9a-fA-F]{1,6})\s?|(.))", re.DOTALL)
_CSS_URL = re.compile(r"\b(?:url|src|image|image-set)\s*\(\s*[\"']?\s*([^\"')\s]*)", re.IGNORECASE)
_TEXT_ELEMENTS = ("text", "tspan", "textPath", "tref")
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]{1,4})?")
_MAX_SIDE = 100_000  # whatever the unit
_MAX_DEPTH = 200
_MAX_USE_DEPTH = 20
_MAX_COPIES = 10_000
_MAX_ELEMENTS = 100_000
_MAX_EMBEDDED_IMAGES = 100

CheckImage = Callable[[bytes], None]


def read_document(data: Buffer, settings: ImageSettings, check_image: CheckImage) -> bytes:
    """The document, unpacked if it was gzipped, once it is known to be harmless.

    `check_image` is called with every embedded raster image and refuses by raising.
    Raises: UnsupportedMedia.
    """
    if len(data) > settings.svg_max_bytes:
        raise _refused(f"{len(data)} bytes")
    document = _unpacked(bytes(data), settings.svg_max_bytes)
    _check_encoding(document)
    _Guard(settings.svg_max_text, check_image).check(document)
    return document


def _refused(reason: str) -> UnsupportedMedia:
    return UnsupportedMedia(NO_DECODER, detail=f"SVG refused: {reason}")


def _unpacked(data: bytes, max_bytes: int) -> bytes:
    if not data.startswith(_GZIP):
        return data
    unpacker = zlib.decompressobj(wbits=31)
    try:
        document = unpacker.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise _refused("broken gzip") from error
    if len(document) > max_bytes or not unpacker.eof:
        raise _refused("unpacks to too many bytes, or is incomplete")
    return document


def _check_encoding(document: bytes) -> None:
    """Only UTF-8, so that this parser and the renderer's read the same characters."""
    declared = _ENCODING.search(document[:1024])
    if declared and declared[1].lower() not in _SAFE_ENCODINGS:
        raise _refused(f"encoding {declared[1][:40]!r}")
    try:
        text = document.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused("not UTF-8") from error
    if "\0" in text:
        raise _refused("NUL character")


class _Guard:
    """One pass of an XML parser over the document, refusing at the first offence."""

    def __init__(self, max_text: int, check_image: CheckImage) -> None:
        self._max_text = max_text
        self._check_image = check_image
        self._open: list[str] = []
        self._ids: list[str | None] = []
        self._uses: dict[str | None, list[str]] = {}
        self._elements = 0
        self._images = 0
        self._characters = 0
        self._text_depth = 0
        self._style: list[str] = []

    def check(self, document: bytes) -> None:
        """Raises: UnsupportedMedia."""
        parser = expat.ParserCreate(encoding="utf-8", namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._doctype
        parser.ProcessingInstructionHandler = self._instruction
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        try:
            parser.Parse(document, True)
        except expat.ExpatError as error:
            raise _refused(f"not well-formed: {error}") from error
        self._expansion(None, 0, {})

    def _copies(self, attributes: Mapping[str, str]) -> None:
        """Remember what a `use` copies, under every identifier that a copy of it may come with."""
        for attribute, value in attributes.items():
            if attribute.rpartition(" ")[2] == "href" and value.strip().startswith("#"):
                for identifier in {None, *self._ids}:
                    self._uses.setdefault(identifier, []).append(value.strip()[1:])

    def _expansion(self, identifier: str | None, depth: int, known: dict[str | None, int]) -> int:
        """How many copies there are below an identifier, copies of copies counted. None: the document."""
        if identifier not in known:
            targets = self._uses.get(identifier, [])
            if depth > _MAX_USE_DEPTH:
                raise _refused("uses nested too deeply or in a circle")
            known[identifier] = sum(1 + self._expansion(target, depth + 1, known) for target in targets)
            if known[identifier] > _MAX_COPIES:
                raise _refused("too many copies by use")
        return known[identifier]

    def _doctype(self, *_declaration: object) -> None:
        raise _refused("document type or entity declaration")

    def _instruction(self, target: str, _data: str) -> None:
        raise _refused(f"processing instruction {target!r}")

    def _start(self, qualified: str, attributes: Mapping[str, str]) -> None:
        namespace, _, name = qualified.rpartition(" ")
        if not self._open:
            self._root(name, attributes)
        if namespace.lower() in _FOREIGN_SPACES:
            raise _refused(f"namespace {namespace!r}")
        self._open.append(name)
        self._ids.append(attributes.get("id"))
        if name == "use":
            self._copies(attributes)
        self._elements += 1
        if len(self._open) > _MAX_DEPTH or self._elements > _MAX_ELEMENTS:
            raise _refused("too many or too deeply nested elements")
        self._text_depth += name in _TEXT_ELEMENTS
        for attribute, value in attributes.items():
            self._attribute(attribute.rpartition(" ")[2].lower(), value)

    def _root(self, name: str, attributes: Mapping[str, str]) -> None:
        """The renderer reports nonsense for sizes beyond its integers."""
        if name != "svg":
            raise _refused(f"root element {name!r}")
        for attribute in ("width", "height", "viewBox"):
            for number in _NUMBER.findall(attributes.get(attribute, "")):
                if abs(float(number)) > _MAX_SIDE:
                    raise _refused(f"{attribute} {attributes[attribute][:40]!r}")

    def _end(self, _qualified: str) -> None:
        name = self._open.pop()
        self._ids.pop()
        self._text_depth -= name in _TEXT_ELEMENTS
        if name.lower() == "style":
            self._check_css("".join(self._style))
            self._style.clear()

    def _text(self, text: str) -> None:
        if self._open and self._open[-1].lower() == "style":
            self._style.append(text)
        elif self._text_depth:
            self._characters += len(text)
            if self._characters > self._max_text:
                raise _refused(f"more than {self._max_text} characters of text")

    def _attribute(self, name: str, value: str) -> None:
        if name in _REFERENCES:
            self._check_reference(value)
        self._check_css(value)

    def _check_reference(self, value: str) -> None:
        target = value.strip()
        if not target or target.startswith("#"):
            return
        if not _RASTER.match(target):
            raise _refused(f"reference to {target[:80]!r}")
        self._images += 1
        if self._images > _MAX_EMBEDDED_IMAGES:
            raise _refused("too many embedded images")
        try:
            self._check_image(_embedded(target))
        except SafelightError as error:
            raise _refused(f"embedded image: {error.detail or error.message}") from error

    def _check_css(self, css: str) -> None:
        if "(" not in css and "@" not in css and "\\" not in css:
            return
        plain = _CSS_ESCAPE.sub(_unescaped, _CSS_COMMENT.sub("", css))
        if "@import" in plain.lower():
            raise _refused("@import")
        for match in _CSS_URL.finditer(plain):
            self._check_reference(match[1])


def _unescaped(match: re.Match[str]) -> str:
    """What a CSS escape stands for (CSS Syntax 3, 4.3.7)."""
    if match[1] is None:
        return match[2]
    code = int(match[1], 16)
    return chr(code) if 0 < code < 0x110000 else "\ufffd"


def _embedded(target: str) -> bytes:
    head, _, body = target.partition(",")
    try:
        return b64decode(body) if "base64" in head.lower() else unquote_to_bytes(body)
    except (binascii.Error, ValueError) as error:
        raise _refused("broken data URL") from error
