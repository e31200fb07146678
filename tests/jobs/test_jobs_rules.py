"""What the older server refuses without a look at source or destination (reference/imgserve 3, 4.1, 6)."""

from typing import Any

import msgspec
import pytest

from safelight.jobs.record import Delivery, Form, LegacyOperation, Order, Output, decode_order, encode_order
from safelight.jobs.rules import LegacyJob, Refused, Schemes, Unreadable, name_and_extension, read_job

EVERY = frozenset({"http", "https", "ftp", "ftps", "file"})
OPEN = Schemes(EVERY, EVERY | {"s3"})
CLOSED = Schemes(EVERY - {"file"}, EVERY - {"file"})
JOB: dict[str, Any] = {
    "operationType": "resize",
    "srcURL": "http://origin.example/a/Ex.png",
    "dstURL": "ftp://images.example/out/{$width}-{$basename}.{$ext}",
    "args": {"width": 200, "height": 120},
}


def job(*, args: Any = None, **changes: Any) -> dict[str, Any]:
    """`JOB` with changes; those in `args` are put into its arguments."""
    return {**JOB, "args": {**JOB["args"], **(args or {})}, **changes}


def read(written: Any, schemes: Schemes = OPEN) -> LegacyJob:
    return read_job(msgspec.json.encode(written), schemes)


def code(written: Any, schemes: Schemes = OPEN) -> int:
    with pytest.raises(Refused) as refused:
        read(written, schemes)
    assert refused.value.message == "request invalid"
    return int(refused.value.code)


@pytest.mark.covers("j003", "j004", "j005", "j006")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{'a': 1}",
        b"\xff",
        b"{}",
        b"[]",
        b"null",
        b"0",
        b"false",
        b'""',
        b"[1]",
        b'"x"',
        b"5",
        b"[" * 100_000,
        b"NaN",
    ],
)
def test_what_is_no_object_or_an_empty_one_cannot_be_parsed(body: bytes) -> None:
    with pytest.raises(Unreadable, match="request parse error"):
        read_job(body, OPEN)


@pytest.mark.covers("j007", "j008")
@pytest.mark.parametrize("key", sorted(JOB))
def test_exactly_the_four_keys(key: str) -> None:
    assert code({name: value for name, value in JOB.items() if name != key}) == 101
    assert code({**JOB, "more": 1}) == 101
    assert code({**{name: value for name, value in JOB.items() if name != key}, key.lower() + "_": 1}) == 101


@pytest.mark.covers("j009", "j010", "j011", "j012", "j013", "j014")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"operationType": "crop"}, 102),
        ({"operationType": "Resize"}, 102),
        ({"operationType": ["resize"]}, 102),
        ({"operationType": None}, 102),
        ({"args": "x"}, 103),
        ({"args": []}, 103),
        ({"args": None}, 103),
        ({"srcURL": ""}, 104),
        ({"srcURL": None}, 104),
        ({"srcURL": 5}, 104),
        ({"srcURL": "http://h/" + "a" * 8200 + ".png"}, 104),
        ({"dstURL": ""}, 105),
        ({"dstURL": False}, 105),
        ({"dstURL": ["ftp://h/a.png"]}, 105),
        ({"args": {}}, 106),
        ({"args": {"width": 1}}, 106),
        ({"args": {"height": 1}}, 106),
        ({"args": {"width": "x"}}, 106),
        ({"args": {"width": 200, "height": "120"}}, 107),
        ({"args": {"width": 200, "height": 120.0}}, 107),
        ({"args": {"width": 200, "height": None}}, 107),
        ({"args": {"width": True, "height": 120}}, 107),
        ({"args": {"width": 0, "height": 120}}, 107),
        ({"args": {"width": 200, "height": -1}}, 107),
        ({"args": {"width": 200, "height": 10**30}}, 107),
    ],
)
def test_what_must_be_there_and_of_its_type(changes: dict[str, Any], expected: int) -> None:
    assert code({**JOB, **changes}) == expected


@pytest.mark.covers("j067")
def test_pictures_of_more_than_25_million_pixels_are_refused() -> None:
    assert read(job(args={"width": 5000, "height": 5000})).operation.width == 5000
    assert code(job(args={"width": 5000, "height": 5001})) == 107
    assert code(job(args={"width": 65_501, "height": 1})) == 107


@pytest.mark.covers("j015")
@pytest.mark.parametrize(
    ("operation", "source"),
    [
        ("resize", "http://h/a.tiff"),
        ("resize", "http://h/a"),
        ("resize", "http://h/.png"),
        ("resize", "http://h.png/"),
        ("resize", "http://h/a.svg"),
        ("resize", "http://h/a?b.png"),
        ("rasterize", "http://h/a.png"),
    ],
)
def test_extensions_of_sources(operation: str, source: str) -> None:
    assert code(job(operationType=operation, srcURL=source)) == 108


