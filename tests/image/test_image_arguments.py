"""Numbers in arguments: reference 7.6."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.image.arguments import (
    Argument,
    ArgumentError,
    Kind,
    float_arg,
    int_arg,
    integer_prefix,
    parse_float,
    parse_int,
    parse_values,
    ufloat_arg,
    uint_arg,
)


@pytest.mark.covers("t080")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("-1.5", -1.5),
        ("+2", 2.0),
        (".5", 0.5),
        ("-.5", -0.5),
        ("1e3", 1000.0),
        ("1.5E-2", 0.015),
        ("0x10", 16.0),
        ("-0xff", -255.0),
        ("1_000", 1000.0),
        ("1_0.2_5", 10.25),
        (" 7 ", 7.0),
        ("017", 17.0),
        ("1e308", 1e308),
    ],
)
def test_floats_accepted(text: str, value: float) -> None:
    assert parse_float(text) == value


@pytest.mark.covers("t080")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "5.",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "1e309",
        "1e400",
        "1x",
        "x1",
        "1__0",
        "_1",
        "1_",
        "0x",
        "1e",
        "--1",
        "1 2",
        "٣",
        "9" * 500,
        "0x" + "f" * 300,
    ],
)
def test_floats_refused(text: str) -> None:
    assert parse_float(text) is None


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_float_survives_its_own_text(value: float) -> None:
    assert parse_float(repr(value)) == value


@given(st.text(max_size=20))
def test_any_text_gives_a_finite_number_or_none(text: str) -> None:
    value = parse_float(text)
    assert value is None or abs(value) < float("inf")
    integer = parse_int(text)
    assert integer is None or isinstance(integer, int)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("12", 12),
        ("-12", -12),
        ("0x1f", 31),
        ("0b1", 1),
        ("0o17", 15),
        ("017", 15),
        ("1_000", 1000),
    ],
)
def test_integers_accepted(text: str, value: int) -> None:
    assert parse_int(text) == value


@pytest.mark.parametrize("text", ["", "1.0", "08", "0b2", "abc", "1e3"])
def test_integers_refused(text: str) -> None:
    assert parse_int(text) is None


@pytest.mark.covers("t088")
@pytest.mark.parametrize(
    ("text", "value"), [("abc", 0), ("85.7", 85), ("9x", 9), ("-3", -3), ("1_0", 10), ("", 0)]
)
def test_integer_prefix(text: str, value: int) -> None:
    assert integer_prefix(text) == value


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: float_arg("x", ""), "expected argument 'x' to be a float but got no value"),
        (lambda: float_arg("x", None), "expected argument 'x' to be a float but got no value"),
        (lambda: float_arg("x", "5."), "expected argument 'x' to be a float, got: 5."),
        (
            lambda: ufloat_arg("s", "-1"),
            "expected argument 's' to be an unsigned float, got negative value: -1",
        ),
        (lambda: int_arg("n", ""), "expected argument 'n' to be an integer but got no value"),
        (lambda: int_arg("n", 'a"b'), 'expected argument \'n\' to be an integer, got: "a\\"b"'),
        (
            lambda: uint_arg("n", "-2"),
            "expected argument 'n' to be an unsigned integer, got negative value: -2",
        ),
    ],
)
def test_messages(call, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert caught.value.message == message


def test_values_are_parsed_in_order_of_declaration() -> None:
    declared = [(Argument("a"), "x"), (Argument("b"), "y")]
    with pytest.raises(ArgumentError, match="'a'"):
        parse_values(declared)


def test_values_have_defaults_and_raw_texts() -> None:
    values = parse_values(
        [
            (Argument("a", Kind.FLOAT, 0.5), None),
            (Argument("n", Kind.UINT, 2.0), "3"),
            (Argument("c", Kind.COLOUR, "black"), None),
            (Argument("t", Kind.TEXT), None),
        ]
    )
    assert values.numbers("a", "n") == (0.5, 3)
    assert values.text("c") == "black"
    assert values.text("t") is None
