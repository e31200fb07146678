"""Validators and preconditions (RFC 9110, sections 8.8 and 13)."""

import os
import time
from pathlib import Path

import httpx
import pytest
from http_support import configured
from server_support import Connect, echo, endpoint, make_app, text
from serving import Servers

from safelight.blob import FileBlob
from safelight.model import Answer, RequestState
from safelight.server.conditional import parsed_date, precondition_status

ETAG = '"abc"'
MODIFIED = 784_111_777.9  # Sun, 06 Nov 1994 08:49:37 GMT
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"
SAME = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"

STORE = """
path "by-name" "#{name}"
put ":name" { store_file "input" root="files" path="by-name" }
get "text" { output_text "hello" cache-control="max-age=5" }
get "digest" ":name" {
    source_file "image" root="files" path="by-name"
    output_data_uri_image "image"
}
get ":name" {
    source_file "image" root="files" path="by-name"
    output_image "image" cache-control="max-age=60"
    header "X-Robots-Tag" "noindex"
    header "Content-Location" "/stored/#{name}"
}
"""


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"if-match": '"abc"'}, 200),
        ({"if-match": '"x", "abc"'}, 200),
        ({"if-match": '"x","abc" , "y"'}, 200),
        ({"if-match": "*"}, 200),
        ({"if-match": " * "}, 200),
        ({"if-match": '"x"'}, 412),
        ({"if-match": 'W/"abc"'}, 412),
        ({"if-match": "abc"}, 412),
        ({"if-match": ""}, 412),
        ({"if-match": '"ABC"'}, 412),
        ({"if-match": '"a,bc", "ab"'}, 412),
        ({"if-none-match": '"abc"'}, 304),
        ({"if-none-match": 'W/"abc"'}, 304),
        ({"if-none-match": '"x", W/"abc"'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"x"'}, 200),
        ({"if-none-match": '"a", "b", "c"'}, 200),
        ({"if-none-match": "abc"}, 200),
        ({"if-none-match": 'w/"abd"'}, 200),
        ({"if-none-match": ""}, 200),
        ({"if-none-match": '"*"'}, 200),
        ({"if-modified-since": EARLIER}, 200),
        ({"if-modified-since": SAME}, 304),
        ({"if-modified-since": LATER}, 304),
        ({"if-modified-since": "nonsense"}, 200),
        ({"if-modified-since": f"{SAME}, {SAME}"}, 200),
        ({"if-unmodified-since": EARLIER}, 412),
        ({"if-unmodified-since": SAME}, 200),
        ({"if-unmodified-since": LATER}, 200),
        ({"if-unmodified-since": "nonsense"}, 200),
    ],
)
def test_each_precondition(headers: dict[str, str], status: int) -> None:
    assert precondition_status(headers, ETAG, MODIFIED) == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if-match": ETAG, "if-unmodified-since": EARLIER}, 200),
        ({"if-match": '"x"', "if-unmodified-since": LATER}, 412),
        ({"if-match": '"x"', "if-none-match": ETAG}, 412),
        ({"if-match": ETAG, "if-none-match": ETAG}, 304),
        ({"if-unmodified-since": EARLIER, "if-none-match": ETAG}, 412),
        ({"if-unmodified-since": LATER, "if-none-match": ETAG}, 304),
        ({"if-none-match": '"x"', "if-modified-since": LATER}, 200),
        ({"if-none-match": ETAG, "if-modified-since": EARLIER}, 304),
        ({"if-none-match": "garbage", "if-modified-since": LATER}, 200),
        ({"if-match": ETAG, "if-modified-since": LATER}, 304),
    ],
)
def test_preconditions_come_in_the_order_of_the_rfc(headers: dict[str, str], status: int) -> None:
    assert precondition_status(headers, ETAG, MODIFIED) == status


@pytest.mark.parametrize("name", ["if-modified-since", "if-unmodified-since"])
@pytest.mark.parametrize("date", [EARLIER, LATER])
def test_without_a_time_of_change_dates_do_not_count(name: str, date: str) -> None:
    assert precondition_status({name: date}, ETAG, None) == 200


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
        ("Sun Nov  6 08:49:37 1994", 784_111_777),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
        ("Sun, 06 Nov 1994 08:49:37", None),
        ("Sun, 06 Nov 1994 08:49:37 +0100", None),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("784111777", None),
        ("0", None),
        ("", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT" + " " * 60_000, None),
    ],
)
def test_the_three_forms_of_dates(date: str, seconds: int | None) -> None:
    assert parsed_date(date) == seconds


# Answers