@pytest.mark.covers("j016")
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h/a/Ex.png", ("Ex", "png")),
        ("http://h/Ex.png?size=1&x=a.gif", ("Ex", "png")),
        ("http://h/Ex.png#top.gif", ("Ex", "png")),
        ("http://h/Ex.png#a?b", ("Ex", "png")),
        ("http://h/a.b.JPG", ("a.b", "JPG")),
        ("http://h/a%20b.png", ("a%20b", "png")),
        ("http://h/.png", (".png", "")),
        ("http://h/name", ("name", "")),
    ],
)
def test_name_and_extension(url: str, expected: tuple[str, str]) -> None:
    assert name_and_extension(url) == expected


@pytest.mark.covers("j017", "j018")
@pytest.mark.parametrize("scheme", ["gopher", "HTTP", "data", "", "s3"])
def test_schemes(scheme: str) -> None:
    """Case matters; buckets are no sources."""
    url = f"{scheme}://h/a.png" if scheme else "a.png"
    assert code(job(srcURL=url)) == 109
    if scheme != "s3":
        assert code(job(dstURL=url)) == 110


@pytest.mark.covers("j065")
def test_files_need_a_configured_root() -> None:
    assert code(job(srcURL="file:///srv/a.png"), CLOSED) == 109
    assert code(job(dstURL="file:///srv/a.png"), CLOSED) == 110
    assert code(job(dstURL="s3://bucket/a.png"), CLOSED) == 110
    assert read(job(srcURL="file:///srv/a.png", dstURL="file:///srv/b.png")).source == "file:///srv/a.png"


@pytest.mark.covers("j051", "j052")
@pytest.mark.parametrize("scheme", ["https", "ftps"])
def test_secure_schemes_are_supported(scheme: str) -> None:
    url = f"{scheme}://h/a.png"
    assert read(job(srcURL=url)).source == url
    assert read(job(dstURL=f"{scheme}://h/:a.png", args={"field_file": "f"})).destination.endswith("a.png")


@pytest.mark.covers("j019", "j020")
def test_forms_need_the_name_of_their_field() -> None:
    to_form = "http://h/upload.html:a.png"
    assert code(job(dstURL=to_form)) == 111
    assert code(job(dstURL=to_form, args={"field_file": ""})) == 111
    assert code(job(dstURL=to_form, args={"field_file": 5})) == 112
    assert code(job(dstURL=to_form, args={"field_name": ["f"]})) == 112
    assert code(job(dstURL=to_form, args={"field_file": "f" * 201})) == 112
    assert read(job(dstURL="ftp://h/a.png", args={"field_file": 5})).delivery == Delivery("ftp://h/a.png")


@pytest.mark.covers("j038")
def test_both_names_of_the_field() -> None:
    to_form = "http://h/upload.html:a.png"
    one = read(job(dstURL=to_form, args={"field_name": "image"}))
    both = read(job(dstURL=to_form, args={"field_name": "image", "field_file": "file"}))
    assert [one.delivery.form, both.delivery.form] == [Form("image", "a.png"), Form("file", "a.png")]


@pytest.mark.covers("j021")
@pytest.mark.parametrize(
    ("operation", "source", "name", "accepted"),
    [
        ("resize", "a.png", "b.png", True),
        ("resize", "a.PNG", "b.png", True),
        ("resize", "a.png", "b.PNG", True),
        ("resize", "a.jpg", "b.jpeg", True),
        ("resize", "a.JPEG", "b.jpg", True),
        ("resize", "a.png", "b.gif", False),
        ("resize", "a.png", "b", False),
        ("resize", "a.png", "b.png.gif", False),
        ("rasterize", "a.svg", "b.png", True),
        ("rasterize", "a.SVG", "b.PNG", True),
        ("rasterize", "a.svg", "b.svg", False),
        ("rasterize", "a.svg", "b.{$ext}", False),
    ],
)
def test_extensions_of_destinations(operation: str, source: str, name: str, accepted: bool) -> None:
    for to, args in (("ftp://h/", {}), ("http://h/page.gif:", {"field_file": "f"})):
        written = job(operationType=operation, srcURL=f"http://h/{source}", dstURL=to + name, args=args)
        if accepted:
            assert read(written).operation.format in ("png", "jpeg")
        else:
            assert code(written) == 113


@pytest.mark.covers("j022", "j023")
def test_the_lowest_code_is_told() -> None:
    """All faults at once, mended one after the other."""
    broken: dict[str, Any] = {
        "operationType": "crop", "srcURL": "", "dstURL": "", "args": "x", "more": 1
    }  # fmt: skip
    mending: list[tuple[str, Any]] = [
        ("operationType", "resize"),
        ("args", {}),
        ("srcURL", "gopher://h/a.tiff"),
        ("dstURL", "gopher:a.gif"),
        ("args", {"width": "1", "height": "1", "field_file": 5}),
        ("args", {"width": 1, "height": 1, "http_method": "BREW"}),
        ("srcURL", "gopher://h/a.png"),
        ("srcURL", "http://h/a.png"),
        ("dstURL", "http://h/:a.gif"),
        ("args", {"width": 1, "height": 1}),
        ("args", {"width": 1, "height": 1, "field_file": 5}),
        ("args", {"width": 1, "height": 1, "field_file": "f"}),
    ]
    assert code(broken) == 101
    del broken["more"]
    codes = [code(broken)]
    for key, value in mending:
        broken[key] = value
        codes.append(code(broken))
    assert codes == [102, 103, 104, 105, 106, 107, 108, 109, 110, 112, 111, 112, 113]


