"""Messages of workers that are not to be trusted."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.engine import wire
from safelight.engine.handling import IMAGE_ERRORS
from safelight.errors import BadRequest, ConfigError, ImageError, SpecError, UnsupportedMedia
from safelight.image.result import ImageInfo, Thumbnail, Thumbnails
from safelight.image.spec import Edit, ThumbnailSpec

ARENA = memoryview(b"0123456789")
SOURCE = ImageInfo("image/png", 1, 2)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
SPECS = st.builds(
    ThumbnailSpec,
    TEXT,
    st.none() | st.integers(0, 10**9),
    st.none() | st.integers(0, 10**9),
    TEXT,
    st.dictionaries(TEXT, TEXT, max_size=3),
    st.lists(
        st.builds(Edit, TEXT, st.lists(TEXT, max_size=3).map(tuple), st.dictionaries(TEXT, TEXT, max_size=2)),
        max_size=3,
    ).map(tuple),
)


def reply(**changed: object) -> bytes:
    fields = {"number": 1, "rss": 0, "failure": None, "source": ["image/png", 1, 1], "outputs": []} | changed
    return json.dumps(list(fields.values())).encode()


@settings(max_examples=50)
@given(st.lists(SPECS, max_size=4))
def test_requests_round_trip(specs: list[ThumbnailSpec]) -> None:
    order = wire.decode_order(wire.encode_order(wire.encode_request(5, "thumbnail", 9, specs), 77))
    assert order == wire.Order(77, wire.Request(5, "thumbnail", 9, specs))


def test_replies_round_trip() -> None:
    made = Thumbnails(
        SOURCE, (Thumbnail(b"012", "a/b", 3, 4), SpecError("bad"), Thumbnail(b"34", "a/c", 5, 6))
    )
    answer = wire.decode_reply(memoryview(wire.encode_thumbnails(7, 1000, made)))
    assert (answer.number, answer.rss_bytes, wire.output_bytes(answer)) == (7, 1000, 5)
    read = wire.thumbnails(answer, 3, ARENA)
    assert read.outputs[::2] == made.outputs[::2]
    assert isinstance(read.outputs[1], SpecError)


def test_a_need_round_trips_and_stays_within_what_is_believed() -> None:
    answer = wire.decode_reply(memoryview(wire.encode_need(7, 1000, 123)))
    assert (answer.number, answer.needed_bytes, answer.failure, answer.source) == (7, 123, None, None)
    assert wire.decode_reply(memoryview(wire.encode_need(7, 0, 1 << 70))).needed_bytes == wire.MAX_COUNT


def test_outputs_are_copies() -> None:
    arena = bytearray(b"abc")
    answer = wire.decode_reply(memoryview(reply(outputs=[["output", "a/b", 1, 1, 3]])))
    (output,) = wire.thumbnails(answer, 1, memoryview(arena)).outputs
    arena[:] = b"xyz"
    assert isinstance(output, Thumbnail)
    assert output.data == b"abc"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        reply()[:-1] + b"," + b"[" * 100_000,
        reply(number="1"),
        reply(rss=-1),
        reply(source=["image/png\n", 1, 1]),
        reply(source=["image/png\r\nSet-Cookie: a", 1, 1]),
        reply(source=["text/html; charset=utf-7", 1, 1]),
        reply(source=["a/" + "b" * 100, 1, 1]),
        reply(source=["a/b", -1, 1]),
        reply(source=["a/b", 1, 1 << 40]),
        reply(source=["a/b", 1, 1e3]),
        reply(outputs=[["output", "a/b", 1, 1, -5]]),
        reply(outputs=[["other", "a/b", 1, 1, 5]]),
        reply(outputs=[["output", "a/b", 1, 1, 0]] * 65),
        reply(failure=["failure", "ImageError", "x" * 2001]),
        reply(failure=["failure", "E" * 41, "x"]),
        reply(failure=["failure", 1, "x"]),
    ],
)
def test_nonsense_is_a_protocol_error(message: bytes) -> None:
    with pytest.raises(wire.ProtocolError):
        wire.decode_reply(memoryview(message))


@settings(max_examples=50)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_reply_or_a_protocol_error(message: bytes) -> None:
    for decode in (wire.decode_reply, wire.decode_hello):
        try:
            decode(memoryview(message))
        except wire.ProtocolError:
            continue


@pytest.mark.parametrize(
    "outputs",
    [[], [["output", "a/b", 1, 1, 11]], [["output", "a/b", 1, 1, 6], ["output", "a/b", 1, 1, 5]]],
)
def test_a_reply_must_fit_request_and_arena(outputs: list[object]) -> None:
    answer = wire.decode_reply(memoryview(reply(outputs=outputs)))
    with pytest.raises(wire.ProtocolError):
        wire.thumbnails(answer, max(1, len(outputs)), ARENA)


def test_a_reply_without_source_answers_nothing() -> None:
    answer = wire.decode_reply(memoryview(reply(source=None)))
    with pytest.raises(wire.ProtocolError):
        wire.info(answer)
    with pytest.raises(wire.ProtocolError):
        wire.thumbnails(answer, 0, ARENA)


@pytest.mark.parametrize("name", ["ConfigError", "Busy", "SystemExit", "object", "__class__", ""])
def test_error_classes_come_from_a_list(name: str) -> None:
    answer = wire.decode_reply(memoryview(reply(failure=["failure", name, "m"])))
    assert answer.failure is not None
    assert type(answer.failure.error()) is ImageError


@pytest.mark.parametrize("name", IMAGE_ERRORS)
def test_listed_error_classes_survive(name: str) -> None:
    error = IMAGE_ERRORS[name]("message", detail="detail")
    answer = wire.decode_reply(memoryview(wire.encode_failure(3, 0, error)))
    assert answer.failure is not None
    read = answer.failure.error()
    assert (type(read), read.message, read.detail) == (type(error), "message", "detail")


def test_errors_are_cleaned_and_shortened() -> None:
    error = UnsupportedMedia("a\r\x1b[31m\udc80" + "x" * 5000)
    answer = wire.decode_reply(memoryview(wire.encode_failure(3, 0, error)))
    assert answer.failure is not None
    message = answer.failure.error().message
    assert message.startswith("a\ufffd\ufffd[31m?xx")
    assert len(message) == wire.MAX_ERROR_CHARACTERS


def test_replies_that_would_not_fit_become_one_error() -> None:
    many = Thumbnails(SOURCE, (SpecError("\x01" * 2000),) * 60)
    message = wire.encode_thumbnails(1, 0, many)
    assert len(message) < wire.MAX_REPLY_BYTES
    answer = wire.decode_reply(memoryview(message))
    assert answer.failure is not None
    assert isinstance(answer.failure.error(), ImageError)


def test_a_foreign_error_is_no_image_error() -> None:
    from safelight.engine.handling import as_image_error

    assert type(as_image_error(ConfigError("x"))) is ImageError
    assert type(as_image_error(BadRequest("x"))) is BadRequest
