"""Pages of other origins (Fetch standard, section 3.3), as a browser would ask."""

from pathlib import Path

import httpx
import pytest
from http_support import configured
from server_support import Connect, RawClient, running

from safelight.api import load_config
from safelight.errors import ConfigError

PAGE = "https://page.example"
OTHER = "https://other.example"
API = f"""
path "p" "#{{name}}"
get "free" {{ output_ok
    cors origins="*" expose="ETag" }}
get "closed" {{ output_ok }}
put "file" ":name" {{
    cors origins="{PAGE},http://localhost:8080" headers="Content-Type,X-Tag" max-age=600 credentials=true
    store_file "input" root="files" path="p"
}}
get "file" ":name" {{
    cors origins="{PAGE}" expose="ETag, X-Tag"
    header "X-Tag" "a"
    source_file "image" root="files" path="p"
    output_image "image"
}}
delete "file" ":name" {{
    delete_file root="files" path="p"
}}
"""
GRANT = "access-control-allow-origin"


def granted(response: httpx.Response) -> dict[str, str]:
    return {name: text for name, text in response.headers.items() if name.startswith("access-control-")}


def asking(method: str, origin: str = PAGE) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type",
    }


@pytest.fixture
async def client(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> httpx.AsyncClient:
    monkeypatch.chdir(tmp_path)
    client = await connect(configured(API))
    assert (await client.put("/file/a", content=b"data")).status_code == 200
    return client


# Answers


async def test_an_allowed_page_may_read(client: httpx.AsyncClient) -> None:
    response = await client.get("/file/a", headers={"Origin": PAGE})
    assert response.status_code == 200
    assert granted(response) == {GRANT: PAGE, "access-control-expose-headers": "ETag, X-Tag"}
    assert response.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin", [None, OTHER, "null", PAGE + ".evil", "http://page.example", PAGE + ":8443", PAGE.upper(), "*"]
)
async def test_others_are_not_told_and_answers_vary(client: httpx.AsyncClient, origin: str | None) -> None:
    response = await client.get("/file/a", headers={"Origin": origin} if origin else {})
    assert response.status_code == 200
    assert granted(response) == {}
    assert response.headers["vary"] == "Origin"


@pytest.mark.parametrize("origin", [None, PAGE])
async def test_for_everybody_answers_do_not_vary(client: httpx.AsyncClient, origin: str | None) -> None:
    response = await client.get("/free", headers={"Origin": origin} if origin else {})
    assert granted(response) == {GRANT: "*", "access-control-expose-headers": "ETag"}
    assert "vary" not in response.headers


async def test_credentials_are_granted_to_named_origins(client: httpx.AsyncClient) -> None:
    response = await client.put("/file/b", content=b"x", headers={"Origin": "http://localhost:8080"})
    assert granted(response) == {GRANT: "http://localhost:8080", "access-control-allow-credentials": "true"}


async def test_pages_can_read_errors(client: httpx.AsyncClient) -> None:
    missing = await client.get("/file/missing", headers={"Origin": PAGE})
    empty = await client.put("/file/a", headers={"Origin": PAGE})
    assert [response.status_code for response in (missing, empty)] == [404, 400]
    assert [response.headers[GRANT] for response in (missing, empty)] == [PAGE, PAGE]


async def test_pages_can_read_304_and_412_and_206_and_416(client: httpx.AsyncClient) -> None:
    etag = (await client.get("/file/a")).headers["etag"]
    conditions = {304: ("If-None-Match", etag), 412: ("If-Match", '"x"'), 206: ("Range", "bytes=0-0")}
    for status, (name, text) in {**conditions, 416: ("Range", "bytes=9-")}.items():
        response = await client.get("/file/a", headers={"Origin": PAGE, name: text})
        assert (response.status_code, response.headers[GRANT]) == (status, PAGE)
        assert response.headers["vary"] == "Origin"


async def test_an_endpoint_without_it_grants_nothing(client: httpx.AsyncClient) -> None:
    response = await client.get("/closed", headers={"Origin": PAGE})
    assert granted(response) == {}
    assert "vary" not in response.headers


def test_an_oversized_upload_is_refused_readably() -> None:
    """The error comes while the body is read, with other headers of its own."""
    app = configured(API)
    with running(app) as port, RawClient(port) as raw:
        raw.request(f"PUT /file/a HTTP/1.1\nHost: x\nOrigin: {PAGE}\nContent-Length: {1 << 40}")
        response = raw.response()
    assert (response.status, response.headers[GRANT]) == (413, PAGE)
    assert response.headers["connection"] == "close"


# Questions in advance


