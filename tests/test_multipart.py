"""Framing of the thumbnailer protocol (reference/thumbnailer section 5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.multipart import Part, boundary_of, join, split


@pytest.mark.covers("t106", "t107")
def test_exact_framing() -> None:
    parts = [
        Part("image/jpeg", b"\xff\xd8\r\n--B", {"X-Image-Width": "4", "X-Image-Height": "3"}),
        Part("text/plain", b"too bad", {"Status": "400"}),
    ]
    assert join(parts, "B-1") == (
        b"--B-1\r\nContent-Type: image/jpeg\r\nX-Image-Width: 4\r\nX-Image-Height: 3\r\n\r\n"
        b"\xff\xd8\r\n--B\r\n"
        b"--B-1\r\nContent-Type: text/plain\r\nStatus: 400\r\n\r\ntoo bad\r\n"
        b"--B-1--\r\n"
    )


@pytest.mark.covers("t107", "t111")
def test_no_parts_leave_the_closing_delimiter() -> None:
    assert join([], "B") == b"--B--\r\n"
    assert split(b"--B--\r\n", "B") == []


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_what_is_joined_can_be_split(bodies: list[bytes]) -> None:
    boundary = "0f0f0f0f-0000-4000-8000-000000000000"
    parts = [Part("image/png", body, {"x-image-width": "1"}) for body in bodies]
    assert split(join(parts, boundary), boundary) == parts


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no delimiters at all",
        b"--B\r\nContent-Type: image/png\r\n\r\nunfinished",
        b"preamble\r\n--B--\r\n",
        b"--B--\r\nepilogue",
        b"--B--trailing",
        b"--B",
        b"--B\r\n",
        b"--B\r\nno blank line\r\n--B--\r\n",
        b"--Bogus\r\n\r\n\r\nx\r\n--Bogus--\r\n",
        b"--B\r\n" + b"X: " + b"y" * 9000 + b"\r\n\r\nbody\r\n--B--\r\n",
    ],
)
def test_other_framing_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="multipart"):
        split(body, "B")


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/mixed; boundary="a-b"', "a-b"),
        ("multipart/mixed; boundary=a-b", "a-b"),
        ('multipart/mixed; charset=x; Boundary="a"', "a"),
    ],
)
def test_boundary(content_type: str, boundary: str) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type", ["", "multipart/mixed", "multipart/mixed; boundary=", 'a; boundary=""']
)
def test_no_boundary(content_type: str) -> None:
    with pytest.raises(ValueError, match="boundary"):
        boundary_of(content_type)
