"""The life of a request: what runs when, and what stops it (reference/imagestore sections 0, 2.5 and 8.3)."""

from pathlib import Path

import pytest

from safelight.errors import BadRequest, Forbidden, MemoryLimitExceeded, NotFound

DATA = Path(__file__).parent.parent / "data"


def line(result) -> str:
    return result.text.removesuffix("\r\n")


@pytest.mark.covers("s017")
def test_an_empty_configuration_serves_no_endpoint(serve):
    api = serve("")
    assert api.config.statements == ()
    assert not api.get("/").handled


@pytest.mark.covers("s044")
@pytest.mark.parametrize("text", ['get "x"', 'get "x" { }', 'get "x" { output_ok }'])
def test_an_endpoint_without_an_output_answers_ok(serve, text):
    result = serve(text).get("/x")
    assert (result.status, result.content_type, result.body) == (200, "text/plain", b"OK\r\n")


@pytest.mark.covers("s101")
@pytest.mark.parametrize("verb", ["put", "post"])
def test_an_upload_needs_a_body(serve, verb):
    api = serve(f'{verb} "x" {{ output_ok }}')
    message = "empty body - expected image data"
    assert api.request(verb.upper(), "/x").failed(BadRequest) == message
    assert line(api.request(verb.upper(), "/x", b"data")) == "OK"


def test_the_input_comes_first_of_the_sources(serve, tmp_path):
    """So an upload without a body is refused even where another source would fail."""
    api = serve("""
        path "p" "missing"
        put "x" { source_file "o" root="images" path="p" }
    """)
    assert api.request("PUT", "/x").failed(BadRequest) == "empty body - expected image data"


@pytest.mark.covers("s102")
def test_sources_run_before_processors_whatever_their_order_in_the_file(serve, jpeg, tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg)
    api = serve("""
        path "p" "#{path}"
        get "x" {
            output_image "small"
            thumbnail "original" "small" width=8 height=8 format="png"
            source_file "original" root="." path="p"
        }
    """)
    assert api.get("/x/a.jpg").content_type == "image/png"


@pytest.mark.covers("s103")
def test_stores_run_after_all_processors(serve, jpeg, tmp_path):
    api = serve("""
        path "p" "#{image_name}.#{image_mime_extension}"
        put "x" {
            store_file "input" root="images" path="p"
            output_store_path "input"
            thumbnail "input" "small" width=8 height=8
        }
    """)
    assert line(api.put("/x", jpeg)) == "input.jpg"


def test_validators_run_before_sources(serve):
    api = serve("""
        path "p" "missing"
        get "x" {
            source_file "o" root="images" path="p"
            validate_uri_hmac "hmac" secret="s"
        }
    """)
    api.get("/x").failed(Forbidden)
    assert api.get("/x?hmac=1").failed(Forbidden)


def test_stores_already_done_are_not_rolled_back(serve, tmp_path):
    api = serve("""
        path "good" "a"
        path "bad" "taken/b"
        put "x" {
            store_file "input" root="images" path="good"
            store_file "input" root="images" path="bad"
        }
    """)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "taken").touch()
    api.put("/x", b"data").failed(BadRequest)
    assert (tmp_path / "images" / "a").read_bytes() == b"data"


def test_nothing_is_stored_when_one_of_the_paths_is_refused(serve, tmp_path):
    api = serve("""
        path "good" "a"
        path "bad" "/b"
        put "x" {
            store_file "input" root="images" path="good"
            store_file "input" root="images" path="bad"
        }
    """)
    api.put("/x", b"data").failed(Forbidden)
    assert not (tmp_path / "images").exists()


def test_stores_of_one_place_are_done_in_file_order(serve, tmp_path):
    """Also where the place is spelt in several ways; the last one wins."""
    api = serve("""
        path { "one" "a/b"; "other" "./a//b" }
        put "x" {
            thumbnail "input" "small" width=1 height=1 format="png"
            store_file "input" root="images"   path="one"
            store_file "small" root="images"   path="other"
            store_file "input" root="images/." path="one"
            output_store_path { "input"; "small" }
        }
    """)
    picture = (DATA / "coffee.jpg").read_bytes()
    answer = api.put("/x", picture)
    assert answer.text.split() == ["a/b", "./a//b"]
    assert (tmp_path / "images" / "a" / "b").read_bytes() == picture


