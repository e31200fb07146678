"""Progressive JPEGs without refinements: scripts of encoders, and everything that must be left alone."""

from io import BytesIO
from struct import pack

import numpy as np
import pytest
from image_makers import DATA, make_one, pillow, save
from PIL import Image as PillowImage
from pyvips import Image

from safelight.errors import UnsupportedMedia
from safelight.image import load
from safelight.image.geometry import Size
from safelight.image.scans import trimmed

DC, DC_REFINED = ((1,), 0, 0, 0, 1), ((1,), 0, 0, 1, 0)
AC, AC_REFINED = ((1,), 1, 63, 0, 1), ((1,), 1, 63, 1, 0)
WHOLE_DC, LOW, HIGH = ((1,), 0, 0, 0, 0), ((1,), 1, 5, 0, 0), ((1,), 6, 63, 0, 0)
"""Scans: components, first and last coefficient, high and low bit."""

Scan = tuple[tuple[int, ...], int, int, int, int]


def segment(marker: int, body: bytes) -> bytes:
    return pack(">BBH", 0xFF, marker, len(body) + 2) + body


def frame(
    marker: int = 0xC2,
    *,
    bits: int = 8,
    height: int = 16,
    components: tuple[int, ...] = (1,),
    factors: tuple[int, ...] = (0x11, 0x11, 0x11),
) -> bytes:
    """`factors`: of sampling, across and down, for each component."""
    body = pack(">BHHB", bits, height, 16, len(components))
    parts = (pack("BBB", number, sampling, 0) for number, sampling in zip(components, factors, strict=False))
    return segment(marker, body + b"".join(parts))


def scan(components: tuple[int, ...], first: int, last: int, high: int, low: int) -> bytes:
    """With the data of a grey picture: a zero bit for each block, whatever the scan tells."""
    body = bytes([len(components), *(octet for number in components for octet in (number, 0))])
    return segment(0xDA, body + bytes([first, last, 16 * high + low])) + b"\x0f"


def handmade(*scans: Scan, sof: bytes | None = None, end: bytes = b"\xff\xd9") -> bytes:
    """16x16 pixels of one grey; both Huffman tables have one code, for nothing."""
    tables = segment(0xDB, bytes([0, *[1] * 64]))
    for table in (0x00, 0x10):
        tables += segment(0xC4, bytes([table, 1, *[0] * 15, 0]))
    return b"\xff\xd8" + tables + (sof or frame()) + b"".join(scan(*one) for one in scans) + end


def photograph() -> PillowImage.Image:
    with PillowImage.open(DATA / "coffee.jpg") as image:
        return image.convert("RGB")


def by_libvips(**options: object) -> bytes:
    image = photograph()
    vips = Image.new_from_memory(image.tobytes(), *image.size, 3, "uchar").copy(interpretation="srgb")
    return vips.jpegsave_buffer(Q=90, interlace=True, **options)


ENCODED = {
    "Pillow": lambda: save(photograph(), "JPEG", quality=92, progressive=True),
    "Pillow, grey": lambda: save(photograph().convert("L"), "JPEG", quality=92, progressive=True),
    "Pillow, restarts": lambda: save(
        photograph(), "JPEG", quality=92, progressive=True, restart_marker_rows=1
    ),
    "libvips": by_libvips,
    "libvips, all colour": lambda: by_libvips(subsample_mode="off"),
    "libvips, optimised scans": lambda: by_libvips(optimize_scans=True),
}


def quarter(data: bytes) -> np.ndarray:
    return np.asarray(pillow(data).convert("RGB").reduce(4)).astype(float)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(((one - other) ** 2).mean(), 1e-9)))


@pytest.mark.parametrize("name", ENCODED)
def test_a_quarter_shows_no_difference(name: str) -> None:
    data = ENCODED[name]()
    cut = trimmed(data)
    assert cut is not None
    assert len(cut) < 0.75 * len(data)
    assert psnr(quarter(cut), quarter(data)) > 38
    assert pillow(cut).info.get("progressive")
    assert trimmed(cut) is None, "there is nothing left to cut"


def test_memory_that_is_not_bytes() -> None:
    data = ENCODED["Pillow"]()
    assert trimmed(memoryview(data)) == trimmed(bytearray(data)) == trimmed(data) != data


def test_only_refinements_of_ac_go() -> None:
    data = handmade(DC, AC, AC_REFINED, DC_REFINED)
    assert trimmed(data) == handmade(DC, AC, DC_REFINED)
    assert pillow(data).convert("L").getextrema() == (128, 128)


def test_bands_told_apart_are_refined_apart() -> None:
    low, low_refined = ((1,), 1, 5, 0, 1), ((1,), 1, 5, 1, 0)
    assert trimmed(handmade(DC, low, HIGH, low_refined, DC_REFINED)) == handmade(DC, low, HIGH, DC_REFINED)


