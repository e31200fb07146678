"""Statistics of the thumbnailer, each test on a server of its own (reference/thumbnailer section 9)."""

import pytest
from image_makers import alpha_a, flat, photo_p, photo_q
from thumbnailer_support import Commands, Thumbnailer

NAMES = [
    "workers",
    "total_requests",
    "total_errors",
    "calling",
    "writing",
    "total_images_loaded",
    "total_images_reloaded",
    "total_images_downsampled",
    "total_thumbnails_created",
    "images_loaded",
    "max_images_loaded",
    "max_images_loaded_worker",
    "total_images_created",
    "total_images_destroyed",
    "total_images_created_from_blob",
    "total_images_created_initialize",
    "total_images_created_initialize_copy",
    "total_images_created_resize",
    "total_images_created_crop",
    "total_images_created_sample",
    "total_images_created_blur_image",
    "total_images_created_composite",
    "total_images_created_rotate",
    "total_write_multipart",
    "total_write",
    "total_write_part",
    "total_write_error",
    "total_write_error_part",
]


@pytest.fixture
def fresh(commands: Commands) -> Thumbnailer:
    return commands.start("--worker-processes", "1")


@pytest.mark.covers("t120", "t121", "t122")
def test_names_and_single_values(thumbnailer: Thumbnailer) -> None:
    response = thumbnailer.get("/stats")
    assert (response.status, response.headers["content-type"]) == (200, "text/plain")
    text = response.body.decode()
    assert text.endswith("\r\n")
    assert [line.split(": ")[0] for line in text.split("\r\n")[:-1]] == NAMES
    for name in NAMES:
        assert thumbnailer.get(f"/stats/{name}").body.removesuffix(b"\r\n").isdigit()
    assert thumbnailer.get("/stats/workers").body == b"1\r\n"
    unknown = thumbnailer.get("/stats/blah")
    assert (unknown.status, unknown.body) == (404, b"unknown statistic 'blah'\r\n")


@pytest.mark.covers("t121")
def test_the_documented_name_of_downsampling(fresh: Thumbnailer) -> None:
    assert fresh.put("/thumbnail/fit,16,16,png", photo_q()).status == 200
    assert fresh.statistic("total_images_downscaled") == fresh.statistic("total_images_downsampled") == 1


@pytest.mark.covers("t120", "t123", "t124")
def test_counters_of_requests(fresh: Thumbnailer) -> None:
    """Failures count once; the request for statistics is counted, but not written yet."""
    start = fresh.statistics()
    assert (start["total_requests"], start["total_write"], start["calling"]) == (1, 0, 1)
    fresh.put("/thumbnail/fit,8,8,png", photo_q())
    fresh.put("/thumbnail/blah,8,8,png", photo_q())
    fresh.put("/identify", b"x")
    fresh.get("/blah")
    fresh.put("/thumbnails/" + "/".join(["fit,8,8,png", *["fit,8,8,xyz"] * 9]), photo_q())
    fresh.put("/thumbnails/x", photo_q())
    found = fresh.statistics()
    assert {name: found[name] for name in NAMES if name.startswith(("total_w", "total_r", "total_e"))} == {
        "total_requests": 8,
        "total_errors": 4,
        "total_write_multipart": 1,
        "total_write": 6,
        "total_write_part": 10,
        "total_write_error": 4,
        "total_write_error_part": 9,
    }


@pytest.mark.covers("t125")
def test_loaded_images_are_let_go(fresh: Thumbnailer) -> None:
    for body in (photo_q(), b"text", b"", photo_q()[:1000]):
        for target in (
            "/thumbnail/fit,8,8,png",
            "/thumbnail/fit,8,8,xyz",
            "/thumbnails/a,1,1,b",
            "/identify",
        ):
            fresh.put(target, body)
    found = fresh.statistics()
    assert found["images_loaded"] == 0
    assert found["max_images_loaded"] == found["max_images_loaded_worker"] == 1
    assert found["total_images_created"] == found["total_images_destroyed"] > 0
    assert (found["calling"], found["writing"]) == (1, 0)


IMAGES = ("total_images_", "total_thumbnails_")


def images(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {
        name.removeprefix("total_"): after[name] - before[name]
        for name in NAMES
        if name.startswith(IMAGES) and after[name] != before[name]
    }


@pytest.mark.covers("t120")
def test_counters_of_images(fresh: Thumbnailer) -> None:
    """Logical operations: a crop that changes nothing counts none, others one resize and one crop."""
    loaded = {"images_loaded": 1, "images_created_from_blob": 1}
    resized = {**loaded, "thumbnails_created": 1, "images_created_resize": 1}
    square = flat(100, 100, (1, 2, 3))
    for target, body, expected in [
        ("/identify", photo_p(), loaded),
        ("/thumbnail/crop,100,100,png", square, {**loaded, "thumbnails_created": 1}),
        ("/thumbnail/crop,60,60,png", square, resized),
        ("/thumbnail/crop,60,50,png", square, {**resized, "images_created_crop": 1}),
        ("/thumbnail/fit,60,60,png!rotate,90", square, {**resized, "images_created_rotate": 1}),
        (
            "/thumbnail/fit,60,60,png",
            alpha_a(),
            {**resized, "images_created_initialize": 1, "images_created_composite": 1},
        ),
        (
            "/thumbnails/fit,60,60,png/fit,50,50,png/no,1,1,png",
            square,
            {**loaded, "thumbnails_created": 2, "images_created_resize": 2},
        ),
    ]:
        before = fresh.statistics()
        assert fresh.put(target, body).status == 200
        found = images(before, fresh.statistics())
        total = sum(count for name, count in expected.items() if name.startswith("images_created_"))
        assert found == {**expected, "images_created": total, "images_destroyed": total}, target
