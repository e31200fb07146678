"""What replies of a thumbnailer mean (reference/imagestore 5.4 and 5.5, reference/thumbnailer section 8)."""

import pytest

from safelight import errors
from safelight.image.result import ImageInfo, Thumbnail
from safelight.image.spec import Edit, ThumbnailSpec
from safelight.multipart import Part, join
from safelight.protocol import Reply, read_identity, read_thumbnails, thumbnail_path

SOURCE = {"x-input-image-mime-type": "image/png", "x-input-image-width": "40", "x-input-image-height": "30"}


def specs(*texts: str) -> list[ThumbnailSpec]:
    return [ThumbnailSpec.parse(text) for text in texts]


@pytest.mark.covers("s115")
def test_one_specification_and_several_have_different_routes() -> None:
    assert thumbnail_path(specs("crop,1,2,png")) == "/thumbnail/crop,1,2,png"
    assert thumbnail_path(specs("crop,1,2,png", "fit,3,4,jpeg!rotate,30,a:b")) == (
        "/thumbnails/crop,1,2,png/fit,3,4,jpeg!rotate,30,a:b"
    )


def test_no_value_can_break_out_of_its_specification() -> None:
    spec = ThumbnailSpec("crop", 1, 2, "png", {"a": "x/../../stats?b#c %41é"})
    assert thumbnail_path([spec]) == "/thumbnail/crop,1,2,png,a:x%2F..%2F..%2Fstats%3Fb%23c%20%2541%C3%A9"


def test_no_text_becomes_two() -> None:
    """A client that chooses a quality, a format or a caption must not add options, edits or sizes."""
    edit = Edit("b!c", ("d,e!f:g", "h:"), {"i": "j!k,l:m"})
    spec = ThumbnailSpec("fit,9,9,png!a", 1, 2, "png,b:c", {"q:r": "80!rotate,90:x"}, (edit,))
    assert thumbnail_path([spec]) == (
        "/thumbnail/fit%2C9%2C9%2Cpng%21a,1,2,png%2Cb%3Ac,q%3Ar:80%21rotate%2C90:x"
        "!b%21c,d%2Ce%21f%3Ag,h%3A,i:j%21k%2Cl:m"
    )


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("#fff", "0xfff"),
        ("#FF8000", "0xFF8000"),
        ("#f", "%23f"),
        ("#fffff", "%23fffff"),
        ("#ggg", "%23ggg"),
        ("a#fff", "a%23fff"),
        ("#fff/", "%23fff%2F"),
    ],
)
def test_a_colour_with_a_hash_is_sent_in_its_other_form(value: str, sent: str) -> None:
    """No server decodes `%23`."""
    spec = ThumbnailSpec("pad", 1, 2, "png", {"background-color": value}, (Edit("a", (value,)),))
    assert thumbnail_path([spec]) == f"/thumbnail/pad,1,2,png,background-color:{sent}!a,{sent}"


def test_one_thumbnail() -> None:
    headers = {"content-type": "image/jpeg", "x-image-width": "4", "x-image-height": "3", **SOURCE}
    made = read_thumbnails(Reply(200, headers, b"data"), 1)
    assert made.source == ImageInfo("image/png", 40, 30)
    assert made.outputs == (Thumbnail(b"data", "image/jpeg", 4, 3),)


@pytest.mark.covers("s124")
def test_servers_before_1_1_call_the_type_otherwise() -> None:
    headers = {"content-type": "image/jpeg", "x-input-image-content-type": "image/gif"}
    assert read_thumbnails(Reply(200, headers, b"data"), 1).source == ImageInfo("image/gif", 0, 0)


def test_parts_and_failed_parts() -> None:
    body = join(
        [
            Part("image/png", b"one", {"X-Image-Width": "1", "X-Image-Height": "2"}),
            Part("text/plain", b"no such thing\r\n", {"Status": "413"}),
        ],
        "B",
    )
    reply = Reply(200, {"content-type": 'multipart/mixed; boundary="B"', **SOURCE}, body)
    good, bad = read_thumbnails(reply, 2).outputs
    assert good == Thumbnail(b"one", "image/png", 1, 2)
    assert isinstance(bad, errors.TooLarge)
    assert bad.message == "no such thing"


@pytest.mark.covers("s121", "s122")
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequest),
        (404, errors.NotFound),
        (413, errors.TooLarge),
        (415, errors.UnsupportedMedia),
        (500, errors.ImageError),
        (502, errors.ImageError),
        (418, errors.ImageError),
        (503, errors.Busy),
        (504, errors.Timeout),
    ],
)
def test_errors_keep_their_meaning(status: int, kind: type[errors.SafelightError]) -> None:
    reply = Reply(status, {"content-type": "text/plain", "retry-after": "7"}, b"because\r\n")
    for read in (lambda: read_thumbnails(reply, 1), lambda: read_identity(reply)):
        with pytest.raises(kind) as caught:
            read()
        assert caught.value.message == "because"
        if isinstance(caught.value, errors.Busy):
            assert caught.value.retry_after_s == 7


def test_text_is_an_error_whatever_the_status() -> None:
    with pytest.raises(errors.ImageError, match="because"):
        read_thumbnails(Reply(200, {"content-type": "text/plain"}, b"because"), 1)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, {"content-type": "text/html"}, b""),
        Reply(200, {}, b""),
        Reply(200, {"content-type": "multipart/mixed"}, b""),
        Reply(200, {"content-type": "multipart/mixed; boundary=B"}, b"--B--\r\n"),
        Reply(200, {"content-type": "multipart/mixed; boundary=B"}, b"rubbish"),
    ],
)
def test_malformed_replies(reply: Reply) -> None:
    with pytest.raises(errors.ImageError):
        read_thumbnails(reply, 1)


def test_identity() -> None:
    body = b'{"mimeType":"image/jpeg","width":509,"height":719}'
    assert read_identity(Reply(200, {"content-type": "application/json"}, body)) == ImageInfo(
        "image/jpeg", 509, 719
    )
    for bad in (b"", b"[]", b'{"width":"x"}'):
        with pytest.raises(errors.ImageError):
            read_identity(Reply(200, {"content-type": "application/json"}, bad))