def test_delete_has_no_input_and_removes_files(serve, tmp_path):
    """An extension: section 12, sharp edge S24."""
    (tmp_path / "a.jpg").write_bytes(b"data")
    api = serve("""
        path "p" "#{path}"
        delete "x" { delete_file root="." path="p" }
    """)
    assert line(api.request("DELETE", "/x/a.jpg")) == "OK"
    assert not (tmp_path / "a.jpg").exists()
    assert api.request("DELETE", "/x/a.jpg").failed(NotFound) == "file 'a.jpg' not found"


# Memory limit


@pytest.mark.covers("s192", "s195")
def test_a_body_may_fill_the_limit_exactly_in_every_request(serve):
    api = serve('put "x" { output_ok }', max_bytes=10)
    for _ in range(3):
        assert line(api.put("/x", b"0123456789")) == "OK"
        assert api.put("/x", b"01234567890").failed(MemoryLimitExceeded) == "memory limit exceeded"


def test_the_body_of_a_get_counts_too(serve):
    api = serve('get "x" { output_ok }', max_bytes=10)
    api.request("GET", "/x", b"01234567890").failed(MemoryLimitExceeded)


def test_sources_count(serve, tmp_path):
    (tmp_path / "a").write_bytes(bytes(6))
    config = """
        path "p" "a"
        get "one" { source_file "o" root="." path="p" }
        get "two" {
            source_file "o" root="." path="p"
            source_file "q" root="." path="p"
        }
        get "same" {
            source_file "o" root="." path="p"
            source_file "o" root="." path="p"
            source_file "o" root="." path="p"
        }
    """
    exact = serve(config, max_bytes=12)
    for path in ("/one", "/two", "/same"):
        assert exact.get(path).handled, path
        assert line(exact.get(path)) == "OK"
    assert serve(config, max_bytes=11).get("/two").failed(MemoryLimitExceeded) == "memory limit exceeded"


def test_a_replaced_source_is_given_back_after_the_new_one_is_charged(serve, tmp_path):
    (tmp_path / "a").write_bytes(bytes(6))
    api = serve(
        """
        path "p" "a"
        get "same" {
            source_file "o" root="." path="p"
            source_file "o" root="." path="p"
        }
        """,
        max_bytes=11,
    )
    api.get("/same").failed(MemoryLimitExceeded)


@pytest.mark.covers("s193")
def test_an_endless_file_is_too_large(serve):
    api = serve(
        """
        path "p" "zero"
        get "x" { source_file "o" root="/dev" path="p" }
        """,
        max_bytes=1 << 20,
    )
    assert api.get("/x").failed(MemoryLimitExceeded) == "memory limit exceeded"


@pytest.mark.covers("s194")
def test_thumbnails_count(serve, jpeg):
    config = """
        put "x" {
            thumbnail "input" "small" operation="crop" width=64 height=48 format="png"
            output_image "small"
        }
    """
    size = len(serve(config).put("/x", jpeg).body)
    assert serve(config, max_bytes=len(jpeg) + size).put("/x", jpeg).handled
    assert len(serve(config, max_bytes=len(jpeg) + size).put("/x", jpeg).body) == size
    serve(config, max_bytes=len(jpeg) + size - 1).put("/x", jpeg).failed(MemoryLimitExceeded)


@pytest.mark.covers("s200")
def test_what_is_stored_and_sourced_is_counted(serve):
    api = serve("""
        path "p" "a"
        put "x" { store_file "input" root="images" path="p" }
        get "x" { source_file "o" root="images" path="p" }
    """)
    api.put("/x", b"12345")
    api.get("/x")
    assert api.counters.values == {
        "total_file_store": 1,
        "total_file_store_bytes": 5,
        "total_file_source": 1,
        "total_file_source_bytes": 5,
    }


def test_image_processing_is_counted(serve, jpeg):
    """Requests before they are sent, thumbnails after they are made (9.6)."""
    api = serve("""
        put "x" {
            identify "input"
            thumbnail "input" { "a" width=8 height=8; "b" width=4 height=4; }
            output_image "a"
        }
        put "bad" { thumbnail "input" "a" operation="nonsense" width=8 height=8 }
    """)
    assert api.put("/x", jpeg).body
    api.put("/bad", jpeg)
    made = api.counters.values.pop("total_thumbnail_thumbnails_bytes")
    assert made > 0
    assert api.counters.values == {
        "total_identify_requests": 1,
        "total_identify_requests_bytes": len(jpeg),
        "total_thumbnail_requests": 2,
        "total_thumbnail_requests_bytes": 2 * len(jpeg),
        "total_thumbnail_thumbnails": 2,
    }
