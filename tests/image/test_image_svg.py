"""The guard in front of the SVG renderer, as a table of attacks."""

import base64
import gzip

import pytest
from image_makers import error_of, flat, pixels, png_header, size

from safelight.errors import UnsupportedMedia
from safelight.image.identify import identify
from safelight.image.result import ImageInfo
from safelight.image.settings import ImageSettings

XMLNS = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
NO_DECODER = "unsupported media type: no decode delegate for this image format"


def document(body: str, before: str = "") -> bytes:
    return f'{before}<svg {XMLNS} width="40" height="20">{body}</svg>'.encode()


def data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


RED = '<rect width="40" height="20" fill="red"/>'
GOOD = {
    "plain": document(RED),
    "declaration": document(
        '<rect width="40" height="20" fill="red"/>', '<?xml version="1.0" encoding="UTF-8"?>\n'
    ),
    "comment first": document(RED, "<!-- made by hand -->"),
    "byte order mark": b"\xef\xbb\xbf" + document(RED),
    "inner reference": document(
        '<g id="a"><rect width="40" height="20" fill="red"/></g><use xlink:href="#a"/>'
    ),
    "inner url": document(
        '<linearGradient id="g"><stop stop-color="red"/></linearGradient>'
        '<rect width="40" height="20" fill="url(#g)"/>'
    ),
    "embedded image": document(f'<image width="40" height="20" href="{data_url(flat(4, 2, (255, 0, 0)))}"/>'),
    "style": document('<style>rect { fill: red; }</style><rect width="40" height="20"/>'),
    "gzip": gzip.compress(document(RED)),
    "prefixed": b'<s:svg xmlns:s="http://www.w3.org/2000/svg" width="40" height="20">'
    b'<s:rect width="40" height="20" fill="red"/></s:svg>',
}


@pytest.mark.parametrize("name", GOOD)
def test_good_documents(name: str) -> None:
    assert identify(GOOD[name], ImageSettings()) == ImageInfo("image/svg+xml", 40, 20)
    assert tuple(pixels(GOOD[name], "fit,80,80,png")[20, 40]) == (255, 0, 0)


def test_svg_is_drawn_at_the_size_wanted() -> None:
    result = pixels(document('<rect width="20" height="20"/>'), "fit,400,400,png")
    assert result.shape == (200, 400, 3)
    assert (result[:, :199] == 0).all()
    assert (result[:, 201:] == 255).all()


def test_svg_becomes_png_when_the_format_is_input() -> None:
    assert size(GOOD["plain"], "fit,10,10,input") == (10, 5)


ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 9))
BAD = {
    "entity bomb": document("<text>&e8;</text>", f'<!DOCTYPE svg [<!ENTITY e0 "lol">{ENTITIES}]>'),
    "doctype": document("", '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://example.com/svg11.dtd">'),
    "external entity": document(
        "<text>&x;</text>", '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    ),
    "file": document('<image width="9" height="9" href="file:///etc/passwd"/>'),
    "xlink file": document('<image width="9" height="9" xlink:href="/etc/passwd"/>'),
    "relative": document('<image width="9" height="9" href="other.png"/>'),
    "http": document('<image width="9" height="9" href="http://169.254.169.254/"/>'),
    "use of another file": document('<use href="other.svg#a"/>'),
    "svg in svg": document(f'<image width="9" height="9" href="{data_url(document(""), "svg+xml")}"/>'),
    "svg in svg, lying": document(f'<image width="9" height="9" href="{data_url(document(""))}"/>'),
    "bomb in svg": document(f'<image width="9" height="9" href="{data_url(png_header(60_000, 60_000))}"/>'),
    "junk in svg": document(f'<image width="9" height="9" href="{data_url(b"junk")}"/>'),
    "import": document('<style>@import "http://example.com/a.css";</style>'),
    "import in upper case": document('<style>@IMPORT url("a.css");</style>'),
    "escaped import": document(r'<style>@\69mport "a.css";</style>'),
    "css url": document("<style>rect { fill: url(http://example.com/a) }</style>"),
    "css url in quotes": document("<style>rect { fill: url( 'a.png' ) }</style>"),
    "escaped url": document(r'<rect style="fill: u\72l(http://example.com)"/>'),
    "commented url": document("<style>rect { fill: /**/url(/*x*/http://example.com) }</style>"),
    "attribute url": document('<rect fill="url(http://example.com/a#b)"/>'),
    "font": document("<style>@font-face { src: url(font.ttf) }</style>"),
    "stylesheet": document("", '<?xml-stylesheet href="a.css"?>'),
    "xinclude": document('<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="#a"/>'),
    "base": document("", "").replace(b"<svg ", b'<svg xml:base="http://example.com/" '),
    "much text": document(f"<text>{'a' * 10_000}</text>"),
    "much text in spans": document(f"<text>{'<tspan>aaaaaaaaaa</tspan>' * 1000}</text>"),
    "deep": document("<g>" * 10_000 + "</g>" * 10_000),
    "use bomb": document(
        "<g id='a0'><rect/></g>"
        + "".join(f"<g id='a{n}'>" + f"<use href='#a{n - 1}'/>" * 10 + "</g>" for n in range(1, 9))
    ),
    "use circle": document('<g id="a"><use href="#b"/></g><g id="b"><use href="#a"/></g>'),
    "not closed": b"<svg xmlns='http://www.w3.org/2000/svg'>",
    "latin 1": document("<text>\u00e9</text>", '<?xml version="1.0" encoding="ISO-8859-1"?>'),
    "utf-7": document("", '<?xml version="1.0" encoding="UTF-7"?>'),
    "utf-16": '<?xml version="1.0" encoding="UTF-16"?><svg/>'.encode("utf-16"),
    "not utf-8": document("<text>") + b"\xff</text></svg>",
    "nul": document("\0"),
    "html": b"<!DOCTYPE html><html></html>",
    "other xml": b"<?xml version='1.0'?><feed><svg/></feed>",
    "too long": document(" " * (2 << 20)),
    "gzip bomb": gzip.compress(b" " * (64 << 20)),
    "broken gzip": gzip.compress(document(""))[:-9],
    "gzip of something else": gzip.compress(b"hello"),
    "absurd size": document("").replace(b'width="40"', b'width="1e9"'),
    "absurd view box": document("").replace(b'width="40" height="20"', b'viewBox="0 0 1e9 5"'),
    "no size": b"<svg/>",
}


@pytest.mark.parametrize("name", BAD)
def test_attacks(name: str) -> None:
    error = error_of(BAD[name], "fit,10,10,png")
    assert isinstance(error, UnsupportedMedia), error.detail
    assert error.message == NO_DECODER


def test_text_up_to_the_limit() -> None:
    size(document(f"<text>{'a' * 100}</text>"), "fit,10,10,png", ImageSettings(svg_max_text=100))
    error = error_of(document(f"<text>{'a' * 101}</text>"), "fit,10,10,png", ImageSettings(svg_max_text=100))
    assert error.detail == "SVG refused: more than 100 characters of text"
