"""Parts of answers (RFC 9110, section 14)."""

import os
import re
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from http_support import configured
from hypothesis import given
from hypothesis import strategies as st
from server_support import Connect, endpoint, make_app, text

from safelight.blob import FileBlob, MemoryBlob
from safelight.model import Answer, RequestState
from safelight.server.ranges import MAX_RANGES, Excerpt, Section, requested_ranges

BIG = bytes(range(256)) * 4096 + b"end"
"""More than a megabyte: sent in several pieces."""


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-499", [(0, 500)]),
        ("bytes=500-999", [(500, 1000)]),
        ("bytes=9500-", [(9500, 10000)]),
        ("bytes=-500", [(9500, 10000)]),
        ("bytes=0-", [(0, 10000)]),
        ("bytes=0-0,-1", [(0, 1), (9999, 10000)]),
        ("bytes=0-0", [(0, 1)]),
        ("bytes=9999-10000", [(9999, 10000)]),
        ("bytes=-10001", [(0, 10000)]),
        ("bytes=-99999999999999999999", [(0, 10000)]),
        ("bytes=0-99999999999999999999", [(0, 10000)]),
        ("BYTES=0-1", [(0, 2)]),
        ("bytes= 0-1 , ,\t5000-5001,", [(0, 2), (5000, 5002)]),
        ("bytes=5000-5001,0-1", [(5000, 5002), (0, 2)]),
        ("bytes=10000-,0-1", [(0, 2)]),
        ("bytes=0-0,10000-20000", [(0, 1)]),
        ("bytes=-0,3-4", [(3, 5)]),
    ],
)
def test_ranges_are_understood(header: str, expected: list[tuple[int, int]]) -> None:
    assert requested_ranges(header, 10000) == tuple(expected)


@pytest.mark.parametrize("header", ["bytes=10000-", "bytes=10000-10001", "bytes=-0", "bytes=99999-,-0"])
def test_ranges_behind_the_end_cannot_be_satisfied(header: str) -> None:
    assert requested_ranges(header, 10000) == ()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=5-4",
        "bytes=0-1,5-4",
        "bytes=0-1;2-3",
        "bytes=+1-2",
        "bytes=1--2",
        "bytes=0 -1",
        "bytes=\u0661-\u0662",
        "bytes=" + "9" * 21 + "-",
        "bytes:0-1",
        "lines=0-1",
        "0-1",
        "bytes=0-1,bytes=2-3",
        "bytes=" + ",".join(f"{n}000-{n}001" for n in range(MAX_RANGES + 1)),
    ],
)
def test_what_is_malformed_or_too_much_is_not_heeded(header: str) -> None:
    assert requested_ranges(header, 10000) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-10,5-20", [(0, 21)]),
        ("bytes=5000-5010,0-10,5-20", [(0, 21), (5000, 5011)]),
        ("bytes=0-10,11-20", [(0, 21)]),
        ("bytes=0-10,60-70", [(0, 71)]),
        ("bytes=0-10,1000-1010", [(0, 11), (1000, 1011)]),
        ("bytes=0-,0-,0-,0-,0-,0-,0-,0-", [(0, 10000)]),
        ("bytes=100-,-100", [(100, 10000)]),
    ],
)
def test_overlapping_and_near_ranges_are_one(header: str, expected: list[tuple[int, int]]) -> None:
    assert requested_ranges(header, 10000) == tuple(expected)


@given(st.from_regex(r"bytes=([0-9]{0,3}-[0-9]{0,3}[, ]?){1,9}", fullmatch=True), st.integers(0, 999))
def test_whatever_is_asked_for_lies_within_the_body_and_apart(header: str, size: int) -> None:
    ranges = requested_ranges(header, size) or ()
    assert all(0 <= found.start < found.stop <= size for found in ranges)
    ordered = sorted(ranges)
    assert all(one.stop < other.start for one, other in pairwise(ordered))


