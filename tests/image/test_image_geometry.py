"""Sizes and offsets: reference 6.1, 6.2, 7.4."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.errors import TooLarge
from safelight.image.geometry import (
    Box,
    Size,
    diagonal,
    downsampled,
    fill,
    fit,
    load_hint,
    normalize_region,
    offset,
    pad,
    relative_box,
    relative_to_diagonal,
    rotated_bounds,
)

P = Size(509, 719)
sides = st.integers(1, 3000)
shares = st.floats(-3, 3)


@pytest.mark.covers("t049")
@pytest.mark.parametrize(("want", "size"), [((128, 128), (91, 128)), ((1024, 1024), (725, 1024))])
def test_fit(want: tuple[int, int], size: tuple[int, int]) -> None:
    assert fit(P, *want) == size


@pytest.mark.covers("t050")
def test_fit_never_below_one_pixel() -> None:
    assert fit(Size(1000, 2), 10, 10) == (10, 1)


@given(sides, sides, sides, sides)
def test_fit_stays_inside_and_touches_one_side(width: int, height: int, columns: int, rows: int) -> None:
    size = fit(Size(width, height), columns, rows)
    assert 1 <= size.width <= columns
    assert 1 <= size.height <= rows
    assert size.width == columns or size.height == rows


@pytest.mark.covers("t046")
@pytest.mark.parametrize(
    ("want", "floats", "start"),
    [
        ((51, 100), (0.5, 0.5), (25, 0)),
        ((33, 100), (0.5, 0.5), (34, 0)),
        ((50, 100), (0.25, 0.5), (13, 0)),
        ((100, 33), (0.5, 0.3), (0, 21)),
    ],
)
def test_fill_offsets(want: tuple[int, int], floats: tuple[float, float], start: tuple[int, int]) -> None:
    plan = fill(Size(100, 100), *want, *floats)
    assert plan.crop is not None
    assert plan.crop[:2] == start


@pytest.mark.covers("t048")
@pytest.mark.parametrize(
    ("have", "want"), [(100, w) for w in (7, 14, 28, 55, 56)] + [(99, w) for w in (13, 26, 52, 57)]
)
def test_fill_has_the_double_ceil_artefact(have: int, want: int) -> None:
    plan = fill(Size(have, have), want, want, 0.5, 0.5)
    assert plan.size == (want + 1, want + 1)
    assert plan.crop == Box(1, 1, want, want)


@pytest.mark.covers("t048")
def test_artefacts_are_as_many_as_counted() -> None:
    assert sum(ceil(max(w / c, w / c) * c) != w for c in range(1, 400) for w in range(1, 400)) == 6105


@given(sides, sides, sides, sides, shares, shares)
def test_fill_gives_the_size_from_inside(
    width: int, height: int, columns: int, rows: int, x: float, y: float
) -> None:
    plan = fill(Size(width, height), columns, rows, x, y)
    assert plan.final == (columns, rows)
    if plan.crop:
        assert plan.crop.left >= 0
        assert plan.crop.top >= 0
        assert plan.crop.left + columns <= plan.size.width
        assert plan.crop.top + rows <= plan.size.height


@pytest.mark.covers("t047")
@pytest.mark.parametrize(("share", "start"), [(-9.8, 0), (3.0, 49), (0.5, 25), (1e308, 49), (-1e308, 0)])
def test_offsets_are_clamped(share: float, start: int) -> None:
    assert offset(51, 100, share) == start


@pytest.mark.covers("t053")
@pytest.mark.parametrize(
    ("want", "share", "start"),
    [((200, 100), 0.5, 38), ((200, 100), 0.0, 0), ((200, 100), 1.0, 75), ((200, 100), 0.3, 23)],
)
def test_pad_offsets(want: tuple[int, int], share: float, start: int) -> None:
    plan = pad(Size(100, 80), *want, share, 0.5)
    assert plan.size == (125, 100)
    assert plan.canvas == Box(start, 0, *want)


@pytest.mark.covers("t053")
def test_pad_offset_down() -> None:
    plan = pad(Size(100, 80), 100, 101, 0.5, 0.5)
    assert plan.canvas == Box(0, 11, 100, 101)


@given(sides, sides, sides, sides, shares)
def test_pad_gives_the_size(width: int, height: int, columns: int, rows: int, share: float) -> None:
    assert pad(Size(width, height), columns, rows, share, share).final == (columns, rows)


@pytest.mark.covers("t117")
@pytest.mark.parametrize(
    ("size", "target", "hint", "sampled"),
    [
        ((9911, 14000), (16, 16), (1239, 1750), (38, 54)),
        ((9911, 14000), (7000, 7000), (9911, 14000), (9911, 14000)),
        ((4032, 3024), (300, 300), (1008, 756), (1008, 756)),
        ((4032, 3024), (500, 500), (1512, 1134), (1512, 1134)),
        ((509, 719), (128, 128), (509, 719), (509, 719)),
        ((509, 719), (16, 16), (64, 90), (64, 90)),
        ((100, 100), (200, 200), (100, 100), (100, 100)),
    ],
)
def test_hint_and_downsampling(size, target, hint, sampled) -> None:
    hinted = load_hint(Size(*size), Size(*target))
    assert hinted == hint
    assert downsampled(hinted, Size(*target)) == sampled


@given(sides, sides, sides, sides)
def test_hint_and_downsampling_leave_twice_the_target(
    width: int, height: int, columns: int, rows: int
) -> None:
    size, target = Size(width, height), Size(columns, rows)
    small = downsampled(load_hint(size, target), target)
    assert small == size or (small.width >= 2 * columns and small.height >= 2 * rows)


def test_diagonal_of_s_is_exact() -> None:
    assert diagonal(Size(800, 600)) == 1000
    assert relative_to_diagonal(Size(800, 600), 0.05) == 50
    assert relative_to_diagonal(Size(800, 600), 0.0101) == 11


@pytest.mark.parametrize(
    ("region", "normal"),
    [
        ((0, 0, 1, 1), (0, 0, 1, 1)),
        ((-20.2, -20.2, 1.8, 10.8), (0, 0, 1, 1)),
        ((0.2, 0, 10, 1), (0.2, 0, 0.8, 1)),
        ((0.2, 0.2, 0, 1), (0.2, 0.2, 0, 0.8)),
        ((0.5, 0.5, -1, -1), (0.5, 0.5, 2.220446049250313e-16, 2.220446049250313e-16)),
    ],
)
def test_normalize_region(region, normal) -> None:
    assert normalize_region(*region) == normal


def test_relative_box_is_cut_at_the_edges() -> None:
    assert relative_box(Size(100, 100), *normalize_region(0.95, 0, 0.1, 1)) == Box(95, 0, 5, 100)
    assert relative_box(Size(800, 600), 0.4, 0.4, 0.2, 0.2) == Box(320, 240, 160, 120)


def test_rotated_bounds() -> None:
    assert rotated_bounds(Size(10, 20), 1.0, 0.0) == (20, 10)


@pytest.mark.parametrize("target", [(1e300, 1e300), (1e12, 1)])
def test_absurd_sizes_are_refused(target: tuple[float, float]) -> None:
    with pytest.raises(TooLarge, match=r"^image too large: cache resources exhausted$"):
        fill(Size(100, 100), *target, 0.5, 0.5)