@pytest.fixture
async def client(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> httpx.AsyncClient:
    monkeypatch.chdir(tmp_path)
    client = await connect(configured(STORE))
    assert (await client.put("/a.jpg", content=b"first")).status_code == 200
    return client


async def test_a_stored_file_has_validators(client: httpx.AsyncClient, tmp_path: Path) -> None:
    os.utime(tmp_path / "files/a.jpg", (MODIFIED, MODIFIED))
    headers = (await client.get("/a.jpg")).headers
    assert headers["last-modified"] == SAME
    assert headers["accept-ranges"] == "bytes"
    assert headers["etag"].startswith('"')
    assert headers["etag"].endswith('"')
    head = (await client.head("/a.jpg")).headers
    assert dict(head) == dict(headers)


async def test_a_304_has_what_caches_need_and_no_body(client: httpx.AsyncClient) -> None:
    full = await client.get("/a.jpg")
    response = await client.get("/a.jpg", headers={"If-None-Match": full.headers["etag"]})
    assert (response.status_code, response.content) == (304, b"")
    kept = ("etag", "last-modified", "cache-control", "accept-ranges", "content-location")
    assert dict(response.headers) == {name: full.headers[name] for name in kept}
    head = await client.head("/a.jpg", headers={"If-None-Match": full.headers["etag"]})
    assert (head.status_code, dict(head.headers)) == (304, dict(response.headers))


async def test_a_304_after_a_date(client: httpx.AsyncClient) -> None:
    modified = (await client.get("/a.jpg")).headers["last-modified"]
    assert (await client.get("/a.jpg", headers={"If-Modified-Since": modified})).status_code == 304
    assert (await client.get("/a.jpg", headers={"If-Modified-Since": EARLIER})).status_code == 200


@pytest.mark.parametrize("headers", [{"If-Match": '"x"'}, {"If-Unmodified-Since": EARLIER}])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_failed_precondition_is_412(
    client: httpx.AsyncClient, method: str, headers: dict[str, str]
) -> None:
    response = await client.request(method, "/a.jpg", headers={**headers, "Range": "bytes=0-0"})
    assert response.status_code == 412
    assert response.headers["content-type"] == "text/plain"
    assert not {"etag", "cache-control", "content-range", "x-robots-tag"} & set(response.headers)


async def test_preconditions_come_before_ranges(client: httpx.AsyncClient) -> None:
    etag = (await client.get("/a.jpg")).headers["etag"]
    outside = {"Range": "bytes=99-"}
    assert (await client.get("/a.jpg", headers={**outside, "If-None-Match": etag})).status_code == 304
    assert (await client.get("/a.jpg", headers={**outside, "If-Match": '"x"'})).status_code == 412
    assert (await client.get("/a.jpg", headers={**outside, "If-Match": etag})).status_code == 416


@pytest.mark.parametrize("content", [b"other", b"of another length"])
async def test_a_replaced_file_has_another_tag(client: httpx.AsyncClient, content: bytes) -> None:
    before = (await client.get("/a.jpg")).headers["etag"]
    await client.put("/a.jpg", content=content)
    response = await client.get("/a.jpg", headers={"If-None-Match": before})
    assert (response.status_code, response.content) == (200, content)
    assert response.headers["etag"] != before


async def test_a_file_written_in_place_with_its_old_times_has_another_tag(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """As `rsync --inplace --times` does it."""
    file = tmp_path / "files/a.jpg"
    os.utime(file, (MODIFIED, MODIFIED))
    before = (await client.get("/a.jpg")).headers["etag"]
    changed = file.stat().st_ctime_ns
    while file.stat().st_ctime_ns == changed:  # the kernel's clock has ticked
        with file.open("r+b") as stream:
            stream.write(b"other")
        os.utime(file, (MODIFIED, MODIFIED))
    assert (await client.get("/a.jpg")).headers["etag"] != before


async def test_two_files_of_one_content_have_tags_of_their_own_and_one_file_has_one(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    await client.put("/b.jpg", content=b"first")
    os.link(tmp_path / "files/b.jpg", tmp_path / "files/c.jpg")
    tags = [(await client.get(f"/{name}.jpg")).headers["etag"] for name in "abc"]
    assert tags[1] == tags[2] != tags[0]


async def test_a_time_in_the_future_is_now(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """RFC 9110, 8.8.2.1."""
    later = time.time() + 10**6
    os.utime(tmp_path / "files/a.jpg", (later, later))
    shown = parsed_date((await client.get("/a.jpg")).headers["last-modified"])
    assert shown is not None
    assert shown <= time.time()


async def test_computed_answers_have_a_tag_of_their_content(client: httpx.AsyncClient) -> None:
    first, again = await client.get("/text"), await client.get("/text")
    assert first.headers["etag"] == again.headers["etag"]
    assert "last-modified" not in first.headers
    response = await client.get("/text", headers={"If-None-Match": first.headers["etag"]})
    assert (response.status_code, response.headers["cache-control"]) == (304, "max-age=5")


@pytest.mark.parametrize("size", [0, 10, 1 << 20])
async def test_tags_of_content_tell_contents_and_types_apart(connect: Connect, size: int) -> None:
    async def act(state: RequestState) -> Answer:
        body = bytearray(size)
        body[-1:] = state.request.raw_query[:1].encode()
        return text(bytes(body), f"image/{state.request.raw_query[1:]}")

    client = await connect(make_app(endpoint("get", "/x", act)))
    tags = [(await client.get(f"/x?{query}")).headers["etag"] for query in ("apng", "bpng", "ajpeg", "apng")]
    assert len(set(tags)) == 3
    assert tags[0] == tags[3]


async def test_a_file_without_a_name_is_known_by_its_content(connect: Connect, tmp_path: Path) -> None:
    """What was fetched from elsewhere into such a file has another one each time."""

    async def act(state: RequestState) -> Answer:
        file = tmp_path / "f"
        file.write_bytes(state.request.raw_query.encode() * 200_000)
        descriptor = os.open(file, os.O_RDONLY)
        file.unlink()
        return Answer(FileBlob(descriptor, 200_000), "image/png")

    client = await connect(make_app(endpoint("get", "/x", act)))
    answers = [await client.get(f"/x?{query}") for query in "aab"]
    tags = [answer.headers["etag"] for answer in answers]
    assert tags[0] == tags[1] != tags[2]
    assert "last-modified" not in answers[0].headers


async def test_a_file_that_grows_is_known_by_what_is_sent(connect: Connect, tmp_path: Path) -> None:
    """Its size when it was opened, its times of later: they could come back with all of it."""
    file = tmp_path / "f"
    file.write_bytes(b"12345")

    async def act(state: RequestState) -> Answer:
        blob = FileBlob(os.open(file, os.O_RDONLY), 5)
        with file.open("ab") as stream:
            stream.write(b"more")
        return Answer(blob, "image/png")

    client = await connect(make_app(endpoint("get", "/x", act)))
    answers = [await client.get("/x") for _ in range(2)]
    assert [answer.content for answer in answers] == [b"12345"] * 2
    assert answers[0].headers["etag"] == answers[1].headers["etag"]
    assert "last-modified" not in answers[0].headers


async def test_what_an_output_knows_itself_is_kept(connect: Connect) -> None:
    async def act(state: RequestState) -> Answer:
        return text("x", etag='"own"', modified=MODIFIED)

    client = await connect(make_app(endpoint("get", "/x", act)))
    headers = (await client.get("/x")).headers
    assert (headers["etag"], headers["last-modified"]) == ('"own"', SAME)
    assert (await client.get("/x", headers={"If-None-Match": '"own"'})).status_code == 304


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
async def test_answers_to_changes_have_no_validators_and_no_conditions(connect: Connect, method: str) -> None:
    client = await connect(make_app(endpoint(method.lower(), "/x", echo)))
    headers = {"If-None-Match": "*", "If-Match": '"x"', "If-Unmodified-Since": EARLIER}
    response = await client.request(method, "/x", content=b"abc", headers=headers)
    assert (response.status_code, response.content) == (200, b"abc")
    assert not {"etag", "last-modified", "accept-ranges"} & set(response.headers)


@pytest.mark.parametrize("path", ["/missing.jpg", "/none/at/all", "/stats", "/health_check", "/"])
async def test_errors_and_built_in_pages_have_no_conditions(client: httpx.AsyncClient, path: str) -> None:
    plain = await client.get(path)
    response = await client.get(path, headers={"If-None-Match": "*", "If-Match": '"x"', "Range": "bytes=0-0"})
    assert response.status_code == plain.status_code
    assert response.status_code in (200, 404)
    assert "etag" not in response.headers


def test_tags_are_the_same_in_all_processes_and_after_a_restart(servers: Servers, tmp_path: Path) -> None:
    seen: set[tuple[str, str]] = set()
    for _ in range(2):
        server = servers.start(
            STORE, "--http-workers", "2", "--workers", "2", directory=tmp_path / "restarted"
        )
        if not seen:
            httpx.put(f"{server.url}/a.jpg", content=b"picture")
        for _ in range(20):  # a connection each: the kernel gives them to both workers
            tags = [httpx.get(f"{server.url}/{path}").headers["etag"] for path in ("a.jpg", "text")]
            seen.add((tags[0], tags[1]))
        server.stop()
    assert len(seen) == 1
