"""Logical operations of a request, for the statistics (reference section 9)."""

from dataclasses import replace

import numpy as np
import pytest
from image_makers import DEFAULTS, alpha_a, flat, photo_p, png

from safelight.errors import UnsupportedMedia
from safelight.image.counts import IDENTIFIED, Counts, with_totals
from safelight.image.pipeline import thumbnail
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec

LOADED = {"images_loaded": 1, "created_from_blob": 1}


def counts(data: bytes, *specs: str, settings: ImageSettings = DEFAULTS) -> dict[str, int]:
    """Everything counted but the totals, which are checked here."""
    made = thumbnail(data, [ThumbnailSpec.parse(spec) for spec in specs], settings)
    found = dict(made.counts)
    total = (
        sum(count for name, count in found.items() if name.startswith("created_")) - found["created_total"]
    )
    assert found.pop("created_total") == found.pop("destroyed_total") == total
    return {name: count for name, count in found.items() if name not in LOADED} | {
        "loaded": found["images_loaded"],
        "from_blob": found["created_from_blob"],
    }


ONE = {"loaded": 1, "from_blob": 1, "thumbnails_created": 1}


@pytest.mark.parametrize(
    ("spec", "more"),
    [
        ("crop,100,80,png", {}),
        ("crop,50,40,png", {"created_resize": 1}),
        ("crop,60,60,png", {"created_resize": 1, "created_crop": 1}),
        ("fit,60,60,png", {"created_resize": 1}),
        ("fit,100,80,png", {}),
        ("limit,200,200,png", {}),
        ("pad,100,80,png", {}),
        ("pad,90,90,png", {"created_resize": 1, "created_initialize": 1, "created_composite": 1}),
        ("crop,40,30,png", {"created_resize": 1, "created_crop": 1}),
    ],
)
def test_methods_count_what_they_do(spec: str, more: dict[str, int]) -> None:
    assert counts(flat(100, 80, (1, 2, 3)), spec) == ONE | more


@pytest.mark.parametrize(
    ("edit", "more"),
    [
        ("rotate,0", {}),
        ("rotate,180", {"created_rotate": 1}),
        ("crop,0,0,1,1", {}),
        ("crop,0,0,0.5,0.5", {"created_crop": 1, "created_resize": 1}),
        ("resize_fit,100,80", {}),
        ("resize_crop,50,50", {"created_resize": 2, "created_crop": 2}),
        ("blur,0,0,1,1", {"created_blur_image": 1, "created_crop": 2, "created_composite": 1}),
        ("pixelate,0,0,1,1", {"created_sample": 2, "created_crop": 2, "created_composite": 1}),
        ("rectangle,0,0,1,1", {"created_initialize_copy": 1}),
        ("rectangle,0,0,0,0", {}),
    ],
)
def test_edits_count_what_they_do(edit: str, more: dict[str, int]) -> None:
    assert counts(flat(100, 80, (1, 2, 3)), f"crop,100,80,png!{edit}") == ONE | more


def test_downsampling_counts_although_it_is_part_of_resizing() -> None:
    large = flat(800, 800, (1, 2, 3))
    sampled = {"downsampled": 1, "created_sample": 1, "created_resize": 1}
    assert counts(large, "fit,100,100,png") == ONE | sampled
    assert counts(large, "fit,100,100,png", settings=replace(DEFAULTS, downsample=False)) == ONE | {
        "created_resize": 1
    }
    assert counts(large, "fit,input,input,png") == ONE


def test_one_load_for_many_outputs_and_failures_count_as_far_as_they_come() -> None:
    specs = ("fit,64,64,png", "crop,50,50,png", "nope,1,1,png", "fit,64,64,nope", "fit,64,64,png!nope")
    assert counts(photo_p(), *specs) == {
        "loaded": 1,
        "from_blob": 1,
        "thumbnails_created": 3,
        "created_resize": 3,
        "created_crop": 1,
    }


def test_alpha_is_put_on_the_background_once_for_each_output() -> None:
    flattened = {"created_initialize": 2, "created_composite": 2}
    expected = {"loaded": 1, "from_blob": 1, "thumbnails_created": 2, **flattened}
    assert counts(alpha_a(), "fit,128,128,png", "fit,128,128,jpeg") == expected


def test_transparency_made_by_an_edit_is_flattened_at_the_end() -> None:
    field = png(np.full((40, 60, 3), 50))
    found = counts(field, "fit,input,input,png!rotate,45,background-color:none")
    assert found["created_composite"] == 1


def test_no_counts_of_a_failed_request() -> None:
    with pytest.raises(UnsupportedMedia):
        counts(b"no image", "fit,1,1,png")


def test_without_specifications() -> None:
    assert counts(photo_p()) == {"loaded": 1, "from_blob": 1}


def test_totals() -> None:
    assert with_totals(Counts()) == {}
    assert with_totals(Counts(images_loaded=1, created_from_blob=1)) == IDENTIFIED