@pytest.mark.parametrize(
    ("factors", "share", "kept"),
    [
        ((0x22, 0x11, 0x11), 0.5, set()),
        ((0x22, 0x11, 0x11), 0.51, {2, 3}),
        ((0x22, 0x11, 0x22), 1, {2}),
        ((0x21, 0x11, 0x11), 1, {2, 3}),
        ((0x41, 0x11, 0x21), 0.3, {2}),
        ((0x11, 0x11, 0x11), 1, set()),
        ((0x11, 0x22, 0x22), 1, {1}),
    ],
    ids=["half", "less than half", "one of two", "4:2:2", "4:1:1", "4:4:4", "more colour"],
)
def test_components_that_are_smaller_already_keep_theirs(
    factors: tuple[int, ...], share: float, kept: set[int]
) -> None:
    sof = frame(components=(1, 2, 3), factors=factors)
    dc = ((1, 2, 3), 0, 0, 0, 0)
    first = [((number,), 1, 63, 0, 1) for number in (1, 2, 3)]
    refined = [((number,), 1, 63, 1, 0) for number in (1, 2, 3)]
    left = [one for one in refined if one[0][0] in kept]
    assert trimmed(handmade(dc, *first, *refined, sof=sof), share) == handmade(dc, *first, *left, sof=sof)


def test_a_sampling_factor_of_zero_is_no_script() -> None:
    assert trimmed(handmade(DC, AC, AC_REFINED, sof=frame(factors=(0x01,)))) is None


def test_what_follows_the_end_is_not_missed() -> None:
    data = handmade(DC, AC, AC_REFINED, DC_REFINED)
    assert trimmed(data + b"junk\xff\xd8\xff\xda") == trimmed(data)


ALONE = {
    "selection of frequencies only": handmade(WHOLE_DC, LOW, HIGH),
    "baseline": save(PillowImage.new("RGB", (64, 64), "red"), "JPEG"),
    "no average": handmade(AC, AC_REFINED),
    "average of one component only": handmade(DC, AC, AC_REFINED, sof=frame(components=(1, 2, 3))),
    "refinement of nothing": handmade(DC, AC_REFINED),
    "refinement by two bits": handmade(DC, ((1,), 1, 63, 0, 2), ((1,), 1, 63, 2, 0)),
    "refined twice": handmade(DC, AC, AC_REFINED, AC_REFINED),
    "refinement of more than was told": handmade(DC, ((1,), 1, 5, 0, 1), AC_REFINED),
    "told twice": handmade(DC, AC, AC, AC_REFINED),
    "refined before the average": handmade(AC, DC, AC_REFINED),
    "average and frequencies in one": handmade(((1,), 0, 63, 0, 1), AC_REFINED),
    "frequencies of two components": handmade(
        ((1, 2, 3), 0, 0, 0, 1), ((1, 2), 1, 63, 0, 1), ((1,), 1, 63, 1, 0), sof=frame(components=(1, 2, 3))
    ),
    "unknown component": handmade(DC, AC, ((7,), 1, 63, 1, 0)),
    "band out of bounds": handmade(DC, ((1,), 1, 64, 0, 1), AC_REFINED),
    "band the wrong way round": handmade(DC, ((1,), 9, 3, 0, 1), AC_REFINED),
    "no end": handmade(DC, AC, AC_REFINED, end=b""),
    "arithmetic coding": handmade(DC, AC, AC_REFINED, sof=frame(0xCA)),
    "differential": handmade(DC, AC, AC_REFINED, sof=frame(0xC6)),
    "lossless": handmade(DC, AC, AC_REFINED, sof=frame(0xC3)),
    "hierarchical": handmade(DC, AC, AC_REFINED, sof=segment(0xDE, frame()[4:]) + frame()),
    "two frames": handmade(DC, AC, AC_REFINED, sof=frame() + frame()),
    "12 bits": handmade(DC, AC, AC_REFINED, sof=frame(bits=12)),
    "height told later": handmade(DC, AC, AC_REFINED, sof=frame(height=0)),
    "four components": handmade(
        ((1, 2, 3, 4), 0, 0, 0, 1), AC, AC_REFINED, sof=frame(components=(1, 2, 3, 4))
    ),
    "components of one name": handmade(DC, AC, AC_REFINED, sof=frame(components=(1, 1, 1))),
    "empty": b"",
    "two bytes": b"\xff\xd8",
    "fill bytes": b"\xff\xd8" + b"\xff" * (1 << 16) + handmade(DC, AC, AC_REFINED)[2:],
    "markers without end": handmade(DC, AC, AC_REFINED, end=b"\xff\xe1" * (1 << 20)),
    "segments without end": b"\xff\xd8" + segment(0xFE, b"") * 10_000 + handmade(DC, AC, AC_REFINED)[2:],
}