@pytest.mark.covers("j031", "j032", "j033", "j034", "j035")
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("ftp://h/{$width}x{$height}/{$basename}.{$ext}", "ftp://h/200x120/Ex.png"),
        ("ftp://h/{$basename}.{$extension}", "ftp://h/Ex.png"),
        ("ftp://h/{$width}/{$width}.png", "ftp://h/200/200.png"),
        ("ftp://h:2121/{$width}/x.png", "ftp://h:2121/200/x.png"),
        ("ftp://{$width}:pw@h/{$height}.png", "ftp://{$width}:pw@h/120.png"),
        ("ftp://h/{$Width}{$depth}{width}.png", "ftp://h/{$Width}{$depth}{width}.png"),
        ("file:///srv/{$width}.png", "file:///srv/200.png"),
    ],
)
def test_tags(written: str, expected: str) -> None:
    found = read(job(dstURL=written))
    assert (found.destination, found.delivery) == (expected, Delivery(expected))


@pytest.mark.covers("j036")
@pytest.mark.parametrize(
    ("written", "page", "name"),
    [
        ("http://h/p.html:{$width}.png", "http://h/p.html", "200.png"),
        ("http://h/{$width}:{$width}.png", "http://h/{$width}", "200.png"),
        ("http://h:8089/:x.png", "http://h:8089/", "x.png"),
        ("https://u:p@h:8089/a?b=c:{$basename}.png", "https://u:p@h:8089/a?b=c", "Ex.png"),
    ],
)
def test_page_and_file_name_are_split_at_the_last_colon(written: str, page: str, name: str) -> None:
    found = read(job(dstURL=written, args={"field_file": "f"}))
    assert found.delivery == Delivery(page, Form("f", name))
    assert found.destination == f"{page}:{name}"


def test_a_source_cannot_choose_the_page_of_a_form() -> None:
    source = "http://origin.example/evil.example:8080.png"
    found = read(job(srcURL=source, dstURL="http://h/p:{$basename}.png", args={"field_file": "f"}))
    assert found.delivery == Delivery("http://h/p", Form("f", "evil.example:8080.png"))


def test_tags_are_substituted_in_one_pass() -> None:
    found = read(job(srcURL="http://h/{$width}.png", dstURL="ftp://h/{$basename}.png"))
    assert found.destination == "ftp://h/{$width}.png"


@pytest.mark.covers("j053")
def test_put_needs_no_field_and_has_a_plain_url() -> None:
    put = {"http_method": "put"}
    found = read(job(dstURL="http://h:8080/{$width}/a:b.png", args=put))
    assert found.delivery == Delivery("http://h:8080/200/a:b.png")
    assert code(job(dstURL="http://h/a.png", args={"http_method": "PATCH"})) == 112
    assert code(job(dstURL="http://h/a.png", args={"http_method": 1, "field_file": "f"})) == 112
    assert code(job(dstURL="http://h/a.png:b.gif", args=put)) == 113
    assert read(job(dstURL="ftp://h/a.png", args={"http_method": "BREW"})).delivery.form is None


@pytest.mark.covers("j032")
def test_put_substitutes_tags_in_the_path_only() -> None:
    found = read(job(dstURL="http://{$width}.example/{$width}.png", args={"http_method": "PUT"}))
    assert found.destination == "http://{$width}.example/200.png"


def test_what_was_accepted_can_be_stored_and_read_again() -> None:
    """Tags can make names of any length: what is too long for a record is refused here."""
    long = "n" * 8000
    assert code(job(srcURL=f"http://h/{long}.png", dstURL="ftp://h/{$basename}{$basename}.png")) == 105
    to_form = job(srcURL=f"http://h/{long}.png", dstURL="http://h/:{$basename}.png", args={"field_file": "f"})
    assert code(to_form) == 105
    found = read(job(srcURL=f"http://h/{'n' * 190}.png", dstURL="http://h/:{$basename}.png",
                     args={"field_file": "f" * 200}))  # fmt: skip
    order = Order(found.source, (Output(found.operation, found.delivery),), legacy=True)
    assert decode_order(encode_order(order)) == order


def test_the_operation() -> None:
    assert read(JOB).operation == LegacyOperation("resize", 200, 120, "png")
    assert read(
        job(operationType="rasterize", srcURL="ftp://h/a.svg", dstURL="ftp://h/a.png")
    ).operation == LegacyOperation("rasterize", 200, 120, "png")
