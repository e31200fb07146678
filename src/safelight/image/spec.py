"""Thumbnail specifications as values: `method,width,height,format,key:value...!edit,arg...,key:value...`.

Grammar and messages: reference/thumbnailer section 4. Parsing only; whether a method, an edit or a colour
exists is found out when the image is processed.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from safelight.errors import SpecError

MAX_EDITS = 64
MAX_SPECS = 32
_DIMENSION = re.compile(r"[0-9]+")
_DIMENSION_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Edit:
    """One step applied before the thumbnailing method: raw argument texts and options."""

    name: str
    args: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        return ",".join([self.name, *self.args, *_option_texts(self.options)])


@dataclass(frozen=True, slots=True)
class ThumbnailSpec:
    """One requested output. `width` and `height` in pixels, None for the side of the input."""

    method: str
    width: int | None
    height: int | None
    format: str
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    edits: tuple[Edit, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "ThumbnailSpec":
        """Parse the wire form. Raises: SpecError, naming the specification."""
        try:
            head, *edit_texts = split(text, "!") or [""]
            items = split(head, ",")
            method, width, height, image_format = (items + [""] * 4)[:4]
            options = parse_options(items[4:])
            edits = parse_edits(edit_texts)
            return cls.make(method, width, height, image_format, options, edits)
        except SpecError as error:
            raise SpecError(f"{error.message} in spec '{text}'") from error

    @classmethod
    def make(
        cls,
        method: str,
        width: str,
        height: str,
        image_format: str,
        options: Mapping[str, str],
        edits: Sequence[Edit],
    ) -> "ThumbnailSpec":
        """Check the four leading texts and build the value. Raises: SpecError."""
        named = {"method": method, "width": width, "height": height, "format": image_format}
        for name, text in named.items():
            if not text:
                raise SpecError(f"missing {name} argument")
        if len(edits) > MAX_EDITS:
            raise SpecError(f"too many edits: {len(edits)}, at most {MAX_EDITS} are allowed")
        return cls(
            method,
            _dimension("width", width),
            _dimension("height", height),
            image_format,
            options,
            tuple(edits),
        )

    def __str__(self) -> str:
        sides = ["input" if side is None else str(side) for side in (self.width, self.height)]
        head = ",".join([self.method, *sides, self.format, *_option_texts(self.options)])
        return "!".join([head, *map(str, self.edits)])


def split(text: str, separator: str) -> list[str]:
    """Split and drop trailing empty items, keep inner ones (reference 4.1)."""
    items = text.split(separator)
    while items and not items[-1]:
        items.pop()
    return items


def parse_options(items: Sequence[str]) -> dict[str, str]:
    """Turn `key:value` items into a dict; a later duplicate wins. Raises: SpecError (reference 4.2)."""
    for position, item in enumerate(items, 1):
        if not item:
            raise SpecError(f"missing key-value pair on position {position}")
    options: dict[str, str] = {}
    for item in items:
        key, _, text = item.partition(":")
        if not key:
            raise SpecError(f"missing option key name for value '{text}'")
        if not text:
            raise SpecError(f"missing option value for key '{key}'")
        options[key] = text
    return options


def parse_edit(text: str) -> Edit:
    """Parse `name,arg...,key:value...`. Raises: SpecError."""
    items = split(text, ",")
    count = next((index for index, item in enumerate(items) if ":" in item), len(items))
    head, option_items = items[:count], items[count:]
    name = head[0] if head else ""
    try:
        options = parse_options(option_items)
    except SpecError as error:
        raise SpecError(f"{error.message} for edit '{name}'") from error
    if not name:
        raise SpecError("missing edit name argument")
    return Edit(name, tuple(head[1:]), options)


def parse_edits(texts: Sequence[str]) -> list[Edit]:
    """Parse several edits, counting them before looking inside. Raises: SpecError."""
    if len(texts) > MAX_EDITS:
        raise SpecError(f"too many edits: {len(texts)}, at most {MAX_EDITS} are allowed")
    return [parse_edit(text) for text in texts]


def _dimension(name: str, text: str) -> int | None:
    if text == "input":
        return None
    if not _DIMENSION.fullmatch(text):
        raise SpecError(f"{name} value '{text}' is not an integer or 'input'")
    if len(text.lstrip("0")) > _DIMENSION_DIGITS:
        raise SpecError(f"{name} value '{text}' is too large")
    return int(text)


def _option_texts(options: Mapping[str, str]) -> Iterable[str]:
    return (f"{key}:{options[key]}" for key in sorted(options))