@pytest.mark.parametrize(("header", "expected"), [("bytes=0-0", ()), ("bytes=-1", None), ("bytes=0-", ())])
def test_an_empty_body_has_no_ranges(header: str, expected: tuple[int, int] | None) -> None:
    assert requested_ranges(header, 0) == expected


def test_an_excerpt_reads_across_its_sections() -> None:
    excerpt = Excerpt(
        [
            Section(MemoryBlob(b"abcdef"), 1, 3),
            Section(MemoryBlob(b""), 0, 0),
            Section(MemoryBlob(b"xyz"), 0, 2),
        ]
    )
    buffer = bytearray(4)
    assert (excerpt.size, excerpt.read(), excerpt.readinto(memoryview(buffer))) == (4, b"bcxy", 4)
    assert bytes(buffer) == b"bcxy"
    assert [excerpt.read_at(offset, 9) for offset in range(5)] == [b"bc", b"c", b"xy", b"y", b""]
    assert excerpt.read_at(0, 1) == b"b"


# Answers


async def client_of(connect: Connect, body: bytes, tmp_path: Path | None) -> httpx.AsyncClient:
    """Serves `body` at /x, from a file below `tmp_path` or from memory."""

    async def act(state: RequestState) -> Answer:
        if tmp_path is None:
            return text(body, "image/png", cache_control="max-age=9")
        (tmp_path / "f").write_bytes(body)
        blob = FileBlob(os.open(tmp_path / "f", os.O_RDONLY), len(body))
        return Answer(blob, "image/png", cache_control="max-age=9")

    return await connect(make_app(endpoint("get", "/x", act), endpoint("put", "/x", act)))


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-", 0, len(BIG)),
        ("bytes=1-1", 1, 2),
        ("bytes=300000-900000", 300000, 900001),
        ("bytes=-3", len(BIG) - 3, len(BIG)),
    ],
)
async def test_one_range(
    connect: Connect, tmp_path: Path, stored: bool, header: str, start: int, stop: int
) -> None:
    client = await client_of(connect, BIG, tmp_path if stored else None)
    response = await client.get("/x", headers={"Range": header})
    assert (response.status_code, response.content) == (206, BIG[start:stop])
    assert response.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(BIG)}"
    assert response.headers["content-length"] == str(stop - start)
    assert response.headers["content-type"] == "image/png"
    assert response.headers["cache-control"] == "max-age=9"
    assert response.headers["etag"]
    assert ("last-modified" in response.headers) == stored


@pytest.mark.parametrize("stored", [True, False])
async def test_several_ranges_are_multipart(connect: Connect, tmp_path: Path, stored: bool) -> None:
    client = await client_of(connect, BIG, tmp_path if stored else None)
    response = await client.get("/x", headers={"Range": "bytes=500000-900000,1-2,-3"})
    assert response.status_code == 206
    assert "content-range" not in response.headers
    assert response.headers["content-length"] == str(len(response.content))
    found = re.fullmatch('multipart/byteranges; boundary="([0-9a-f]+)"', response.headers["content-type"])
    assert found
    parts = response.content.split(f"--{found[1]}".encode())
    assert (parts[0], parts[-1]) == (b"", b"--\r\n")
    expected = [(500000, 900001), (1, 3), (len(BIG) - 3, len(BIG))]
    for part, (start, stop) in zip(parts[1:-1], expected, strict=True):
        head, _, body = part.partition(b"\r\n\r\n")
        lines = ["", "Content-Type: image/png", f"Content-Range: bytes {start}-{stop - 1}/{len(BIG)}"]
        assert head.decode().split("\r\n") == lines
        assert body == BIG[start:stop] + b"\r\n"


async def test_what_cannot_be_satisfied_is_416(connect: Connect) -> None:
    client = await client_of(connect, b"12345", None)
    response = await client.get("/x", headers={"Range": "bytes=5-"})
    assert response.status_code == 416
    assert response.headers["content-range"] == "bytes */5"
    assert response.headers["content-type"] == "text/plain"
    assert "etag" not in response.headers
    assert "cache-control" not in response.headers


