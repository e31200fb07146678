"""The benchmarks of quality and memory: their reference, what they count, what they call met."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread

import memory
import numpy as np
import photographs
import pytest
import pyvips
import quality
import scoring
from PIL import Image

GREY = np.full((40, 60, 3), 119, np.uint8)


def jpeg(width: int = 64, height: int = 48, **options: object) -> bytes:
    file = BytesIO()
    Image.effect_mandelbrot((width, height), (-2, -1, 1, 1), 50).save(file, "JPEG", **options)
    return file.getvalue()


# --- the reference


def test_every_sample_of_the_reference_has_the_weight_of_one() -> None:
    weights = scoring.lanczos_weights(101, 13)
    assert weights.shape == (13, 101)
    assert np.allclose(weights.sum(axis=1), 1)
    assert np.allclose(weights, weights[::-1, ::-1]), "the middle of the source is that of the target"


def test_a_plain_picture_keeps_its_colour() -> None:
    small = scoring.resize(GREY, 7, 5)
    assert small.shape == (5, 7, 3)
    assert np.all(small == 119)


def test_black_and_white_lines_become_the_grey_of_half_the_light() -> None:
    lines = np.zeros((256, 256, 3), np.uint8)
    lines[::2] = 255
    middle = scoring.resize(lines, 32, 32)[8:-8, 8:-8]
    assert np.all(np.abs(middle.astype(int) - 188) <= 1), "in gamma it would be 128"


def test_the_reference_agrees_with_another_implementation() -> None:
    chance = np.random.default_rng(1)
    noise = pyvips.Image.new_from_array(chance.integers(0, 256, (120, 160, 3), np.uint8))
    picture = noise.gaussblur(2).cast("uchar").copy(interpretation="srgb")
    scale = {"kernel": "lanczos3", "gap": 0}
    light = picture.colourspace("scrgb").resize(0.25, **scale).colourspace("srgb").cast("uchar")
    ours = scoring.resize(picture.numpy(), 40, 30).astype(int)
    assert np.abs(ours - light.numpy().astype(int))[4:-4, 4:-4].max() <= 2


def test_a_picture_that_is_too_small_for_the_judge_is_repeated_as_its_mirror_image() -> None:
    gradient = np.arange(100 * 300 * 3).reshape(100, 300, 3).astype(np.uint8)
    large = scoring.mirrored(gradient)
    assert large.shape == (400, 300, 3)
    assert np.array_equal(large[:100], gradient)
    assert np.array_equal(large[99], large[100])


def test_the_judge_gives_full_marks_for_the_same_and_fewer_for_less() -> None:
    picture = scoring.decode(jpeg(300, 260))
    blurred = np.asarray(Image.fromarray(picture).reduce(2).resize((300, 260)))
    compare = scoring.judge(None)
    assert compare(picture, picture) == pytest.approx(100)
    assert compare(picture, blurred) < 90


# --- photographs


def test_photographs_lose_their_metadata_and_nothing_else() -> None:
    plain = jpeg()
    exif = Image.Exif()
    exif[0x0112] = 6
    marked = jpeg(exif=exif, comment=b"hello", icc_profile=b"no profile") + b"junk\xff\xd9"
    assert photographs.without_metadata(marked) == plain


def test_small_photographs_are_no_proof_and_said_to_be_enlarged(tmp_path: Path) -> None:
    (tmp_path / "small.jpg").write_bytes(jpeg())
    (tmp_path / "large.JPG").write_bytes(jpeg(1600, 1200))
    (tmp_path / "note.txt").write_text("hello")
    assert [photo.name for photo in photographs.gather([tmp_path])] == ["large"]
    (tmp_path / "large.JPG").unlink()
    with pytest.raises(SystemExit, match="no JPEG photograph"):
        photographs.gather([tmp_path])


@pytest.mark.parametrize("script", quality.SCRIPTS)
def test_progressive_files_are_that(script: str) -> None:
    photo = photographs.Photograph("one", 160, 120, jpeg(160, 120))
    assert b"\xff\xc2" in quality.SCRIPTS[script](photo)


def test_trimming_is_compared_with_what_it_leaves_out() -> None:
    photo = photographs.Photograph("one", 1600, 1200, jpeg(1600, 1200))
    data = quality.by_libjpeg(photo)
    assert quality.untrimmed(data, 100) != quality.trimmed(data, 100)
    assert quality.untrimmed(photo.data, 100) == quality.trimmed(photo.data, 100), "nothing to leave out"


# --- figures and goals


@pytest.mark.parametrize("way", quality.WAYS, ids=str)
def test_every_way_makes_a_thumbnail_of_its_format(way: quality.Way) -> None:
    with Image.open(BytesIO(way.make(jpeg(400, 300), 128))) as made:
        assert (made.width, made.height, made.format) == (128, 96, way.format.upper())


def test_the_cost_of_a_way_is_told_in_units_of_another() -> None:
    def spin(rounds: int) -> bytes:
        return bytes(sum(range(50_000)) % 2 for _ in range(rounds))

    ways = {"one": lambda data, side: spin(4), "three": lambda data, side: spin(12)}
    ratios = quality.take_turns(ways, "one", b"", 0, 5)
    assert ratios["one"] == 1
    assert 1.5 < ratios["three"] < 6


def test_a_report_knows_medians_worsts_and_how_far_formats_are_apart() -> None:
    scores = {"jpeg": (70, 80, 84), "webp": (60, 79, 90), "avif": (50, 82.5, 83)}
    samples = [
        quality.Sample(f"balanced, {name}", 256, photo, score, 1024)
        for name, of_photos in scores.items()
        for photo, score in zip("abc", of_photos, strict=True)
    ]
    report = quality.Report(samples, {("balanced, jpeg", 256): [1.0, 1.3, 1.2]}, [256])
    assert report.median_score("balanced, jpeg", 256) == 80
    assert report.worst("balanced, webp", 256).photo == "a"
    assert report.cpu("balanced, jpeg", 256) == 1.2
    assert report.spread("balanced", 256) == 3.5


def test_full_chroma_is_seen_by_its_bytes() -> None:
    samples = [
        quality.Sample(way, 256, photo, 70, size)
        for way, sizes in (("balanced, jpeg", (100, 300)), (str(quality.HALVED), (100, 200)))
        for photo, size in zip("ab", sizes, strict=True)
    ]
    found = quality.Report(samples, {}, [256]).chroma(256)
    assert found == "256: 1 of 2 in full chroma, 1.33 times the bytes of all in 4:2:0."


def test_goals_are_met_at_their_bounds() -> None:
    assert quality.Goal("score", 77, 77, at_least=True).is_met
    assert not quality.Goal("score", 76.9, 77, at_least=True).is_met
    assert quality.Goal("CPU", 1.15, 1.15).is_met
    assert quality.Goal("CPU", 1.16, 1.15).row()[-1] == "MISSED"


# --- memory


def test_proportional_sizes_are_found_and_added_up() -> None:
    text = "5581-7ffc ---p 00000000 00:00 0  [rollup]\nRss:  900 kB\nPss:  512 kB\nPss_Anon:  300 kB\n"
    assert memory.pss_kib(text) == 512
    assert memory.total_mib([memory.Process("a", 512), memory.Process("b", 1536)]) == 2


def test_a_process_and_its_children_are_looked_at() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        seen = memory.look(os.getpid())
        child.stdin.close()
    assert len(seen) >= 2
    assert all(process.pss_kib > 0 for process in seen[:1])


def test_a_mixture_is_always_the_same_and_has_every_kind() -> None:
    names = dict.fromkeys(("tiny", "small", "big", "progressive"), "x.jpg")
    bodies = {"small": b"a", "big": b"b"}
    statuses = [[request.status for request in memory.mixture(names, bodies, 300)] for _ in range(2)]
    assert statuses[0] == statuses[1]
    assert set(statuses[0]) == {200, 404, 415}


def test_growth_and_peaks_are_judged_from_idle() -> None:
    idle = [memory.Process("python", 100 << 10)]
    crowd = memory.Crowd(idle, peak=251, left=120)
    run = memory.Figures(dict.fromkeys(memory.CROWDS, crowd), memory.Growth(early=200, late=250))
    assert crowd.above_idle == 151
    found = memory.verdicts([run])
    assert [verdict.split(":")[0] for verdict in found] == ["MISSED"] * len(memory.CROWDS) + ["met"]


class Moody(BaseHTTPRequestHandler):
    """Answers the first request 503, and then by the path."""

    protocol_version = "HTTP/1.1"
    answered = 0

    def do_GET(self) -> None:
        cls = type(self)
        cls.answered += 1
        self.send_response(503 if cls.answered == 1 else int(self.path[1:]))
        self.send_header("content-length", "0")
        self.send_header("retry-after", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def moody_port() -> Iterator[int]:
    Moody.answered = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Moody) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_who_is_told_to_come_again_does(moody_port: int) -> None:
    asyncio.run(memory.play(moody_port, 2, [memory.Request(memory.getting("/200"))] * 5))
    assert Moody.answered == 6


def test_a_wrong_answer_ends_a_measurement(moody_port: int) -> None:
    with pytest.raises(RuntimeError, match="answered 500 instead of 200"):
        asyncio.run(memory.play(moody_port, 1, [memory.Request(memory.getting("/500"))]))