@pytest.mark.parametrize("name", ALONE)
def test_what_is_unusual_is_left_alone(name: str) -> None:
    assert trimmed(ALONE[name]) is None


@pytest.mark.parametrize("keep", [10, 300, 0.3, 0.6, 0.99])
def test_a_file_that_breaks_off_is_left_alone(keep: float) -> None:
    data = ENCODED["Pillow"]()
    assert trimmed(data[: int(keep if keep > 1 else keep * len(data))]) is None


def test_every_byte_wrong_is_survived() -> None:
    data = handmade(DC, AC, AC_REFINED, DC_REFINED)
    for index in range(len(data)):
        for octet in (0x00, 0xFF, 0xDA, data[index] ^ 0x10):
            trimmed(data[:index] + bytes([octet]) + data[index + 1 :])


# --- who trims


def spied(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether something was cut off, for each attempt."""
    attempts: list[bool] = []

    def spy(data: bytes, share: float) -> bytes | None:
        made = trimmed(data, share)
        attempts.append(made is not None)
        return made

    monkeypatch.setattr(load, "trimmed", spy)
    return attempts


@pytest.mark.parametrize(
    ("speed", "shrink", "trims"),
    [
        *(("reference", 16, False), ("fast", 4, True), ("fast", 3.9, False), ("balanced", 4, True)),
        *(("balanced", 3.9, False), ("best", 7.9, False), ("best", 8, True)),
    ],
)
def test_when_policies_trim(monkeypatch: pytest.MonkeyPatch, speed: str, shrink: float, trims: bool) -> None:
    data = save(photograph().resize((632, 632)), "JPEG", quality=92, progressive=True)
    attempts = spied(monkeypatch)
    side = round(632 / shrink)
    make_one(data, f"fit,{side},{side},jpeg,speed:{speed}")
    assert attempts == [True] * trims


@pytest.mark.parametrize(
    ("shrink", "subsampling", "goes"), [(4, 0, True), (4, 2, False), (7.9, 2, False), (8, 2, True)]
)
def test_halved_colours_are_trimmed_where_twice_as_much_is_shrunk(
    monkeypatch: pytest.MonkeyPatch, shrink: float, subsampling: int, goes: bool
) -> None:
    picture = photograph().resize((632, 632))
    data = save(picture, "JPEG", quality=92, progressive=True, subsampling=subsampling)
    made: list[bytes | None] = []
    monkeypatch.setattr(load, "trimmed", lambda data, share: made.append(trimmed(data, share)))
    side = round(632 / shrink)
    make_one(data, f"fit,{side},{side},jpeg,speed:fast")
    assert made[0] is not None
    assert (made[0] == trimmed(data)) is goes


def test_the_largest_output_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    data = save(photograph().resize((640, 640)), "JPEG", quality=92, progressive=True)
    attempts = spied(monkeypatch)
    make_one(data, "crop,100,250,jpeg,speed:fast")
    assert attempts == []


def test_never_when_a_profile_changes_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    from image_makers import srgb_profile, swapped_profile

    attempts = spied(monkeypatch)
    for profile in (swapped_profile(), srgb_profile()):
        file = BytesIO()
        photograph().save(file, "JPEG", quality=92, progressive=True, icc_profile=profile)
        make_one(file.getvalue(), "fit,60,60,jpeg,speed:fast")
    assert attempts == [True]


@pytest.mark.parametrize("speed", ["fast", "balanced"])
@pytest.mark.parametrize("name", ENCODED)
def test_thumbnails_are_those_of_the_whole_file(
    monkeypatch: pytest.MonkeyPatch, name: str, speed: str
) -> None:
    data = ENCODED[name]()
    side = max(pillow(data).size) // 5
    spec = f"fit,{side},{side},png,speed:{speed}"
    found = np.asarray(pillow(make_one(data, spec).data)).astype(float)
    monkeypatch.setattr(load, "trimmed", lambda _data, _share: None)
    assert psnr(found, np.asarray(pillow(make_one(data, spec).data)).astype(float)) > 40


@pytest.mark.parametrize("count", [100, 10_000])
def test_scans_without_end_are_left_to_libvips_which_gives_up(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    data = save(photograph(), "JPEG", quality=92, progressive=True)
    flooded = data[:-2] + scan((1,), 1, 63, 1, 0) * count + data[-2:]
    decoded: list[Size] = []
    monkeypatch.setattr(load.turbo, "decode", lambda _data, size, _bands: decoded.append(size))
    with pytest.raises(UnsupportedMedia):
        make_one(flooded, "fit,300,300,jpeg,speed:fast")
    assert decoded == []
    make_one(data, "fit,300,300,jpeg,speed:fast")
    assert decoded != [], "a usual script is decoded by libjpeg-turbo"
