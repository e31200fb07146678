"""`source_file` and `store_file`: what is read, written and refused (reference/imagestore 6.1 and 6.2).

The attacks on the storage itself are in tests/storage/test_file.py.
"""

import pytest

from safelight.errors import ImageNotLoaded, NoSuchFile, OutsideOfRoot

CONFIG = """
    path "p" "#{path}"
    get "file" {
        source_file "o" root="store" path="p"
        output_image "o"
    }
    put "file" {
        store_file "input" root="store" path="p"
        output_store_path "input"
    }
"""


def line(result) -> str:
    return result.text.removesuffix("\r\n")


@pytest.fixture
def api(serve, tmp_path):
    (tmp_path / "store").mkdir()
    return serve(CONFIG)


@pytest.mark.covers("s137")
def test_a_sourced_file_has_no_type(api, tmp_path):
    (tmp_path / "store" / "b.jpg").write_bytes(b"data")
    answer = api.get("/file/b.jpg")
    assert (answer.body, answer.content_type) == (b"data", "application/octet-stream")


@pytest.mark.covers("s133")
@pytest.mark.parametrize("path", ["b.jpg", "a/b.jpg", "ł ?.jpg"])
def test_a_missing_file_is_named_without_the_root(api, path):
    sent = path.replace("ł ?", "%C5%82%20%3F")
    message = f"error while processing image 'o': file '{path}' not found"
    assert api.get(f"/file/{sent}").failed(NoSuchFile) == message


def test_a_missing_root_is_a_missing_file(serve):
    serve(CONFIG).get("/file/b.jpg").failed(NoSuchFile)


@pytest.mark.covers("s134", "s135", "s136")
@pytest.mark.parametrize(
    "path",
    ["../secret", "a/../../secret", "..", "../store2/secret", "/etc/passwd", "//etc/passwd", "a/../b"],
)
def test_paths_that_leave_the_root_are_refused(api, tmp_path, path):
    for name in ("secret", "store2/secret"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"secret")
    sent = path.replace("..", "%2e%2e").replace("/", "%2F")
    for image, result in (("o", api.get(f"/file/{sent}")), ("input", api.put(f"/file/{sent}", b"x"))):
        message = (
            f"error while processing image '{image}': file storage path '{path}' outside of root direcotry"
        )
        assert result.failed(OutsideOfRoot) == message
    assert (tmp_path / "secret").read_bytes() == b"secret"


@pytest.mark.covers("s134")
def test_dots_need_no_encoding_to_be_refused(api):
    api.get("/file/../secret").failed(OutsideOfRoot)


def test_an_absolute_path_below_the_root_is_refused_too(api, tmp_path):
    (tmp_path / "store" / "a").write_bytes(b"data")
    absolute = str(tmp_path / "store" / "a").replace("/", "%2F")
    api.get(f"/file/{absolute}").failed(OutsideOfRoot)


@pytest.mark.covers("s135")
def test_a_link_that_leaves_the_root_is_refused(api, tmp_path):
    """Sharp edge S1."""
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "store" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "store" / "up").symlink_to(tmp_path)
    api.get("/file/link").failed(OutsideOfRoot)
    api.get("/file/up/secret").failed(OutsideOfRoot)
    api.put("/file/up/new", b"x").failed(OutsideOfRoot)
    assert not (tmp_path / "new").exists()


def test_the_root_dot_allows_only_what_is_below_it(serve, tmp_path):
    """Sharp edge S1."""
    below = tmp_path / "below"
    below.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (below / "a").write_bytes(b"data")
    api = serve(CONFIG.replace('"store"', '"."'), within=below)
    assert api.get("/file/a").body == b"data"
    api.get("/file/%2e%2e/secret").failed(OutsideOfRoot)
    api.put("/file/%2e%2e/new", b"x").failed(OutsideOfRoot)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["below", "secret"]


@pytest.mark.parametrize("root", ["store", "./store", "store/", "store//", "x/../store", "./store/."])
def test_the_root_is_normalised(serve, tmp_path, root):
    (tmp_path / "store").mkdir()
    (tmp_path / "x").mkdir()
    (tmp_path / "store" / "a").write_bytes(b"data")
    assert serve(CONFIG.replace('"store"', f'"{root}"')).get("/file/a").body == b"data"


def test_templates_are_not_expanded_in_roots(serve, tmp_path):
    (tmp_path / "#{path}").mkdir()
    (tmp_path / "#{path}" / "a").write_bytes(b"data")
    assert serve(CONFIG.replace('"store"', '"#{path}"')).get("/file/a").body == b"data"


@pytest.mark.covers("s138")
def test_missing_directories_are_made_below_the_root(serve, tmp_path):
    """Sharp edges S37: also the root itself."""
    assert line(serve(CONFIG).put("/file/a/b/c.jpg", b"data")) == "a/b/c.jpg"
    assert (tmp_path / "store" / "a" / "b" / "c.jpg").read_bytes() == b"data"


@pytest.mark.covers("s139")
def test_an_existing_file_is_replaced(api, tmp_path):
    target = tmp_path / "store" / "a"
    target.write_bytes(b"a longer old content")
    api.put("/file/a", b"new")
    assert target.read_bytes() == b"new"
    assert [file.name for file in (tmp_path / "store").iterdir()] == ["a"]


def test_an_image_must_be_loaded_to_be_stored(serve):
    api = serve('get "x" { store_file "o" root="store" path="undefined" }')
    assert api.get("/x").failed(ImageNotLoaded) == "image 'o' not loaded"


@pytest.mark.covers("s023")
def test_a_path_may_be_defined_after_its_use(serve):
    api = serve("""
        put "x" {
            store_file "input" root="store" path="late"
            output_store_path "input"
        }
        path "late" "here"
    """)
    assert line(api.put("/x", b"data")) == "here"


@pytest.mark.covers("s021", "s022")
@pytest.mark.parametrize(
    "paths",
    [
        'path "p" "old"\npath "p" "new"',
        'path {\n"p" "old"\n"p" "new"\n}',
        'path "p" "old" {\n"p" "new"\n}',
        'path "p" "old"\npath { foo "p" "new"\n }',
    ],
    ids=["one by one", "in a block", "own values first", "name of the child ignored"],
)
def test_paths_defined_one_by_one_or_in_a_block(serve, paths):
    api = serve(f"""
        {paths}
        put "x" {{
            store_file "input" root="store" path="p"
            output_store_path "input"
        }}
    """)
    assert line(api.put("/x", b"data")) == "new"


def test_a_path_may_be_a_number(serve):
    """Section 2.4."""
    api = serve("""
        path "p" 2
        put "x" {
            store_file "input" root="store" path="p"
            output_store_path "input"
        }
    """)
    assert line(api.put("/x", b"data")) == "2"


def test_of_two_stores_of_one_image_the_last_is_reported(serve, tmp_path):
    api = serve("""
        path "a" "first"
        path "b" "second"
        put "x" {
            store_file "input" root="store" path="a"
            store_file "input" root="store" path="b"
            output_store_url "input"
        }
    """)
    assert line(api.put("/x", b"data")) == "file:/second"
    assert sorted(file.name for file in (tmp_path / "store").iterdir()) == ["first", "second"]


def test_an_image_read_and_then_overwritten_in_one_request_keeps_its_data(serve, tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    api = serve("""
        path "p" "a"
        put "x" {
            source_file "old" root="." path="p"
            store_file "input" root="." path="p"
            output_image "old"
        }
    """)
    assert api.put("/x", b"new").body == b"old"
    assert (tmp_path / "a").read_bytes() == b"new"
