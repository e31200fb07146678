"""The variables of one request (reference/imagestore 4.1 and 4.2), by themselves."""

import hashlib

import pytest

from safelight.blob import Blob, MemoryBlob
from safelight.errors import ImageNotLoaded, SetupError, VariableNotDefined
from safelight.image.formats import INPUT_FORMATS, OUTPUT_FORMATS
from safelight.model import Images, MemoryBudget, NamedImage
from safelight.variables import EXTENSIONS, GENERATED, Variables, split_extension

DATA = b"data"
SHA256 = hashlib.sha256(DATA).hexdigest()


def variables(
    captures: dict[str, str] | None = None, path: str = "a/b.jpg", body: bytes = b"", **images: NamedImage
) -> Variables:
    loaded = Images(MemoryBudget(1000))
    for name, image in images.items():
        loaded.load(name, image)
    return Variables(captures or {}, path, {}, MemoryBlob(body), loaded)


KNOWN = NamedImage(MemoryBlob(DATA), "image/png", 30, 20)
UNKNOWN = NamedImage(MemoryBlob(DATA))


@pytest.mark.parametrize(
    ("captures", "local", "found"),
    [
        ({}, {}, "a/b.jpg"),
        ({"path": "captured"}, {}, "captured"),
        ({}, {"path": "local"}, "local"),
        ({"path": "captured"}, {"path": "local"}, "local"),
        ({"path": ""}, {}, ""),
        ({"path": "captured"}, {"path": ""}, ""),
    ],
)
def test_local_values_come_before_captures_and_these_before_the_path(
    captures: dict[str, str], local: dict[str, str], found: str
) -> None:
    assert variables(captures).lookup("path", local) == found


@pytest.mark.covers("s084", "s085")
@pytest.mark.parametrize("name", GENERATED)
def test_every_generated_variable_can_be_shadowed(name: str) -> None:
    """Even by empty text; what makes it is then not asked."""
    for text in ("mine", ""):
        assert variables({name: text}).lookup(name) == text
        assert variables().lookup(name, {name: text}) == text


@pytest.mark.covers("s088", "s215")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input_digest", SHA256[:16]),
        ("digest", SHA256[:16]),
        ("input_sha256", SHA256),
        ("input_image_width", "30"),
        ("input_image_height", "20"),
        ("input_image_mime_extension", "png"),
        ("image_digest", SHA256[:16]),
        ("image_sha256", SHA256),
        ("image_width", "30"),
        ("image_height", "20"),
        ("image_mime_extension", "png"),
        ("mimeextension", "png"),
        ("basename", "b"),
        ("dirname", "a"),
        ("direname", "a"),
        ("extension", "jpg"),
        ("query_string_options", ""),
    ],
)
def test_values(name: str, value: str) -> None:
    assert variables(body=DATA, input=KNOWN).lookup(name, {"image_name": "input"}) == value


@pytest.mark.covers("s090", "s093", "s094", "s096")
@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("nope", VariableNotDefined, "variable 'nope' not defined"),
        ("image_name", VariableNotDefined, "variable 'image_name' not defined"),
        ("input_sha256", SetupError, "need not empty request body to generate value for 'input_sha256'"),
        ("digest", SetupError, "need not empty request body to generate value for 'digest'"),
        ("image_digest", SetupError, "need 'image_name' variable to generate value for 'image_digest'"),
        ("mimeextension", SetupError, "need 'image_name' variable to generate value for 'mimeextension'"),
        ("input_image_width", ImageNotLoaded, "image 'input' not loaded"),
    ],
)
def test_errors(name: str, kind: type[SetupError], message: str) -> None:
    with pytest.raises(kind) as error:
        variables().lookup(name)
    assert error.value.message == message


@pytest.mark.covers("s093")
@pytest.mark.parametrize("name", ["image_width", "image_height", "image_mime_extension", "mimeextension"])
def test_unknown_facts(name: str) -> None:
    with pytest.raises(SetupError) as error:
        variables(input=UNKNOWN).lookup(name, {"image_name": "input"})
    assert error.value.message == f"image 'input' does not have data for variable '{name}'"


@pytest.mark.covers("s092")
@pytest.mark.parametrize(
    ("mime_type", "extension"),
    [
        ("image/jpeg", "jpg"),
        ("image/png", "png"),
        ("image/gif", "gif"),
        ("image/webp", "webp"),
        ("image/tiff", "tiff"),
        ("image/bmp", "bmp"),
        ("image/svg+xml", "svg"),
    ],
)
def test_extensions(mime_type: str, extension: str) -> None:
    image = NamedImage(MemoryBlob(DATA), mime_type)
    assert variables(input=image).lookup("input_image_mime_extension") == extension


def test_an_unknown_type_has_no_extension() -> None:
    with pytest.raises(SetupError, match="does not have data for variable 'input_image_mime_extension'"):
        variables(input=NamedImage(MemoryBlob(DATA), "image/x-odd")).lookup("input_image_mime_extension")


def test_a_replaced_image_is_seen() -> None:
    """Facts are looked up when a template asks, not remembered."""
    images = Images(MemoryBudget(1000))
    found = Variables({}, "", {}, MemoryBlob(b""), images)
    images["o"] = KNOWN
    assert found.lookup("image_width", {"image_name": "o"}) == "30"
    images["o"] = NamedImage(MemoryBlob(b"other"), "image/gif", 5, 5)
    assert found.lookup("image_width", {"image_name": "o"}) == "5"
    assert found.lookup("image_sha256", {"image_name": "o"}) == hashlib.sha256(b"other").hexdigest()


def test_nothing_is_generated_before_it_is_asked_for() -> None:
    class Untouchable(Blob):
        size = 5

        def read_at(self, offset: int, count: int) -> bytes:
            raise AssertionError("hashed")

    found = Variables({}, "a", {}, Untouchable(), {})
    assert found.lookup("basename") == "a"


@pytest.mark.covers("s079", "s080")
@pytest.mark.parametrize(
    ("path", "stem", "extension"),
    [
        ("a/b.tar.gz", "a/b.tar", "gz"),
        (".hidden", ".hidden", ""),
        ("a/.hidden.png", "a/.hidden", "png"),
        ("a.", "a.", ""),
        ("a.b/c", "a.b/c", ""),
        ("", "", ""),
        ("..", "..", ""),
    ],
)
def test_split_extension(path: str, stem: str, extension: str) -> None:
    assert split_extension(path) == (stem, extension)


def test_every_type_that_is_read_or_written_has_an_extension() -> None:
    types = {known.mime_type for known in (*INPUT_FORMATS.values(), *OUTPUT_FORMATS.values())}
    assert types <= set(EXTENSIONS)