@pytest.mark.parametrize("header", ["bytes=1-0", "pages=1-2", "bytes=" + ",".join(["0-"] * 9)])
async def test_what_is_not_heeded_is_200(connect: Connect, header: str) -> None:
    response = await (await client_of(connect, b"12345", None)).get("/x", headers={"Range": header})
    assert (response.status_code, response.content) == (200, b"12345")
    assert response.headers["accept-ranges"] == "bytes"


async def test_repeated_range_headers_are_not_heeded(connect: Connect) -> None:
    headers = [("Range", "bytes=0-1"), ("Range", "bytes=2-3")]
    response = await (await client_of(connect, b"12345", None)).get("/x", headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize("method", ["HEAD", "PUT"])
async def test_ranges_are_for_get_only(connect: Connect, method: str) -> None:
    client = await client_of(connect, b"12345", None)
    response = await client.request(method, "/x", headers={"Range": "bytes=0-1"})
    assert (response.status_code, response.headers["content-length"]) == (200, "5")


@pytest.mark.parametrize("status", [201, 404])
async def test_only_a_200_has_ranges(connect: Connect, status: int) -> None:
    client = await connect(configured(f'get {{ output_text "no" status={status}\n}}'))
    response = await client.get("/", headers={"Range": "bytes=0-0", "If-None-Match": "*"})
    assert (response.status_code, response.text) == (status, "no\r\n")
    assert not {"etag", "accept-ranges"} & set(response.headers)


@pytest.mark.parametrize(
    ("if_range", "status"),
    [
        ("{etag}", 206),
        ("{modified}", 206),
        ('"another"', 200),
        ("W/{etag}", 200),
        ("{etag}, {etag}", 200),
        ("*", 200),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 200),
        ("Sun, 06 Nov 2094 08:49:37 GMT", 200),
        ("nonsense", 200),
        ("", 200),
    ],
)
async def test_if_range_asks_for_all_if_it_has_changed(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, if_range: str, status: int
) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    monkeypatch.chdir(tmp_path)
    client = await connect(
        configured('path "f" "f"\nget { source_file "i" root="." path="f"\n output_image "i"\n}')
    )
    known = (await client.head("/")).headers
    written = if_range.format(etag=known["etag"], modified=known["last-modified"])
    response = await client.get("/", headers={"Range": "bytes=1-2", "If-Range": written})
    assert (response.status_code, response.content) == (status, b"23" if status == 206 else b"12345")


async def test_if_range_with_a_date_needs_one(connect: Connect) -> None:
    client = await client_of(connect, b"12345", None)
    headers = {"Range": "bytes=1-2", "If-Range": "Sun, 06 Nov 1994 08:49:37 GMT"}
    assert (await client.get("/x", headers=headers)).status_code == 200


async def test_a_type_that_is_none_cannot_add_headers_to_parts(connect: Connect) -> None:
    async def act(state: RequestState) -> Answer:
        return text(b"x" * 1000, "image/png\r\nX-Evil: 1")

    client = await connect(make_app(endpoint("get", "/x", act)))
    response = await client.get("/x", headers={"Range": "bytes=0-1,900-901"})
    assert response.status_code == 206
    assert response.content.count(b"Content-Type: application/octet-stream\r\n") == 2
    assert b"Evil" not in response.content


async def test_a_file_that_shrank_fails_before_anything_is_sent(connect: Connect, tmp_path: Path) -> None:
    async def act(state: RequestState) -> Answer:
        (tmp_path / "f").write_bytes(b"123")
        return Answer(FileBlob(os.open(tmp_path / "f", os.O_RDONLY), 10), "image/png")

    client = await connect(make_app(endpoint("get", "/x", act)))
    assert (await client.get("/x", headers={"Range": "bytes=2-8"})).status_code == 500