async def test_an_upload_may_be_asked_for(client: httpx.AsyncClient) -> None:
    response = await client.options("/file/a", headers=asking("PUT"))
    assert (response.status_code, response.content) == (204, b"")
    assert granted(response) == {
        GRANT: PAGE,
        "access-control-allow-methods": "PUT",
        "access-control-allow-headers": "Content-Type, X-Tag",
        "access-control-allow-credentials": "true",
        "access-control-max-age": "600",
    }
    assert response.headers["vary"] == "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
    assert not {"content-type", "content-length"} & set(response.headers)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_endpoint_of_the_method_answers(client: httpx.AsyncClient, method: str) -> None:
    response = await client.options("/file/a", headers=asking(method))
    assert granted(response) == {GRANT: PAGE, "access-control-allow-methods": "GET, HEAD"}


async def test_a_strange_origin_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.options("/file/a", headers=asking("PUT", OTHER))
    assert (response.status_code, response.text) == (403, f"origin '{OTHER}' is not allowed\r\n")
    assert granted(response) == {}


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/closed", asking("GET")),
        ("/file/a", asking("DELETE")),
        ("/file/a", asking("PATCH")),
        ("/file/a", asking("OPTIONS")),
        ("/none", asking("GET")),
        ("/file/a", {}),
        ("/file/a", {"Origin": PAGE}),
        ("/file/a", {"Access-Control-Request-Method": "PUT"}),
    ],
)
async def test_where_nobody_would_answer_it_is_404(
    client: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    response = await client.options(path, headers=headers)
    assert response.status_code == 404
    assert granted(response) == {}


async def test_a_question_runs_nothing(client: httpx.AsyncClient, tmp_path: Path) -> None:
    before = (tmp_path / "files/a").stat()
    await client.options("/file/a", headers=asking("PUT"))
    await client.options("/file/new", headers=asking("PUT"))
    assert (tmp_path / "files/a").stat() == before
    assert not (tmp_path / "files/new").exists()


async def test_for_all_methods_and_headers(connect: Connect) -> None:
    text = 'post { cors origins="*" methods="*" headers="*" expose="*" max-age=0\n output_ok\n}'
    response = await (await connect(configured(text))).options("/", headers=asking("POST"))
    assert granted(response) == {
        GRANT: "*",
        "access-control-allow-methods": "*",
        "access-control-allow-headers": "*",
        "access-control-max-age": "0",
    }


# The top level


async def test_at_the_top_level_it_is_for_all_that_have_none_of_their_own(connect: Connect) -> None:
    text = f"""
    get "a" {{ output_ok }}
    put "a" {{ output_ok }}
    get "b" {{ output_ok
        cors origins="{OTHER}" }}
    cors origins="{PAGE}" methods="GET"
    """
    client = await connect(configured(text))
    for path, origin in (("/a", PAGE), ("/b", OTHER)):
        assert granted(await client.get(path, headers={"Origin": origin})) == {GRANT: origin}
    assert granted(await client.get("/b", headers={"Origin": PAGE})) == {}
    assert (await client.options("/a", headers=asking("GET"))).status_code == 204
    assert (await client.options("/a", headers=asking("PUT"))).status_code == 403


# What cannot be


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("cors", "expected 'origins' attribute to be set"),
        ('cors origins=""', "expected 'origins' attribute value to name origins"),
        ('cors origins="https://a.example/"', "without a path"),
        ('cors origins="a.example"', "to be like https://app.example.com"),
        ('cors origins="https://*.a.example"', "to be like https://app.example.com"),
        ('cors origins="https://A.example"', "in lower case"),
        ('cors origins="null"', "to be like https://app.example.com"),
        ('cors origins="https://a.example\\r\\nX-Evil: 1"', "to be like https://app.example.com"),
        ('cors origins="*" credentials=true', "'origins' must be named one by one"),
        ('cors origins="https://a.b" headers="*" credentials=true', "'headers' must be named one by one"),
        ('cors origins="*" headers="a b"', "expected 'headers' attribute value to list names"),
        ('cors origins="*" methods="GET;PUT"', "expected 'methods' attribute value to list names"),
        ('cors origins="*" methods="PUT"', "expected 'methods' attribute value to name GET"),
        ('cors origins="*" max-age=-1', "expected 'max-age' attribute value to be 0 or more"),
        ('cors origins="*" max-age="soon"', "expected 'max-age' attribute value to be an integer"),
        ('cors origins="*"\ncors origins="*"', "only one cors type statement"),
        ('cors origin="*"', "unexpected attributes: 'origin'.*did you mean 'origins'"),
    ],
)
def test_statements_that_cannot_be_are_refused(statement: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load_config(f"get {{\n{statement}\noutput_ok\n}}", "f")


def test_one_is_enough_at_the_top_level() -> None:
    with pytest.raises(ConfigError, match=r"f:2:1: .*only one cors type statement"):
        load_config('cors origins="*"\ncors origins="*"\nget { output_ok }', "f")
